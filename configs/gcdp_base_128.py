"""The paper's base network for faces, 128x128, 697 million parameters (Park et al. 2023).

    gcdiff prepare mm_celeba_hq --source CelebAMask-HQ --out prepared/celeba --size 128 128
    gcdiff embed --dataset prepared/celeba --encoder google-t5/t5-large
    gcdiff train --config configs/gcdp_base_128.py --workdir RUN

For a GPU with 80 GB or several; the paper trains 300,000 steps of 8 examples. Not trained here: weights that were
released come by gcdiff import-gcdp. Captions are features of T5-large, written once; with
--config.text.encoder=learned --config.data.embeddings= a small encoder of the same width is trained along instead. Both
modalities have one noise level; --config.levels.kind=free --config.network.level_inputs=both gives each its own, also
after --init from weights of the paper.
"""

from gcdiff.config.gcdp import BASE, gcdp


def get_config():
    c = gcdp(BASE, (128, 128))
    c.name = "gcdp_base_128"
    c.data.update(name="prepared", root="prepared/celeba", embeddings="prepared/celeba/embeddings")
    c.text.encoder = "pretrained"
    return c
