"""A learned log-variance for each modality and level, which balances the two losses over levels and with each other.

    (1)  counted share * (mean loss per counted pixel / exp(u(t)) + u(t))

is least where exp(u(t)) is the expected loss per counted pixel at level t; both losses then weigh 1 at every level,
whatever their units, before the weights of the config. (Kendall et al. 2018, "Multi-task learning using uncertainty";
Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", equation 21.)

u is a linear function, starting at 0, of cosines of the modality's own level and of a flag for level 1, which holds
questions of its own. It is taken at an example's mean level over the pixels that carry loss: these stand at one level,
but for pieces of a layout at another, and one number an example costs nothing beside the network. No sampler needs u.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

COSINES = 8
_GAIN = 30.0  # Adam moves a weight by about the learning rate a step, whatever its slope: u shall move by a hundredth
_SLOPE = 3e-4  # of the true slope, which Adam does not mind: clipping shall see the network's gradient alone


def init() -> dict[str, Array]:
    """Initial weights of u for both modalities, for which u = 0."""
    return {side: jnp.zeros((COSINES + 1,)) for side in ("image", "layout")}


def log_variance(weights: Array, level: Array) -> Array:
    """The log-variance u at levels of any shape, float32 of that shape."""
    features = [jnp.cos(jnp.pi * k * level) for k in range(COSINES)] + [(level >= 1).astype(jnp.float32)]
    fixed = jax.lax.stop_gradient(weights)
    return jnp.stack(features, axis=-1) @ (_GAIN * (fixed + _SLOPE * (weights - fixed)))


def balanced(loss: Array, weights: Array, levels: Array, counted: Array) -> Array:
    """The balanced loss (1) of each example, from its loss (B,) per pixel of the grid; levels, `counted` (B, h, w)."""
    share = counted.mean(axis=(1, 2), dtype=jnp.float32)
    level = jnp.where(counted, levels, 0.0).sum(axis=(1, 2)) / jnp.maximum(
        counted.sum(axis=(1, 2), dtype=jnp.float32), 1.0
    )
    u = log_variance(weights, level)
    return loss * jnp.exp(-u) + share * u
