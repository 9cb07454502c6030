"""Building blocks of the T5 and CLIP encoders: dense layers, norms, attention.

Parameters may have any float type. Matrix products have inputs of type `dtype` and a float32 result; norms, softmax and
residual sums are float32. With dtype float32 the products have full precision on every device, also on those that by
default use a lower one.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

MASKED = -1e9
"""The score bias of a masked token; finite, so that a row whose tokens are all masked stays finite."""


def compute_dtype(dtype: Any) -> Any:
    """The dtype of matrix products. Raises ValueError for any but float32 and bfloat16: T5 overflows in float16."""
    name = dtype if isinstance(dtype, str) else jnp.dtype(dtype).name
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is {name!r}, expected float32 or bfloat16")
    return jnp.dtype(name)


class Dense(nn.Module):
    """x (..., I) -> float32 (..., features)."""

    features: int
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        y = product("...i,io->...o", x, kernel, self.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(jnp.float32)
        return y


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) with a gain, over the last axis, in float32 (Zhang and Sennrich 2019)."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + self.epsilon)
        return x * self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(jnp.float32)


class LayerNorm(nn.Module):
    """Normalisation over the last axis with a gain and a bias, in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        x = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + self.epsilon)
        x = x * self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(jnp.float32)
        return x + self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(jnp.float32)


def attend(qkv: Array, heads: int, bias: Array, scale: float, dtype: Any) -> Array:
    """Self-attention: queries, keys and values concatenated (B, T, 3 H d) -> float32 (B, T, H d).

    The scores (B, H, T, T) are q k * scale + `bias`. The weighted values are normalised rather than the weights, which
    are more numbers; with the heads' axis before the tokens' this takes half of the time on a CPU.
    """
    b, tokens, width = qkv.shape
    q, k, v = qkv.reshape(b, tokens, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)
    scores = product("bhqd,bhkd->bhqk", q, k, dtype) * scale + bias
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    weighted = product("bhqk,bhkd->bhqd", weights, v, dtype) / weights.sum(axis=-1, keepdims=True)
    return weighted.transpose(0, 2, 1, 3).reshape(b, tokens, width // 3)


def product(equation: str, x: Array, y: Array, dtype: Any) -> Array:
    """The einsum of x and y in `dtype`, accumulated in float32."""
    x, y = x.astype(dtype), y.astype(dtype)
    precision = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
    return jnp.einsum(equation, x, y, precision=precision, preferred_element_type=jnp.float32)


def mask_bias(mask: Array) -> Array:
    """The bias of attention scores that masks tokens where mask bool (B, T) is False: (B, 1, 1, T)."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :]
