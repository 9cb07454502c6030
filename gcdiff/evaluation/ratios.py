"""95 % intervals of shares, of ratios of sums, and of the mean of several ratios such as mIoU.

The share p of n independent examples has the interval of Clopper and Pearson (1934), with B(q; a, b) the quantile q of
the beta distribution:

    B(.025; n p, n (1 - p) + 1)   to   B(.975; n p + 1, n (1 - p))                                                (1)

which holds the truth in at least 95 of 100 cases, also near 0 and 1. Values between 0 and 1 vary less than hits and
misses of the same mean, so that it is wide enough for them.

A ratio p = sum_j a_j / sum_j b_j with 0 <= a_j <= b_j, over examples or groups of examples j (recall: hits and classes
asked for; IoU: pixels of intersection and union), has the interval of Korn and Graubard (1998): (1) with an effective
number in the place of n,

    n = p (1 - p) / variance (1.96 / t(m - 1))^2     variance = J / (J - 1) sum_j (a_j - p b_j)^2 / (sum_j b_j)^2 (2)

over the J units with b_j > 0. m = (sum b_j)^2 / sum b_j^2 is the number of equal units that weigh as these do (Kish
1965), and is the least that n is. Where nothing varies, as at p = 0 or 1, n = m.

The mean of the ratios p_k of K classes has the limits of Zou and Donner (2008), from the limits l_k, u_k of each and
the correlations r_kl of the ratios:

    mean - sqrt(sum_kl r_kl (p_k - l_k)(p_l - l_l)) / K     and above likewise, with u_k - p_k                     (3)

Of a class without any b_j nothing is known: it is left out of the value, and counts as 0 in the low limit and as 1 in
the high one. The value lies above the mean over all classes where rare classes have low ratios and are left out, and
the low limit holds that bias too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit


class Ratios(NamedTuple):
    """A statistic of summed examples: the mean of parts / wholes over those of K ratios whose whole is above 0.

    parts, wholes: linear functions of sums (..., S), with any leading axes, to (..., K), 0 <= parts <= wholes.
    counts: whether a whole is a number of examples, whose ratio is then a mean of values in [0, 1].

    >>> from gcdiff.evaluation.ratios import Ratios
    >>> recall = Ratios(lambda sums: sums[..., :1], lambda sums: sums[..., :1] + sums[..., 2:])
    >>> recall(np.array([3, 7, 1]))  # hits, false alarms, misses
    0.75
    """

    parts: Callable[[np.ndarray], np.ndarray]
    wholes: Callable[[np.ndarray], np.ndarray]
    counts: bool = False

    def __call__(self, sums: np.ndarray) -> float:
        """The statistic of sums (S,); nan where all wholes are 0."""
        parts, wholes = self.parts(np.asarray(sums)), self.wholes(np.asarray(sums))
        present = wholes > 0
        return float((parts[present] / wholes[present]).mean()) if present.any() else float("nan")

    def interval(self, units: np.ndarray) -> tuple[float, float]:
        """The 95 % interval of equations (2) and (3) from the sums (J, S) of J examples or groups; nan for J < 2."""
        if len(units) < 2:
            return float("nan"), float("nan")
        return mean_interval(self.parts(units), self.wholes(units), self.counts)


def column(part: int, whole: int, counts: bool = False) -> Ratios:
    """The `Ratios` of one column of the sums over another."""
    return Ratios(lambda sums: sums[..., [part]], lambda sums: sums[..., [whole]], counts)


RATE = column(0, 1)
"""The first of two sums over the second: right answers and all answers."""


def share_interval(mean: np.ndarray | float, examples: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of equation (1) for means in [0, 1] of numbers of examples above 0, not only whole ones."""
    p, n = (np.asarray(x, np.float64) for x in (mean, examples))
    tiny = np.finfo(np.float64).tiny
    low = np.where(p > 0, betaincinv(np.maximum(n * p, tiny), n * (1 - p) + 1, 0.025), 0.0)
    high = np.where(p < 1, betaincinv(n * p + 1, np.maximum(n * (1 - p), tiny), 0.975), 1.0)
    return np.minimum(low, p), np.maximum(high, p)  # holds the mean in spite of rounding


def mean_interval(parts: np.ndarray, wholes: np.ndarray, counts: bool = False) -> tuple[float, float]:
    """The interval of equation (3) from parts and wholes (J, K) of J units; nan where all wholes are 0.

    `counts`: a whole is a number of examples, so that m of equation (2) is their sum.
    """
    total = wholes.sum(axis=0)
    present = total > 0
    if not present.any():
        return float("nan"), float("nan")
    a, b, total = np.asarray(parts, float)[:, present], np.asarray(wholes, float)[:, present], total[present]
    p = np.clip(a.sum(axis=0) / total, 0, 1)
    residuals = a - p * b
    size = np.linalg.norm(residuals, axis=0)
    varies = (size > 1e-9 * total) & (p > 0) & (p < 1)
    units = (b > 0).sum(axis=0)
    equal = total**2 / (b**2).sum(axis=0)
    spread = np.where(varies, units / np.maximum(units - 1, 1) * (size / total) ** 2, 1)
    t = stdtrit(np.maximum(equal - 1, 0.05), 0.975)
    number = np.where(varies, p * (1 - p) / spread * (1.96 / t) ** 2, 0)
    low, high = share_interval(p, np.maximum(number, total if counts else equal))
    directions = np.where(varies, residuals / np.where(varies, size, 1), 0)
    correlation = directions.T @ directions
    np.fill_diagonal(correlation, 1)
    below, above = (float(np.sqrt(max(d @ correlation @ d, 0))) for d in (p - low, high - p))
    absent = len(present) - len(p)
    ends = np.array([p.sum() - below, p.sum() + above + absent]) / len(present)
    return float(np.clip(ends[0], 0, p.mean())), float(np.clip(ends[1], p.mean(), 1))
