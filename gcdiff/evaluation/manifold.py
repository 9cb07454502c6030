"""Precision, recall, density and coverage of generated features against real ones, by nearest neighbours.

B(x) is the ball around x whose radius is the distance to its k-th nearest other example of the same side. For generated
y and real x,

    precision   the share of y in some B(x)             recall      the share of x in some B(y)                   (1)
    density     the mean over y of the number of B(x) around it, over k                                           (2)
    coverage    the share of x whose B(x) holds some y                                                            (3)

(1) is by Kynkäänniemi et al. 2019, with k = 3; (2) and (3) are by Naeem et al. 2020, and are less sensitive to
outliers, whose balls are large. For equal distributions and numbers of examples they are about 1 and 1 - 2^-k. All four
depend on both numbers of examples.

The ranges are over the examples that are counted, with the balls fixed: Clopper and Pearson's for shares, the
jackknife's for density. They are not called 95 % intervals: they ignore the sampling of the other side, which affects
all examples in one large ball together. In simulations they held the truth of other examples of both sides in 75 to 95
of 100 cases where the sides are equal; those of precision and recall in 20 to 70 where the sides overlap little, so
that a few balls decide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.bank import Bank
from gcdiff.evaluation.distances import blocks, euclidean, k_smallest
from gcdiff.evaluation.measure import EVERYWHERE, Measure, grouped_sums, ratio, same_convention, share

HELD = "not of 95 %: over the examples counted, the balls held; other balls move the number more"


class Manifold(NamedTuple):
    """Precision, recall, density and coverage of equations (1) to (3), with ranges given the balls."""

    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure


def manifold(generated: Bank, reference: Bank, k: int = 3) -> Manifold:
    """The `Manifold` of generated features (N, D) against real ones (M, D), with the k-th nearest neighbour.

    Raises ValueError where the two sides' conventions differ and unless both have more than k examples.

    >>> from gcdiff.evaluation.bank import make_bank
    >>> from gcdiff.evaluation.manifold import manifold
    >>> features = np.random.default_rng(0).normal(size=(100, 4))
    >>> metrics = manifold(make_bank(range(20), features[:20], {}), make_bank(range(100), features, {}))
    >>> metrics.precision.value, metrics.recall.counts
    (1.0, {'generated': 20, 'reference': 100})
    """
    same_convention(generated.convention, reference.convention)
    ids, fake = generated.rows()
    real = reference.values
    if not 1 <= k < min(len(fake), len(real)):
        raise ValueError(f"k is {k} for {len(fake)} and {len(real)} examples, expected at least 1 and fewer than both")
    radius = k_smallest(fake, fake, k + 1)[:, k]  # the nearest is the example itself
    real_radius = k_smallest(real, real, k + 1)[:, k]
    real_balls = np.zeros(len(fake), int)  # how many real balls hold each generated example
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows in blocks(fake):
        for columns in blocks(real):
            distances = euclidean(fake[rows], real[columns])
            real_balls[rows] += (distances <= real_radius[columns]).sum(axis=1)
            covered[columns] |= (distances <= real_radius[columns]).any(axis=0)
            recalled[columns] |= (distances <= radius[rows, None]).any(axis=0)
    counts = {"generated": len(fake), "reference": len(real)}

    def held(measure: Measure) -> Measure:
        return measure._replace(counts=counts, convention={**measure.convention, "interval": HELD})

    convention = {**generated.convention, "distance": "Euclidean", "k": k}

    density = grouped_sums(ids, np.stack([real_balls / k, np.ones(len(fake))], -1), convention)
    return Manifold(
        held(share(real_balls > 0, counts, convention)),
        held(share(recalled, counts, convention)),
        held(density.measure(ratio, (0.0, EVERYWHERE[1]))),
        held(share(covered, counts, convention)),
    )
