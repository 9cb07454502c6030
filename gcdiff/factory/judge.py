"""Decide which drawn pairs are kept: those whose sides agree, and that are no copies of training examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.evaluation.memorisation import distance_ratio
from gcdiff.evaluation.nearest import Neighbours
from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.types import Pair

KEPT, DISAGREES, IMAGE, LAYOUT = "kept", "agreement", "image", "layout"
VERDICTS = (KEPT, DISAGREES, IMAGE, LAYOUT)
"""Kept, or refused: for its agreement, for its image, for its layout being too near to a training example's."""


class Judged(NamedTuple):
    """A verdict on a pair, and the measurements behind it; None where one was not made.

    agreement: mIoU of the layout with the model's segmentation of the image. confidence: the mean probability of the
    drawn labels. certainty: 255 times that of each pixel, uint8 (H, W). ratios: for image and layout, the distance to
    the nearest training example over that to the nearest held-out one.
    """

    verdict: str
    agreement: float | None = None
    confidence: float | None = None
    certainty: np.ndarray | None = None
    ratios: tuple[float | None, float | None] | None = None


@dataclasses.dataclass(frozen=True)
class Audit:
    """A test for copies of training examples.

    r is the distance to the nearest training example over that to the nearest held-out one
    (`gcdiff.evaluation.memorisation`). A side of a pair is a copy where r is below `limits`: the `quantile` of r of the
    held-out examples themselves, of which at most that share is below."""

    train: Neighbours
    heldout: Neighbours
    limits: Pair
    quantile: float

    @classmethod
    def of(cls, train: Iterable[Example], heldout: list[Example], quantile: float) -> Audit:
        """The audit whose limits come from held-out examples.

        Raises ValueError for fewer than two held-out examples with an image and a layout.
        """
        whole = [e for e in heldout if e.has_image and (e.layout >= 0).any()]
        if len(whole) < 2:
            raise ValueError(f"--audit: {len(whole)} held-out examples have image and layout, expected 2 or more")
        gate = cls(Neighbours(train), Neighbours(whole), Pair(0.0, 0.0), quantile)
        themselves = Pair(np.stack([e.image for e in whole]), np.stack([e.layout for e in whole]))
        ratios = gate.ratios(themselves, np.arange(len(whole)))
        limits = Pair(*(float(np.quantile(np.minimum(side, 1.0), quantile, method="lower")) for side in ratios))
        return dataclasses.replace(gate, limits=limits)

    def ratios(self, pair: Pair, own: np.ndarray | None = None) -> Pair:
        """The ratios r float64 (N,) of images and of layouts.

        `own` int (N,) are the numbers of the pairs among the held-out examples, where they are of these.
        """
        sides = zip(self.train.distances(pair), self.heldout.distances(pair, own), strict=True)
        return Pair(*(distance_ratio(*side) for side in sides))

    def verdicts(self, ratios: Pair) -> list[str]:
        image, layout = (side < limit for side, limit in zip(ratios, self.limits, strict=True))
        return [IMAGE if x else LAYOUT if y else KEPT for x, y in zip(image, layout, strict=True)]


@dataclasses.dataclass(frozen=True)
class Judge:
    """The judge of pairs: it keeps those with an agreement of at least `least` (None: any) and no copy by `audit`."""

    least: float | None = None
    audit: Audit | None = None

    def __call__(self, pair: Pair, probabilities: np.ndarray | None) -> list[Judged]:
        """Judge pairs (uint8 (N, H, W, C), int32 (N, H, W)).

        `probabilities` (N, H, W, K) are those of the model's segmentation of the images. Pairs that disagree are not
        compared with the training set.
        """
        judged = [Judged(KEPT)] * len(pair.layout)
        if probabilities is not None:
            judged = [self._agreement(*one) for one in zip(pair.layout, probabilities, strict=True)]
        left = [i for i, one in enumerate(judged) if one.verdict == KEPT]
        if self.audit is not None and left:
            ratios = self.audit.ratios(Pair(pair.image[left], pair.layout[left]))
            for i, verdict, *both in zip(left, self.audit.verdicts(ratios), *ratios, strict=True):
                image, layout = (round(float(r), 6) if np.isfinite(r) else None for r in both)
                judged[i] = judged[i]._replace(verdict=verdict, ratios=(image, layout))
        return judged

    def _agreement(self, layout: np.ndarray, p: np.ndarray) -> Judged:
        agreement = round(mean_iou(confusion(layout, p.argmax(axis=-1), p.shape[-1])), 6)
        own = np.take_along_axis(p, layout[..., None], axis=-1)[..., 0]
        certainty = np.rint(255 * np.clip(own, 0, 1)).astype(np.uint8)
        low = self.least is not None and agreement < self.least
        confidence = round(float(own.astype(np.float64).mean()), 6)
        return Judged(DISAGREES if low else KEPT, agreement, confidence, certainty)
