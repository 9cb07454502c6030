"""The paper's base network for streets, 128x256, 697 million parameters (Park et al. 2023).

    gcdiff train --config configs/gcdp_base_128x256.py --config.data.name=camvid --config.data.root=DIR --workdir RUN

For a GPU with 80 GB or several; the paper trains 300,000 steps of 8 examples. Not trained here: weights that were
released come by gcdiff import-gcdp. Captions are read by a small encoder of T5-large's width, which is trained along.
Both modalities have one noise level; --config.levels.kind=free --config.network.level_inputs=both gives each its own,
also after --init from weights of the paper.
"""

from gcdiff.config.gcdp import BASE, gcdp


def get_config():
    c = gcdp(BASE, (128, 256))
    c.name = "gcdp_base_128x256"
    return c
