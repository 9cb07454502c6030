"""The joint process over an image and its layout: each modality by its own rule, at its own level.

Noise is independent given the clean pair, so everything factorises (Park et al. 2023, eq. 12); the coupling is in
the network alone. Either process may be None in a model that has only one modality.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.bits import BitsProcess
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.layout import LayoutProcess
from gcdiff.types import Condition, Denoiser, Pair, pair_map

Predictor = Callable[[Pair, Pair, Condition], Pair]
"""(noisy, levels, condition) -> Pair(clean image estimate, the layout process's clean prediction)."""

LAYOUT_PROCESSES = {"uniform": UniformProcess, "absorbing": AbsorbingProcess, "bits": BitsProcess}


@dataclasses.dataclass(frozen=True)
class JointProcess:
    """An image process and a layout process side by side; every method takes and returns Pairs."""

    image: GaussianProcess | None
    layout: LayoutProcess | None

    def _sides(self) -> Pair:
        return Pair(self.image, self.layout)

    def _keys(self, key: Array) -> Pair:
        return Pair(*jax.random.split(key))

    def prior(self, key: Array, shapes: Pair) -> Pair:
        """Draw pure noise of the given shapes, (..., h, w, C) and (..., H, W)."""
        return pair_map(lambda p, k, shape: p.prior(k, shape), self._sides(), self._keys(key), shapes)

    def corrupt(self, key: Array, clean: Pair, t: Pair) -> Pair:
        """Draw the pair at levels t, given the clean pair."""
        return pair_map(lambda p, k, x, t: p.corrupt(k, x, t), self._sides(), self._keys(key), clean, t)

    def renoise(self, key: Array, noisy: Pair, s: Pair, t: Pair) -> Pair:
        """Draw the pair at levels t, given the pair at levels s <= t."""
        return pair_map(lambda p, k, x, s, t: p.renoise(k, x, s, t), self._sides(), self._keys(key), noisy, s, t)

    def posterior(self, clean: Pair, noisy: Pair, s: Pair, t: Pair) -> Pair:
        """The distribution at s given the pair at t and a clean prediction: ((mean, variance), log-probabilities)."""
        return pair_map(lambda p, c, x, s, t: p.posterior(c, x, s, t), self._sides(), clean, noisy, s, t)

    def reverse(self, key: Array, clean: Pair, noisy: Pair, s: Pair, t: Pair) -> Pair:
        """An ancestral step from levels t to s, given a clean prediction."""
        return pair_map(
            lambda p, k, c, x, s, t: p.reverse(k, c, x, s, t), self._sides(), self._keys(key), clean, noisy, s, t
        )

    def clip_levels(self, levels: Pair) -> Pair:
        """Levels with those of the image clipped to the highest at which its network is called."""
        if self.image is None or levels.image is None:
            return levels
        return levels._replace(image=jnp.minimum(levels.image, self.image.highest_level))

    def denoiser(self, apply_fn: Callable, params: Any) -> Denoiser:
        """The network as a function of levels, which it reads as log-SNRs."""

        def denoise(noisy: Pair, levels: Pair, condition: Condition) -> Pair:
            log_snr = pair_map(lambda p, t: p.log_snr(t), self._sides(), levels)
            return apply_fn({"params": params}, noisy, log_snr, condition)

        return denoise

    def to_clean(self, output: Pair, noisy: Pair, levels: Pair) -> Pair:
        """Clean predictions from network outputs, by the process of each modality; None stays None."""
        image = layout = None
        if self.image is not None and output.image is not None:
            image = self.image.to_clean(output.image, noisy.image, levels.image)
        if self.layout is not None and output.layout is not None:
            layout = self.layout.clean(output.layout, noisy.layout, levels.layout)
        return Pair(image, layout)

    def predictor(self, denoiser: Denoiser) -> Predictor:
        """The function (noisy, levels, condition) -> clean predictions of a denoiser."""

        def predict(noisy: Pair, levels: Pair, condition: Condition) -> Pair:
            return self.to_clean(denoiser(noisy, levels, condition), noisy, levels)

        return predict
