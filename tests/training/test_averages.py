"""Averages of a length chosen after training: the recursion, the mixtures, and what is stored."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.training.averages import gamma_of, inner_products, mixture, sigma_rel_of, take_in
from gcdiff.training.optim import Optim
from gcdiff.training.snapshots import MOST, Snapshots, average_of, disk_use, least_missed

LENGTHS = (0.05, 0.1)


def profile(step: int, sigma_rel: float, num: int) -> np.ndarray:
    """The weights of parameters 1 to `num` in the average at `step`: integrals of the power function over steps."""
    edges = np.minimum(np.arange(num + 1.0), step) / step
    return np.diff(edges ** (gamma_of(sigma_rel) + 1))


@functools.partial(jax.jit, static_argnums=1)
def tracked(walk, lengths):
    """The averages (num, len(lengths), ...) of a walk (num, ...) after each of its steps."""

    def body(averages, at):
        averages = take_in(lengths, at[0], averages, at[1])
        return averages, jnp.stack(averages)

    start = (jnp.full(walk.shape[1:], 7.0),) * len(lengths)  # must be forgotten
    return jax.lax.scan(body, start, (jnp.arange(len(walk)), walk))[1]


def test_gamma_and_sigma_rel_are_inverse_to_each_other():
    for sigma_rel in np.geomspace(1e-3, 0.28, 20):
        assert gamma_of(sigma_rel) > 0
        np.testing.assert_allclose(sigma_rel_of(gamma_of(sigma_rel)), sigma_rel, rtol=1e-9)
    for sigma_rel in (0.0, 0.3, float("nan")):
        with pytest.raises(ValueError, match="^sigma_rel is .*, expected more than 0 and less than 0.2887$"):
            gamma_of(sigma_rel)


def test_sigma_rel_is_the_standard_deviation_of_the_profile():
    for sigma_rel in (0.02, 0.1, 0.25):
        p, at = profile(10_000, sigma_rel, 10_000), (np.arange(10_000) + 0.5) / 10_000
        mean = p @ at
        np.testing.assert_allclose(np.sqrt(p @ (at - mean) ** 2), sigma_rel, rtol=1e-3)


def test_the_recursion_gives_the_power_function():
    """The walk's step i is 1 in place i alone: its average is the profile itself."""
    averages = np.asarray(tracked(jnp.eye(60), LENGTHS))
    for step in (1, 2, 17, 60):
        for i, sigma_rel in enumerate(LENGTHS):
            np.testing.assert_allclose(averages[step - 1, i], profile(step, sigma_rel, 60), atol=2e-7)


def test_inner_products_are_integrals():
    tau = (np.arange(200_000) + 0.5) / 200_000 * 3.0
    for (a, gamma), (b, delta) in (((2.0, 5.0), (3.0, 9.0)), ((3.0, 5.0), (1.5, 0.5)), ((2.0, 4.0), (2.0, 7.0))):
        densities = [np.where(tau < t, (g + 1) * tau**g / t ** (g + 1), 0.0) for t, g in ((a, gamma), (b, delta))]
        by_sum = (densities[0] * densities[1]).mean() * 3.0
        got = inner_products(np.float64(a), np.float64(gamma), np.float64(b), np.float64(delta))
        np.testing.assert_allclose(got, by_sum, rtol=1e-3)


def test_a_mixture_of_stored_profiles():
    steps, lengths = np.repeat(np.arange(1, 9) * 100, 2), np.tile(LENGTHS, 8)
    for i in (0, 7, 15):  # a stored profile is itself
        weights, misfit = mixture(steps, lengths, steps[i], lengths[i])
        np.testing.assert_allclose(weights, np.arange(16) == i, atol=1e-8)
        assert misfit < 1e-6
    misfits = []
    for sigma_rel in (0.07, 0.04, 0.02, 0.01):
        weights, misfit = mixture(steps, lengths, 800, sigma_rel)
        np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-9)
        made = sum(w * profile(t, s, 800) for w, t, s in zip(weights, steps, lengths, strict=True))
        wanted = profile(800, sigma_rel, 800)
        np.testing.assert_allclose(np.linalg.norm(made - wanted) / np.linalg.norm(wanted), misfit, rtol=0.1)
        misfits.append(misfit)
    assert misfits == sorted(misfits) and misfits[0] < 0.02


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """(the folder of snapshots at every hundredth step, the averages of .05, .07, .1 and .2 at the end) of 256 random
    walks of 1,600 steps."""
    steps = np.random.default_rng(0).normal(size=(1600, 256)).cumsum(0, dtype=np.float32)
    averages = np.asarray(tracked(steps, (*LENGTHS, 0.07, 0.2)))
    snapshots = Snapshots(tmp_path_factory.mktemp("walk"))
    for step in range(100, 1601, 100):
        snapshots.save(step, tuple({"w": a} for a in averages[step - 1, :2]))
    return snapshots.directory, dict(zip((*LENGTHS, 0.07, 0.2), averages[-1], strict=True))


@pytest.mark.parametrize(("sigma_rel", "error"), [(0.05, 1e-6), (0.1, 1e-6), (0.07, 3e-4), (0.2, 1e-2)])
def test_snapshots_give_the_average_that_was_not_kept(walk, sigma_rel, error):
    directory, wanted = walk
    got = average_of(directory, {"w": jax.ShapeDtypeStruct((256,), jnp.float32)}, LENGTHS, sigma_rel)["w"]
    assert got.dtype == np.float32
    assert np.linalg.norm(got - wanted[sigma_rel]) < error * np.linalg.norm(wanted[sigma_rel])


def test_a_length_that_is_not_there_and_damage_are_said(walk, tmp_path, capsys):
    directory, wanted = walk
    target = {"w": jax.ShapeDtypeStruct((256,), jnp.float32)}
    with pytest.raises(
        ValueError, match=r"sigma_rel is 0.01, which the averages of 0.05, 0.1 at 16 steps miss by \d\d%"
    ):
        average_of(directory, target, LENGTHS, 0.01)
    with pytest.raises(ValueError, match=r"16..: holds float32\[256\] for 0/w, the configuration expects float32\[9\]"):
        average_of(directory, {"w": jax.ShapeDtypeStruct((9,), jnp.float32)}, LENGTHS, 0.07)
    with pytest.raises(FileNotFoundError, match="no stored averages found$"):
        average_of(tmp_path, target, LENGTHS, 0.07)
    snapshots = Snapshots(tmp_path)
    for step in (1, 2, 3):
        snapshots.save(step, ({"w": jnp.full(256, 5.0)},) * 2)
    (tmp_path / "3" / "manifest.json").unlink()
    np.testing.assert_allclose(average_of(tmp_path, target, LENGTHS, 0.07)["w"], 5.0)  # weights have sum 1
    assert "3: damaged (no manifest.json: the save did not finish); passed over" in capsys.readouterr().err
    assert sorted(p.name for p in Snapshots(tmp_path, step=1).directory.iterdir()) == ["1"]


def test_what_is_kept_is_spread_over_the_training_and_its_size_is_known(tmp_path):
    kept: list[int] = []
    for step in range(1, 400):
        kept.append(step)
        if len(kept) > MOST:
            kept.remove(least_missed(kept))
        assert kept[-1] == step and max(np.diff([0, *kept])) <= max(1, 4 * step / MOST)
    assert len(kept) == MOST
    snapshots, averages = Snapshots(tmp_path), ({"w": jnp.zeros((1000, 10))},) * 2
    for step in range(MOST + 2):
        snapshots.save(step + 1, averages)
    stored = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file() and "/d/" in p.as_posix())
    assert len(list(tmp_path.iterdir())) == MOST and stored <= disk_use(averages) == MOST * 80_000


def test_bad_lengths_name_the_field():
    for lengths in ((0.05, 0.05), (0.05, 0.3), (0.0,)):
        with pytest.raises(ValueError, match=r"^optim.ema_profiles is \(.*\), expected different numbers within 0 and"):
            Optim(ema_profiles=lengths)
