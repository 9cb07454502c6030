"""Guidance by text, layout and image, and by a worse model: a wrapper around a predictor, called like any other.

With c the prediction that was asked for, "c without j" the prediction where j is unknown (the text dropped, or that
modality at level 1), and "c of the worse" what a worse model predicts of the same,

    image   c + (s_text - 1) (c - c without text) + (s_layout - 1) (c - c without layout)
              + (s_auto - 1) (c - c of the worse)
    layout  c + (s_text - 1) (c - c without text) + (s_image - 1) (c - c without image)
              + (s_auto - 1) (c - c of the worse), normalised

on the clean image estimate and on the floored leave-one-out log-probabilities (Ho and Salimans 2022; Schiff et al.
2025 for labels). The weights sum to 1, so that on the layout guidance commutes with the offset from leave-one-out to
posterior. With z the noisy labels of the other pixels, a pixel's clean label y has the guided law

    p(y, z | text)^s p(y, z)^(1-s),  normalised over y,

which is not the one of the sharpened law of noisy labels (docs/guidance.md). Guiding the clean prediction and not the
one-step law leaves the rate at which labels change alone. A worse model, smaller or less trained, errs as the model
does, and more: guidance by it moves away from what is common to their errors (autoguidance, Karras et al. 2024). A
scale holds for the levels of an interval (Kynkaanniemi et al. 2024), read on the level of the very pixel it guides.
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


class Guidance(NamedTuple):
    """The guidance scales; 1 is no guidance. All may be traced.

    `text` has a scale for the image's and one for the layout's output, `layout` is layout-to-image (on the image's
    output), `image` image-to-layout (on the layout's), `auto` autoguidance, by a worse model (on both). They hold for
    levels in `interval` = (low, high), both included.

    >>> scales = gcdiff.Guidance(text=gcdiff.Pair(1.0, 4.0), interval=(0.1, 0.9))
    >>> model.sample("a foggy street with two red cars", guidance=scales).image.shape
    (1, 32, 64, 3)
    """

    text: Any = Pair(1.0, 1.0)
    layout: Any = 1.0
    image: Any = 1.0
    interval: Any = (0.0, 1.0)
    auto: Any = 1.0

    def branches(self) -> tuple[str, ...]:
        """The names of the inputs, in BRANCHES, without which these scales need a prediction: those with a scale other
        than 1.

        >>> gcdiff.Guidance(text=gcdiff.Pair(1.0, 4.0), layout=1.5).branches()
        ('text', 'layout')
        """
        return tuple(name for name, b in BRANCHES.items() if any(s not in (None, 1.0) for s in b.scales(self)))


class Branch(NamedTuple):
    """A prediction with one input removed (the text, the layout or the image): how it is removed, and what it guides.

    without: (levels, condition) -> (levels, condition) in which the input is unknown; scales: the guidance scales of
    the image's and of the layout's output, None for an output that it does not guide.
    """

    without: Callable[[Pair, Condition], tuple[Pair, Condition]]
    scales: Callable[[Guidance], Pair]


def _unknown(side: str) -> Callable[[Pair, Condition], tuple[Pair, Condition]]:
    """The function that puts a modality at level 1. It raises ValueError where there is none."""

    def without(levels: Pair, condition: Condition) -> tuple[Pair, Condition]:
        if (level := getattr(levels, side)) is None:
            raise ValueError(f"guidance by the {side} needs the {side}; this model has none")
        return levels._replace(**{side: jnp.ones_like(level)}), condition

    return without


BRANCHES = {
    "text": Branch(lambda levels, condition: (levels, condition.without("text")), lambda scales: scales.text),
    "layout": Branch(_unknown("layout"), lambda scales: Pair(scales.layout, None)),
    "image": Branch(_unknown("image"), lambda scales: Pair(None, scales.image)),
}
"""The inputs that guidance can remove, by name. A conditioning that guides enters a line here."""

NO_GUIDANCE = Guidance()
Clean = Callable[[Array, Array, Array], Array]
Worse = Callable[[Pair, Pair], Pair]
"""(noisy, levels) -> clean prediction of a worse model, which knows its own condition."""


def log_law(mixed: Array, noisy: Array, levels: Array) -> Array:
    """Mixed log-probabilities (..., K), normalised: `clean` of a layout process without one of its own."""
    return jax.nn.log_softmax(mixed, axis=-1)


def guide(
    predict: Predictor, scales: Guidance, branches: tuple[str, ...], clean: Clean = log_law, worse: Worse | None = None
) -> Predictor:
    """The guided predictor of a predictor: one call of 1 + len(branches) times the batch, and one of `worse`, the
    prediction of a worse model, where it is given.

    Only the named branches are run, whatever the scales. Where text is dropped anyway, and where a modality is at level
    1 already, a branch equals the prediction itself and its scale changes nothing. `clean(mixed,
    noisy, levels)` makes a prediction of the layout of a mixture of such, as a layout process does.
    """
    if not branches and worse is None:
        return predict

    def guided(noisy: Pair, levels: Pair, condition: Condition) -> Pair:
        asked = [(levels, condition), *(BRANCHES[name].without(levels, condition) for name in branches)]
        out = predict(_stack([noisy] * len(asked)), *(_stack(list(part)) for part in zip(*asked, strict=True)))
        full, *rest = (jax.tree.map(lambda a, i=i: jnp.split(a, len(asked))[i], out) for i in range(len(asked)))
        weighed = [(BRANCHES[name].scales(scales), part) for name, part in zip(branches, rest, strict=True)]
        if worse is not None:
            weighed.append((Pair(scales.auto, scales.auto), worse(noisy, levels)))

        def mixed(side: str, floor: float | None = None) -> Array:
            """The guided prediction of a modality ('image' or 'layout'), log-probabilities cut at `floor`."""
            low, high = scales.interval
            level = getattr(levels, side)
            active = ((level >= low) & (level <= high))[..., None]
            cut = (lambda p: p) if floor is None else (lambda p: jnp.maximum(p, floor))
            result = asked_for = cut(getattr(full, side))
            for by, other in weighed:
                if (scale := getattr(by, side)) is not None:
                    result = result + jnp.where(active, scale - 1.0, 0.0) * (asked_for - cut(getattr(other, side)))
            return result

        image = None if out.image is None else mixed("image")
        layout = None if out.layout is None else clean(mixed("layout", LOG_FLOOR), noisy.layout, levels.layout)
        return Pair(image, layout)

    return guided


def _stack(trees: list) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *trees)
