"""The functions that compute the numbers of each metric, from one side (`gcdiff.evaluation.sides`).

Each is called for the real side and for the model's: a ceiling is computed by the code that it is the ceiling of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation import agreement
from gcdiff.evaluation.bank import Bank, make_bank, standardised
from gcdiff.evaluation.calibration import calibration
from gcdiff.evaluation.clip_score import clip_score, clip_sums
from gcdiff.evaluation.distances import disagreement, euclidean
from gcdiff.evaluation.diversity import diversity as mean_distance
from gcdiff.evaluation.diversity import diversity_sums, layout_diversity_sums
from gcdiff.evaluation.features import PixelFeatures
from gcdiff.evaluation.features import convention as convention_of
from gcdiff.evaluation.kernel import kernel_distance
from gcdiff.evaluation.layouts import area_moments, fsd
from gcdiff.evaluation.manifold import manifold
from gcdiff.evaluation.measure import RATIO_INTERVAL, Measure, Sums, t_interval
from gcdiff.evaluation.memorisation import audit
from gcdiff.evaluation.moments import GroupedMoments, frechet, grouped_moments
from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.segmentation import Score
from gcdiff.evaluation.semantic import semantic_scores, semantic_sums
from gcdiff.evaluation.sides import Examples, Seen, Side
from gcdiff.likelihood.report import Estimate
from gcdiff.types import VOID

LEVEL, LEFT = 0.01, 99
"""The share of real examples that may count as copied, and the least number of held-out examples for that level."""


class Featured(NamedTuple):
    """The features of a set of examples, as moments and as a bank; `standardised` where they have different units."""

    moments: GroupedMoments
    bank: Bank
    standardised: bool


class Shared(NamedTuple):
    """The readers, features and settings that measure both the real side and the model's.

    names: of the classes. rest: held-out examples of which nothing is drawn. captioned: whether the data have captions
    and the model takes them. features: None without an extractor; reference: those of the training examples. clip:
    CLIP's towers for images and for texts, or None.
    """

    names: tuple[str, ...]
    reader: Reader
    train: Examples
    rest: Examples
    captioned: bool
    features: Callable[[Seen], Featured] | None
    reference: Featured | None
    clip: tuple[Any, Any] | None


Numbers = Mapping[str, Measure]


def featured(values: np.ndarray, ids: np.ndarray, convention: Mapping[str, Any], standardised: bool) -> Featured:
    """The `Featured` of features (N, D) of examples with ids int (N,)."""
    return Featured(grouped_moments(ids, values, convention), make_bank(ids, values, convention), standardised)


def segmentation(side: Side, shared: Shared) -> Numbers:
    sums = side.segmented.confusion
    numbers = {"miou": agreement.miou(sums), "accuracy": agreement.accuracy(sums)}
    if side.segmented.reliability is not None:
        numbers |= calibration(side.segmented.reliability)._asdict()
    return numbers


def agreement_sums(seen: Seen, shared: Shared) -> Sums:
    """The confusion of layouts, as the truth, with what the reader sees in their images, as the prediction."""
    e = seen.examples
    return agreement.confusion_sums(e.layouts, seen.labels, e.ids, len(shared.names), segmenter=shared.reader.name)


def agreement_of(field: str, side: Side, shared: Shared) -> Numbers:
    sums = agreement_sums(getattr(side, field), shared)
    return {"miou": agreement.miou(sums), "accuracy": agreement.accuracy(sums)}


def fidelity(side: Side, shared: Shared) -> Numbers:
    reference = shared.reference
    assert shared.features is not None and reference is not None, "its metric says that they are missing"
    mine = shared.features(side.pairs)
    banks = [mine.bank, reference.bank]
    if mine.standardised:
        banks = [_centred(standardised(bank, reference.bank), reference.bank) for bank in banks]
    numbers = {
        "frechet": frechet(mine.moments, reference.moments, mine.standardised),
        "kid": kernel_distance(*banks),
    }
    return numbers | manifold(*banks)._asdict()


def _centred(bank: Bank, reference: Bank) -> Bank:
    """A standardised bank with the reference's mean at 0, which the kernel of KID, unlike a distance, depends on."""
    values = np.asarray(reference.values, np.float64)
    center = values.mean(axis=0) / values.std(axis=0, ddof=1)
    parts = tuple((ids, part - center) for ids, part in bank.parts)
    return bank._replace(parts=parts, convention={**bank.convention, "zero": "the reference's mean"})


def layouts(side: Side, shared: Shared) -> Numbers:
    mine, train = (
        area_moments(e.layouts, e.ids, len(shared.names), "shares") for e in (side.pairs.examples, shared.train)
    )
    return {"fsd": fsd(mine, train)}


def captions(side: Side, shared: Shared) -> Numbers:
    numbers: dict[str, Measure] = {}
    captions, reader = side.pairs.examples.captions, shared.reader
    if reader.scores is not None:
        for name, value in reader.scores(side.pairs.reading, captions).items():
            if value.examples:
                numbers[name] = _measure(value, {"reader": reader.name})
    if reader.classes.any():
        sums = asked_sums(side.pairs, shared)
        means = semantic_scores(sums)._asdict()
        paper = semantic_scores(asked_sums(side.pairs, shared, 1)).recall
        numbers |= {f"class_{name}": value for name, value in means.items()} | {"class_recall_any": paper}
    return {name: value for name, value in numbers.items() if not np.isnan(value.value)}


def asked_sums(seen: Seen, shared: Shared, min_area: int = 0) -> Sums:
    """The sums of classes asked for in captions and seen in images, of those that captions always name.

    A class is seen from `min_area` pixels on; by default from 4, or 0.1 % of the image if that is more.
    """
    reader, size = shared.reader, int(np.prod(seen.labels.shape[1:]))
    wanted = reader.asked(seen.examples.captions) & reader.classes
    counted = np.append(reader.classes, False)  # VOID is the last
    labels = np.where(counted[seen.labels], seen.labels, VOID)
    area = min_area or max(4, round(size / 1000))
    return semantic_sums(wanted, labels, seen.examples.ids, source="captions", segmenter=reader.name, min_area=area)


def diversity(side: Side, shared: Shared) -> Numbers:
    count = len(side.again.layout)
    pixels = PixelFeatures()
    settings = {**convention_of(pixels, side.again.image[:, 0]), "distance": "root mean square, values in 0 to 1"}
    flat = np.stack([pixels(one) for one in side.again.image])
    return {
        "layouts": mean_distance(layout_diversity_sums(side.again.layout, np.arange(count), len(shared.names))),
        "images": mean_distance(diversity_sums(flat, np.arange(count), settings)),
    }


def memorisation(side: Side, shared: Shared) -> Numbers:
    numbers = {}
    for name in ("images", "layouts"):
        samples, train, rest = (_bank(e, name) for e in (side.pairs.examples, shared.train, shared.rest))
        seen = audit(samples, train, rest, disagreement if name == "layouts" else euclidean, LEVEL)
        numbers |= {f"{name}_copied": seen.copied, f"{name}_ratio": seen.ratio}
    return numbers


def _bank(examples: Examples, side: str) -> Bank:
    if side == "layouts":
        convention = {"space": "layouts", "void": "labelled in both, at least half of the pixels"}
        return make_bank(examples.ids, examples.layouts, convention)
    pixels = PixelFeatures()
    return make_bank(examples.ids, pixels(examples.images), convention_of(pixels, examples.images))


def clip(side: Side, shared: Shared) -> Numbers:
    assert shared.clip is not None, "its metric says that it is missing"
    e = side.pairs.examples
    return {"cosine": clip_score(clip_sums(e.images, e.captions, e.ids, *shared.clip))}


def likelihood(side: Side, shared: Shared) -> Numbers:
    bounds = side.likelihood.bounds
    start = f"the last step begins at log-SNR {bounds.log_snr_max:g}" if bounds.grid is None else f"{bounds.grid} steps"
    convention = {"bound": f"upper, on -log p; {start}", "interval": "95 %, Student's t, standard errors over examples"}
    examples = side.likelihood.examples

    def measure(estimate: Estimate, units: str) -> Measure:
        # The error of one example is over its draws, and says nothing of other examples.
        low, high = t_interval(estimate.value, estimate.error**2 if examples > 1 else np.nan, examples)
        return Measure(float(estimate.value), low, high, {"examples": examples}, {**convention, "units": units})

    units = {"image": "bits per image value", "layout": "bits per labelled pixel"}
    numbers = {}
    for leg, sides in bounds.legs.items():
        for name, summary in sides._asdict().items():
            if summary is not None:
                numbers[f"{leg}_{name}"] = measure(summary.total, units[name])
    numbers |= {f"path_{name}": measure(e, "bits per example") for name, e in bounds.paths.items()}
    return numbers | {f"gap_{name}": measure(e, "bits per example") for name, e in bounds.gaps.items()}


def _measure(value: Score, convention: Mapping[str, Any]) -> Measure:
    convention = {**convention, "interval": f"{RATIO_INTERVAL} examples"}
    return Measure(value.value, value.low, value.high, {"examples": value.examples}, convention)
