"""Conditioning of the network on levels and text: tokens for attention, and a vector, the global embedding.

`TextContext` reads the tokens as they are, `ResampledText` as Imagen does (Saharia et al. 2022): padded with learned
null tokens to a fixed length and resampled to a few (Alayrac et al. 2022, Flamingo, the perceiver resampler).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.attention import Context, FeedForward
from gcdiff.models.layers import LayerNorm
from gcdiff.models.level_features import LevelEmbedding, LevelFourier, level_features
from gcdiff.types import Condition, Pair

POSITIONS = 512
"""The longest text that a resampler has positions for."""


def levels_and_text(net: Any, log_snr: Pair, condition: Condition) -> tuple[Array, Context | None]:
    """The global embedding (B, D) of levels and text, and the tokens that attention reads.

    Makes its parameters in the network that calls it and reads its fields. With `level_inputs` 'image' it
    reads the image's level alone. With learned features, the weights of the layout's level start at zero.
    """
    width = net.embedding * net.dim
    maps = [log_snr[i] for i, side in enumerate(Pair._fields) if side in net.inputs]
    if net.level_inputs == "image":
        maps = maps[:1]

    def embed(level: Array, fourier: str, name: str, tokens: int, zero: bool = False):
        features = LevelFourier(net.level_bands, name=fourier)(level) if net.learned_levels else level_features(level)
        return LevelEmbedding(width, tokens, net.text_features, zero, name=name)(features)

    if net.learned_levels:
        embedding, *tokens = embed(maps[0], "level_fourier", "levels", net.level_tokens)
        for m in maps[1:]:
            embedding = embedding + embed(m, "layout_level_fourier", "layout_levels", 0, zero=True)[0]
    else:
        features = jnp.concatenate([level_features(m) for m in maps], axis=-1)
        embedding, *tokens = LevelEmbedding(width, net.level_tokens, net.text_features, name="levels")(features)
    if condition.lowres is not None:
        level = condition.lowres.log_snr[:, None, None]
        more, more_tokens = embed(level, "lowres_fourier", "lowres_level", net.level_tokens)
        embedding, tokens = embedding + more, [*tokens, more_tokens]
    if net.text_latents:
        sizes = net.text_length, net.text_latents, net.heads, net.head_dim
        context, pooled = ResampledText(net.text_features, width, *sizes, name="text")(condition)
    else:
        context, pooled = TextContext(net.text_features, name="text")(condition)
        pooled = None if pooled is None else nn.Dense(width, name="text_embedding")(pooled)
    if pooled is not None:
        embedding = embedding + pooled
    return embedding, _with_levels(context, tokens) if net.level_tokens else context


def _with_levels(context: Context | None, tokens: list[Array]) -> Context:
    """The context with the tokens of the levels before those of the text."""
    levels = jnp.concatenate(tokens, axis=1)
    shape = levels.shape[:2]
    parts = [Context(levels, jnp.ones(shape, bool), jnp.full(shape, -1))]
    parts += [] if context is None else [context]
    joined, mask, region = (jnp.concatenate(a, axis=1) for a in zip(*parts, strict=True))
    return Context(LayerNorm(use_bias=True, name="norm_context")(joined), mask, region)


class TextContext(nn.Module):
    """Projects the text of a condition: (Context of tokens (B, T, D), pooled text (B, D)).

    Without a real token none is visible (attention has its own null key) and the pooled vector is a learned null.
    All tokens have region -1 (they speak of the whole picture). Without text: (None, None).
    """

    features: int

    @nn.compact
    def __call__(self, condition: Condition) -> tuple[Context | None, Array | None]:
        text = condition.text
        if text is None:
            return None, None
        mask = text.mask
        tokens = nn.Dense(self.features, name="project")(text.tokens)
        shares = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        pooled = nn.LayerNorm(name="norm")(jnp.einsum("bt,btd->bd", shares, tokens))
        null = self.param("null", nn.initializers.normal(0.02), (self.features,))
        pooled = jnp.where(mask.any(axis=1, keepdims=True), pooled, null)
        return Context(tokens, mask, jnp.full(mask.shape, -1)), nn.Dense(self.features, name="pooled")(pooled)


class ResampledText(nn.Module):
    """Resamples the text of a condition: (Context of `latents` + 4 tokens (B, S, features), pooled text (B, width)).

    Tokens are projected, cut or padded to `length`, and learned null tokens stand where there is none: the resampler
    sees no mask. Without a real token the pooled vector is a learned null. Without text: (None, None).
    """

    features: int
    width: int
    length: int = 256
    latents: int = 32
    heads: int = 8
    head_dim: int = 64

    @nn.compact
    def __call__(self, condition: Condition) -> tuple[Context | None, Array | None]:
        text = condition.text
        if text is None:
            return None, None
        pad = ((0, 0), (0, max(self.length - text.tokens.shape[1], 0)))
        mask = jnp.pad(text.mask[:, : self.length], pad)[..., None]
        tokens = nn.Dense(self.features, name="project")(text.tokens)[:, : self.length]
        null = self.param("null_tokens", nn.initializers.normal(1.0), (self.length, self.features))
        tokens = jnp.where(mask, jnp.pad(tokens, (*pad, (0, 0))), null)
        tokens = Resampler(self.latents, self.heads, self.head_dim, name="resampler")(tokens)
        pooled = LayerNorm(use_bias=True, name="norm")(tokens.mean(axis=1))
        pooled = nn.Dense(self.width, name="pooled1")(nn.silu(nn.Dense(self.width, name="pooled0")(pooled)))
        null = self.param("null_pooled", nn.initializers.normal(1.0), (1, self.width))
        pooled = jnp.where(text.mask.any(axis=1, keepdims=True), pooled, null)
        shape = tokens.shape[:2]
        return Context(tokens, jnp.ones(shape, bool), jnp.full(shape, -1)), pooled


class Resampler(nn.Module):
    """Summarises a sequence (B, T, D) in S tokens (B, S, D), by attention to it.

    S queries attend: `latents` learned ones, and `pooled` ones made from the mean of the sequence.
    """

    latents: int = 32
    heads: int = 8
    head_dim: int = 64
    depth: int = 2
    pooled: int = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, length, features = x.shape
        if length > POSITIONS:
            raise ValueError(f"a text of {length} tokens is resampled, expected at most {POSITIONS}")
        mean = LayerNorm(name="norm_pooled")(x.mean(axis=1))
        pooled = nn.Dense(self.pooled * features, name="pooled")(mean).reshape(b, self.pooled, features)
        learned = self.param("latents", nn.initializers.normal(1.0), (self.latents, features))
        latents = jnp.concatenate([pooled, jnp.broadcast_to(learned, (b, *learned.shape))], axis=1)
        x = x + self.param("positions", nn.initializers.normal(1.0), (POSITIONS, features))[:length]
        for i in range(self.depth):
            latents = latents + ResamplerAttention(self.heads, self.head_dim, name=f"attention{i}")(x, latents)
            latents = latents + FeedForward(4.0, name=f"feed_forward{i}")(latents)
        return latents


class ResamplerAttention(nn.Module):
    """Attention from latents (B, S, D) to the sequence x (B, T, D) and to themselves: (B, S, D)."""

    heads: int = 8
    head_dim: int = 64

    @nn.compact
    def __call__(self, x: Array, latents: Array) -> Array:
        x = LayerNorm(use_bias=True, name="norm")(x)
        latents = LayerNorm(use_bias=True, name="norm_latents")(latents)
        inner = self.heads * self.head_dim

        def project(name: str, y: Array, times: int) -> list[Array]:
            y = nn.Dense(times * inner, use_bias=False, name=name)(y)
            return jnp.split(y.reshape(*y.shape[:-1], times * self.heads, self.head_dim), times, axis=-2)

        (q,) = project("q", latents, 1)
        k, v = project("kv", jnp.concatenate([x, latents], axis=1), 2)
        y = jax.nn.dot_product_attention(q, k, v)
        y = nn.Dense(x.shape[-1], use_bias=False, name="out")(y.reshape(*y.shape[:-2], inner))
        return LayerNorm(use_bias=True, name="norm_out")(y)
