"""The sampler draws from the very law of the discretised chain on every path, whose distance to the truth halves when
the steps double."""

from __future__ import annotations

import numpy as np
import pytest
from exact_world import CONFIGS, EDGES, MEANS, NUM, PRIOR, Steps, binned, chain_law, truth
from scipy import stats

from gcdiff import paths
from gcdiff.samplers.sample import example_keys, given_values, run
from gcdiff.types import Condition, Pair


def draws(path, steps, x=None, y=None):
    values = Pair(
        np.full((NUM, 1, 1, 1), 0.0 if x is None else x, np.float32),
        np.broadcast_to(np.array([0, 0] if y is None else y, np.int32), (NUM, 1, 2)),
    )
    known = Pair(np.full((NUM, 1, 1), x is not None), np.full((NUM, 1, 2), y is not None))
    given = given_values(example_keys(1, np.arange(NUM)), values, known)
    state = run(steps.sampler(), None, path, given, Condition(), steps.settings())
    image, layout = np.asarray(state.image)[:, 0, 0, 0], np.asarray(state.layout)[:, 0]
    counts = np.zeros((len(EDGES) + 1, 4))
    np.add.at(counts, (np.searchsorted(EDGES, image), layout @ [2, 1]), 1)
    return counts


CASES = {
    "joint": (paths.joint, {}),
    "layout_first": (paths.layout_first, {}),
    "image_only": (paths.image_only, {}),
    "layout_only": (paths.layout_only, {}),
    "layout_given_image": (paths.layout_given_image, {"x": 0.3}),
    "image_given_layout": (paths.image_given_layout, {"y": (1, 0)}),
}


def assert_drawn_from(counts, expected, name):
    if name == "image_only":
        expected, counts = expected.sum(1), counts.sum(1)  # the labels are pure noise
    elif name == "layout_only":
        expected, counts = expected.sum(0), counts.sum(0)
    big = expected > 5
    assert counts[~big].sum() < 5 * (1 + expected[~big].sum() + 3 * np.sqrt(expected[~big].sum()))
    chi2 = ((counts - expected)[big] ** 2 / expected[big]).sum()
    # The quadrature of the deterministic map spreads mass over a grid cell: a little slack beside the 1e-4 quantile.
    assert chi2 < 1.3 * stats.chi2.ppf(1 - 1e-4, big.sum() - 1)


@pytest.mark.parametrize("step", ["ancestral", "ddim"])
@pytest.mark.parametrize("name", CASES)
def test_every_path_draws_the_chains_own_law(name, step):
    path, given = CASES[name]
    steps = Steps(step)
    assert_drawn_from(draws(path(6), steps, **given), binned(chain_law(path(6), steps, **given)) * NUM, name)


OTHERS = {
    "ddim with noise, psi": Steps("ddim", "psi", eta=0.6, psi=4.0),
    "all labels anew": Steps("ancestral", "psi", psi=np.inf),
    "corrector": Steps("ancestral", corrector=3.0),
    "ddim": Steps("ddim"),
    "most probable": Steps("ddim", decides=True, eta=0.3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_pair_of_steps_draws_the_chains_own_law(name):
    steps = OTHERS[name]
    assert_drawn_from(draws(paths.joint(6), steps), binned(chain_law(paths.joint(6), steps)) * NUM, "joint")


def distance(path, steps, given, name="joint"):
    a, b = binned(chain_law(path, steps, **given)), binned(truth(**given))
    if name == "layout_only":
        a, b = a.sum(0), b.sum(0)
    return 0.5 * np.abs(a - b).sum()


@pytest.mark.parametrize("name", ["joint", "layout_first", "layout_given_image", "layout_only"])
def test_the_distance_to_the_truth_halves_when_steps_double(name):
    path, given = CASES[name]
    # Order 1: the ratio approaches 1/2 from above; where the image moves, later.
    coarse, middle, fine = (distance(path(n), Steps(), given, name) for n in (64, 128, 256))
    assert middle < 0.6 * coarse
    assert fine < 0.57 * middle


@pytest.mark.parametrize("name", ["ddim with noise, psi", "corrector"])
def test_the_distance_halves_for_every_pair_of_steps(name):
    coarse, fine = (distance(paths.joint(n), OTHERS[name], {}) for n in (64, 128))
    assert fine < 0.6 * coarse


SIMULATED = {
    "dpm++": Steps("dpm++"),
    "dpm++, psi": Steps("dpm++", "psi", psi=4.0),
    "ddim": Steps("ddim"),
    "ddim, most probable": Steps("ddim", decides=True),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_the_weak_error_halves_while_labels_jump(name):
    """Deterministic image steps have no quadrature fine enough here, so E[image x label] is compared by simulation."""

    def moment(steps):
        num, total = 4, 0.0
        for seed in range(num):
            counts = np.arange(NUM) + seed * NUM
            total += drawn_moment(paths.joint(steps), SIMULATED[name], counts) / num
        return total

    exact_value = (PRIOR * MEANS * (CONFIGS.sum(1) - 1)).sum()
    errors = [abs(moment(n) - exact_value) for n in (4, 8, 16)]
    noise = 3 / np.sqrt(4 * NUM)
    assert errors[1] < 0.5 * errors[0] + noise
    assert errors[2] < 0.5 * errors[1] + noise
    assert errors[0] > 3 * noise


def drawn_moment(path, steps, ids):
    values = Pair(np.zeros((NUM, 1, 1, 1), np.float32), np.zeros((NUM, 1, 2), np.int32))
    given = given_values(example_keys(1, ids), values, Pair(np.zeros((NUM, 1, 1), bool), np.zeros((NUM, 1, 2), bool)))
    state = run(steps.sampler(), None, path, given, Condition(), steps.settings())
    return float((np.asarray(state.image)[:, 0, 0, 0] * (np.asarray(state.layout)[:, 0].sum(-1) - 1)).mean())
