"""KID: the unbiased squared maximum mean discrepancy of features under a cubic kernel.

    k(x, y) = (x . y / D + 1)^3                                                                                   (1)
    MMD^2 = mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)   (2)

(Binkowski et al., Demystifying MMD GANs, 2018; Gretton et al. 2012.) All pairs are used: the usual mean over random
subsets of 1,000 estimates the same number with a larger variance. The estimate may be negative where the two
distributions are equal. The standard error adds the variances of a delete-a-group jackknife on each side: pairs share
examples, and do not count as independent.
"""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.bank import Bank
from gcdiff.evaluation.measure import (
    GROUPS,
    INTERVAL,
    Measure,
    group_of,
    jackknife_variance,
    same_convention,
    t_interval,
)


def kernel_distance(generated: Bank, reference: Bank) -> Measure:
    """KID, equation (2), between features (N, D) and (M, D), with an interval over the examples of both sides.

    Raises ValueError where the two sides' conventions or numbers of features differ and for fewer than 2 examples.

    >>> from gcdiff.evaluation.bank import make_bank
    >>> from gcdiff.evaluation.kernel import kernel_distance
    >>> features = np.random.default_rng(0).normal(size=(200, 4))
    >>> real, generated = (make_bank(range(100), half, {}) for half in (features[:100], features[100:] + 2))
    >>> distance = kernel_distance(generated, real)
    >>> 0 < distance.low < distance.value < distance.high
    True
    """
    same_convention(generated.convention, reference.convention)
    x, y = (_groups(*side.rows()) for side in (generated, reference))
    m, n = sum(map(len, x)), sum(map(len, y))
    if x[0].shape[1] != y[0].shape[1]:
        raise ValueError(f"features are {x[0].shape[1]} on one side and {y[0].shape[1]} on the other")
    if min(m, n) < 2:
        raise ValueError(f"{m} generated examples against {n}, expected 2 or more of both")
    xx, yy, xy = _sums(x, x), _sums(y, y), _sums(x, y)
    value = _within(xx, m) + _within(yy, n) - 2 * xy.sum() / (m * n)
    variances = [_variance(value, *side) for side in ((xx, xy, x, yy, n), (yy, xy.T, y, xx, m))]
    groups = min(len(x), len(y))
    low, high = t_interval(value, sum(variances), groups)
    convention = {**generated.convention, "kernel": "(x.y/D + 1)^3", "estimate": "unbiased, all pairs, unscaled"}
    convention["interval"] = f"{INTERVAL}, both sides"
    return Measure(float(value), low, high, {"generated": m, "reference": n}, convention)


def _groups(ids: np.ndarray, features: np.ndarray) -> list[np.ndarray]:
    """The features (n, D) of each group that has examples."""
    groups, features = group_of(ids), np.asarray(features, np.float64).reshape(len(ids), -1)
    return [features[groups == g] for g in range(GROUPS) if (groups == g).any()] or [features]


def _sums(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The kernel summed over the pairs of each two groups, (A, B), without pairs of an example with itself."""
    sums = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            kernel = (one @ other.T / one.shape[1] + 1) ** 3
            sums[i, j] = kernel.sum() - (np.trace(kernel) if one is other else 0.0)
    return sums


def _within(sums: np.ndarray, count: int) -> float:
    """The mean kernel of two different examples of one side."""
    return sums.sum() / (count * (count - 1))


def _variance(
    value: float, own: np.ndarray, cross: np.ndarray, groups: list[np.ndarray], others: np.ndarray, count: int
) -> float:
    """The jackknife variance for one side, from the sums within it, across both, and within the other side."""
    sizes = np.array([len(part) for part in groups])
    remaining = sizes.sum() - sizes
    if len(groups) < 2 or (remaining < 2).any():
        return float("nan")
    rest = own.sum() - own.sum(0) - own.sum(1) + np.diagonal(own)
    between = (cross.sum() - cross.sum(axis=1)) / (remaining * count)
    return jackknife_variance(value, rest / (remaining * (remaining - 1)) + _within(others, count) - 2 * between, sizes)
