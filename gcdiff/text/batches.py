"""Batches of few sizes, so that few programs are compiled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

SIZES = (4, 32)
"""In batches of these sizes an example's rounding does not depend on the others, as it does in those of 1 to 3."""


def rounds(rows: np.ndarray, devices: int) -> Iterator[tuple[np.ndarray, int]]:
    """The row numbers (N,) in pieces, each with the size of what holds it: a batch for each device.

    They are the batches of a single device, several side by side: what an example becomes does not depend on how many
    devices there are.
    """
    for size, same in itertools.groupby(batches(rows), key=lambda batch: batch[1]):
        while group := [where for where, _ in itertools.islice(same, devices)]:
            yield np.concatenate(group), size * devices


def batches(rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The row numbers (N,) in pieces, each with the size of the batch that holds it."""
    while len(rows):
        size = next((n for n in SIZES if len(rows) <= 4 * n), SIZES[-1])
        yield rows[:size], size
        rows = rows[size:]
