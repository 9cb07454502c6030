"""Joint model of procedural faces, 32x32, 11 classes, captions of 13 attributes.

gcdiff train --config configs/faces.py --workdir runs/faces
"""

from gcdiff.config import recipe


def get_config():
    c = recipe()
    c.name = "faces"
    c.data.update(name="faces", size=(32, 32), num=1_000_000, heldout=64, flip=True)
    c.train.update(steps=2500, sample_every=0)
    c.sample.guidance = (1.5, 1.5)
    return c
