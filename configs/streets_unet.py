"""The U-Net that street scenes were modelled with before configs/streets.py: several experiments were recorded with it.

gcdiff train --config configs/streets_unet.py --workdir runs/streets_unet
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "streets_unet"
    c.data.update(name="streets", size=(32, 64), num=1_000_000, heldout=64)
    c.process.output = "x0"  # with a pixel-unshuffle stem v is learned slowly
    c.network.update(
        dim=128,
        mults=(1, 2),
        blocks=(1, 1),
        attention=(False, True),
        cross_attention=(False, True),
        stem=4,
        final_dim=32,
    )
    c.loss.update(image=2.0, image_weight="capped")
    c.levels.update(joint=0.4, image_given_layout=0.15, layout=0.15, layout_given_image=0.1, image=0.05)
    c.levels.update(independent=0.15, one_call=1 / 3, start=0.0, one_sided=0.0, known=0.25)
    c.text.drop = 0.1
    c.optim.learning_rate = 1e-3
    c.train.update(steps=800, batch_size=16, evaluate_every=500, sample_every=0, checkpoint_every=500)
    c.sample.update(steps=25, image_step="ancestral", layout_step="psi", psi=16.0, guidance=(1.0, 4.0))
    return c
