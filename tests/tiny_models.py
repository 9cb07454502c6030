"""Tiny networks: the config of a run on streets, and models of random weights."""

from __future__ import annotations

import jax
import numpy as np

from gcdiff import config as configs
from gcdiff.api.model import Model

STREETS = """
from gcdiff.config import default

def get_config():
    c = default()
    c.data.update(name="streets", size=(16, 32), num=64, heldout=4)
    c.network.update(dim=16, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.text.update(features=16, layers=1)
    c.train.update(steps=4, batch_size=4, log_every=1, checkpoint_every=2, evaluate_every=4, sample_every=0)
    c.sample.update(steps=3, chunk=4)
    c.optim.update(schedule="constant", ema_profiles=(0.05, 0.1))
    c.loss.balance = True
    return c
"""
"""A file that --config takes. Other tests of this network in this form share its compiled programs."""


def random_params(shapes):
    """Random weights, none of them zero, so that outputs depend on every input; nothing is compiled for them."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: (0.2 * rng.normal(size=s.shape)).astype(np.float32), shapes)


def random_model(config, specs=None) -> Model:
    """A model of random weights; `specs` are those of the data unless given."""
    specs = configs.build_specs(config, configs.splits(config).train) if specs is None else specs
    built = configs.build(config, specs)
    return Model(
        config, specs, built, random_params(jax.eval_shape(lambda: configs.initial_params(built, config, specs)))
    )
