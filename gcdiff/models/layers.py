"""The building blocks of the networks: one convolution, normalisation, residual block, resampling.

Every convolution of every network goes through `Conv`. Statistics of the norms are float32 whatever the compute
dtype; parameters are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.convolution import convolve


class Conv(nn.Module):
    """A 2-D convolution, NHWC, stride 1, same padding: (B, h, w, C) -> (B, h, w, features)."""

    features: int
    kernel: int = 3
    use_bias: bool = True
    init: Callable = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("kernel", self.init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        y = x @ w[0, 0] if self.kernel == 1 else convolve(x, w)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = (y.astype(jnp.float32) + bias).astype(self.dtype)  # its gradient is a sum over all pixels
        return y


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of every channel alone, same padding, as nine products: (B, h, w, C) -> (B, h, w, C)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.normal(1 / 3)
        kernel = self.param("kernel", init, (9, x.shape[-1]), jnp.float32).astype(self.dtype)
        height, width = x.shape[1:3]
        around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        parts = [around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return sum((part * row for part, row in zip(parts[1:], kernel[1:], strict=True)), parts[0] * kernel[0])


class GroupNorm(nn.Module):
    """Group normalisation with float32 statistics over the pixels and channels of a group.

    Pixels are averaged first and the channels of a group after that, and the variance is taken about the mean: on a
    CPU faster than sums over both at once, and exact where the mean is large.
    """

    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, groups = x.shape[-1], min(self.groups, x.shape[-1])
        if channels % groups:
            raise ValueError(f"the number of channels is {channels}, expected a multiple of {groups} groups")

        def over_group(y: Array) -> Array:
            """The mean over a group, repeated for each of its channels: (B, 1, 1, C)."""
            means = y.mean(axis=(1, 2)).reshape(-1, groups, channels // groups).mean(axis=-1)
            return jnp.repeat(means, channels // groups, axis=-1)[:, None, None]

        x = x.astype(jnp.float32)
        centred = x - over_group(x)
        scale, bias = _Affine(name="GroupNorm_0")(channels)
        return (centred * (jax.lax.rsqrt(over_group(jnp.square(centred)) + 1e-5) * scale) + bias).astype(self.dtype)


class LayerNorm(nn.Module):
    """Normalisation over the channels (..., C) with float32 statistics and a gain; `use_bias` adds a bias."""

    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.astype(jnp.float32)
        centred = x - x.mean(axis=-1, keepdims=True)
        x = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
        x = x * self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return x.astype(self.dtype)


class _Affine(nn.Module):
    """The learned scale and bias of a norm, (C,) each."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[Array, Array]:
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        return scale, self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)


class ResBlock(nn.Module):
    """Norm, SiLU, conv; [cross-attention]; norm, FiLM of the global embedding, SiLU, dropout, conv; [gate]; residual.

    x (B, h, w, C), embedding (B, D) -> (B, h, w, features). `cross` is a module that attends from the features to
    `context` (text), `gated` multiplies by a `GlobalContext` of the features. Features are dropped only where the
    caller gives random numbers named "dropout", as training does.
    """

    features: int
    dtype: Any = jnp.float32
    kernel: int = 3
    dropout: float = 0.0
    gated: bool = False
    cross: nn.Module | None = None

    @nn.compact
    def __call__(self, x: Array, embedding: Array, context: Any = None, areas: Any = None) -> Array:
        h = Conv(self.features, self.kernel, dtype=self.dtype, name="conv1")(
            nn.silu(GroupNorm(dtype=self.dtype, name="norm1")(x))
        )
        if self.cross is not None:
            h = h + self.cross(h, context, areas, embedding)
        film = nn.Dense(2 * self.features, name="film")(nn.silu(embedding))[:, None, None]
        scale, shift = jnp.split(film, 2, axis=-1)  # float32: their gradients are sums over all pixels
        h = (GroupNorm(name="norm2")(h) * (1 + scale) + shift).astype(self.dtype)
        h = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(nn.silu(h))
        h = Conv(self.features, self.kernel, init=nn.initializers.zeros, dtype=self.dtype, name="conv2")(h)
        if self.gated:
            h = (h.astype(jnp.float32) * GlobalContext(self.dtype, name="gate")(h)).astype(self.dtype)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel=1, dtype=self.dtype, name="skip")(x)
        return x.astype(self.dtype) + h


class GlobalContext(nn.Module):
    """A gate in (0, 1) for each channel, from an attention-weighted mean over the pixels.

    (B, h, w, C) -> float32 (B, 1, 1, C).

    Squeeze-and-excitation (Hu et al. 2018) with the pooling of Cao et al. 2019 (GCNet), as in Imagen.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scores = Conv(1, kernel=1, dtype=self.dtype, name="scores")(x).astype(jnp.float32)
        weights = jax.nn.softmax(scores, axis=(1, 2))
        pooled = jnp.einsum("bhwo,bhwc->bc", weights, x.astype(jnp.float32))
        h = nn.silu(nn.Dense(max(3, channels // 2), name="down")(pooled))
        return nn.sigmoid(nn.Dense(channels, name="up")(h))[:, None, None]


class CrossEmbed(nn.Module):
    """Convolutions of several kernel sizes side by side, the smallest with half of the features, the next with a
    quarter, ..., the largest with the rest (Wang et al. 2022, CrossFormer): (B, h, w, C) -> (B, h, w, features)."""

    features: int
    kernels: Sequence[int] = (3, 7, 15)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernels = sorted(self.kernels)
        widths = [self.features // 2**i for i in range(1, len(kernels))]
        widths.append(self.features - sum(widths))
        return jnp.concatenate(
            [Conv(w, k, dtype=self.dtype, name=f"conv{k}")(x) for k, w in zip(kernels, widths, strict=True)], axis=-1
        )


def unshuffle(x: Array, factor: int) -> Array:
    """Space to depth: (B, h, w, C) -> (B, h/f, w/f, f*f*C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // factor, w // factor, factor * factor * c)


def shuffle(x: Array, factor: int) -> Array:
    """Depth to space, the inverse of `unshuffle`: (B, h, w, f*f*C) -> (B, h*f, w*f, C)."""
    b, h, w, c = x.shape
    c //= factor * factor
    x = x.reshape(b, h, w, factor, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c)


def enlarge(x: Array, size: tuple[int, int]) -> Array:
    """Repeat every pixel: (B, h', w', C) -> (B, h, w, C) for a size (h, w) that is a multiple of (h', w')."""
    factors = [big // small for big, small in zip(size, x.shape[1:3], strict=True)]
    if any(f * small != big for f, small, big in zip(factors, x.shape[1:3], size, strict=True)):
        raise ValueError(f"size {x.shape[1]}x{x.shape[2]} does not divide {size[0]}x{size[1]}")
    return jnp.repeat(jnp.repeat(x, factors[0], axis=1), factors[1], axis=2)


class Downsample(nn.Module):
    """Pixel-unshuffle by `factor` and a 1x1 convolution."""

    features: int
    factor: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv(self.features, kernel=1, dtype=self.dtype, name="conv")(unshuffle(x, self.factor))


class Upsample(nn.Module):
    """A 1x1 convolution, SiLU and pixel-shuffle by `factor`."""

    features: int
    factor: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv(self.features * self.factor**2, kernel=1, dtype=self.dtype, name="conv")(x)
        return shuffle(nn.silu(x), self.factor)


class TiedLogits(nn.Module):
    """Logits as products with a table of classes: features (..., F), table (K, F) -> (..., K).

    Divided by sqrt(F), plus a bias per class that starts at zero.
    """

    @nn.compact
    def __call__(self, features: Array, table: Array) -> Array:
        classes, width = table.shape
        return features @ (table * width**-0.5).T + self.param("bias", nn.initializers.zeros, (classes,), jnp.float32)
