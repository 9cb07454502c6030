"""One step of a sampler, from levels t to levels s <= t, given the clean prediction at t.

An image step is `step(process, key, clean, noisy, s, t) -> noisy at s`; all are the identity where s = t. Batches
are handled by `jax.vmap` with a key per example.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Array

from gcdiff.processes.gaussian import GaussianProcess


def ddim(process: GaussianProcess, key: Array, clean: Array, noisy: Array, s: Array, t: Array) -> Array:
    """The deterministic step (Song et al. 2021, eq. 12 with sigma = 0)."""
    return process.ddim(clean, noisy, s, t)


def ancestral(process: GaussianProcess, key: Array, clean: Array, noisy: Array, s: Array, t: Array) -> Array:
    """A draw from the posterior with the clean prediction put in (Ho et al. 2020)."""
    return process.reverse(key, clean, noisy, s, t)


IMAGE_STEPS: dict[str, Callable] = {"ddim": ddim, "ancestral": ancestral}
