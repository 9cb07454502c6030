"""What a network is told besides the noisy pair."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.processes.joint import JointProcess
from gcdiff.types import Condition, LowRes, Pair, Text


class TrainBatch(NamedTuple):
    """image float32 (B, h, w, C) in [-1, 1], layout int32 (B, H, W) with VOID, tokens int32 (B, T), or what a
    text encoder reads instead, or None; has_image bool (B,), or None where no image is missing."""

    image: Any
    layout: Any
    tokens: Any
    has_image: Any = None

    @property
    def no_image(self) -> Any:
        """Whose image is missing, bool (B, 1, 1), or False."""
        return False if self.has_image is None else ~self.has_image[:, None, None]


def init_params(process: JointProcess, network: Any, text_encoder: Any | None, key: Array, one: TrainBatch) -> Any:
    """Fresh parameters for batches like `one`, a batch of a single example."""
    k_text, k_net = jax.random.split(key)
    params = {}
    if text_encoder is not None and (of_text := text_encoder.init(k_text, one.tokens)["params"]):
        params["text"] = of_text
    level = jnp.zeros((1, 1, 1))
    state = jax.eval_shape(lambda: process.prior(key, Pair(one.image.shape, one.layout.shape)))
    noisy = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
    told = condition(text_encoder, params, one.tokens)
    if process.lowres is not None:  # parameters are the same for every factor
        low = LowRes(one.image, jnp.maximum(one.layout, 0), jnp.zeros((1,)))
        told = dataclasses.replace(told, lowres=low)
    return {**params, "network": network.init(k_net, noisy, Pair(level, level), told)["params"]}


def condition(text_encoder: Any | None, params: Any, tokens: Any, drop: Array | None = None) -> Condition:
    """The condition a network is given: encoded captions, and which of them are dropped; an empty one always is."""
    if text_encoder is None or tokens is None:
        return Condition()
    text: Text = text_encoder.apply({"params": params.get("text", {})}, jax.tree.map(jnp.asarray, tokens))
    without = ~text.mask.any(axis=1)
    return Condition(text=text, drop_text=without if drop is None else without | drop)


@jax.jit(static_argnums=(0, 4))
def encode(text_encoder: Any | None, params: Any, tokens: Any, drop: Array | None = None, mesh: Mesh | None = None):
    """`condition`, compiled, for a chunk or for one on every device: text is encoded once per call of a sampler, not
    once per step."""
    found = parallel.on_each(mesh, functools.partial(condition, text_encoder), (WHOLE, BATCH, BATCH), BATCH)
    return found(params, tokens, drop)
