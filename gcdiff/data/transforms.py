"""Resizing, cropping and flipping of an image together with its layout: pure NumPy functions on an `Example`.

A cell is the area of a target pixel; a source pixel belongs to the cell that its centre lies in (on a border, to the
cell before it). By default a cell's colour is the mean of its pixels and its label is their most frequent one. Void
counts as a label; of equally frequent labels the lowest wins, and void is below all. The alternatives are an
antialiased Lanczos filter for images and the pixel nearest to the cell's centre for layouts. Where a side is enlarged,
colours are interpolated linearly (or by Lanczos) and labels are those of the nearest pixel.

Randomness is an explicit generator. Captions are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from gcdiff.data.dataset import Example

IMAGE_METHODS = ("area", "lanczos")
LAYOUT_METHODS = ("majority", "nearest")
"""How images and layouts are resized; the first is the default."""


def resize(example: Example, size: tuple[int, int]) -> Example:
    """The example resized to `size` (H, W): colours by area averaging, labels by majority."""
    if example.layout.shape == tuple(size):
        return example
    return example._replace(image=resize_image(example.image, size), layout=resize_layout(example.layout, size))


def resize_image(image: np.ndarray, size: tuple[int, int], method: str = "area") -> np.ndarray:
    """An image uint8 (h, w, C) resized to `size` (H, W), by a method of IMAGE_METHODS."""
    if image.shape[:2] == tuple(size):
        return image
    if method == "lanczos":
        kernel = Image.Resampling.LANCZOS
    else:
        reduces = image.shape[0] >= size[0] and image.shape[1] >= size[1]
        kernel = Image.Resampling.BOX if reduces else Image.Resampling.BILINEAR
    channels = [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(c.resize((size[1], size[0]), kernel)) for c in channels], axis=-1)


def resize_layout(layout: np.ndarray, size: tuple[int, int], method: str = "majority") -> np.ndarray:
    """A layout int32 (h, w) with VOID resized to `size` (H, W), by a method of LAYOUT_METHODS."""
    if layout.shape == tuple(size):
        return layout
    if method == "nearest":
        rows, columns = ((2 * np.arange(m) + 1) * n // (2 * m) for n, m in zip(layout.shape, size, strict=True))
        return layout[rows[:, None], columns]
    (rows, row_cells), (columns, column_cells) = (_cells(n, m) for n, m in zip(layout.shape, size, strict=True))
    labels = layout[rows[:, None], columns] + 1  # void counts as 0
    count = int(labels.max()) + 1
    cells = row_cells[:, None] * size[1] + column_cells
    votes = np.bincount((cells * count + labels).ravel(), minlength=size[0] * size[1] * count)
    return votes.reshape(*size, count).argmax(axis=-1).astype(np.int32) - 1


def random_crop_scale(
    example: Example, rng: np.random.Generator, size: tuple[int, int], scale: tuple[float, float], aspect: float = 0.0
) -> Example:
    """A random window of about the aspect ratio of `size` (H, W), resized to it.

    The window's side is a fraction, uniform in `scale` = (low, high) within (0, 1], of the side of the largest window
    that fits; its place is uniform. Its height over its width is that of `size` times exp(u), u uniform in +-`aspect`,
    limited by the borders. Raises ValueError for a scale out of range.
    """
    low, high = scale
    if not 0 < low <= high <= 1:
        raise ValueError(f"scale is {tuple(scale)}, expected 0 < low <= high <= 1")
    rows, columns = example.layout.shape
    share = rng.uniform(low, high) * min(rows / size[0], columns / size[1])
    stretch = np.exp(0.5 * rng.uniform(-aspect, aspect)) if aspect else 1.0
    height = min(rows, max(1, round(share * size[0] * stretch)))
    width = min(columns, max(1, round(share * size[1] / stretch)))
    top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
    window = slice(top, top + height), slice(left, left + width)
    return resize(example._replace(image=example.image[window], layout=example.layout[window]), size)


def flip(example: Example, rng: np.random.Generator, swaps: Sequence[tuple[int, int]]) -> Example:
    """The example mirrored with probability 1/2. `swaps` are the pairs of left and right classes."""
    return mirror(example, swaps) if rng.random() < 0.5 else example


def mirror(example: Example, swaps: Sequence[tuple[int, int]]) -> Example:
    """The example mirrored left to right, with the left and right classes exchanged; twice gives the example back."""
    layout = example.layout[:, ::-1].copy()
    for left, right in swaps:
        layout = np.select([layout == left, layout == right], [right, left], layout).astype(np.int32)
    return example._replace(image=example.image[:, ::-1].copy(), layout=layout)


def _cells(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """The source pixels that vote along one axis, and the cell of each; in integers, so that no border is rounded."""
    if target > source:
        cells = np.arange(target)
        return (2 * cells + 1) * source // (2 * target), cells
    pixels = np.arange(source)
    return pixels, -(-(2 * pixels + 1) * target // (2 * source)) - 1
