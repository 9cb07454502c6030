"""Super-resolution stage for procedural street scenes, 32x64 to 64x128: it goes on from configs/streets.py.

    gcdiff train --config configs/streets_sr.py --workdir runs/streets_sr             # 20 minutes on two CPU cores
    gcdiff sample --workdir runs/streets --upsample runs/streets_sr --text "a foggy street with two red cars" --out out

A scene of the same seed is the same scene at both sizes. The network is smaller than the base's, because it reads
where things stand, and it reads that at the full resolution in its last block; a forward pass of 16 scenes is 15 GFLOP
(the base's: 10). Reached behind the demo's base of half an hour: pair agreement .86 (.79 without). experiments/cascade
measures base and stage together.
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "streets_sr"
    c.data.update(name="streets", size=(64, 128), lowres=2, num=1_000_000, heldout=64)
    c.process.output = "x0"  # with a pixel-unshuffle stem v is learned slowly
    c.network.update(
        dim=64,
        mults=(1, 2, 2),
        blocks=(1, 1, 1),
        attention=(False, False, True),
        cross_attention=(False, False, True),
        stem=4,
        final_dim=24,
    )
    c.loss.update(image=2.0, image_weight="capped")
    c.levels.update(joint=0.4, image_given_layout=0.15, layout=0.15, layout_given_image=0.1, image=0.05)
    c.levels.update(independent=0.15, one_call=1 / 3, start=0.0, one_sided=0.0, known=0.25, lowres_max=0.6)
    c.text.drop = 0.1
    c.optim.learning_rate = 1e-3
    c.train.update(minutes=20.0, steps=100_000, batch_size=16, evaluate_every=500, sample_every=0, checkpoint_every=500)
    c.sample.update(steps=30, image_step="ancestral")
    return c
