"""Networks of the paper's family: random weights under their PyTorch names, and the reference arrays where they are."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from gcdiff.models.official import network, shapes
from gcdiff.models.official_names import parameter_names

REFERENCE = Path(os.environ.get("GCDIFF_REFERENCE", ""))
needs_reference = pytest.mark.skipif(
    not os.environ.get("GCDIFF_REFERENCE"), reason="GCDIFF_REFERENCE names no folder of reference arrays"
)
TINY = {
    "dim": 16, "dim_mults": [1, 2], "num_resnet_blocks": [1, 2], "layer_attns": [False, True], "attn_heads": 2,
    "layer_cross_attns": [True, True], "num_classes": 4, "attn_dim_head": 4, "text_embed_dim": 6, "max_text_len": 9,
    "attn_pool_num_latents": 3, "lowres_cond": True,
}  # fmt: skip


def flat_shapes(config) -> dict:
    """Traced once for each network: the large ones take seconds."""
    return _flat_shapes(json.dumps(config, sort_keys=True))


@functools.lru_cache
def _flat_shapes(config: str) -> dict:
    config = json.loads(config)
    return flatten_dict(shapes(network(config), config["text_embed_dim"]))


def random_weights(config) -> dict:
    """Weights under their PyTorch names, such that each array differs from every other."""
    module, rng = network(config), np.random.default_rng(0)
    expected = flat_shapes(config)
    return {
        name: (0.2 * rng.normal(size=torch_shape(name, expected[path].shape))).astype(np.float32)
        for name, (path, _) in parameter_names(module, True).items()
    }


def torch_shape(name: str, shape: tuple) -> tuple:
    """The shape under which PyTorch keeps a parameter of `shape`."""
    if name == "null_text_embed":
        return (1, *shape)
    if len(shape) == 4:
        return shape[3], shape[2], *shape[:2]
    if len(shape) != 2 or name.endswith(("null_kv", "latents", "null_text_hidden")) or "emb" in name.split(".")[-2]:
        return shape
    return shape[::-1]
