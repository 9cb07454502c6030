"""Reduction of images and layouts by an integer factor, as the input of a super-resolution stage is made.

Every block of factor x factor pixels becomes one. Colours are averaged by area. Labels are those of the majority, as
`gcdiff.data.transforms.resize` makes a base's training layouts: void counts as a label of its own, of labels with
equally many pixels the lowest wins, and void is below all. `nearest` takes the first pixel of a block instead, as the
released networks of Park et al. (2023, section 3.3) do; things thinner than a block then come and go.

All are written for NumPy arrays and for traced JAX arrays alike, without an array of the size of the classes but for
`shares`. The factor divides both sides; `blocks` raises ValueError where it does not.
"""

from __future__ import annotations

from typing import Any

from gcdiff.types import VOID


def blocks(x: Any, factor: int) -> Any:
    """The pixels of every block, row by row: (..., H, W) -> (..., H/factor, W/factor, factor^2).

    Raises ValueError unless the factor divides H and W."""
    *lead, height, width = x.shape
    if height % factor or width % factor:
        raise ValueError(f"size {height}x{width} is not divisible by the factor {factor}")
    x = x.reshape(*lead, height // factor, factor, width // factor, factor)
    return x.swapaxes(-3, -2).reshape(*lead, height // factor, width // factor, factor * factor)


def area(image: Any, factor: int) -> Any:
    """The mean colour of every block: images float (..., H, W, C) -> (..., H/factor, W/factor, C)."""
    channels_first = image.__array_namespace__().moveaxis(image, -1, -3)
    return image.__array_namespace__().moveaxis(blocks(channels_first, factor).mean(axis=-1), -3, -1)


def majority(layout: Any, factor: int) -> Any:
    """The most frequent class of every block: layouts int (..., H, W) -> (..., H/factor, W/factor)."""
    xp, cells = layout.__array_namespace__(), blocks(layout, factor)
    votes = (cells[..., :, None] == cells[..., None, :]).sum(axis=-1)
    most = votes == votes.max(axis=-1, keepdims=True)
    return xp.where(most, cells, xp.iinfo(layout.dtype).max).min(axis=-1)


def nearest(layout: Any, factor: int) -> Any:
    """The first pixel of every block of layouts int (..., H, W): (..., H/factor, W/factor)."""
    return blocks(layout, factor)[..., 0]


def shares(layout: Any, factor: int, num_classes: int) -> Any:
    """The shares of the classes among the labelled pixels of a block, float32 (..., H/factor, W/factor, K).

    They sum to one; where all is void, all classes have the same.
    """
    xp, cells = layout.__array_namespace__(), blocks(layout, factor)
    counts = xp.stack([(cells == k).sum(axis=-1) for k in range(num_classes)], axis=-1).astype("float32")
    labelled = (cells != VOID).sum(axis=-1)[..., None]
    return xp.where(labelled > 0, counts / xp.maximum(labelled, 1).astype("float32"), xp.float32(1 / num_classes))


def all_known(mask: Any, factor: int) -> Any:
    """Where all pixels of a block are known: bool (..., H/factor, W/factor) for bool (..., H, W)."""
    return blocks(mask, factor).all(axis=-1)


LAYOUT_OPERATORS = {"majority": majority, "nearest": nearest}
"""How a low-resolution layout is made, by its name in `data.lowres_layout`."""
