"""Noise levels of the pixels of a layout that is not certain, from the confidence in it.

A confidence c in [0, 1] can mean three different things:

  confidence            The layout is right and is followed loosely: each label is kept with probability c, else drawn
                        anew, once per sample. The result is held as a noisy label of that level.
  confidence, evidence  The layout is itself a noisy observation: each pixel is right with probability c, else uniform,
                        independently of the others. It is used as a noisy label of that level as it is.
  region_confidence     A whole region is right with probability c, and otherwise unknown: one random draw for each
                        region and sample.

The third has no level of its own: pixels at a level are independent evidence, and many of them that agree at c = .5 are
nearly certain. Its regions are put at level 0 or 1 instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gcdiff.schedules import Schedule
from gcdiff.types import VOID


def layout_caps(
    layouts: np.ndarray, schedule: Schedule, confidence, region_confidence, seed: int, num_classes: int
) -> np.ndarray:
    """The highest level of each pixel, float32 (N, H, W), for layouts int32 (N, H, W): 0 given, 1 unknown.

    `confidence` is a number or a map (N, H, W), `region_confidence` a number, one for each class (K,), or a map whose
    mean over a region counts; regions are the 4-connected areas of one class. None is certain. The draws of layout i
    depend on (seed, i) alone. Raises ValueError for a confidence outside [0, 1], for one that no level of the schedule
    has (`Schedule.level`), and for another shape.
    """
    caps = np.zeros(layouts.shape, np.float32)
    if confidence is not None:
        worth = _checked("confidence", confidence, (layouts.shape,))
        try:
            caps[:] = schedule.level(worth)
        except ValueError as error:
            raise ValueError(f"confidence: {error}") from None
    if region_confidence is not None:
        given = _checked("region_confidence", region_confidence, ((num_classes,), layouts.shape))
        maps = np.broadcast_to(given[layouts] if given.shape == (num_classes,) else given, layouts.shape)
        for i, layout in enumerate(layouts):
            rng = np.random.default_rng([seed, i])
            for region in regions(layout):
                if rng.random() >= maps[i][region].mean():
                    caps[i][region] = 1.0
    return np.where(layouts == VOID, 1.0, caps).astype(np.float32)


def regions(layout: np.ndarray) -> list[np.ndarray]:
    """The 4-connected areas of one class of a layout int (H, W), as bool masks (H, W); void has none."""
    from scipy import ndimage

    masks = []
    for k in np.unique(layout[layout != VOID]):
        labelled: Any = ndimage.label(layout == k)
        areas, count = labelled
        masks += [areas == i for i in range(1, count + 1)]
    return masks


def _checked(name: str, value, shapes) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is beyond float32 is no confidence either
        value = np.asarray(value, np.float32)
    if value.ndim and value.shape not in shapes:
        raise ValueError(f"{name} has shape {value.shape}, expected a number or {' or '.join(map(str, shapes))}")
    if not ((value >= 0) & (value <= 1)).all():
        raise ValueError(f"{name} lies in {float(value.min()):g} to {float(value.max()):g}, expected 0 to 1")
    return value
