"""Resizing, cropping and flipping an image and its layout together: pure functions on an `Example`, in numpy.

Both sides of an example are divided into the same cells: a source pixel belongs to the cell that its centre lies in
(on a border, to the cell before it). A cell's colour is the mean of its pixels; its label is the label that most of
them have. Void counts as a label of its own; of labels with equally many pixels the lowest wins, and void is below
all. Where a side is enlarged, labels are those of the nearest pixel and colours are interpolated linearly. In place of
the mean there is an antialiased Lanczos filter, in place of the majority the pixel nearest to a cell's centre.

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
    """The whole example at `size` (H, W): colours by area, labels by majority."""
    if example.layout.shape == tuple(size):
        return example
    return example._replace(image=resize_image(example.image, size), layout=resize_layout(example.layout, size))


def resize_image(image: np.ndarray, size: tuple[int, int], method: str = "area") -> np.ndarray:
    """An image uint8 (h, w, C) at `size` (H, W), by a method of IMAGE_METHODS."""
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
    """A layout int32 (h, w) with VOID at `size` (H, W), by a method of LAYOUT_METHODS."""
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
    """A random window of about the shape of `size` (H, W), resized to it.

    The window's side is a share of the largest window's that fits, uniform in `scale` = (low, high) within (0, 1];
    its place is uniform. Its height over its width is that of `size` times exp(u), u uniform in +-`aspect`, as far as
    it fits.
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
    """The example with left and right exchanged, classes included; twice gives the example back."""
    layout = example.layout[:, ::-1].copy()
    for left, right in swaps:
        layout = np.select([layout == left, layout == right], [right, left], layout).astype(np.int32)
    return example._replace(image=example.image[:, ::-1].copy(), layout=layout)


def _cells(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source pixels vote along one side, and for which cell; in integers, so that no border is rounded."""
    if target > source:
        cells = np.arange(target)
        return (2 * cells + 1) * source // (2 * target), cells
    pixels = np.arange(source)
    return pixels, -(-(2 * pixels + 1) * target // (2 * source)) - 1
