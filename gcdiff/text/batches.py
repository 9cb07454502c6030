"""Splitting rows into batches of a few fixed sizes, so that few programs are compiled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

SIZES = (4, 32)
"""Batch sizes at which an example's rounding does not depend on the batch; at sizes 1 to 3 it does."""


def rounds(rows: np.ndarray, devices: int) -> Iterator[tuple[np.ndarray, int]]:
    """Split row numbers (N,) into pieces for all devices at once: (rows of the piece, its padded size).

    A piece is made of whole batches of `batches`, one for each device, so that an example's result does not depend on
    the number of devices.
    """
    for size, same in itertools.groupby(batches(rows), key=lambda batch: batch[1]):
        while group := [piece for piece, _ in itertools.islice(same, devices)]:
            yield np.concatenate(group), size * devices


def batches(rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Split row numbers (N,) into pieces for one device: (rows of the piece, its padded size)."""
    while len(rows):
        size = next((n for n in SIZES if len(rows) <= 4 * n), SIZES[-1])
        yield rows[:size], size
        rows = rows[size:]
