"""The encoder of T5 (Raffel et al. 2020), versions 1.0 (relu) and 1.1 (gated gelu, Shazeer 2020).

Norms subtract no mean and add no bias; attention scores are not scaled by 1/sqrt(d). A score has a learned bias that
depends on the distance j - i between the tokens and is shared by all layers. Distances fall into `buckets`, half of
them for each sign; the first half of a sign's buckets hold one distance each, the others grow by a constant factor up
to `distance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff.text.blocks import Dense, RMSNorm, attend, mask_bias
from gcdiff.weights.convert import Plan, Table, dense, same
from gcdiff.weights.fields import Fields

FEED_FORWARD = {"relu": False, "gated-gelu": True}
"""Whether the feed-forward network is gated, by feed_forward_proj in a checkpoint's configuration."""


class T5Encoder(nn.Module):
    """Token ids int32 (B, T) and a mask bool (B, T), True on tokens -> features float32 (B, T, features).

    Features are zero where the mask is False, and do not depend on how far a caption is padded.

        encoder = load_encoder("google-t5/t5-large")
        encoder.module.apply({"params": encoder.params}, ids, mask)      # also within a function under jit
    """

    vocabulary: int
    features: int
    layers: int
    heads: int
    head_features: int
    hidden: int
    gated: bool = False
    buckets: int = 32
    distance: int = 128
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array, mask: Array) -> Array:
        x = self.param("tokens", nn.initializers.normal(1.0), (self.vocabulary, self.features))[ids]
        x = x.astype(jnp.float32)
        table = self.param("positions", nn.initializers.normal(0.1), (self.buckets, self.heads))
        by_distance = table.astype(jnp.float32)[bucket_numbers(ids.shape[1], self.buckets, self.distance)]
        bias = by_distance.transpose(2, 0, 1)[None] + mask_bias(mask)
        width = self.heads * self.head_features
        for i in range(self.layers):
            h = RMSNorm(self.epsilon, name=f"norm{i}a")(x)
            qkv = Dense(3 * width, dtype=self.dtype, name=f"qkv{i}")(h)
            h = attend(qkv, self.heads, bias, 1.0, self.dtype)
            x = x + Dense(self.features, dtype=self.dtype, name=f"out{i}")(h)
            h = RMSNorm(self.epsilon, name=f"norm{i}b")(x)
            h = Dense(self.hidden * (1 + self.gated), dtype=self.dtype, name=f"up{i}")(h)
            h = nn.gelu(h[..., : self.hidden], approximate=True) * h[..., self.hidden :] if self.gated else nn.relu(h)
            x = x + Dense(self.features, dtype=self.dtype, name=f"down{i}")(h)
        return jnp.where(mask[..., None], RMSNorm(self.epsilon, name="norm")(x), 0.0)

    def phrases(self, ids: Array, mask: Array) -> Array:
        """The mean of a text's features over its tokens: float32 (B, features)."""
        return self(ids, mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)


def bucket_numbers(tokens: int, buckets: int, distance: int) -> np.ndarray:
    """The bucket of the distance from each token (row) to each (column): int (tokens, tokens)."""
    offset = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    far, half = np.abs(offset), buckets // 2
    exact = half // 2
    # In float32, as T5 was trained: at the edge of a bucket rounding decides.
    steps = np.log(np.maximum(far, exact).astype(np.float32) / exact) / np.float32(math.log(distance / exact))
    coarse = np.minimum(exact + (steps * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(offset > 0, half, 0) + np.where(far < exact, far, coarse)


def plan(config: Mapping[str, Any], where: str, dtype: Any) -> Plan:
    """The encoder that a checkpoint's configuration describes; `where` is the file it was read from.

    Raises ValueError, in one line, for a field of another type or out of range.
    """
    read = Fields(config, where)
    buckets = read.count("relative_attention_num_buckets", 32, least=4)
    module = T5Encoder(
        vocabulary=read.count("vocab_size", 32128),
        features=read.count("d_model", 512),
        layers=read.count("num_layers", 6),
        heads=read.count("num_heads", 8),
        head_features=read.count("d_kv", 64),
        hidden=read.count("d_ff", 2048),
        gated=FEED_FORWARD[read.choice("feed_forward_proj", "relu", FEED_FORWARD)],
        buckets=buckets,
        distance=read.count("relative_attention_max_distance", 128, least=buckets // 4 + 1),
        epsilon=read.number("layer_norm_epsilon", 1e-6),
        dtype=dtype,
    )
    ids = jnp.zeros((1, 1), jnp.int32)
    end = read.count("eos_token_id", 1, least=0)
    return Plan(module, (ids, ids == 0), _table(module), ("decoder.", "lm_head."), end)


def _table(module: T5Encoder) -> Table:
    """The sources in a checkpoint of each parameter of `module`."""
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    table: Table = {
        ("tokens",): same("shared.weight", "encoder.embed_tokens.weight"),
        ("positions",): same(first),
        ("norm", "scale"): same("encoder.final_layer_norm.weight"),
    }
    up = ("wi_0", "wi_1") if module.gated else ("wi",)
    for i in range(module.layers):
        attention, feed_forward = (f"encoder.block.{i}.layer.{j}" for j in range(2))
        table[f"norm{i}a", "scale"] = same(f"{attention}.layer_norm.weight")
        table[f"qkv{i}", "kernel"] = dense(*(f"{attention}.SelfAttention.{p}.weight" for p in "qkv"))
        table[f"out{i}", "kernel"] = dense(f"{attention}.SelfAttention.o.weight")
        table[f"norm{i}b", "scale"] = same(f"{feed_forward}.layer_norm.weight")
        table[f"up{i}", "kernel"] = dense(*(f"{feed_forward}.DenseReluDense.{p}.weight" for p in up))
        table[f"down{i}", "kernel"] = dense(f"{feed_forward}.DenseReluDense.wo.weight")
    return table
