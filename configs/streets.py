"""Joint model of procedural street scenes, 32x64, 10 classes, captions: the demo.

make demo                                                              # this training, and what comes of it
gcdiff train --config configs/streets.py --workdir runs/streets        # the same training alone
"""

from gcdiff.config import recipe


def get_config():
    c = recipe()
    c.name = "streets"
    c.data.update(name="streets", size=(32, 64), num=1_000_000, heldout=64)
    c.train.update(steps=1275, sample_every=-1)
    return c
