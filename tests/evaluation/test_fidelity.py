"""Fréchet distance, KID and the manifold's precision and recall against closed forms and other formulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from gcdiff.evaluation.bank import make_bank
from gcdiff.evaluation.kernel import kernel_distance
from gcdiff.evaluation.manifold import manifold
from gcdiff.evaluation.moments import frechet, frechet_distance, grouped_moments, moments

RNG = np.random.default_rng(0)


def sets(n=60, m=45, d=5, shift=0.4, rng=RNG):
    return rng.normal(shift, 1.2, (n, d)), rng.normal(size=(m, d)) @ rng.normal(size=(d, d))


def distance(x, y, **options):
    x, y = (grouped_moments(np.arange(len(z)), z, {}) for z in (x, y))
    return frechet(x, y, **options)


def bank(x, first=0):
    return make_bank(first + np.arange(len(x)), x, {})


def exactly(mean, covariance, n=64):
    """Examples with exactly this mean and covariance."""
    x = RNG.normal(size=(n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_gaussians_in_closed_form():
    """Covariances that commute: |m - m'|^2 + sum (sqrt a - sqrt b)^2 of their eigenvalues."""
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    a, b, gap = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.25]), np.array([1.0, -2.0, 0.5])
    measured = distance(exactly(gap, turn * a @ turn.T), exactly(np.zeros(3), turn * b @ turn.T))
    assert measured.value == pytest.approx(gap @ gap + 1 + 4)
    assert measured.counts == {"generated": 64, "reference": 64}


def symmetric(size, power=1.0):
    """A random symmetric positive matrix to a power, and the matrix itself."""
    vectors = np.linalg.qr(RNG.normal(size=(size, size)))[0]
    values = RNG.uniform(0.1, 3.0, size)
    return vectors * values**power @ vectors.T, vectors * values @ vectors.T


@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_distance_is_the_cost_of_the_optimal_map(size):
    """x -> A x + b with A symmetric and positive is the gradient of a convex function: no map is cheaper (Brenier), so
    that d^2 = E |A x + b - x|^2, whether A and the covariance commute or not."""
    root, cov = symmetric(size, 0.5)
    a, _ = symmetric(size)
    b, change = RNG.normal(size=size), a - np.eye(size)
    cost = b @ b + np.trace(change @ cov @ change)
    assert frechet_distance(b, a @ cov @ a, root) == pytest.approx(cost, rel=1e-9)
    assert frechet_distance(0 * b, cov, root) == pytest.approx(0, abs=1e-9)


def test_flat_gaussians_have_a_distance():
    flat = np.diag([4.0, 0.0])
    assert frechet_distance(np.zeros(2), np.diag([1.0, 0.0]), np.sqrt(flat)) == pytest.approx(1)
    assert frechet_distance(np.zeros(2), np.diag([0.0, 1.0]), np.sqrt(flat)) == pytest.approx(5)


def test_the_frechet_distance_agrees_with_the_root_of_a_product():
    x, y = sets()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    wanted = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert distance(x, y).value == pytest.approx(wanted, rel=1e-9)
    assert distance(y, x).value == pytest.approx(wanted, rel=1e-9)


def test_the_frechet_distance_of_a_set_to_itself_is_zero():
    x, few = RNG.normal(5, 1, (100, 8)), RNG.normal(5, 1, (6, 20))  # the second of a rank below its dimension
    for some in (x, few):
        measured = distance(some, some)
        assert measured.value == pytest.approx(0, abs=1e-9) and measured.low == 0


def test_moments_of_shares_are_those_of_the_whole():
    """Also far from zero, where sums of squares would have lost everything."""
    x = RNG.normal(1e6, 1.0, (200, 4))
    parts = moments(x[:10]) + moments(x[10:150]) + moments(x[150:150]) + moments(x[150:])
    np.testing.assert_allclose(parts.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        (parts - moments(x[150:])).covariance, np.cov(x[:150], rowvar=False), rtol=1e-6, atol=1e-6
    )
    ids, x, y = RNG.permutation(200), RNG.normal(size=(200, 4)), RNG.normal(size=(90, 4))
    real = grouped_moments(np.arange(90), y, {})
    shares = [grouped_moments(ids[i::3], x[i::3], {}) for i in (1, 0, 2)]
    merged = frechet(shares[0] + shares[1] + shares[2], real)
    np.testing.assert_allclose(merged[:3], frechet(grouped_moments(ids, x, {}), real)[:3], rtol=1e-10)


def test_the_frechet_interval_is_that_of_other_examples():
    rng = np.random.default_rng(3)
    reference = grouped_moments(np.arange(20_000), rng.normal(size=(20_000, 6)), {})
    measures = [
        frechet(grouped_moments(np.arange(200) + 1000 * i, rng.normal(0.3, 1.2, (200, 6)), {}), reference)
        for i in range(150)
    ]
    values = np.array([f.value for f in measures])
    covered = np.mean([f.low <= values.mean() <= f.high for f in measures])
    assert 0.9 <= covered <= 0.99
    assert 0.8 < np.mean([f.high - f.low for f in measures]) / (4 * values.std()) < 1.4


def test_the_distance_of_a_finite_set_falls_with_its_number():
    """The floor is of the order of one over the number of examples."""
    rng = np.random.default_rng(2)
    reference = grouped_moments(np.arange(20_000), rng.normal(size=(20_000, 6)), {})
    floors = [
        np.mean(
            [frechet(grouped_moments(np.arange(n), rng.normal(size=(n, 6)), {}), reference).value for _ in range(60)]
        )
        for n in (50, 200)
    ]
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.25)


def test_standardised_features_have_no_units():
    x, y = sets()
    units = np.array([1.0, 1e3, 1e-3, 5, 1])
    assert distance(x * units, y * units, standardised=True).value == pytest.approx(
        distance(x, y, standardised=True).value
    )
    with pytest.raises(ValueError, match="feature 2 of 45 reference examples does not vary"):
        distance(x, np.where(np.arange(5) == 2, 1.0, y), standardised=True)


def kid_by_loops(x, y):
    k = lambda a, b: (a @ b / len(a) + 1) ** 3  # noqa: E731
    within = [np.mean([k(*pair) for pair in itertools.permutations(z, 2)]) for z in (x, y)]
    return sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_kid_against_a_double_loop():
    x, y = sets(n=23, m=31)
    kid = kernel_distance(bank(x), bank(y))
    assert kid.value == pytest.approx(kid_by_loops(x, y), rel=1e-10)
    assert kernel_distance(bank(y), bank(x)).value == pytest.approx(kid.value, rel=1e-12)
    assert kernel_distance(bank(x[:2]), bank(y)).value == pytest.approx(kid_by_loops(x[:2], y), rel=1e-10)
    assert kid.counts == {"generated": 23, "reference": 31}


def test_kid_of_split_halves_is_zero_on_average_and_its_interval_holds_the_truth():
    rng, halves, apart = np.random.default_rng(1), [], []
    for _ in range(150):
        x = rng.normal(0.5, 1, (120, 4))
        halves.append(kernel_distance(bank(x[:60]), bank(x[60:])))
        apart.append(kernel_distance(bank(x + 0.5), bank(rng.normal(0.5, 1, (80, 4)))))
    values = np.array([f.value for f in halves])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([f.low <= 0 <= f.high for f in halves]) > 0.9
    truth = np.mean([f.value for f in apart])
    assert 0.9 <= np.mean([f.low <= truth <= f.high for f in apart]) <= 1
    assert truth > 5 * values.std()


def test_the_manifold_against_brute_force():
    x, y = sets(n=40, m=30, d=2)
    k = 3
    away = np.linalg.norm(x[:, None] - y, axis=-1)
    reach = {}
    for name, z in (("x", x), ("y", y)):
        own = np.linalg.norm(z[:, None] - z, axis=-1)
        reach[name] = np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(own)])
    inside = away <= reach["y"]
    measured = manifold(bank(x), bank(y), k)
    assert measured.precision.value == pytest.approx(np.mean([any(row) for row in inside]))
    assert measured.recall.value == pytest.approx(np.mean([any(away[:, j] <= reach["x"]) for j in range(30)]))
    assert measured.density.value == pytest.approx(inside.sum() / (k * 40))
    assert measured.coverage.value == pytest.approx(np.mean([any(inside[:, j]) for j in range(30)]))
    assert measured.precision.low <= measured.precision.value <= measured.precision.high <= 1


def test_intervals_of_the_manifold_hold_shares_near_one():
    """Examples with half the spread are nearly all in the manifold of the real ones."""
    rng = np.random.default_rng(0)
    shares = [manifold(bank(rng.normal(0, 0.5, (60, 6))), bank(rng.normal(size=(60, 6)))).precision for _ in range(60)]
    truth = np.mean([f.value for f in shares])
    assert 0.98 < truth < 1 and np.mean([f.low <= truth <= f.high for f in shares]) >= 0.9


def test_the_manifold_of_equal_and_of_distant_sets():
    x = RNG.normal(size=(50, 3))
    same, far = manifold(bank(x), bank(x)), manifold(bank(x + 100), bank(x))
    assert same.precision.value == same.recall.value == same.coverage.value == 1
    assert far.precision.value == far.recall.value == far.density.value == far.coverage.value == 0
    collapsed = manifold(bank(np.repeat(x[:1], 20, 0)), bank(x))
    assert collapsed.precision.value == 1 and collapsed.recall.value == 1 / 50


def test_bad_input():
    x, y = sets()
    with pytest.raises(ValueError, match="extractor is 'a' on one side and 'b' on the other"):
        frechet(
            grouped_moments(np.arange(60), x, {"extractor": "a"}), grouped_moments(np.arange(45), y, {"extractor": "b"})
        )
    with pytest.raises(ValueError, match="number of features is 5 on one side and 4 on the other"):
        distance(x, y[:, :4])
    with pytest.raises(ValueError, match="1 generated examples against 45"):
        distance(x[:1], y)
    with pytest.raises(ValueError, match="1 generated examples against 45"):
        kernel_distance(bank(x[:1]), bank(y))
    with pytest.raises(ValueError, match="features are 5 on one side and 4 on the other"):
        kernel_distance(bank(x), bank(y[:, :4]))
    with pytest.raises(ValueError, match="k is 45 for 60 and 45 examples"):
        manifold(bank(x), bank(y), 45)
    with pytest.raises(ValueError, match="expected finite numbers"):
        distance(np.full((3, 2), np.nan), y)
