"""Precision and recall, density and coverage, of generated features beside real ones, by nearest neighbours.

B(x) is the ball around x that reaches its k-th nearest other example of its own side. Of generated y and real x,

    precision   the share of y in some B(x)             recall      the share of x in some B(y)                   (1)
    density     the mean over y of the number of B(x) around it, over k                                           (2)
    coverage    the share of x whose B(x) holds some y                                                            (3)

(1) is of Kynkäänniemi et al. 2019, k = 3 there; (2) and (3) are of Naeem et al. 2020, which stray examples, with balls
that are large, change less: 1 and 1 - 2^-k, about, for equal laws and numbers. All depend on both numbers of examples.

Intervals are over the examples that are counted, with the balls held: Wilson's of shares, the jackknife's of density.
They do not know of the other side's chance, which moves all that lie in one large ball together: where the two sides
overlap little, so that a few balls decide, precision and recall move several times as much as their intervals say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.bank import Bank
from gcdiff.evaluation.distances import blocks, euclidean, smallest
from gcdiff.evaluation.measure import EVERYWHERE, Measure, ratio, same_convention, share, summed


class Manifold(NamedTuple):
    """Equations (1) to (3), with their intervals."""

    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure


def manifold(generated: Bank, reference: Bank, k: int = 3) -> Manifold:
    """Of features (N, D) and (M, D). Raises ValueError where the two sides' conventions differ and unless both have
    more than k examples."""
    same_convention(generated.convention, reference.convention)
    ids, fake = generated.rows()
    real = reference.values
    if not 1 <= k < min(len(fake), len(real)):
        raise ValueError(f"k is {k} for {len(fake)} and {len(real)} examples, expected at least 1 and fewer than both")
    around = smallest(fake, fake, k + 1)[:, k]
    around_real = smallest(real, real, k + 1)[:, k]
    holding = np.zeros(len(fake), int)  # the real balls around each generated example
    held, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows in blocks(fake):
        for columns in blocks(real):
            away = euclidean(fake[rows], real[columns])
            holding[rows] += (away <= around_real[columns]).sum(axis=1)
            covered[columns] |= (away <= around_real[columns]).any(axis=0)
            held[columns] |= (away <= around[rows, None]).any(axis=0)
    counts = {"generated": len(fake), "reference": len(real)}
    convention = {**generated.convention, "distance": "Euclidean", "k": k}

    density = summed(ids, np.stack([holding / k, np.ones(len(fake))], -1), convention)
    return Manifold(
        share(holding > 0, counts, convention),
        share(held, counts, convention),
        density.measure(ratio, (0.0, EVERYWHERE[1]))._replace(counts=counts),
        share(covered, counts, convention),
    )
