"""Paths: the sequences of noise levels (image, layout) that sampling follows down to 0, one for each question.

A path is float32 (steps + 1, 2), from the noisiest row to (0, 0) or to the levels at which a modality is not asked
for; no column ever rises. A path and a mask of known pixels are a question: where a pixel is known, its own level is 0
whatever the path says.
"""

from __future__ import annotations

import numpy as np


def _down(steps: int) -> np.ndarray:
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    return np.linspace(1.0, 0.0, steps + 1)


def _columns(image, layout) -> np.ndarray:
    return np.stack(np.broadcast_arrays(image, layout), axis=1).astype(np.float32)


def joint(steps: int) -> np.ndarray:
    """A pair from text, both modalities from 1 to 0 together: p(x, y | text)."""
    return _columns(_down(steps), _down(steps))


def layout_first(steps: int, share: float = 0.5) -> np.ndarray:
    """A pair from text, the layout first, then the image for it: p(y | text) p(x | y, text).

    `share` of the steps are the layout's.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected at least 2: one for the layout and one for the image")
    first = min(max(round(steps * share), 1), steps - 1)
    image = np.concatenate([np.ones(first), _down(steps - first)])
    layout = np.concatenate([_down(first), np.zeros(steps - first)])
    return _columns(image, layout)


def image_first(steps: int, share: float = 0.5) -> np.ndarray:
    """A pair from text, the image first, then its layout: p(x | text) p(y | x).

    `share` of the steps are the image's.
    """
    return layout_first(steps, share)[:, ::-1].copy()


def layout_given_image(steps: int) -> np.ndarray:
    """A layout for an image (segmentation): p(y | x)."""
    return _columns(0.0, _down(steps))


def image_given_layout(steps: int) -> np.ndarray:
    """An image for a layout: p(x | y, text)."""
    return _columns(_down(steps), 0.0)


def image_only(steps: int) -> np.ndarray:
    """An image from text, without a layout: p(x | text)."""
    return _columns(_down(steps), 1.0)


def layout_only(steps: int) -> np.ndarray:
    """A layout from text: p(y | text)."""
    return _columns(1.0, _down(steps))


def partial(steps: int, image: float = 1.0, layout: float = 1.0) -> np.ndarray:
    """An edit of a pair: each modality from a start level of its own, to which it is noised first, down to 0.

    A side that starts at 0 stays as it is; (0, t) cleans a layout, (t, 0) redraws an image for its layout.
    """
    for side, level in (("image", image), ("layout", layout)):
        if not 0 <= level <= 1:
            raise ValueError(f"{side} starts at level {level}, expected 0 <= level <= 1")
    if image == layout == 0:
        raise ValueError("image and layout both start at level 0: nothing would change")
    return _columns(image * _down(steps), layout * _down(steps))


def spaced(path: np.ndarray, spacing: float) -> np.ndarray:
    """The path with its steps closer together near level 0: a column from l to 0 becomes l (column / l) ** spacing.

    1 changes nothing; above 1 the last steps begin at less noise, and the first ones are longer.

    >>> paths.spaced(paths.joint(4), 2.0)[:, 0].tolist()
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    if not 0 < spacing < np.inf:
        raise ValueError(f"spacing is {spacing}, expected a number above 0")
    top = np.where(path[:1] > 0, path[:1], 1.0)
    return (top * (path / top) ** spacing).astype(np.float32)


def above(path: np.ndarray, floor: float) -> np.ndarray:
    """The path with every level of the layout inside (0, floor) raised to `floor`; it ends with one step to 0.

    For a model trained on labels that are noisy themselves, which has never seen a layout below its labels' own level.
    """
    layout = np.maximum(path[:, 1], np.float32(floor))
    layout[-1] = path[-1, 1] if path[-1, 1] == 0 else layout[-1]
    return _columns(path[:, 0], layout)


PATHS = (joint, layout_first, image_first, layout_given_image, image_given_layout, image_only, layout_only)
PATHS = {f.__name__: f for f in PATHS}
