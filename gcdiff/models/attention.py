"""Attention over a feature map: self-attention with context, and cross-attention to the context.

Two paths compute the same function: a fused one, and an explicit one with float32 scores, which is taken where a
control module is attached or where the maps are asked for (apply with `mutable=['attention']`).

A control is `control(scores, grid, context_region, areas, embedding) -> weights` with scores (B, heads, Q, S),
grid = (h, w) and Q = h*w, context_region int (B, S) (-1 on null, time and global keys), areas the pyramid
`condition.areas` by stride, embedding (B, D). Masked keys have the score -inf.

Two styles: `Attention`, with keys and values for each head, and Imagen's (Saharia et al. 2022): `CrossAttention`, and
`MultiQueryAttention` whose pixels and context share one head of keys and values (Shazeer 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.layers import Conv, GroupNorm, LayerNorm

Control = Callable[[Array, tuple[int, int], Array, Mapping[int, Array], Array], Array]


class Context(NamedTuple):
    """The tokens that attention reads besides the pixels: tokens (B, S, D), mask bool (B, S), region int32 (B, S)."""

    tokens: Array
    mask: Array
    region: Array


def identity_control(scores, grid, context_region, areas, embedding) -> Array:
    """The control that changes nothing: the softmax of the scores."""
    return jax.nn.softmax(scores, axis=-1)


class Attending(nn.Module):
    """The base class of all attentions: their fields, and the weighted sum of values."""

    heads: int = 4
    head_dim: int = 32
    control: Control | None = None
    dtype: Any = jnp.float32

    def weigh(
        self, q: Array, pairs: list[Array], context: Context | None, x: Array, areas, embedding, bias=None
    ) -> Array:
        """The weighted sum of the values of the null key, of `count` pixels (0: no self-attention) and of the context.

        q (B, Q, heads, head_dim); pairs: keys and values of each part in that order, (2, B, S, heads or 1, head_dim)
        -> (B, h, w, heads * head_dim) for x (B, h, w, C). `bias` (1, heads, Q, S) is added to the scores.
        """
        b, h, w, _ = x.shape
        masks = [jnp.ones(pair.shape[1:3], bool) for pair in pairs]
        regions = [jnp.full(pair.shape[1:3], -1) for pair in pairs]
        if context is not None:
            masks[-1], regions[-1] = context.mask, context.region
        k, v = jnp.concatenate(pairs, axis=2)
        mask, region = jnp.concatenate(masks, axis=1), jnp.concatenate(regions, axis=1)
        if self.control is None and not self.is_mutable_collection("attention"):
            y = jax.nn.dot_product_attention(q, k, v, bias, mask=mask[:, None, None, :])
        else:
            y = self._explicit(q, k, v, mask, region, (h, w), areas, embedding, bias)
        return y.reshape(b, h, w, self.heads * self.head_dim)

    def _explicit(self, q, k, v, mask, region, grid, areas, embedding, bias) -> Array:
        k, v = (jnp.broadcast_to(a, (*a.shape[:2], self.heads, self.head_dim)) for a in (k, v))
        scores = jnp.einsum("bqhd,bshd->bhqs", q, k, preferred_element_type=jnp.float32) * self.head_dim**-0.5
        scores = scores if bias is None else scores + bias
        scores = jnp.where(mask[:, None, None, :], scores, -jnp.inf)
        weights = (self.control or identity_control)(scores, grid, region, areas, embedding)
        self.sow("attention", "weights", weights)
        return jnp.einsum("bhqs,bshd->bqhd", weights.astype(v.dtype), v)

    def split(self, y: Array, times: int, heads: int) -> Array:
        """(B, S, times * heads * head_dim) -> (times, B, S, heads, head_dim)."""
        return jnp.stack(jnp.split(y.reshape(*y.shape[:-1], times * heads, self.head_dim), times, axis=-2))


class Attention(Attending):
    """Multi-head attention from the pixels of x to [a learned null key, the pixels (self), the context].

    x (B, h, w, C) -> (B, h, w, C). `self_attention` False gives pure cross-attention to the context.
    """

    self_attention: bool = True

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        b, h, w, c = x.shape

        def project(name: str, y: Array, times: int) -> Array:
            y = nn.Dense(times * self.heads * self.head_dim, use_bias=False, dtype=self.dtype, name=name)(y)
            return self.split(y, times, self.heads)

        pixels = GroupNorm(dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        null = self.param("null", nn.initializers.normal(0.02), (2, self.heads, self.head_dim)).astype(self.dtype)
        pairs = [jnp.broadcast_to(null[:, None, None], (2, b, 1, self.heads, self.head_dim))]
        if self.self_attention:
            q, *pair = project("qkv", pixels, 3)
            pairs.append(jnp.stack(pair))
        else:
            (q,) = project("q", pixels, 1)
        if context is not None:
            tokens = nn.LayerNorm(use_bias=False, dtype=jnp.float32, name="norm_context")(context.tokens)
            pairs.append(project("kv", tokens.astype(self.dtype), 2))
        y = self.weigh(q, pairs, context, x, areas, embedding)
        return Conv(c, kernel=1, use_bias=False, init=nn.initializers.zeros, dtype=self.dtype, name="out")(y)


class Transformer(nn.Module):
    """Self-attention (with context keys) and a feed-forward of 1x1 convolutions, both residual."""

    heads: int = 4
    head_dim: int = 32
    control: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        attend = Attention(self.heads, self.head_dim, self.control, self.dtype, name="attention")
        x = x + attend(x, context, areas, embedding)
        h = Conv(2 * x.shape[-1], kernel=1, dtype=self.dtype, name="up")(GroupNorm(dtype=self.dtype, name="norm")(x))
        return x + Conv(x.shape[-1], kernel=1, init=nn.initializers.zeros, dtype=self.dtype, name="down")(nn.gelu(h))


class _ImagenAttention(Attending):
    """Imagen's attention, with a norm before and after it and one null key for all heads.

    x (B, h, w, C) -> (B, h, w, C). The context's tokens have been normalised.
    """

    def _read(self, x: Array) -> tuple[Array, Array]:
        """Normalised pixels (B, h*w, C) and queries (B, h*w, heads, head_dim)."""
        b, h, w, c = x.shape
        pixels = LayerNorm(dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        (q,) = self.split(self._dense("q", self.heads)(pixels), 1, self.heads)
        return pixels, q

    def _null(self, batch: int, heads: int) -> Array:
        null = self.param("null", nn.initializers.normal(1.0), (2, self.head_dim)).astype(self.dtype)
        return jnp.broadcast_to(null[:, None, None, None], (2, batch, 1, heads, self.head_dim))

    def _dense(self, name: str, heads: int, bias: bool = False) -> nn.Dense:
        return nn.Dense(heads * self.head_dim, use_bias=bias, dtype=self.dtype, name=name)

    def _write(self, y: Array, features: int) -> Array:
        y = nn.Dense(features, use_bias=False, dtype=self.dtype, name="out")(y)
        return LayerNorm(dtype=self.dtype, name="norm_out")(y)


class CrossAttention(_ImagenAttention):
    """From the pixels of x to [a learned null key, the context]."""

    @nn.compact
    def __call__(self, x: Array, context: Context, areas: Mapping[str, Array], embedding: Array) -> Array:
        _, q = self._read(x)
        pair = self.split(self._dense("kv", 2 * self.heads)(context.tokens.astype(self.dtype)), 2, self.heads)
        y = self.weigh(q, [self._null(len(x), self.heads), pair], context, x, areas, embedding)
        return self._write(y, x.shape[-1])


class MultiQueryAttention(_ImagenAttention):
    """From the pixels of x to [a learned null key, the pixels, the context], with one head of keys and values."""

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        pixels, q = self._read(x)
        pairs = [self._null(len(x), 1), self.split(self._dense("kv", 2)(pixels), 2, 1)]
        if context is not None:
            tokens = LayerNorm(use_bias=True, name="norm_context")(context.tokens).astype(self.dtype)
            pairs.append(self.split(self._dense("context", 2, bias=True)(tokens), 2, 1))
        return self._write(self.weigh(q, pairs, context, x, areas, embedding), x.shape[-1])


class ImagenTransformer(nn.Module):
    """Multi-query self-attention (with context keys) and a feed-forward with two norms, both residual."""

    heads: int = 8
    head_dim: int = 64
    control: Any = None
    dtype: Any = jnp.float32
    mult: float = 2.0

    @nn.compact
    def __call__(self, x: Array, context: Context | None, areas: Mapping[str, Array], embedding: Array) -> Array:
        attend = MultiQueryAttention(self.heads, self.head_dim, self.control, self.dtype, name="attention")
        x = x + attend(x, context, areas, embedding)
        return x + FeedForward(self.mult, self.dtype, name="feed_forward")(x)


class FeedForward(nn.Module):
    """Norm, a dense layer `mult` times as wide, GELU, norm, a dense layer; no biases: (..., C) -> (..., C)."""

    mult: float = 2.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1]
        h = LayerNorm(dtype=self.dtype, name="norm")(x)
        h = nn.Dense(int(features * self.mult), use_bias=False, dtype=self.dtype, name="up")(h)
        h = LayerNorm(dtype=self.dtype, name="norm_up")(nn.gelu(h, approximate=False))
        return nn.Dense(features, use_bias=False, dtype=self.dtype, name="down")(h)
