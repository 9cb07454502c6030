"""Micro-averaged precision, recall and F1 of yes-or-no attributes that captions ask for and images show.

From hits h (asked for and shown), false alarms a (shown alone) and misses m (asked for alone), summed over examples:

    precision = h / (h + a)        recall = h / (h + m)        F1 = 2 h / (2 h + a + m)                        (1)

Each is nan where the denominator is 0.
"""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.ratios import Ratios


def detection_counts(wanted: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Hits, false alarms and misses of each example, int (N, 3), from attributes asked for and shown, bool (N, A)."""
    return np.stack([(wanted & shown).sum(1), (~wanted & shown).sum(1), (wanted & ~shown).sum(1)], -1)


precision = Ratios(lambda counts: counts[..., :1], lambda counts: counts[..., :1] + counts[..., 1:2])
"""Precision of equation (1) for counts (3,) of hits, false alarms and misses."""

recall = Ratios(lambda counts: counts[..., :1], lambda counts: counts[..., :1] + counts[..., 2:3])
"""Recall of equation (1) for counts (3,) of hits, false alarms and misses."""

f1 = Ratios(lambda counts: 2 * counts[..., :1], lambda counts: (counts @ np.array([2, 1, 1]))[..., None])
"""F1 of equation (1) for counts (3,) of hits, false alarms and misses."""


def check_captions(examples: int, captions: int) -> None:
    """Raise ValueError, in one line, unless there are as many captions as examples, and at least 2."""
    if examples != captions or captions < 2:
        raise ValueError(f"{examples} examples and {captions} captions, expected as many of both and 2 or more")


def derangement(num: int, seed: int) -> np.ndarray:
    """A random permutation int (num,) without fixed points, one cycle, which gives each image another's caption.

    Raises ValueError for fewer than 2.
    """
    if num < 2:
        raise ValueError(f"{num} captions, expected 2 or more: each is compared with another's image")
    cycle = np.random.default_rng(seed).permutation(num)
    permutation = np.empty(num, int)
    permutation[cycle] = np.roll(cycle, 1)
    return permutation
