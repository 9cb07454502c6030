"""Guidance wraps a predictor; no sampler knows about it.

With c the prediction that was asked for, and "c without j" the prediction where j is unknown (the text dropped, or
that modality at level 1),

    image   c + (s_text - 1) (c - c without text) + (s_layout - 1) (c - c without layout)
    layout  c + (s_text - 1) (c - c without text) + (s_image - 1) (c - c without image), normalised

on the clean image estimate and on the floored leave-one-out log-probabilities (Ho and Salimans 2022; Schiff et al.
2025 for labels). The weights sum to 1, so that on the layout guidance commutes with the offset from leave-one-out to
posterior. Guiding the clean prediction and not the one-step law leaves the rate at which labels change alone. A scale
holds for the levels of an interval (Kynkaanniemi et al. 2024), read on the level of the very pixel it guides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.processes.joint import Predictor
from gcdiff.types import Condition, Pair

LOG_FLOOR = -30.0
BRANCHES = ("text", "layout", "image")


class Guidance(NamedTuple):
    """Scales; 1 is no guidance. `text` has one for the image's and one for the layout's output, `layout` is
    layout-to-image (on the image's output), `image` image-to-layout (on the layout's). They hold for levels in
    `interval` = (low, high), both included. All may be traced."""

    text: Any = Pair(1.0, 1.0)
    layout: Any = 1.0
    image: Any = 1.0
    interval: Any = (0.0, 1.0)

    def branches(self) -> tuple[str, ...]:
        """Which predictions without something are needed: those that a scale other than 1 asks for."""
        asked = {"text": tuple(self.text) != (1.0, 1.0), "layout": self.layout != 1.0, "image": self.image != 1.0}
        return tuple(name for name in BRANCHES if asked[name])


NO_GUIDANCE = Guidance()
Clean = Callable[[Array, Array, Array], Array]


def log_law(mixed: Array, noisy: Array, levels: Array) -> Array:
    """Log-probabilities, normalised."""
    return jax.nn.log_softmax(mixed, axis=-1)


def guide(predict: Predictor, scales: Guidance, branches: tuple[str, ...], clean: Clean = log_law) -> Predictor:
    """A guided predictor: one call of 1 + len(branches) times the batch.

    Only the named branches are run, whatever the scales. Where text is dropped anyway, and where a modality is at level
    1 already, a branch equals the prediction itself and its scale changes nothing. `clean(mixed,
    noisy, levels)` makes a prediction of the layout of a mixture of such, as a layout process does.
    """
    if not branches:
        return predict

    def guided(noisy: Pair, levels: Pair, condition: Condition) -> Pair:
        every = ("asked", *branches)
        ones = {side: jnp.ones_like(getattr(levels, side)) for side in Pair._fields if side in branches}
        asked = [levels._replace(**{b: ones[b]}) if b in ones else levels for b in every]
        told = [condition.without("text") if b == "text" else condition for b in every]
        out = predict(_stack([noisy] * len(every)), _stack(asked), _stack(told))
        parts = {b: jax.tree.map(lambda a, i=i: jnp.split(a, len(every))[i], out) for i, b in enumerate(every)}
        image = layout = None
        if out.image is not None:
            weights = {"text": scales.text.image, "layout": scales.layout}
            image = _mix({b: p.image for b, p in parts.items()}, weights, _active(levels.image, scales))
        if out.layout is not None:
            weights = {"text": scales.text.layout, "image": scales.image}
            sides = {b: jnp.maximum(p.layout, LOG_FLOOR) for b, p in parts.items()}
            layout = clean(_mix(sides, weights, _active(levels.layout, scales)), noisy.layout, levels.layout)
        return Pair(image, layout)

    return guided


def _mix(parts: dict[str, Array], scales: dict[str, Any], active: Array) -> Array:
    c = parts["asked"]
    for branch, scale in scales.items():
        if branch in parts:
            c = c + jnp.where(active, scale - 1.0, 0.0) * (parts["asked"] - parts[branch])
    return c


def _active(levels: Array, scales: Guidance) -> Array:
    low, high = scales.interval
    return ((levels >= low) & (levels <= high))[..., None]


def _stack(trees: list) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *trees)
