"""Semantic recall on cases made by hand; agreement, areas and frequencies against brute-force counts."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.evaluation.agreement import NamedSegmenter, accuracy, agreement_sums, confusion_sums, ious, miou
from gcdiff.evaluation.layouts import area_moments, frequencies, frequency_sums, fsd
from gcdiff.evaluation.semantic import areas, class_scores, present, semantic_scores, semantic_sums
from gcdiff.types import VOID

NAMES = ("road", "traffic_light", "light", "bus", "person")
RNG = np.random.default_rng(0)


def layout(*pixels):
    """A layout 4 x 4 of the class 0 with this many pixels of each of the others, and void behind."""
    flat = np.full(16, VOID)
    classes = np.repeat(np.arange(len(pixels)), pixels)
    flat[: len(classes)] = classes
    return flat.reshape(4, 4)


def sums(wanted, seen, first=0, **options):
    ids = first + np.arange(len(wanted))
    return semantic_sums(np.array(wanted, bool), np.stack(seen), ids, source="captions", segmenter="hand", **options)


def test_a_class_is_there_from_the_minimum_area_on():
    seen = np.stack([layout(8, 3, 0, 4, 1), np.full((4, 4), VOID)])
    np.testing.assert_array_equal(areas(seen, 5), [[8, 3, 0, 4, 1], [0] * 5])
    np.testing.assert_array_equal(present(seen, 5)[0], [True, True, False, True, True])
    np.testing.assert_array_equal(present(seen, 5, min_area=4)[0], [True, False, False, True, False])  # 4 is enough
    assert not present(seen, 5)[1].any()  # void is no class
    with pytest.raises(ValueError, match="label 5 is no class"):
        present(np.full((1, 2, 2), 5), 5)
    with pytest.raises(ValueError, match="min_area is 0"):
        present(seen, 5, min_area=0)


def test_scores_worked_out_by_hand():
    """Asked 0 1 3, shown 0 3 4: recall 2/3, precision 2/3. Asked 1, shown 0 1: recall 1, precision 1/2. Asked nothing:
    no recall. Nothing shown: no precision."""
    wanted = [[1, 1, 0, 1, 0], [0, 1, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]
    seen = [layout(9, 0, 0, 2, 1), layout(2, 1, 0, 0, 0), layout(5, 0, 0, 0, 0), layout(0, 0, 0, 0, 0)]
    total = sums(wanted, seen)
    scores = semantic_scores(total)
    assert scores.recall.value == pytest.approx((2 / 3 + 1 + 0) / 3) and scores.recall.counts["counted"] == 3
    assert scores.precision.value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3) and scores.precision.counts["counted"] == 3
    assert scores.f1.value == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert scores.recall.convention["min_area"] == "1 pixels"
    by_class = class_scores(total, NAMES)
    assert by_class["road"].recall.value == 1 / 2 and by_class["road"].precision.value == 1 / 3
    assert by_class["traffic_light"].f1.value == pytest.approx(2 / 3)
    assert by_class["person"].precision.value == 0 and np.isnan(by_class["person"].recall.value)
    assert by_class["bus"].recall.counts["asked for"] == 1
    larger = semantic_scores(sums(wanted, seen, min_area=2))
    assert larger.recall.value == pytest.approx((2 / 3 + 0 + 0) / 3) and larger.precision.value == pytest.approx(1 / 3)


def test_painting_every_class_wins_recall_alone():
    wanted = RNG.random((50, 5)) < 0.4
    wanted[:, 0] = True
    scores = semantic_scores(sums(wanted, [layout(12, 1, 1, 1, 1)] * 50))
    assert scores.recall.value == 1 and scores.precision.value == pytest.approx(wanted.mean())
    assert semantic_scores(sums(wanted, [layout(12, 1, 1, 1, 1)] * 50, min_area=2)).precision.value == 1


def test_shares_add_up():
    wanted, seen = RNG.random((40, 5)) < 0.5, RNG.integers(-1, 5, (40, 4, 4))
    parts = sums(wanted[:9], seen[:9]) + sums(wanted[9:], seen[9:], first=9)
    whole = sums(wanted, seen)
    for one, other in zip(semantic_scores(parts), semantic_scores(whole), strict=True):
        np.testing.assert_allclose(one[:3], other[:3], rtol=1e-12)
    with pytest.raises(ValueError, match="min_area is '1 pixels' on one side and '2 pixels'"):
        _ = parts + sums(wanted, seen, first=40, min_area=2)


def test_miou_against_a_brute_force_count():
    labels, seen = RNG.integers(-1, 4, (30, 5, 6)), RNG.integers(-1, 5, (30, 5, 6))
    seen = np.where(RNG.random(labels.shape) < 0.5, labels, seen)
    images = RNG.integers(0, 256, (30, 5, 6, 3), np.uint8)
    segmenter = NamedSegmenter(
        "brute", lambda some: seen[[np.flatnonzero((images == i).all((1, 2, 3)))[0] for i in some]]
    )
    wanted, labelled = [], labels != VOID
    for k in range(4):
        hits = sum(a == b == k for a, b in zip(labels[labelled], seen[labelled], strict=True))
        either = sum(k in pair for pair in zip(labels[labelled], seen[labelled], strict=True))
        wanted.append(hits / either)
    ids = np.arange(30)
    parts = [agreement_sums(images[i::2], labels[i::2], ids[i::2], segmenter, 4) for i in (1, 0)]
    measured = miou(parts[0] + parts[1])
    assert measured.value == pytest.approx(np.mean(wanted), rel=1e-12)
    assert measured == miou(agreement_sums(images, labels, ids, segmenter, 4))  # bit for bit: counts are whole
    assert measured.convention["segmenter"] == "brute" and measured.convention["resolution"] == "5x6"
    per_class = ious(parts[0] + parts[1], ("a", "b", "c", "d"))
    np.testing.assert_allclose([m.value for m in per_class.values()], wanted)
    assert accuracy(parts[0] + parts[1]).value == pytest.approx((labels[labelled] == seen[labelled]).mean())
    with pytest.raises(ValueError, match=r"predictions have shape \(30, 5, 6\)"):
        confusion_sums(labels[:, :4], seen, ids, 4)


def test_areas_of_layouts():
    """Shares do not know the resolution and pixels grow with it: d^2 with the square of the number of pixels."""
    real, other = RNG.integers(0, 3, (40, 4, 4)), RNG.integers(-1, 3, (40, 4, 4))
    ids = np.arange(40)

    def distance(unit, factor):
        large = [np.kron(z, np.ones((factor, factor), int)) for z in (other, real)]
        return fsd(*(area_moments(z, ids, 3, unit) for z in large))

    assert distance("pixels", 3).value == pytest.approx(81 * distance("pixels", 1).value)
    assert distance("shares", 3).value == pytest.approx(distance("shares", 1).value)
    assert distance("pixels", 1).convention["area"] == "pixels"
    same = area_moments(real, ids, 3)
    assert fsd(same, same).value == pytest.approx(0, abs=1e-9)
    half_void = np.where(np.arange(4) < 2, real[:, :, [0, 1, 0, 1]], VOID)
    whole = area_moments(real[:, :, [0, 1, 0, 1]], ids, 3, "shares")
    assert fsd(area_moments(half_void, ids, 3, "shares"), whole).value == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="resolution is '4x4' on one side and '12x12' on the other"):
        fsd(same, area_moments(np.kron(real, np.ones((3, 3), int)), ids, 3))
    with pytest.raises(ValueError, match="unit is 'percent'"):
        area_moments(real, ids, 3, "percent")


def test_frequencies_of_classes():
    layouts = np.stack([layout(8, 2, 0, 0, 0), layout(2, 0, 4, 0, 0)])
    of_class = frequencies(frequency_sums(layouts, np.arange(2), 5), NAMES)
    assert of_class["road"].pixels.value == 10 / 16 and of_class["road"].images.value == 1
    assert of_class["light"].pixels.value == 4 / 16 and of_class["light"].images.value == 0.5
    assert of_class["bus"].pixels.value == of_class["bus"].images.value == 0
