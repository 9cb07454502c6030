"""Measured numbers with 95 % intervals, and the sums over groups of examples that give the intervals.

An example's id alone decides to which of `GROUPS` groups it belongs, so that the sums of two shares of a data set add
up by `+` to those of the whole, on any number of devices and processes.

The interval of a statistic T of the sums is that of the delete-a-group jackknife for groups of unequal size (Busing,
Meijer and van der Leeden 1999). With n examples, m_j of them in group j of J, h_j = n / m_j, and T_-j without group j,

    T_J = J T - sum_j (1 - 1/h_j) T_-j          P_j = h_j T - (h_j - 1) T_-j                                      (1)
    variance = 1/J sum_j (P_j - T_J)^2 / (h_j - 1)          T -+ t(J - 1, .975) sqrt(variance)                    (2)

Shares of examples, ratios of sums and means of ratios have the intervals of `gcdiff.evaluation.ratios` instead, which
do not become too narrow where few examples count, or near 0 and 1.

An interval shows how far the number would move with other examples of the same kind, not with another model or seed.
What is no 95 % interval, because the simulations of `tests/evaluation/test_coverage.py` show that it holds the truth
less often, does not begin with "95 %" in a measure's convention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from gcdiff.evaluation.ratios import Ratios, share_interval

GROUPS = 20
INTERVAL = f"95 %, delete-a-group jackknife over {GROUPS} groups of examples"
SHARE_INTERVAL = "95 %, Clopper and Pearson's over examples"
RATIO_INTERVAL = "95 %, Korn and Graubard's over"
EVERYWHERE = (-np.inf, np.inf)
"""The bounds of a statistic that has none: an interval is cut at the bounds."""


class Measure(NamedTuple):
    """A number with its interval (nan where there is none), which is of 95 % where `is_95` says so.

    counts: the numbers of examples it was computed from, by name ("generated", "reference", "examples", ...).
    convention: what another number must agree in to be comparable: resolution, resize, extractor, void, units.
    """

    value: float
    low: float
    high: float
    counts: Mapping[str, int]
    convention: Mapping[str, Any]

    @property
    def is_95(self) -> bool:
        """Whether the interval is one of 95 %, by its convention."""
        return str(self.convention.get("interval", "")).startswith("95 %")


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
        """`statistic` of the total with its interval; nan for no examples.

        `Ratios` have their own interval, any other statistic the jackknife's, cut at `bounds`.
        """
        value = float(statistic(self.total)) if self.examples else float("nan")
        occupied = self.counts > 0
        if isinstance(statistic, Ratios):
            convention = {**self.convention, **convention, "interval": f"{RATIO_INTERVAL} {GROUPS} groups of examples"}
            return Measure(value, *statistic.interval(self.sums[occupied]), {"examples": self.examples}, convention)
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
    """The 95 % interval of equation (2), with the arguments of `jackknife_variance`, cut at `bounds`.

    nan for fewer than 2 groups, and where the statistic is the same without any group: nothing tells how it varies.
    """
    if len(without) and (without == value).all():
        return float("nan"), float("nan")
    return t_interval(value, jackknife_variance(value, without, sizes), len(without), bounds)


def t_interval(
    value: float, variance: float, groups: int, bounds: tuple[float, float] = EVERYWHERE
) -> tuple[float, float]:
    """The 95 % interval of a value by Student's t, for a variance estimated from `groups` groups, cut at `bounds`."""
    half_width = float(stdtrit(max(groups - 1, 1), 0.975) * np.sqrt(variance))
    return float(max(value - half_width, bounds[0])), float(min(value + half_width, bounds[1]))


def share(hits: np.ndarray, counts: Mapping[str, int], convention: Mapping[str, Any]) -> Measure:
    """The mean of hits (N,), bool or in [0, 1], one per example, with its `share_interval`; nan for none."""
    convention = {**convention, "interval": SHARE_INTERVAL}
    if not len(hits):
        return Measure(float("nan"), float("nan"), float("nan"), counts, convention)
    mean = float(np.mean(hits))
    low, high = share_interval(mean, len(hits))
    return Measure(mean, float(low), float(high), counts, convention)


def ratio(total: np.ndarray) -> float:
    """The ratio total[0] / total[1]; nan where the denominator is 0."""
    return float(total[0] / total[1]) if total[1] else float("nan")
