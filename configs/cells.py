"""Joint model of procedural micrographs of cells, 32x32, 4 classes, captions: rare classes and an uneven light.

gcdiff train --config configs/cells.py --workdir runs/cells
"""

from gcdiff.config import recipe


def get_config():
    c = recipe()
    c.name = "cells"
    c.data.update(name="cells", size=(32, 32), num=1_000_000, heldout=64)
    c.train.update(steps=2500, sample_every=0)
    c.sample.guidance = (1.0, 1.75)  # images guided by 2 agree less with their layouts
    return c
