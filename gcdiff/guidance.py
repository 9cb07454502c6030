"""Guidance wraps a predictor; no sampler knows about it.

Text guidance with a scale per output (Ho and Salimans 2022), on the clean image estimate and on the leave-one-out
log-probabilities:

    image   c + (s_image - 1) (c - c without text)
    layout  c + (s_layout - 1) (c - c without text), log-probabilities floored, then normalised

The weights sum to 1, so that on the layout it commutes with the offset from leave-one-out to posterior. Guiding the
clean prediction and not the one-step law leaves the rate at which labels change alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.processes.joint import Predictor
from gcdiff.types import Condition, Pair, pair_map

LOG_FLOOR = -30.0


def text_guidance(predict: Predictor, scales: Pair) -> Predictor:
    """A predictor guided by the text with `scales` (scalars, may be traced): one call of twice the batch.

    An example whose text is dropped anyway has two equal branches, and any scale leaves it alone.
    """

    def guided(noisy: Pair, levels: Pair, condition: Condition) -> Pair:
        if condition.text is None:
            raise ValueError("text guidance needs a text; this model was trained without one")
        batch = condition.text.mask.shape[0]

        def twice(tree):
            return jax.tree.map(lambda a: jnp.concatenate([a, a]), tree)

        dropped = jnp.zeros((batch,), bool) if condition.drop_text is None else condition.drop_text
        drop = jnp.concatenate([dropped, jnp.ones((batch,), bool)])
        both = predict(twice(noisy), twice(levels), twice(condition).replace(drop_text=drop))
        with_text, without = (pair_map(lambda a, half=half: jnp.split(a, 2)[half], both) for half in (0, 1))
        image = layout = None
        if with_text.image is not None:
            image = _extrapolate(with_text.image, without.image, scales.image)
        if with_text.layout is not None:
            c, d = (jnp.maximum(side.layout, LOG_FLOOR) for side in (with_text, without))
            layout = jax.nn.log_softmax(_extrapolate(c, d, scales.layout), axis=-1)
        return Pair(image, layout)

    return guided


def _extrapolate(c: Array, without: Array, scale: Array | float) -> Array:
    return c + (scale - 1.0) * (c - without)
