"""The paper's super-resolution network for faces, 128x128 to 256x256, 717 million parameters (Park et al. 2023).

    gcdiff prepare mm_celeba_hq --source CelebAMask-HQ --out prepared/celeba_sr --size 256 256
    gcdiff embed --dataset prepared/celeba_sr --encoder google-t5/t5-large
    gcdiff train --config configs/gcdp_sr_256.py --workdir RUN

For a GPU with 80 GB or several; the paper trains 300,000 steps of 8 examples. Not trained here: weights that were
released come by gcdiff import-gcdp. Captions are features of T5-large, written once; with
--config.text.encoder=learned --config.data.embeddings= a small encoder of the same width is trained along instead. Both
modalities have one noise level; --config.levels.kind=free --config.network.level_inputs=both gives each its own, also
after --init from weights of the paper.

The paper makes low-resolution layouts by the nearest pixel, and draws the noise on what it is given after enlarging it:
--config.data.lowres_layout=nearest --config.data.lowres_enlarged=True. Here classes vote and a level is drawn for each
example.
"""

from gcdiff.config.gcdp import STAGE, gcdp


def get_config():
    c = gcdp(STAGE, (256, 256))
    c.name = "gcdp_sr_256"
    c.data.update(name="prepared", root="prepared/celeba_sr", embeddings="prepared/celeba_sr/embeddings")
    c.text.encoder = "pretrained"
    return c
