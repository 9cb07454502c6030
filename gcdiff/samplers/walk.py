"""Sampling along a whole path of levels, in compiled pieces of at most ten steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from gcdiff.samplers.sample import PIECE, PLAIN, Carry, Given, Sampler, Settings, as_arrays
from gcdiff.types import Condition, Pair


class Pace:
    """The number of steps of the next piece: as many as take `seconds`, by the time of the last one.

    So progress is reported, and can be stopped, at short intervals. The first piece is one step. No number of steps
    compiles anything or changes a bit.
    """

    def __init__(self, seconds: float = 0.4):
        self.seconds, self.count = seconds, 1

    def took(self, count: int, seconds: float) -> None:
        """Set the number of steps after a piece of `count` steps took `seconds`."""
        self.count = int(np.clip(count * self.seconds / max(seconds, 1e-9), 1, PIECE))


class Walked(NamedTuple):
    """The state after a piece: the carry, the row of the path that is reached, and the number of steps of the piece."""

    carry: Carry
    row: np.ndarray
    count: int


def walk(
    sampler: Sampler,
    params: Any,
    path: np.ndarray,
    given: Given,
    condition: Condition,
    settings: Settings = PLAIN,
    pace: Pace | None = None,
) -> Iterator[Walked]:
    """Sample one chunk, or one on every device, along `path` (steps + 1, 2), and yield the state after every piece.

    The start is a piece of no step. With a `pace` every piece is waited for.
    """
    path, settings = np.asarray(path, np.float32), as_arrays(settings)
    steps = len(path) - 1

    def piece(carry: Carry, first: int, count: int) -> Carry:
        rows = path[np.clip(np.arange(first - 1, first + PIECE + 1), 0, steps)]
        return sampler.piece(params, carry, given, rows, np.int32(count), condition, settings)

    return pieces(piece, sampler.begin(given, path[0]), path, pace)


def pieces(
    piece: Callable[[Carry, int, int], Carry], carry: Carry, path: np.ndarray, pace: Pace | None
) -> Iterator[Walked]:
    """Yield the states along a path, computed by `piece(carry, first, count)`, at most PIECE steps at a time."""
    done, steps = 0, len(path) - 1
    yield Walked(carry, path[0], 0)
    while done < steps:
        count, start = min(PIECE if pace is None else pace.count, steps - done), time.monotonic()
        carry = piece(carry, done, count)
        done += count
        if pace is not None:
            jax.block_until_ready(carry)
            pace.took(count, time.monotonic() - start)
        yield Walked(carry, path[done], count)


def run(
    sampler: Sampler,
    params: Any,
    path: np.ndarray,
    given: Given,
    condition: Condition,
    settings: Settings = PLAIN,
) -> Pair:
    """Sample one chunk, or one on every device, along `path` (steps + 1, 2), and return its state."""
    return last(walk(sampler, params, path, given, condition, settings)).state


def last(walked: Iterator[Walked]) -> Carry:
    """The carry after the last piece."""
    return deque(walked, maxlen=1)[0].carry
