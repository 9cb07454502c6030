"""Measured numbers with 95 % intervals, and the sums over groups of examples that give the intervals.

An example's id alone decides to which of `GROUPS` groups it belongs, so that the sums of two shares of a data set add
up by `+` to those of the whole, on any number of devices and processes.

The interval of a statistic T of the sums is that of the delete-a-group jackknife for groups of unequal size (Busing,
Meijer and van der Leeden 1999). With n examples, m_j of them in group j of J, h_j = n / m_j, and T_-j without group j,

    T_J = J T - sum_j (1 - 1/h_j) T_-j          P_j = h_j T - (h_j - 1) T_-j                                      (1)
    variance = 1/J sum_j (P_j - T_J)^2 / (h_j - 1)          T -+ t(J - 1, .975) sqrt(variance)                    (2)

The interval shows how far the number would move with other examples of the same kind, not with another model or seed.

The share of examples with some property has Wilson's score interval instead (Wilson 1927). With the mean p of n values
in [0, 1] and z = 1.96,

    (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)                                        (3)

which does not become too narrow near 0 and 1, where few or no examples differ. Values strictly between 0 and 1 vary
less than hits and misses of the same mean, so that the interval is wide enough for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

GROUPS = 20
INTERVAL = f"95 %, delete-a-group jackknife over {GROUPS} groups of examples"
SCORE_INTERVAL = "95 %, Wilson's score interval over examples"
EVERYWHERE, SHARE = (-np.inf, np.inf), (0.0, 1.0)
"""Bounds of a statistic, at which its interval is cut."""


class Measure(NamedTuple):
    """A number with its 95 % interval (nan where there is none).

    counts: the numbers of examples it was computed from, by name ("generated", "reference", "examples", ...).
    convention: what another number must agree in to be comparable: resolution, resize, extractor, void, units.
    """

    value: float
    low: float
    high: float
    counts: Mapping[str, int]
    convention: Mapping[str, Any]


def hash_ids(ids: np.ndarray) -> np.ndarray:
    """The splitmix64 hash uint64 (N,) of ids int (N,): a permutation of the 64-bit numbers."""
    z = np.asarray(ids, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def group_of(ids: np.ndarray) -> np.ndarray:
    """The group 0 to GROUPS - 1 of each example, int (N,), by the hash of its id and not by the data's order."""
    return (hash_ids(ids) % np.uint64(GROUPS)).astype(int)


def same_convention(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raise ValueError, in one line, where two conventions differ."""
    for name in (*one, *other):
        if one.get(name) != other.get(name):
            raise ValueError(f"{name} is {one.get(name)!r} on one side and {other.get(name)!r} on the other")


class Sums(NamedTuple):
    """Sums over the examples of each group: counts int64 (GROUPS,) and sums (GROUPS, ...), with their convention.

    `+` joins two disjoint shares of a data set; it raises ValueError where their conventions differ. Sums of integers
    are exact in any order.
    """

    counts: np.ndarray
    sums: np.ndarray
    convention: Mapping[str, Any]

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        same_convention(self.convention, other.convention)
        return Sums(self.counts + other.counts, self.sums + other.sums, self.convention)

    @property
    def examples(self) -> int:
        return int(self.counts.sum())

    @property
    def total(self) -> np.ndarray:
        """The sums over all examples, (...)."""
        return self.sums.sum(axis=0)

    def measure(
        self, statistic: Callable[[np.ndarray], float], bounds: tuple[float, float] = EVERYWHERE, **convention: Any
    ) -> Measure:
        """`statistic` of the total with its jackknife interval, cut at `bounds`; nan for no examples."""
        value = float(statistic(self.total)) if self.examples else float("nan")
        occupied = self.counts > 0
        without = [statistic(self.total - group) for group in self.sums[occupied]] if occupied.sum() > 1 else []
        low, high = jackknife_interval(value, np.array(without), self.counts[occupied], bounds)
        convention = {**self.convention, **convention, "interval": INTERVAL}
        return Measure(value, low, high, {"examples": self.examples}, convention)


def grouped_sums(ids: np.ndarray, values: np.ndarray, convention: Mapping[str, Any]) -> Sums:
    """The sums of per-example values (N, ...): exact for integers and bools, otherwise in float64.

    Raises ValueError unless there is one id for each example and none twice.
    """
    ids, values = checked_ids(ids, len(values)), np.asarray(values)
    groups = group_of(ids)
    kind = np.float64 if np.issubdtype(values.dtype, np.floating) else np.int64
    sums = np.zeros((GROUPS, *values.shape[1:]), kind)
    for group in np.unique(groups):
        sums[group] = values[groups == group].sum(axis=0, dtype=kind)
    return Sums(np.bincount(groups, minlength=GROUPS), sums, dict(convention))


def checked_ids(ids: np.ndarray, examples: int) -> np.ndarray:
    """The ids as int64 (N,). Raises ValueError unless there is one for each example and none twice."""
    ids = np.asarray(ids, np.int64)
    if ids.shape != (examples,):
        raise ValueError(f"ids have shape {ids.shape}, expected one for each of {examples} examples")
    if len(np.unique(ids)) < examples:
        raise ValueError(f"{examples - len(np.unique(ids))} of {examples} ids repeat, expected each example once")
    return ids


def jackknife_variance(value: float, without: np.ndarray, sizes: np.ndarray) -> float:
    """The jackknife variance of equation (2); nan for fewer than 2 groups.

    value: the statistic of all examples. without: its values without each of J groups, float (J,). sizes: the groups'
    numbers of examples (J,), above 0.
    """
    if len(without) < 2:
        return float("nan")
    h = sizes.sum() / sizes
    center = len(h) * value - ((1 - 1 / h) * without).sum()
    pseudo = h * value - (h - 1) * without
    return float(((pseudo - center) ** 2 / (h - 1)).mean())


def jackknife_interval(
    value: float, without: np.ndarray, sizes: np.ndarray, bounds: tuple[float, float] = EVERYWHERE
) -> tuple[float, float]:
    """The 95 % interval of equation (2), with the arguments of `jackknife_variance`, cut at `bounds`."""
    return t_interval(value, jackknife_variance(value, without, sizes), len(without), bounds)


def t_interval(
    value: float, variance: float, groups: int, bounds: tuple[float, float] = EVERYWHERE
) -> tuple[float, float]:
    """The 95 % interval of a value by Student's t, for a variance estimated from `groups` groups, cut at `bounds`."""
    half_width = float(stdtrit(max(groups - 1, 1), 0.975) * np.sqrt(variance))
    return float(max(value - half_width, bounds[0])), float(min(value + half_width, bounds[1]))


def wilson(mean: float, examples: int) -> tuple[float, float]:
    """The 95 % interval of equation (3); nan for no examples."""
    if not examples:
        return float("nan"), float("nan")
    z2_n = 1.96**2 / examples
    half_width = np.sqrt(z2_n * mean * (1 - mean) + z2_n**2 / 4)
    low, high = ((mean + z2_n / 2 + side) / (1 + z2_n) for side in (-half_width, half_width))
    return float(min(max(low, 0.0), mean)), float(max(min(high, 1.0), mean))  # holds the mean in spite of rounding


def share(hits: np.ndarray, counts: Mapping[str, int], convention: Mapping[str, Any]) -> Measure:
    """The mean of hits (N,), bool or in [0, 1], one per example, with the interval of `wilson`; nan for none."""
    mean = float(np.mean(hits)) if len(hits) else float("nan")
    return Measure(mean, *wilson(mean, len(hits)), counts, {**convention, "interval": SCORE_INTERVAL})


def ratio(total: np.ndarray) -> float:
    """The ratio total[0] / total[1]; nan where the denominator is 0."""
    return float(total[0] / total[1]) if total[1] else float("nan")
