"""The building blocks of the networks: one convolution, normalisation, residual block, resampling, level features.

Every convolution of every network goes through `Conv`. Statistics of the norms are float32 whatever the compute
dtype; parameters are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

LOG_SNR_CLIP = 15.0
"""Networks see log-SNRs within +-15; beyond stand the two ends, given and unknown, which have a flag each."""


class Conv(nn.Module):
    """A 2-D convolution, NHWC, stride 1, same padding: (B, h, w, C) -> (B, h, w, features)."""

    features: int
    kernel: int = 3
    use_bias: bool = True
    init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("kernel", self.init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.kernel == 1:
            y = x @ w[0, 0]
        else:
            y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


class GroupNorm(nn.Module):
    """Group normalisation with float32 statistics over the pixels and channels of a group.

    Pixels are averaged first and the channels of a group after that, and the variance is taken about the mean: on a
    CPU faster than sums over both at once, and exact where the mean is large.
    """

    groups: int = 8
    dtype: jnp.dtype = jnp.float32

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


class _Affine(nn.Module):
    """The scale and bias of a norm, (C,) each."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[Array, Array]:
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        return scale, self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)


class ResBlock(nn.Module):
    """Norm, SiLU, conv; [cross attention]; norm, FiLM of the global embedding, SiLU, dropout, conv; residual.

    x (B, h, w, C), embedding (B, D) -> (B, h, w, features). `cross` maps features to features (text attention).
    Features are dropped only where the caller gives random numbers named "dropout", as training does.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, embedding: Array, cross: Callable[[Array], Array] | None = None) -> Array:
        h = Conv(self.features, self.kernel, dtype=self.dtype, name="conv1")(
            nn.silu(GroupNorm(dtype=self.dtype, name="norm1")(x))
        )
        if cross is not None:
            h = h + cross(h)
        film = nn.Dense(2 * self.features, name="film")(nn.silu(embedding))[:, None, None]
        scale, shift = jnp.split(film.astype(self.dtype), 2, axis=-1)
        h = GroupNorm(dtype=self.dtype, name="norm2")(h) * (1 + scale) + shift
        h = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(nn.silu(h))
        h = Conv(self.features, self.kernel, init=nn.initializers.zeros, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel=1, dtype=self.dtype, name="skip")(x)
        return x.astype(self.dtype) + h


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
    """Every pixel repeated: (B, h', w', C) -> (B, h, w, C) for a size (h, w) that is a multiple of (h', w')."""
    factors = [big // small for big, small in zip(size, x.shape[1:3], strict=True)]
    if any(f * small != big for f, small, big in zip(factors, x.shape[1:3], size, strict=True)):
        raise ValueError(f"size {x.shape[1]}x{x.shape[2]} does not divide {size[0]}x{size[1]}")
    return jnp.repeat(jnp.repeat(x, factors[0], axis=1), factors[1], axis=2)


class Downsample(nn.Module):
    """Pixel-unshuffle by `factor` and a 1x1 convolution."""

    features: int
    factor: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv(self.features, kernel=1, dtype=self.dtype, name="conv")(unshuffle(x, self.factor))


class Upsample(nn.Module):
    """A 1x1 convolution, SiLU and pixel-shuffle by `factor`."""

    features: int
    factor: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv(self.features * self.factor**2, kernel=1, dtype=self.dtype, name="conv")(x)
        return shuffle(nn.silu(x), self.factor)


def level_flags(log_snr: Array) -> tuple[Array, Array]:
    """(given, unknown) of a log-SNR map, float32: 1 at the exact ends (anything beyond the clip), else 0."""
    return (log_snr >= LOG_SNR_CLIP).astype(jnp.float32), (log_snr <= -LOG_SNR_CLIP).astype(jnp.float32)


def level_channels(log_snr: Array) -> Array:
    """What a network sees of a level map (B, h, w): clipped log-SNR over 15, given, unknown; (B, h, w, 3)."""
    given, unknown = level_flags(log_snr)
    return jnp.stack([jnp.clip(log_snr, -LOG_SNR_CLIP, LOG_SNR_CLIP) / LOG_SNR_CLIP, given, unknown], axis=-1)


def level_features(log_snr: Array, bands: int = 16) -> Array:
    """Global features of a level map (B, h, w) or (B, 1, 1): its pixels' Fourier features, averaged; (B, 2*bands+3).

    For a constant map these are the features of the constant; for a mixed one a smooth summary.
    """
    x = jnp.clip(log_snr, -LOG_SNR_CLIP, LOG_SNR_CLIP)[..., None]
    angles = x * jnp.exp(jnp.linspace(jnp.log(0.05), jnp.log(1.5), bands))
    features = jnp.concatenate([level_channels(log_snr), jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return features.mean(axis=(1, 2))


class MLP(nn.Module):
    """Dense layers of the given widths with SiLU between them."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"dense{i}")(nn.silu(x) if i else x)
        return x


class TiedLogits(nn.Module):
    """Logits as products with a table of classes: features (..., F), table (K, F) -> (..., K).

    Divided by sqrt(F), plus a bias per class that starts at zero.
    """

    @nn.compact
    def __call__(self, features: Array, table: Array) -> Array:
        classes, width = table.shape
        return features @ (table * width**-0.5).T + self.param("bias", nn.initializers.zeros, (classes,), jnp.float32)
