"""Memorisation: whether samples are copies of training examples, by the nearest training and held-out examples.

With t(x) and h(x) the distances of x to the nearest of n training and of m held-out examples, itself left out, and
r = t / h,

    copied          the share of samples with p(x) <= level, where                                                (1)
                    p(x) = (1 + number of held-out e with r(e) <= r(x)) / (m + 1)
    nearer          the share of samples with t(x) < h(x), equal ones half                                        (2)
    ratio           the median over samples of r(x)                                                               (3)
    ratio_heldout   the median over held-out e of r(e)

p(x) is a conformal p-value (Vovk, Gammerman and Shafer 2005): a sample that is drawn as the held-out examples are is
called copied with a probability of at most `level`, whatever the data, the numbers and the distance. (Exactly so where
h(e) is taken among the other held-out examples and x; without x it is larger, and p(x) with it.) By r and not by t: a
blurred or plain sample is near to everything, to training and held-out examples alike, and no copy for that.

For training and held-out examples drawn alike, independent samples are nearer to a training example with probability
n / (n + m): `expected`. The ratio depends on n and m, and is to be read beside that of the held-out examples.

The interval is over samples (and over held-out examples for ratio_heldout), with all sets held: Wilson's of the shares,
which of `nearer`, a mean of 0, 1/2 and 1, is wide enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr

from gcdiff.evaluation.bank import Bank
from gcdiff.evaluation.distances import Distance, Nearest, euclidean, nearest
from gcdiff.evaluation.measure import Measure, same_convention, share


class Neighbours(NamedTuple):
    """The nearest training and the nearest held-out example of each of N examples with ids int (N,)."""

    ids: np.ndarray
    train: Nearest
    heldout: Nearest


class Memorisation(NamedTuple):
    """The numbers of equations (1) to (3).

    Of a model without memorisation `copied` is at most `level` and `nearer` is `expected`, on average.
    """

    copied: Measure
    level: float
    nearer: Measure
    expected: float
    ratio: Measure
    ratio_heldout: Measure


def neighbours(examples: Bank, train: Bank, heldout: Bank, distance: Distance = euclidean) -> Neighbours:
    """The nearest training and held-out examples of each example, computed in blocks.

    Where `examples` is the bank `heldout` itself, no example is its own neighbour. Shares of the references may be
    searched apart: `Nearest` adds up.
    """
    for side in (train, heldout):
        same_convention(examples.convention, side.convention)
    ids, values = examples.rows()
    both = []
    for side in (train, heldout):
        theirs, references = side.rows()
        both.append(nearest(values, references, theirs, distance, own=ids if side is examples else None))
    return Neighbours(ids, *both)


def p_values(examples: Neighbours, heldout: Neighbours) -> np.ndarray:
    """The p-values of equation (1), float64 (N,), of N examples beside m held-out ones."""
    ratios = np.sort(_ratios(heldout))
    return (1 + np.searchsorted(ratios, _ratios(examples), side="right")) / (len(ratios) + 1)


def memorisation(
    samples: Neighbours,
    heldout: Neighbours,
    train: int,
    convention: Mapping[str, Any],
    level: float = 0.01,
) -> Memorisation:
    """Equations (1) to (3) from the neighbours of samples and of m held-out examples; `train` counts training examples.

    Raises ValueError for a level too small for m held-out examples: it needs 1 / level - 1 of them or more.
    """
    m = len(heldout.ids)
    if not 1 / (m + 1) <= level < 1:
        raise ValueError(f"level is {level:g} for {m} held-out examples, expected 1 / {m + 1} or more and below 1")
    t, h = samples.train.distances, samples.heldout.distances
    counts = {"samples": len(t), "train": train, "heldout": m}
    nearer = (t < h) + 0.5 * (t == h)
    by_order = {**convention, "interval": "95 %, of the order statistics", "statistic": "median of t / h"}
    ratios = [Measure(*median(_ratios(side)), counts, by_order) for side in (samples, heldout)]
    copied = p_values(samples, heldout) <= level
    return Memorisation(
        share(copied, counts, {**convention, "level": level, "statistic": "p of t / h <= level"}),
        level,
        share(nearer, counts, {**convention, "statistic": "t < h"}),
        train / (train + m),
        *ratios,
    )


def audit(
    samples: Bank, train: Bank, heldout: Bank, distance: Distance = euclidean, level: float = 0.01
) -> Memorisation:
    """The memorisation of samples in one space (features, pixels or layouts), from a bank of each set."""
    of_samples, of_heldout = (neighbours(bank, train, heldout, distance) for bank in (samples, heldout))
    convention = {**samples.convention, "distance": _name(distance)}
    return memorisation(of_samples, of_heldout, len(train.ids), convention, level)


def _name(distance: Distance) -> str:
    if isinstance(distance, partial):
        arguments = [*map(str, distance.args), *(f"{name}={value}" for name, value in distance.keywords.items())]
        return f"{_name(distance.func)}({', '.join(arguments)})"
    return getattr(distance, "__name__", type(distance).__name__)


def _ratios(of: Neighbours) -> np.ndarray:
    return distance_ratio(of.train.distances, of.heldout.distances)


def distance_ratio(train: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """The ratio r = t / h of distances float (N,) to the nearest training and held-out examples.

    It is 1 where they are equal, also both 0; inf where h alone is 0, or where nothing held out can be compared with (h
    is inf) unless t is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(train == heldout, 1.0, train / heldout)
    return np.where(np.isinf(heldout) & (train > 0), np.inf, ratio)


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median and the two ends of its 95 % interval; nan for no values.

    The interval goes from the i-th smallest of n values to the i-th largest, with the largest i for which
    P(B(n, 1/2) < i) <= .025. For fewer than 6 values there is no such i, and the ends are nan.
    """
    ordered, n = np.sort(values), len(values)
    value = float(np.median(ordered)) if n else float("nan")
    low = int((bdtr(np.arange(n), n, 0.5) <= 0.025).sum()) - 1
    return (
        (value, float(ordered[low]), float(ordered[n - 1 - low])) if low >= 0 else (value, float("nan"), float("nan"))
    )
