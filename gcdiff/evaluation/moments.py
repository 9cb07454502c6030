"""The Fréchet distance between two sets of features, from moments that are collected in one pass.

With means m, m' and covariances C, C' of the features of two sets

    d^2 = |m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2)                                                        (1)

(Dowson and Landau 1982; for features of a network, Heusel et al. 2017). The last trace is computed as the sum of the
square roots of the eigenvalues of a symmetric matrix, which are real at any rank.

The moments of two shares are joined exactly up to rounding (Chan, Golub and LeVeque 1983), with n = n_1 + n_2:

    m = m_1 + (n_2 / n) (m_2 - m_1)          S = S_1 + S_2 + (n_1 n_2 / n) (m_2 - m_1)(m_2 - m_1)^T               (2)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.measure import (
    GROUPS,
    INTERVAL,
    Measure,
    checked_ids,
    group_of,
    jackknife_interval,
    same_convention,
)


class Moments(NamedTuple):
    """The number of examples, their mean m float64 (D,), and their scatter, sum (x - m)(x - m)^T, float64 (D, D)."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    def __add__(self, other: Moments) -> Moments:  # type: ignore[override]
        if not self.count or not other.count:
            return self if self.count else other
        count, gap = self.count + other.count, other.mean - self.mean
        between = np.outer(gap, gap) * (self.count * other.count / count)
        return Moments(count, self.mean + gap * (other.count / count), self.scatter + other.scatter + between)

    def __sub__(self, part: Moments) -> Moments:
        """The moments without those of a subset; at least 1 example must remain."""
        count = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        gap = part.mean - mean
        between = np.outer(gap, gap) * (part.count * count / self.count)
        return Moments(count, mean, self.scatter - part.scatter - between)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance (D, D), scatter / (count - 1), of at least 2 examples."""
        return self.scatter / (self.count - 1)


def moments(features: np.ndarray) -> Moments:
    """The moments of features (N, D)."""
    x = np.asarray(features, np.float64)
    if not len(x):
        return Moments(0, np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2))
    mean = x.mean(axis=0)
    return Moments(len(x), mean, (x - mean).T @ (x - mean))


class GroupedMoments(NamedTuple):
    """The moments of each of GROUPS groups of examples, for an interval: GROUPS D^2 numbers, 0.7 GB for D = 2048.

    `+` joins disjoint shares; it raises ValueError where their conventions or numbers of features differ.
    """

    groups: tuple[Moments, ...]
    convention: Mapping[str, Any]

    def __add__(self, other: GroupedMoments) -> GroupedMoments:  # type: ignore[override]
        same_convention(
            {**self.convention, "number of features": self.features},
            {**other.convention, "number of features": other.features},
        )
        joined = tuple(a + b for a, b in zip(self.groups, other.groups, strict=True))
        return GroupedMoments(joined, self.convention)

    @property
    def features(self) -> int:
        return len(self.groups[0].mean)

    @property
    def total(self) -> Moments:
        return sum(self.groups[1:], self.groups[0])


def grouped_moments(ids: np.ndarray, features: np.ndarray, convention: Mapping[str, Any]) -> GroupedMoments:
    """The grouped moments of features (N, D) of examples with ids int (N,).

    Raises ValueError for features that are not finite or not a matrix, and for ids that repeat or are not N.

    >>> from gcdiff.evaluation.moments import grouped_moments
    >>> moments = grouped_moments([0, 1], np.ones((2, 4)), {}) + grouped_moments([2], np.zeros((1, 4)), {})
    >>> moments.total.count, moments.features
    (3, 4)
    """
    ids, features = checked_ids(ids, len(features)), np.asarray(features, np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"features have shape {features.shape}, expected finite numbers (N, D)")
    groups = group_of(ids)
    return GroupedMoments(tuple(moments(features[groups == g]) for g in range(GROUPS)), dict(convention))


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix; eigenvalues below 0 by rounding count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def frechet_distance(gap: np.ndarray, cov: np.ndarray, root: np.ndarray) -> float:
    """The squared Fréchet distance, equation (1), of two Gaussians.

    gap: the difference of their means (D,). cov: the covariance C (D, D) of one. root: the symmetric square root of the
    covariance C' (D, D) of the other.
    """
    shared = np.linalg.eigvalsh(root @ cov @ root)
    return float(gap @ gap + np.trace(cov) + np.sum(root**2) - 2 * np.sqrt(np.maximum(shared, 0)).sum())


def frechet(generated: GroupedMoments, reference: GroupedMoments, standardised: bool = False) -> Measure:
    """The squared Fréchet distance, equation (1), between generated and reference examples.

    The interval is over the generated examples alone, and of the distance's mean at their number: that of more examples
    is smaller, and may lie below it.
    `standardised` divides each feature by its standard deviation in the reference, for features in different units.
    Raises ValueError where the two sides' conventions differ, for fewer than 2 examples of either, and for a feature
    that does not vary in the reference where it is standardised.

    >>> from gcdiff.evaluation.moments import frechet, grouped_moments
    >>> features = np.random.default_rng(0).normal(size=(100, 4))
    >>> real, generated = (grouped_moments(range(100), part, {}) for part in (features, features + 3))
    >>> round(frechet(generated, real).value, 3)  # the squared distance of the means: the covariances are equal
    36.0
    """
    same_convention(
        {**generated.convention, "number of features": generated.features},
        {**reference.convention, "number of features": reference.features},
    )
    fake, real = generated.total, reference.total
    if min(fake.count, real.count) < 2:
        raise ValueError(f"{fake.count} generated examples against {real.count}, expected 2 or more of both")
    scale = np.sqrt(np.diagonal(real.covariance)) if standardised else np.ones(len(real.mean))
    if (scale == 0).any():
        raise ValueError(f"feature {int(np.argmin(scale))} of {real.count} reference examples does not vary")
    scales = np.outer(scale, scale)
    root = symmetric_root(real.covariance / scales)

    def distance(m: Moments) -> float:
        return max(frechet_distance((m.mean - real.mean) / scale, m.covariance / scales, root), 0.0)

    value, groups = distance(fake), [group for group in generated.groups if group.count]
    remainders = [fake - group for group in groups] if len(groups) > 1 else []
    without = np.array([distance(m) for m in remainders]) if all(m.count > 1 for m in remainders) else np.zeros(0)
    low, high = jackknife_interval(value, without, np.array([group.count for group in groups]), (0.0, np.inf))
    units = "the reference's standard deviations" if standardised else "the features' own"
    convention = {**generated.convention, "distance": "squared Fréchet, no correction for numbers", "units": units}
    convention["interval"] = f"{INTERVAL}, of the distance at this number of them, the reference held"
    return Measure(value, low, high, {"generated": fake.count, "reference": real.count}, convention)
