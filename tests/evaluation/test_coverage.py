"""How often every interval that is called 95 % holds the truth, in populations whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gcdiff.evaluation.agreement import accuracy, ious, miou
from gcdiff.evaluation.bank import make_bank
from gcdiff.evaluation.calibration import calibration, reliability_sums
from gcdiff.evaluation.kernel import kernel_distance
from gcdiff.evaluation.layouts import frequencies, frequency_sums
from gcdiff.evaluation.manifold import manifold
from gcdiff.evaluation.measure import Measure, grouped_sums, ratio, share
from gcdiff.evaluation.moments import frechet, grouped_moments
from gcdiff.evaluation.numbers import likelihood
from gcdiff.evaluation.page import page
from gcdiff.evaluation.precision_recall import derangement, detection_counts, f1, precision, recall
from gcdiff.evaluation.ratios import RATE
from gcdiff.evaluation.results import BRACKETS, Findings, Row, shown, table
from gcdiff.evaluation.segmentation import Score, mean_iou, pixel_accuracy, score
from gcdiff.evaluation.semantic import class_scores, semantic_scores, semantic_sums
from gcdiff.evaluation.sides import Bounded, Side
from gcdiff.likelihood.report import Bound, Parts, report
from gcdiff.types import LabelSpec, Pair

Draw = Callable[[np.random.Generator, int], Mapping[str, Score | Measure]]
"""Draws n examples of a population, and gives the measured numbers by name."""

AREA, ACCURACY = np.array([60, 40, 30, 20, 15, 10, 8, 8, 8, 8]), np.linspace(0.97, 0.3, 10)
PRESENCE = np.array([1, 0.95, 0.9, 0.7, 0.5, 0.3, 0.1, 0.04, 0.02, 0.01])
"""Pixels of each class where it is there, the mean share of right ones, and how many examples hold it."""
CLASSES = len(AREA)


def ids_of(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 2**40) + np.arange(n)


def confusions(rng: np.random.Generator, n: int) -> np.ndarray:
    """Confusions (n, K, K + 1) of classes from common to rare, of which half of the errors go to class 0."""
    pixels = (rng.random((n, CLASSES)) < PRESENCE) * rng.poisson(AREA, (n, CLASSES))
    hits = rng.binomial(pixels, rng.beta(6 * ACCURACY, 6 * (1 - ACCURACY), (n, CLASSES)))
    to_first = rng.binomial(pixels - hits, 0.5) * (np.arange(CLASSES) > 0)
    matrices = np.zeros((n, CLASSES, CLASSES + 1), int)
    matrices[:, range(CLASSES), range(CLASSES)] = hits
    matrices[:, :, 0] += to_first
    matrices[:, :, -1] = pixels - hits - to_first
    return matrices


def segmentations(rng: np.random.Generator, n: int) -> dict[str, Score | Measure]:
    matrices = confusions(rng, n)
    sums = grouped_sums(ids_of(rng, n), matrices, {})
    of_class = ious(sums, [str(k) for k in range(CLASSES)])
    return {
        "miou of scores": score(matrices, mean_iou),
        "accuracy of scores": score(matrices, pixel_accuracy),
        "miou": miou(sums),
        "accuracy": accuracy(sums),
        **{f"iou of a class in {PRESENCE[k]:.0%}": of_class[str(k)] for k in (1, 4, 6, 8)},
    }


def segmentation_truths() -> dict[str, float]:
    pixels, hits = PRESENCE * AREA, PRESENCE * AREA * ACCURACY
    unions = pixels.copy()
    unions[0] += ((pixels - hits)[1:] / 2).sum()
    of_class, right = hits / unions, hits.sum() / pixels.sum()
    both = {"miou": of_class.mean(), "accuracy": right}
    rare = {f"iou of a class in {PRESENCE[k]:.0%}": of_class[k] for k in (1, 4, 6, 8)}
    return {**both, **{f"{name} of scores": value for name, value in both.items()}, **rare}


def captions(right: float) -> Draw:
    """Scores of images of which a fifth is bad, against captions that name some of 6 classes."""

    def draw(rng: np.random.Generator, n: int) -> dict[str, Score | Measure]:
        wanted = rng.random((n, 6)) < [0.9, 0.5, 0.4, 0.3, 0.2, 0.05]
        chance = np.where(rng.random((n, 1)) < 0.2, 0.6 * right, right)
        shown = np.where(rng.random((n, 6)) < chance, wanted, ~wanted)
        counts = detection_counts(wanted, shown)
        strange = detection_counts(wanted[derangement(n, int(rng.integers(1000)))], shown)
        seen = np.where(shown, np.arange(6), -1)[:, None]
        sums = semantic_sums(wanted, seen, ids_of(rng, n), source="", segmenter="")
        means, rare = semantic_scores(sums), class_scores(sums, list("abcdef"))["f"]
        shares = frequencies(frequency_sums(seen, ids_of(rng, n), 6), list("abcdef"))["f"]
        return {
            "rate": score(np.stack([shown[:, 0], np.ones(n)], -1), RATE),
            "f1": score(counts, f1),
            "precision": score(counts, precision),
            "recall": score(counts, recall),
            "f1, shuffled": score(strange, f1),
            "recall of a rare class": score(detection_counts(wanted[:, 5:], shown[:, 5:]), recall),
            **{f"semantic {name}": value for name, value in means._asdict().items()},
            **{f"semantic {name} of a rare class": value for name, value in rare._asdict().items()},
            **{f"frequency in {name}": value for name, value in shares._asdict().items()},
        }

    return draw


def features(size: int) -> Draw:
    reference = np.random.default_rng(7).normal(size=(300, size))
    real = grouped_moments(np.arange(300), reference, {})

    def draw(rng: np.random.Generator, n: int) -> dict[str, Score | Measure]:
        x, y = rng.normal(0.3, 1.2, (n, size)), rng.normal(size=(64, size))
        banks = [make_bank(ids_of(rng, len(values)), values, {}) for values in (x, y)]
        return {
            "frechet": frechet(grouped_moments(ids_of(rng, n), x, {}), real),
            "kid": kernel_distance(*banks),
            "mean": grouped_sums(ids_of(rng, n), np.stack([x[:, 0], np.ones(n)], -1), {}).measure(ratio),
        }

    return draw


def probabilities(sharpness: float) -> Draw:
    """Calibrated probabilities of 4 classes, which vary with the image and the pixel, to the power of `sharpness`."""

    def draw(rng: np.random.Generator, n: int) -> dict[str, Score | Measure]:
        logits = rng.normal(size=(n, 1, 1, 4)) + 0.8 * rng.normal(size=(n, 40, 1, 4))
        true, said = np.exp(logits), np.exp(sharpness * logits)
        labels = (rng.random((n, 40, 1, 1)) > (true / true.sum(-1, keepdims=True)).cumsum(-1)[..., :3]).sum(-1)
        measured = calibration(reliability_sums(said / said.sum(-1, keepdims=True), labels, ids_of(rng, n)))
        assert not measured.top_label.is_95
        return {"calibration error": measured.expected, "nats": measured.negative_log_likelihood}

    return draw


def bounds(rng: np.random.Generator, n: int) -> dict[str, Score | Measure]:
    """Bounds of examples that have 6 bits of an image's value each on average, and 60 of 100 pixels labelled."""
    sizes, nothing = rng.integers(20, 101, n).astype(float), np.zeros((n, 1))
    bits = rng.gamma(4, 1.5, (n, 1))
    sides = [Parts(nothing, np.log(2) * bits * counts[:, None], nothing) for counts in (np.full(n, 12.0), sizes)]
    made = report({"joint": Bound(Pair(*sides), Pair(np.full(n, 12.0), sizes))}, 8.0)
    measured = likelihood(Side(likelihood=Bounded(made, n)), None)  # type: ignore[arg-type]
    return {"image": measured["joint_image"], "layout": measured["joint_layout"], "path": measured["path_diagonal"]}


def uncovered(
    draw: Draw, truths: Mapping[str, float] | None, n: int, repetitions: int, least: float
) -> dict[str, tuple[float, int]]:
    """The intervals that hold their truth in a smaller share than `least`, and of how many repetitions.

    Truths that are None are the means over the repetitions: of estimates without bias, or of what is said to be of this
    number of examples alone. Repetitions without an interval do not count.
    """
    drawn = [draw(np.random.default_rng([n, i]), n) for i in range(repetitions)]
    missed = {}
    for name in drawn[0]:
        measured = [one[name] for one in drawn]
        assert all(m.is_95 for m in measured if isinstance(m, Measure)), f"{name} is not called 95 %"
        truth = np.nanmean([m.value for m in measured]) if truths is None else truths[name]
        held = [m.low <= truth <= m.high for m in measured if not np.isnan(m.low)]
        enough = len(held) >= min(40, repetitions)
        if enough and np.mean(held) < least:
            missed[name] = (round(float(np.mean(held)), 3), len(held))
    return missed


def truth_of(draw: Draw, n: int = 8_000) -> dict[str, float]:
    """The numbers of so many examples that their own chance does not matter."""
    return {name: measured.value for name, measured in draw(np.random.default_rng(1), n).items()}


POPULATIONS = {
    "segmentations": (segmentations, segmentation_truths, (2, 5, 12, 30, 100, 300)),
    "captions": (captions(0.9), None, (3, 8, 24, 64, 200)),
    "captions, nearly all right": (captions(0.99), None, (3, 8, 24, 64, 200)),
    "features": (features(6), dict, (5, 24, 64, 200)),
    "many features": (features(24), dict, (12, 64, 200)),
    "calibrated": (probabilities(1.0), None, (4, 16, 64)),
    "too sure": (probabilities(1.7), None, (4, 16, 64)),
    "bounds": (bounds, None, (2, 3, 5, 10, 32)),
}
"""Of each population: its draw, its truths (None: of many examples; dict: the mean), and numbers of examples."""


def misses(name: str, repetitions: int, least: float, some: slice) -> dict:
    draw, known, numbers = POPULATIONS[name]
    truths = truth_of(draw) if known is None else None if known is dict else known()
    rows = {n: uncovered(draw, truths, n, repetitions, least) for n in numbers[some]}
    return {n: missed for n, missed in rows.items() if missed}


@pytest.mark.parametrize("name", ["segmentations", "captions, nearly all right", "features", "calibrated", "bounds"])
def test_intervals_hold_the_truth_with_few_examples(name):
    assert misses(name, 80, 0.85, slice(1, 2)) == {}


def test_what_does_not_cover_is_not_called_95():
    """Precision and recall of the manifold, with the chance of both sides, where they overlap little."""
    drawn = []
    for i in range(60):
        rng = np.random.default_rng(i)
        x, y = rng.normal(1.5, 1, (32, 4)), rng.normal(size=(64, 4))
        drawn.append(manifold(make_bank(ids_of(rng, 32), x, {}), make_bank(ids_of(rng, 64), y, {})))
    assert not any(measured.is_95 for one in drawn for measured in one)
    recalls = [one.recall for one in drawn]
    truth = np.mean([m.value for m in recalls])
    assert np.mean([m.low <= truth <= m.high for m in recalls]) < 0.8
    row = Row("fidelity", "recall", "recall", "higher", recalls[0], None, "")
    assert f"({shown(recalls[0].low)} - {shown(recalls[0].high)})" in table([row]) and BRACKETS in table([row])
    named = row._replace(model=share(np.ones(5), {}, {}))
    assert "(" not in table([named]).splitlines()[-1] and BRACKETS not in table([named])
    assert BRACKETS in page(Findings((row,), {}, (), None, None, (), (), {}), LabelSpec(("a",), ((0, 0, 0),)))


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_the_truth_in_95_of_100_cases(name):
    """From 2 examples to some hundred, up to the chance of the repetitions and what few skewed examples cost."""
    assert misses(name, 2000 if name == "bounds" else 400, 0.91, slice(None)) == {}
