"""The paper's super-resolution network for streets, 128x256 to 256x512, 717 million parameters (Park et al. 2023).

    gcdiff train --config configs/gcdp_sr_256x512.py --config.data.name=camvid --config.data.root=DIR --workdir RUN

For a GPU with 80 GB or several; the paper trains 300,000 steps of 8 examples. Not trained here: weights that were
released come by gcdiff import-gcdp. Captions are read by a small encoder of T5-large's width, which is trained along.
Both modalities have one noise level; --config.levels.kind=free --config.network.level_inputs=both gives each its own,
also after --init from weights of the paper.

The paper makes low-resolution layouts by the nearest pixel, and draws the noise on what it is given after enlarging it:
--config.data.lowres_layout=nearest --config.data.lowres_enlarged=True. Here classes vote and a level is drawn for each
example.
"""

from gcdiff.config.gcdp import STAGE, gcdp


def get_config():
    c = gcdp(STAGE, (256, 512))
    c.name = "gcdp_sr_256x512"
    return c
