"""Distances, diversity, and copies of training examples that are found."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from gcdiff.evaluation import distances
from gcdiff.evaluation.bank import make_bank
from gcdiff.evaluation.distances import (
    Nearest,
    disagreement,
    euclidean,
    iou_distance,
    k_smallest,
    nearest,
    root_mean_square,
)
from gcdiff.evaluation.diversity import diversity, diversity_sums, layout_diversity_sums
from gcdiff.evaluation.memorisation import Neighbours, audit, distance_ratio, median, neighbours, p_values
from gcdiff.types import VOID

RNG = np.random.default_rng(0)


def bank(x):
    return make_bank(np.arange(len(x)), x, {"extractor": "toy"})


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(distances, "ELEMENTS", 32)


def test_nearest_neighbours_against_brute_force(small_blocks):
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(50, 4))
    ids = RNG.permutation(50) + 100
    away = np.linalg.norm(x[:, None] - y, axis=-1)
    np.testing.assert_allclose(euclidean(x, y), away, rtol=1e-9)
    closest = nearest(x, y, ids)
    np.testing.assert_allclose(closest.distances, away.min(1), rtol=1e-9)
    np.testing.assert_array_equal(closest.ids, ids[away.argmin(1)])
    np.testing.assert_allclose(k_smallest(x, y, 3), np.sort(away, 1)[:, :3], rtol=1e-9)
    parts = nearest(x, y[:20], ids[:20]) + nearest(x, y[20:], ids[20:])
    np.testing.assert_array_equal(parts.ids, closest.ids)
    own = nearest(y, y, ids, own=ids)
    assert (own.distances > 0).all() and (own.ids != ids).all()
    none = nearest(x, y[:0], ids[:0]) + nearest(x[:1], x[:1], np.array([5]), own=np.array([5]))
    assert (none.ids == -1).all() and np.isinf(none.distances).all() and len(nearest(x[:0], y, ids).ids) == 0


def test_bytes_are_compared_exactly(small_blocks):
    """The brightest images there are, and neighbours that one value of one pixel tells apart."""
    x = np.full((6, 3, 4, 5), 255, np.uint8)
    x.reshape(6, -1)[:, 0] -= np.arange(6, dtype=np.uint8)
    gaps = np.arange(6) - np.arange(6)[:, None]
    np.testing.assert_array_equal(root_mean_square(x, x), np.sqrt(gaps**2 / 60))
    np.testing.assert_array_equal(euclidean(x, x), abs(gaps))


def test_equal_examples_are_at_zero_and_the_lowest_id_counts(small_blocks):
    x = RNG.normal(1e4, 1, (4, 3))
    y = np.tile(x, (3, 1))
    assert (np.diagonal(euclidean(x, x)) == 0).all() and (euclidean(x, x)[~np.eye(4, dtype=bool)] > 0).all()
    np.testing.assert_array_equal(nearest(x, y, np.arange(12)[::-1]).ids, [3, 2, 1, 0])
    np.testing.assert_allclose(euclidean(x, x + [1e-3, 0, 0]).diagonal(), 1e-3, rtol=1e-6)


def test_distances_of_layouts_against_brute_force():
    a, b = RNG.integers(-1, 3, (6, 3, 4)), RNG.integers(-1, 3, (5, 3, 4))
    a[0] = VOID
    for i in range(6):
        for j in range(5):
            labelled = (a[i] != VOID) & (b[j] != VOID)
            x, y = a[i][labelled], b[j][labelled]
            wrong, iou = np.inf, 0.0
            if labelled.any():
                wrong = (x != y).mean() if labelled.mean() >= 0.5 else np.inf
                classes = [k for k in range(3) if k in x or k in y]
                iou = np.mean([((x == k) & (y == k)).sum() / ((x == k) | (y == k)).sum() for k in classes])
            assert disagreement(a, b)[i, j] == wrong
            assert iou_distance(a, b, 3)[i, j] == pytest.approx(1 - iou)


def test_diversity_is_the_mean_distance_of_pairs():
    samples = RNG.normal(size=(7, 4, 3))
    pairs = [np.linalg.norm(c[i] - c[j]) for c in samples for i in range(4) for j in range(i)]
    ids, convention = np.arange(7), {"extractor": "toy"}
    parts = diversity_sums(samples[:3], ids[:3], convention) + diversity_sums(samples[3:], ids[3:], convention)
    measured = diversity(parts)
    assert measured.value == pytest.approx(np.mean(pairs), rel=1e-12)
    assert measured.counts == {"conditions": 7} and measured.convention["samples of a condition"] == 4
    assert diversity(diversity_sums(samples[:, :1].repeat(3, 1), ids, convention)).value == 0
    layouts = np.zeros((2, 2, 2, 2), int)
    layouts[1, 1] = [[0, 0], [0, 1]]  # IoU 3/4 and 0
    assert diversity(layout_diversity_sums(layouts, np.arange(2), 3)).value == pytest.approx((0 + 1 - 3 / 8) / 2)
    with pytest.raises(ValueError, match="1 sample of each condition"):
        diversity_sums(samples[:, :1], ids, convention)


def test_independent_samples_are_not_called_copies():
    """Over many worlds: `copied` at its level on average, `nearer` at its expectation, the ratio as the held-out's."""
    copied, nearer, ratios = [], [], []
    for i in range(60):
        rng = np.random.default_rng(i)
        numbers = audit(*(bank(rng.normal(size=(n, 2))) for n in (60, 90, 39)), level=0.05)
        copied.append(numbers.copied.value)
        nearer.append(numbers.nearer.value - numbers.expected)
        ratios.append(np.log(numbers.ratio.value / numbers.ratio_heldout.value))
    assert numbers.expected == 90 / 129 and numbers.level == 0.05
    for values, expected in ((copied, 0.05), (nearer, 0.0), (ratios, 0.0)):
        assert abs(np.mean(values) - expected) < 3.5 * np.std(values) / np.sqrt(60)


def test_copied_training_examples_are_found():
    train, heldout = RNG.normal(size=(300, 6)), RNG.normal(size=(120, 6))
    samples = RNG.normal(size=(100, 6))
    samples[:30] = train[:30] + RNG.normal(0, 0.01, (30, 6))
    samples[99] = train[7]
    numbers = audit(*map(bank, (samples, train, heldout)))
    assert 0.31 <= numbers.copied.value <= 0.35 and numbers.copied.low > numbers.level
    assert numbers.nearer.value > numbers.expected and numbers.ratio.value < numbers.ratio_heldout.value
    assert numbers.copied.counts == {"samples": 100, "train": 300, "heldout": 120}
    held = bank(heldout)
    near = [neighbours(x, bank(train), held) for x in (bank(samples), held)]
    p = p_values(*near)
    assert (p[:30] == 1 / 121).all() and p[99] == 1 / 121 and p[30:99].mean() > 0.3
    np.testing.assert_array_equal(near[0].train.ids[:30], np.arange(30))
    assert near[0].train.distances[99] == 0
    whole = audit(*map(bank, (train, train, heldout)))
    assert whole.copied.value == whole.nearer.value == 1 and whole.ratio.value == 0


def test_held_out_examples_that_are_as_near_count_against_a_copy():
    def near(train, heldout):
        ids = np.zeros(len(train), int)
        return Neighbours(ids, *(Nearest(np.array(values, float), ids) for values in (train, heldout)))

    values = p_values(near([0, 1, 3, 0], [2, 2, 4, 0]), near([2, 1, 1, 3], [1, 2, 2, 6]))
    np.testing.assert_allclose(values, [1 / 5, 4 / 5, 4 / 5, 4 / 5])


def test_the_ratio_where_nothing_can_be_compared_with():
    far = np.inf
    np.testing.assert_array_equal(
        distance_ratio(np.array([1.0, 0, 0, 2, far, 0, 3]), np.array([2.0, 0, 5, 0, far, far, far])),
        [0.5, 1, 0, far, far, 0, far],
    )


def test_a_plain_sample_is_near_to_everything_and_no_copy():
    """Samples around the mean of all: nearer to training examples than any held-out one, and to these as well."""
    copied = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sets = 0.3 * rng.normal(size=(100, 30)), rng.normal(size=(300, 30)), rng.normal(size=(300, 30))
        copied.append(audit(*map(bank, sets)).copied.value)
    assert np.mean(copied) <= 0.05


def test_copied_layouts_are_found_and_images_apart():
    train, heldout = RNG.integers(0, 4, (80, 4, 6)), RNG.integers(0, 4, (110, 4, 6))
    samples = RNG.integers(0, 4, (40, 4, 6))
    samples[:10] = train[:10]
    samples[:10, 0, 0] = VOID
    numbers = audit(*map(bank, (samples, train, heldout)), distance=disagreement)
    assert numbers.copied.value == pytest.approx(10 / 40) and numbers.copied.convention["distance"] == "disagreement"


@pytest.mark.parametrize("beside", ["train", "heldout"])
def test_a_layout_with_one_labelled_pixel_hides_no_copy(beside):
    train, heldout = RNG.integers(0, 4, (80, 4, 6)), RNG.integers(0, 4, (110, 4, 6))
    speck = np.full((4, 4, 6), VOID)
    speck[:, 2, 3] = np.arange(4)  # every layout agrees with one of these
    sets = {"train": train, "heldout": heldout}
    sets[beside] = np.concatenate([sets[beside], speck])
    copies = train[:10].copy()
    copies[:, 0, 0] = (copies[:, 0, 0] + 1) % 4
    numbers = audit(*map(bank, (copies, sets["train"], sets["heldout"])), distance=disagreement, level=0.05)
    assert numbers.copied.value == 1


def test_any_distance_has_a_name():
    layouts = RNG.integers(0, 3, (25, 2, 3))
    numbers = audit(*[bank(layouts)] * 3, distance=partial(iou_distance, num_classes=3), level=0.1)
    assert numbers.ratio.convention["distance"] == "iou_distance(num_classes=3)"


def test_the_interval_of_the_median_holds_it_for_any_number():
    """Between the order statistics i < j (from 0) lies the median with the chance of i < B(n, 1/2) <= j."""
    for n in range(6, 80):
        _, low, high = median(np.arange(float(n)))
        assert binom.cdf(high, n, 0.5) - binom.cdf(low, n, 0.5) >= 0.95
        assert binom.cdf(high - 1, n, 0.5) - binom.cdf(low + 1, n, 0.5) < 0.95
    for n in range(6):
        assert np.isnan(median(np.arange(float(n)))[1:]).all()
    assert median(np.array([3.0, 1.0, 2.0]))[0] == 2 and np.isnan(median(np.zeros(0))[0])


def test_the_median_and_its_interval():
    assert median(np.arange(101.0))[0] == 50
    covered = []
    for i in range(300):
        _, low, high = median(np.random.default_rng(i).exponential(size=80))
        covered.append(low < np.log(2) < high)
    assert 0.93 <= np.mean(covered) <= 0.99


def test_bad_input():
    x = RNG.normal(size=(20, 3))
    with pytest.raises(ValueError, match="level is 0.01 for 20 held-out examples, expected 1 / 21 or more"):
        audit(bank(x), bank(x), bank(x + 1))
    with pytest.raises(ValueError, match="extractor is 'toy' on one side and None on the other"):
        audit(bank(x), make_bank(np.arange(20), x, {}), bank(x))
