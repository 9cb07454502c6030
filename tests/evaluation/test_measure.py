"""Sums over shares, their intervals, and the sample that a bank keeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, t

from gcdiff.evaluation.bank import make_bank, standardised
from gcdiff.evaluation.measure import (
    GROUPS,
    group_of,
    grouped_sums,
    jackknife_interval,
    jackknife_variance,
    ratio,
    share,
    t_interval,
)
from gcdiff.evaluation.ratios import share_interval

RNG = np.random.default_rng(0)


def rate(ids, hits):
    return grouped_sums(ids, np.stack([hits, np.ones(len(hits), int)], -1), {}).measure(ratio)


def test_shares_add_up_to_the_whole_bit_for_bit():
    ids, values = RNG.permutation(300), RNG.integers(0, 1000, (300, 4, 2))
    whole = grouped_sums(ids, values, {"a": 1})
    shares = [grouped_sums(ids[i::3], values[i::3], {"a": 1}) for i in (2, 0, 1)]
    merged = shares[0] + shares[1] + shares[2]
    for part, wanted in zip(merged, whole, strict=True):
        np.testing.assert_array_equal(part, wanted)
    np.testing.assert_array_equal(whole.total, values.sum(0))
    assert merged.measure(lambda t: t[0, 0] / t[1, 1]) == whole.measure(lambda t: t[0, 0] / t[1, 1])
    with pytest.raises(ValueError, match="a is 1 on one side and 2 on the other"):
        _ = whole + grouped_sums(ids + 300, values, {"a": 2})


def test_the_jackknife_of_a_mean_is_its_variance():
    """With a group for each example, equation (2) is the sample variance over n."""
    x = RNG.normal(size=40)
    without = (x.sum() - x) / 39
    assert jackknife_variance(x.mean(), without, np.ones(40, int)) == pytest.approx(x.var(ddof=1) / 40)
    assert np.isnan(jackknife_variance(1.0, np.ones(1), np.ones(1)))
    assert np.isnan(jackknife_interval(1.0, np.ones(5), np.ones(5))).all()  # nothing varies: nothing is known


def test_the_jackknife_of_a_mean_over_groups_of_unequal_size():
    """The pseudo-values are then the means of the groups, and each weighs m / (n - m)."""
    groups = [RNG.normal(size=m) for m in (2, 3, 11, 4)]
    x, sizes = np.concatenate(groups), np.array([2, 3, 11, 4])
    without = np.array([(x.sum() - g.sum()) / (20 - len(g)) for g in groups])
    wanted = np.mean([(g.mean() - x.mean()) ** 2 * len(g) / (20 - len(g)) for g in groups])
    assert jackknife_variance(x.mean(), without, sizes) == pytest.approx(wanted)


@pytest.mark.parametrize("groups", [2, 5, 20])
def test_an_interval_is_as_wide_as_its_number_of_groups_asks(groups):
    low, high = t_interval(3.0, 4.0, groups)
    assert [low, high] == pytest.approx(t(groups - 1, 3.0, 2.0).ppf([0.025, 0.975]))


@pytest.mark.parametrize("examples", [30, 400])
def test_intervals_cover_as_promised(examples):
    """Of a ratio of two means, with groups of unequal size, and of few examples each."""
    covered = []
    for i in range(400):
        pairs = np.random.default_rng(i).gamma(4.0, 1.0, (examples, 2))
        measured = grouped_sums(np.arange(examples) + 1000 * i, pairs, {}).measure(ratio)
        covered.append(measured.low < 1 < measured.high)
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("examples", [1, 3, 10, 24, 128])
def test_intervals_of_shares_cover_everywhere(examples):
    """Exactly, by the binomial law, for shares from 0 to 1."""
    hits, p = np.arange(examples + 1), np.concatenate([np.linspace(0, 1, 201), [1e-4, 0.002, 0.9985]])[:, None]
    low, high = share_interval(hits / examples, examples)
    covered = (binom.pmf(hits, examples, p) * ((low <= p) & (p <= high))).sum(1)
    assert covered.min() >= 0.95
    assert (high > low).all() and low[0] == 0 and high[-1] == 1
    np.testing.assert_allclose(low[::-1], 1 - high, atol=1e-12)  # of misses as of hits


def test_the_ends_of_a_share_are_where_it_is_improbable():
    """So many hits, or more, have a probability of 2.5 % at the low end, and so many, or fewer, at the high end."""
    measured = share(np.repeat([1, 0], [21, 59]), {"examples": 80}, {"a": 1})
    assert binom.sf(20, 80, measured.low) == pytest.approx(0.025) == binom.cdf(21, 80, measured.high)
    assert measured.value == 21 / 80 and measured.convention["a"] == 1 and "Clopper" in measured.convention["interval"]
    assert share(np.repeat([1, 0.5, 0], [20, 2, 58]), {}, {})[:3] == measured[:3]
    assert np.isnan(share(np.zeros(0), {}, {})[:3]).all()


def test_an_order_of_the_data_does_not_decide_the_group():
    every_other = group_of(np.arange(0, 4000, GROUPS))
    assert np.bincount(every_other, minlength=GROUPS).min() > 0
    assert rate(np.arange(50), np.ones(50, int)).value == 1


def test_few_examples_and_none():
    assert np.isnan(rate(np.zeros(0, int), np.zeros(0, int)).value)
    one = rate(np.array([3]), np.array([1]))
    assert one.value == 1 and np.isnan(one.low) and one.counts == {"examples": 1}
    with pytest.raises(ValueError, match="1 of 3 ids repeat"):
        rate(np.array([1, 2, 1]), np.ones(3, int))
    with pytest.raises(ValueError, match=r"ids have shape \(2,\)"):
        rate(np.arange(2), np.ones(3, int))


def test_a_bank_keeps_the_same_sample_for_any_shares():
    ids, values = RNG.permutation(500), RNG.normal(size=(500, 3)).astype(np.float32)
    whole = make_bank(ids, values, {}, limit=40)
    merged = [make_bank(ids[i:j], values[i:j], {}, limit=40) for i, j in ((300, 500), (0, 7), (7, 300))]
    some = merged[0] + merged[1] + merged[2]
    np.testing.assert_array_equal(some.ids, whole.ids)
    np.testing.assert_array_equal(some.values, whole.values)
    assert len(some.ids) == 40 and some.seen == 500
    assert sum(len(part) for part, _ in some.parts) <= 80
    assert (np.diff(some.ids) > 0).all()
    for i, row in zip(some.ids, some.values, strict=True):
        np.testing.assert_array_equal(values[ids == i][0], row)
    full = make_bank(ids, values, {})
    np.testing.assert_array_equal(full.values, values[np.argsort(ids)])
    with pytest.raises(ValueError, match="500 of 1000 ids repeat"):
        _ = (full + full).rows()
    with pytest.raises(ValueError, match="limit is 40 on one side"):
        _ = whole + full


def test_units_of_a_reference():
    real = make_bank(np.arange(50), RNG.normal(3, [1, 10], (50, 2)), {})
    np.testing.assert_allclose(standardised(real, real).values.std(axis=0, ddof=1), 1)
    still = make_bank(np.arange(5), np.ones((5, 2)), {})
    with pytest.raises(ValueError, match="feature 0 of 5 reference examples does not vary"):
        standardised(real, still)
    with pytest.raises(ValueError, match="features of example 7 are not finite"):
        make_bank(np.array([6, 7]), np.array([[1.0], [np.nan]]), {})
