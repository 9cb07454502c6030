"""Attention over a grid of tokens with rotary positions, and where the tokens are.

Half of a head's features turn with the token's row and column (rotary positions, Su et al. 2021, in 2-D: Heo et al.
2024); words have no place, and speak to the other half. Queries and keys are normalised (Dehghani et al. 2023).

The first head looks everywhere alike, the others at what is near, each within another distance (linear biases, Press
et al. 2022, by distances in 2-D): what neighbours say together of a noisy patch is averaged from the first step on.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.attention import Attending, Context
from gcdiff.models.layers import LayerNorm

POSITION_BANDS = 6
ROTARY_BASE = 100.0


class RotaryAttention(Attending):
    """From the tokens of x to [a learned null key, the tokens, the context]; (B, h, w, C) -> (B, h, w, C).

    The first half of a head's features turns with the token's place; of the null key and the context it is zero. Scores
    of tokens fall with their distance (`nearness`).
    """

    @nn.compact
    def __call__(
        self, x: Array, rotation: Array, context: Context | None, areas: Mapping[int, Array], embedding: Array
    ) -> Array:
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)

        def project(name: str, y: Array, times: int) -> Array:
            y = nn.Dense(times * self.heads * self.head_dim, use_bias=False, dtype=self.dtype, name=name)(y)
            return self.split(y, times, self.heads)

        q, k, v = project("qkv", tokens, 3)
        q, k = LayerNorm(dtype=self.dtype, name="norm_q")(q), LayerNorm(dtype=self.dtype, name="norm_k")(k)
        pairs = [self._null(b), jnp.stack([_rotated(k, rotation), v])]
        if context is not None:
            said = nn.LayerNorm(use_bias=False, dtype=jnp.float32, name="norm_context")(context.tokens)
            words, v = project("kv", said.astype(self.dtype), 2)
            words = LayerNorm(dtype=self.dtype, name="norm_words")(words)
            pairs.append(jnp.stack([_placeless(words), v]))
        near = nearness((h, w), self.heads).astype(q.dtype)
        bias = jnp.pad(near, ((0, 0), (0, 0), (1, sum(pair.shape[2] for pair in pairs[2:]))))[None]
        y = self.weigh(_rotated(q, rotation), pairs, context, x, areas, embedding, bias)
        return nn.Dense(c, use_bias=False, dtype=self.dtype, name="out")(y)

    def _null(self, batch: int) -> Array:
        shape = 2, self.heads, self.head_dim
        k, v = self.param("null", nn.initializers.normal(0.02), shape).astype(self.dtype)
        null = jnp.stack([_placeless(k), v])
        return jnp.broadcast_to(null[:, None, None], (2, batch, 1, self.heads, self.head_dim))


def positions(grid: tuple[int, int], bands: int = POSITION_BANDS) -> Array:
    """Fourier features of a token's place in the frame, rows and columns in [0, 1]: (h, w, 4 * bands)."""
    places = [(jnp.arange(n, dtype=jnp.float32) + 0.5) / n for n in grid]
    waves = jnp.pi * 2.0 ** jnp.arange(-1, bands - 1)
    parts = []
    for axis, place in enumerate(places):
        angles = place[:, None] * waves
        both = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        parts.append(jnp.broadcast_to(both[:, None] if axis == 0 else both[None], (*grid, 2 * bands)))
    return jnp.concatenate(parts, axis=-1)


def rotations(grid: tuple[int, int], features: int) -> Array:
    """The angles by which `features` / 2 pairs turn with row and column of a token, half of them each: (h w, pairs)."""
    pairs = features // 2
    speeds = ROTARY_BASE ** -(jnp.arange(pairs // 2) / max(pairs // 2, 1))
    rows, columns = (jnp.arange(n, dtype=jnp.float32)[:, None] * speeds for n in grid)
    shape = (*grid, pairs // 2)
    both = [jnp.broadcast_to(rows[:, None], shape), jnp.broadcast_to(columns[None], shape)]
    return jnp.concatenate(both, axis=-1).reshape(grid[0] * grid[1], -1)


def nearness(grid: tuple[int, int], heads: int) -> Array:
    """What is added to the scores of tokens for being far away, (heads, h w, h w): the distance in tokens times minus
    the slope of the head, 0 for the first head and 2 ** -(heads - 1), ..., 1/2, 1 for others."""
    rows, columns = (jnp.arange(n, dtype=jnp.float32) for n in grid)
    apart = jnp.hypot((rows[:, None] - rows)[:, None, :, None], (columns[:, None] - columns)[None, :, None, :])
    slopes = jnp.where(jnp.arange(heads) > 0, 2.0 ** (jnp.arange(heads) - heads + 1.0), 0.0)
    return -slopes[:, None, None] * apart.reshape(grid[0] * grid[1], -1)


def _rotated(x: Array, angles: Array) -> Array:
    """Turn the first half of the features of x (B, N, heads, F) by angles (N, F / 4)."""
    pairs = angles.shape[-1]
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = (f(angles)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)


def _placeless(k: Array) -> Array:
    """Keys (..., F) whose first half, which turns with places, is zero."""
    half = k.shape[-1] // 2
    return jnp.concatenate([jnp.zeros_like(k[..., :half]), k[..., half:]], axis=-1)
