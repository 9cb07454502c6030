"""The two sides that metrics compare: a model's answers, and real examples in their place.

of a side      the model's                                    the real
segmented      its segmentations of held-out images           an oracle's; else the model's of training images
pairs          drawn from the captions of held-out examples   these held-out examples themselves
synthesized    images for the layouts of the same examples    their own images
again          two pairs for each of some of the captions     two held-out examples of any captions
likelihood     bounds of held-out examples                    bounds of training examples
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.agreement import confusion_sums
from gcdiff.evaluation.calibration import reliability_sums
from gcdiff.evaluation.measure import Sums
from gcdiff.evaluation.readers import Reader
from gcdiff.likelihood import Report as Bounds
from gcdiff.types import VOID, Pair

BLOCK = 32
"""How many examples' class probabilities are held at a time."""
CONDITIONS = 32
"""For how many captions a second pair is drawn."""


class Examples(NamedTuple):
    """Images uint8 (N, H, W, 3), layouts int32 (N, H, W) with VOID, N captions ("" for none), ids int64 (N,)."""

    images: np.ndarray
    layouts: np.ndarray
    captions: tuple[str, ...]
    ids: np.ndarray

    def part(self, rows: slice) -> Examples:
        return Examples(*(value[rows] for value in self))


class Subject(NamedTuple):
    """The model that is evaluated, as functions. One that it lacks is None, with the reason in `why` under its name.

    segment: (images, first id) -> class probabilities float (N, H, W, K)
    sample: (captions or None, number, seed, dials such as {"guidance": 2.0}) -> Pair
    synthesize: (layouts, captions or None, seed) -> images
    likelihood: Examples -> its bounds
    captioned: whether it draws from captions: it takes them, and the data have some
    """

    segment: Callable[[np.ndarray, int], Sequence[np.ndarray]] | None
    sample: Callable[[Sequence[str] | None, int, int, Mapping[str, float]], Pair] | None
    synthesize: Callable[[np.ndarray, Sequence[str] | None, int], np.ndarray] | None
    likelihood: Callable[[Examples], Bounds] | None
    captioned: bool
    why: Mapping[str, str]


class Segmented(NamedTuple):
    """Segmentations int (N, H, W) of examples; `reliability` is None where the segmenter gives no probabilities."""

    examples: Examples
    predictions: np.ndarray
    confusion: Sums
    reliability: Sums | None


class Seen(NamedTuple):
    """Examples, drawn or real, with a reader's reading of their images and its labels int (N, H, W)."""

    examples: Examples
    reading: Any
    labels: np.ndarray


class Bounded(NamedTuple):
    """Likelihood bounds, and the number of examples they are of."""

    bounds: Bounds
    examples: int


class Side(NamedTuple):
    """The data of one side, as in the table above; None where it is not needed or not available.

    again: Pair of (C, 2, H, W, 3) and (C, 2, H, W).
    """

    segmented: Segmented | None = None
    pairs: Seen | None = None
    synthesized: Seen | None = None
    again: Pair | None = None
    likelihood: Bounded | None = None


def seen(examples: Examples, reader: Reader) -> Seen:
    """Read the images of examples."""
    reading = reader.read(examples.images)
    return Seen(examples, reading, reader.labels(reading))


def model_side(
    subject: Subject, reader: Reader, heldout: Examples, drawn: int, bounded: int, needs: set[str], seed: int
) -> Side:
    """The model's side: segmentations of all held-out examples, answers for the first `drawn`, bounds of `bounded`."""
    few, parts = heldout.part(slice(drawn)), {}
    captions = few.captions if subject.captioned else None
    if "segmented" in needs and subject.segment is not None:
        parts["segmented"] = segmented(subject.segment, heldout, len(reader.classes))
    if needs & {"pairs", "again"} and subject.sample is not None:
        pair = subject.sample(captions, len(few.ids), seed, {})
        if "pairs" in needs:
            parts["pairs"] = seen(few._replace(images=pair.image, layouts=pair.layout), reader)
        if "again" in needs:
            some = min(CONDITIONS, len(few.ids))
            other = subject.sample(None if captions is None else captions[:some], some, seed + 1, {})
            parts["again"] = Pair(*(np.stack([a[:some], b], 1) for a, b in zip(pair, other, strict=True)))
    if "synthesized" in needs and subject.synthesize is not None:
        parts["synthesized"] = seen(few._replace(images=subject.synthesize(few.layouts, captions, seed)), reader)
    if "likelihood" in needs and subject.likelihood is not None:
        parts["likelihood"] = _bounded(subject.likelihood, heldout.part(slice(bounded)))
    return Side(**parts)


def real_side(
    subject: Subject,
    reader: Reader,
    heldout: Examples,
    train: Examples,
    drawn: int,
    bounded: int,
    needs: set[str],
) -> Side:
    """The real side, of as many examples as the model's side."""
    few, parts = heldout.part(slice(drawn)), {}
    if "segmented" in needs and reader.truth:
        predictions = reader.labels(reader.read(heldout.images))
        sums = _confusion(heldout, predictions, len(reader.classes))
        parts["segmented"] = Segmented(heldout, predictions, sums, None)
    elif "segmented" in needs and subject.segment is not None:
        some = train.part(slice(len(heldout.ids)))
        parts["segmented"] = segmented(subject.segment, some, len(reader.classes))
    if needs & {"pairs", "synthesized"}:
        parts["pairs"] = parts["synthesized"] = seen(few, reader)
    if "again" in needs and len(few.ids) > 1:
        some = few.part(slice(CONDITIONS))
        parts["again"] = Pair(*(np.stack([a, np.roll(a, 1, axis=0)], 1) for a in (some.images, some.layouts)))
    if "likelihood" in needs and subject.likelihood is not None:
        parts["likelihood"] = _bounded(subject.likelihood, train.part(slice(bounded)))
    return Side(**parts)


def segmented(
    segment: Callable[[np.ndarray, int], Sequence[np.ndarray]], examples: Examples, num_classes: int
) -> Segmented:
    """Segment examples; of the probabilities only sums are kept. A class from `num_classes` on is void."""
    predictions, confusions, reliabilities = [], [], []
    for first in range(0, len(examples.ids), BLOCK):
        part = examples.part(slice(first, first + BLOCK))
        probabilities = np.stack(list(segment(part.images, first)))
        best = probabilities.argmax(-1).astype(np.int32)
        predictions.append(np.where(best < num_classes, best, VOID))
        confusions.append(_confusion(part, predictions[-1], num_classes))
        reliabilities.append(reliability_sums(probabilities, part.layouts, part.ids))
    joined = (sum(sums[1:], sums[0]) for sums in (confusions, reliabilities))
    return Segmented(examples, np.concatenate(predictions), *joined)


def _confusion(examples: Examples, predictions: np.ndarray, num_classes: int) -> Sums:
    return confusion_sums(examples.layouts, predictions, examples.ids, num_classes)


def _bounded(likelihood: Callable[[Examples], Bounds], examples: Examples) -> Bounded:
    return Bounded(likelihood(examples), len(examples.ids))
