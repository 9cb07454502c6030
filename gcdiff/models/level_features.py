"""Noise levels as inputs of a network: channels per pixel, and features and embeddings of a whole level map."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

LOG_SNR_CLIP = 15.0
"""Networks see log-SNRs within +-15; beyond stand the two ends, given and unknown, which have a flag each."""


def level_flags(log_snr: Array) -> tuple[Array, Array]:
    """The flags (given, unknown) of a log-SNR map, float32: 1 at the exact ends (anything beyond the clip), else 0."""
    return (log_snr >= LOG_SNR_CLIP).astype(jnp.float32), (log_snr <= -LOG_SNR_CLIP).astype(jnp.float32)


def level_channels(log_snr: Array) -> Array:
    """The channels of a level map (B, h, w): clipped log-SNR over 15, given, unknown; (B, h, w, 3)."""
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


class LevelFourier(nn.Module):
    """Learned Fourier features of a level map (B, h, w) or (B, 1, 1), averaged over its pixels: (B, 2*bands + 1).

    [l, sin(2 pi l w), cos(2 pi l w)] of the clipped log-SNR l with learned frequencies w (Imagen's time embedding): of
    a constant map those of the constant.
    """

    bands: int = 8

    @nn.compact
    def __call__(self, log_snr: Array) -> Array:
        frequencies = self.param("frequencies", nn.initializers.normal(1.0), (self.bands,), jnp.float32)
        x = jnp.clip(log_snr, -LOG_SNR_CLIP, LOG_SNR_CLIP)[..., None]
        angles = 2 * jnp.pi * x * frequencies
        return jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1).mean(axis=(1, 2))


class LevelEmbedding(nn.Module):
    """Embeds features of levels (B, F): (embedding (B, width), tokens (B, tokens, token_features) or None).

    `zero`: the embedding starts at zero.
    """

    width: int
    tokens: int = 0
    token_features: int = 0
    zero: bool = False

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array | None]:
        h = nn.silu(nn.Dense(self.width, name="dense0")(features))
        init = nn.initializers.zeros if self.zero else nn.linear.default_kernel_init
        embedding = nn.Dense(self.width, kernel_init=init, name="dense1")(h)
        if not self.tokens:
            return embedding, None
        tokens = nn.Dense(self.tokens * self.token_features, name="tokens")(h)
        return embedding, tokens.reshape(-1, self.tokens, self.token_features)
