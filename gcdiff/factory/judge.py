"""Which pairs are kept: those whose sides agree, and that are no copies of training examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.evaluation.nearest import Neighbours
from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.types import Pair

KEPT, DISAGREES, IMAGE, LAYOUT = "kept", "agreement", "image", "layout"
VERDICTS = (KEPT, DISAGREES, IMAGE, LAYOUT)
"""Kept, or refused: for its agreement, for its image, for its layout being too near to a training example's."""


class Judged(NamedTuple):
    """A verdict and what it stands on: mIoU of the layout with the model's segmentation, the mean probability of the
    drawn labels and that of each pixel as uint8 (H, W), of 255; distances to the nearest training examples. None where
    that was not measured."""

    verdict: str
    agreement: float | None = None
    confidence: float | None = None
    certainty: np.ndarray | None = None
    distances: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Audit:
    """A gate against copies. A side of a pair is too near where it is nearer to its nearest training neighbour than
    `limits` says: the `quantile` of these distances of `heldout` examples, of which at most that share is nearer."""

    neighbours: Neighbours
    limits: Pair
    quantile: float
    heldout: int

    @classmethod
    def of(cls, train: Iterable[Example], heldout: list[Example], quantile: float) -> Audit:
        """Raises ValueError where there are no held-out examples with an image and a layout."""
        neighbours = Neighbours(train)
        whole = [e for e in heldout if e.has_image and (e.layout >= 0).any()]
        if not whole:
            raise ValueError("--audit: no held-out example has image and layout, expected some to compare with")
        found = neighbours.distances(Pair(np.stack([e.image for e in whole]), np.stack([e.layout for e in whole])))
        limits = Pair(*(float(np.quantile(side, quantile, method="lower")) for side in found))
        return cls(neighbours, limits, quantile, len(whole))

    def verdicts(self, distances: Pair) -> list[str]:
        image, layout = (side < limit for side, limit in zip(distances, self.limits, strict=True))
        return [IMAGE if x else LAYOUT if y else KEPT for x, y in zip(image, layout, strict=True)]


@dataclasses.dataclass(frozen=True)
class Judge:
    """What has to hold of a pair: an agreement of at least `least` (None: of any), and no copy by `audit`."""

    least: float | None = None
    audit: Audit | None = None

    def __call__(self, pair: Pair, probabilities: np.ndarray | None) -> list[Judged]:
        """Verdicts on pairs (uint8 (N, H, W, C), int32 (N, H, W)) with the class probabilities (N, H, W, K) that the
        model gives for the images. Pairs that disagree are not compared with the training set."""
        found = [Judged(KEPT)] * len(pair.layout)
        if probabilities is not None:
            found = [self._agreement(*one) for one in zip(pair.layout, probabilities, strict=True)]
        left = [i for i, one in enumerate(found) if one.verdict == KEPT]
        if self.audit is not None and left:
            distances = self.audit.neighbours.distances(Pair(pair.image[left], pair.layout[left]))
            for row, i in enumerate(left):
                verdict = self.audit.verdicts(Pair(*(side[row : row + 1] for side in distances)))[0]
                near = round(float(distances.image[row]), 4), round(float(distances.layout[row]), 6)
                found[i] = found[i]._replace(verdict=verdict, distances=near)
        return found

    def _agreement(self, layout: np.ndarray, p: np.ndarray) -> Judged:
        agreement = round(mean_iou(confusion(layout, p.argmax(axis=-1), p.shape[-1])), 6)
        own = np.take_along_axis(p, layout[..., None], axis=-1)[..., 0]
        certainty = np.rint(255 * np.clip(own, 0, 1)).astype(np.uint8)
        low = self.least is not None and agreement < self.least
        confidence = round(float(own.astype(np.float64).mean()), 6)
        return Judged(DISAGREES if low else KEPT, agreement, confidence, certainty)
