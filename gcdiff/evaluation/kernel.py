"""KID: the squared maximum mean discrepancy of features under a cubic kernel, without bias at any number of examples.

    k(x, y) = (x . y / D + 1)^3                                                                                   (1)
    MMD^2 = mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)   (2)

(Binkowski et al., Demystifying MMD GANs, 2018; Gretton et al. 2012.) All pairs are taken: the usual mean over random
subsets of 1,000 estimates the same number, and spreads more. It may be negative where the two laws are equal. The
standard error is that of the delete-a-group jackknife of each side, the variances added: pairs share examples, and
cannot be counted as if they did not.
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
    spread,
)


def kernel_distance(generated: Bank, reference: Bank) -> Measure:
    """KID of equation (2) between features (N, D) and (M, D), with the interval of other examples on both sides.

    Raises ValueError where the two sides' conventions or numbers of features differ and for fewer than 2 examples.
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
    parts = [_variance(value, *side) for side in ((xx, xy, x, yy, n), (yy, xy.T, y, xx, m))]
    groups = min(len(x), len(y))
    low, high = spread(value, sum(parts), groups)
    convention = {**generated.convention, "kernel": "(x.y/D + 1)^3", "estimate": "unbiased, all pairs, unscaled"}
    convention["interval"] = f"{INTERVAL}, both sides"
    return Measure(float(value), low, high, {"generated": m, "reference": n}, convention)


def _groups(ids: np.ndarray, features: np.ndarray) -> list[np.ndarray]:
    """The features of each group that has examples."""
    of, features = group_of(ids), np.asarray(features, np.float64).reshape(len(ids), -1)
    return [features[of == g] for g in range(GROUPS) if (of == g).any()] or [features]


def _sums(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The summed kernel of each group with each, (A, B); where they are the same groups, of no example with itself."""
    sums = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            kernel = (one @ other.T / one.shape[1] + 1) ** 3
            sums[i, j] = kernel.sum() - (np.trace(kernel) if one is other else 0.0)
    return sums


def _within(sums: np.ndarray, count: int) -> float:
    return sums.sum() / (count * (count - 1))


def _variance(
    value: float, own: np.ndarray, cross: np.ndarray, groups: list[np.ndarray], others: np.ndarray, count: int
) -> float:
    """The jackknife's variance of one side: its own sums, those with the other side, and the other side's own."""
    sizes = np.array([len(part) for part in groups])
    left = sizes.sum() - sizes
    if len(groups) < 2 or (left < 2).any():
        return float("nan")
    kept = own.sum() - own.sum(0) - own.sum(1) + np.diagonal(own)
    between = (cross.sum() - cross.sum(axis=1)) / (left * count)
    return jackknife_variance(value, kept / (left * (left - 1)) + _within(others, count) - 2 * between, sizes)
