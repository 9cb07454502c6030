"""Attention over a feature map: self-attention with context, and cross-attention to the context.

Two paths compute the same function: a fused one, and an explicit one with float32 scores, which is taken where a
control module is attached or where the maps are asked for (apply with `mutable=['attention']`).

A control is `control(scores, grid, context_region, areas, embedding) -> weights` with scores (B, heads, Q, S),
grid = (h, w) and Q = h*w, context_region int (B, S) (-1 on null, time and global keys), areas the pyramids of
`condition.extra` that start with 'areas/', embedding (B, D). Masked keys have the score -inf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.layers import Conv, GroupNorm

Control = Callable[[Array, tuple[int, int], Array, Mapping[str, Array], Array], Array]


class Context(NamedTuple):
    """What attention reads besides the pixels: tokens (B, S, D), mask bool (B, S), region int32 (B, S)."""

    tokens: Array
    mask: Array
    region: Array


def identity_control(scores, grid, context_region, areas, embedding) -> Array:
    """The control that changes nothing: the softmax of the scores."""
    return jax.nn.softmax(scores, axis=-1)


class Attention(nn.Module):
    """Multi-head attention from the pixels of x to [a learned null key, the pixels (self), the context].

    x (B, h, w, C) -> (B, h, w, C). `self_attention` False gives pure cross-attention to the context.
    """

    heads: int = 4
    head_dim: int = 32
    self_attention: bool = True
    control: Control | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        b, h, w, c = x.shape
        inner = self.heads * self.head_dim

        def heads(y: Array) -> Array:
            return y.reshape(*y.shape[:-1], self.heads, self.head_dim)

        def project(name: str, y: Array, times: int) -> list[Array]:
            y = nn.Dense(times * inner, use_bias=False, dtype=self.dtype, name=name)(y)
            return [heads(part) for part in jnp.split(y, times, axis=-1)]

        pixels = GroupNorm(dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        null = self.param("null", nn.initializers.normal(0.02), (2, self.heads, self.head_dim)).astype(self.dtype)
        null_k, null_v = jnp.broadcast_to(null[:, None, None], (2, b, 1, self.heads, self.head_dim))
        keys, values = [null_k], [null_v]
        masks, regions = [jnp.ones((b, 1), bool)], [jnp.full((b, 1), -1)]
        if self.self_attention:
            q, k, v = project("qkv", pixels, 3)
            keys, values = [*keys, k], [*values, v]
            masks, regions = [*masks, jnp.ones((b, h * w), bool)], [*regions, jnp.full((b, h * w), -1)]
        else:
            (q,) = project("q", pixels, 1)
        if context is not None:
            tokens = nn.LayerNorm(use_bias=False, dtype=jnp.float32, name="norm_context")(context.tokens)
            k, v = project("kv", tokens.astype(self.dtype), 2)
            keys, values = [*keys, k], [*values, v]
            masks, regions = [*masks, context.mask], [*regions, context.region]
        k, v = jnp.concatenate(keys, 1), jnp.concatenate(values, 1)
        mask, region = jnp.concatenate(masks, 1), jnp.concatenate(regions, 1)

        if self.control is None and not self.is_mutable_collection("attention"):
            y = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
        else:
            y = self._explicit(q, k, v, mask, region, (h, w), areas, embedding)
        y = Conv(c, kernel=1, use_bias=False, init=nn.initializers.zeros, dtype=self.dtype, name="out")(
            y.reshape(b, h, w, inner)
        )
        return y

    def _explicit(self, q, k, v, mask, region, grid, areas, embedding) -> Array:
        scores = jnp.einsum("bqhd,bshd->bhqs", q, k, preferred_element_type=jnp.float32) * self.head_dim**-0.5
        scores = jnp.where(mask[:, None, None, :], scores, -jnp.inf)
        weights = (self.control or identity_control)(scores, grid, region, areas, embedding)
        self.sow("attention", "weights", weights)
        return jnp.einsum("bhqs,bshd->bqhd", weights.astype(v.dtype), v)


class Transformer(nn.Module):
    """Self-attention (with context keys) and a feed-forward of 1x1 convolutions, both residual."""

    heads: int = 4
    head_dim: int = 32
    control: Any = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        attend = Attention(self.heads, self.head_dim, True, self.control, self.dtype, name="attention")
        x = x + attend(x, context, areas, embedding)
        h = Conv(2 * x.shape[-1], kernel=1, dtype=self.dtype, name="up")(GroupNorm(dtype=self.dtype, name="norm")(x))
        return x + Conv(x.shape[-1], kernel=1, init=nn.initializers.zeros, dtype=self.dtype, name="down")(nn.gelu(h))
