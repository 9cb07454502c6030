"""Scores of yes-and-no answers, asked for and shown, from counts summed over examples; and whose caption is another's.

With hits h (asked for and shown), extra e (shown alone) and missed m (asked for alone), micro-averaged:

    precision = h / (h + e)        recall = h / (h + m)        F1 = 2 h / (2 h + e + m)                        (1)

each nan where there is nothing to divide by.
"""

from __future__ import annotations

import numpy as np


def outcomes(wanted: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Hits, extra and missed of every example, int (N, 3), from bool (N, questions)."""
    return np.stack([(wanted & shown).sum(1), (~wanted & shown).sum(1), (wanted & ~shown).sum(1)], -1)


def precision(counts: np.ndarray) -> float:
    """Precision of equation (1) for (3,) hits, extra and missed."""
    hits, extra, _ = counts
    return _share(hits, hits + extra)


def recall(counts: np.ndarray) -> float:
    """Recall of equation (1) for (3,) hits, extra and missed."""
    hits, _, missed = counts
    return _share(hits, hits + missed)


def f1(counts: np.ndarray) -> float:
    """F1 of equation (1) for (3,) hits, extra and missed."""
    hits, extra, missed = counts
    return _share(2 * hits, 2 * hits + extra + missed)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def check_captions(examples: int, captions: int) -> None:
    """Raise ValueError, in one line, unless there are as many examples as captions, and 2 or more."""
    if examples != captions or captions < 2:
        raise ValueError(f"{examples} examples and {captions} captions, expected as many of both and 2 or more")


def others(num: int, seed: int) -> np.ndarray:
    """A permutation of 0..num-1 without fixed points: one random cycle. Raises ValueError for fewer than 2."""
    if num < 2:
        raise ValueError(f"{num} captions, expected 2 or more: each is compared with another's image")
    cycle = np.random.default_rng(seed).permutation(num)
    other = np.empty(num, int)
    other[cycle] = np.roll(cycle, 1)
    return other
