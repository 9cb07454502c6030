"""Overlapping windows of a model's size over something larger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image


class Window(NamedTuple):
    """A part of a larger picture: two slices, of rows and of columns."""

    rows: slice
    columns: slice


def windows(size: tuple[int, int], window: tuple[int, int], overlap: float = 0.5) -> list[Window]:
    """Windows (h, w) that cover (H, W), row by row; neighbours share at least `overlap` of a side.

    Raises ValueError where the picture is smaller than the window.

    >>> from gcdiff.api.windows import windows
    >>> windows((32, 96), (32, 64))
    [Window(rows=slice(0, 32, None), columns=slice(0, 64, None)),
     Window(rows=slice(0, 32, None), columns=slice(32, 96, None))]
    """
    if size[0] < window[0] or size[1] < window[1]:
        raise ValueError(f"a canvas of {size[0]}x{size[1]} is smaller than the model's {window[0]}x{window[1]}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}, expected 0 <= overlap < 1")

    def starts(side: int, length: int) -> list[int]:
        stride = max(1, int(length * (1 - overlap)))
        count = 1 + -(-(side - length) // stride)
        return [round(i * (side - length) / max(count - 1, 1)) for i in range(count)]

    return [
        Window(slice(top, top + window[0]), slice(left, left + window[1]))
        for top in starts(size[0], window[0])
        for left in starts(size[1], window[1])
    ]


def cover(picture: tuple[int, int], window: tuple[int, int]) -> tuple[tuple[int, int], list[Window]]:
    """The size at which a picture (H, W) is read, enlarged where a side is shorter than the window, and its windows."""
    scale = max(1.0, *(b / a for a, b in zip(picture, window, strict=True)))
    size = max(window[0], round(picture[0] * scale)), max(window[1], round(picture[1] * scale))
    return size, windows(size, window)


def average(
    probabilities: Callable[[np.ndarray], Iterator[np.ndarray]], image: np.ndarray, size: tuple[int, int], classes: int
) -> np.ndarray:
    """Class probabilities float32 (h, w, K) of an image uint8 (h, w, C), averaged over the windows of a model's `size`
    that lie over it; in the average a window's middle weighs more than its border. An image with a side shorter than
    the window is enlarged first. `probabilities` maps uint8 (N, *size, C) to N arrays float32 (*size, K)."""
    from gcdiff.pictures import resize_maps

    height, width = image.shape[:2]
    inside, places = cover((height, width), size)
    if inside != (height, width):
        channels = [
            Image.fromarray(c).resize(inside[::-1], Image.Resampling.BILINEAR) for c in np.moveaxis(image, -1, 0)
        ]
        image = np.stack([np.asarray(c) for c in channels], axis=-1)
    ramps = [1.0 - np.abs(np.linspace(-1, 1, n + 2)[1:-1]) for n in size]
    weight = np.outer(*ramps).astype(np.float32)[..., None]
    total, mass = np.zeros((*inside, classes), np.float32), np.zeros((*inside, 1), np.float32)
    for place, p in zip(places, probabilities(np.stack([image[place] for place in places])), strict=False):
        total[place] += weight * p
        mass[place] += weight
    # Where nothing is seen, since it was stopped, all classes have the same probability.
    average = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.float32(1 / classes))
    return resize_maps(average, (height, width))
