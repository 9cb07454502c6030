"""The sampler draws from the very law of the discretised chain on every path, whose errors halve when the steps
double: at once where labels move alone and in what labels and value say of each other, later in the value's spread."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from exact_world import (
    CONFIGS,
    EDGES,
    END_TAU,
    GREY,
    GRID,
    MARKS,
    MEANS,
    NUM,
    PRIOR,
    TAU,
    K,
    Steps,
    binned,
    bits_network,
    chain_law,
    truth,
)
from scipy import stats

from gcdiff import paths
from gcdiff.processes.bits import BitsProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, example_keys, given_values
from gcdiff.samplers.walk import run
from gcdiff.types import Condition, Pair


def draws(path, steps, x=None, y=None):
    """Counts of (value bin, labels) of drawn pairs."""
    values = Pair(
        np.full((NUM, 1, 1, 1), 0.0 if x is None else x, np.float32),
        np.broadcast_to(np.array([0, 0] if y is None else y, np.int32), (NUM, 1, 2)),
    )
    known = Pair(np.full((NUM, 1, 1), x is not None), np.full((NUM, 1, 2), y is not None))
    given = given_values(example_keys(1, np.arange(NUM)), values, known)
    return counted(run(steps.sampler(), None, path, given, Condition(), steps.settings()))


def counted(state):
    image, layout = np.asarray(state.image)[:, 0, 0, 0], np.asarray(state.layout)[:, 0]
    counts = np.zeros((len(EDGES) + 1, 4))
    np.add.at(counts, (np.searchsorted(EDGES, image), layout @ [2, 1]), 1)
    return counts


def far(a, b):
    return 0.5 * np.abs(a - b).sum()


# ---- by simulation: first, as their programs, with all optimisations, serve the laws of few steps too ---------------


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
@pytest.mark.parametrize("process", ["absorbing", "bits"])
def test_other_label_noise_draws_the_truth_in_the_end(process):
    """Of 20,000 pairs; what is left at 128 steps is the noise of so many draws."""
    sampler = Steps(absorbs=True).sampler()
    if process == "bits":
        sampler = Sampler(JointProcess(GREY, BitsProcess(K, MARKS)), bits_network, "ancestral", clip=False)
    values = Pair(np.zeros((NUM, 1, 1, 1), np.float32), np.zeros((NUM, 1, 2), np.int32))
    unknown = Pair(np.zeros((NUM, 1, 1), bool), np.zeros((NUM, 1, 2), bool))
    given = given_values(example_keys(1, np.arange(NUM)), values, unknown)
    right, errors = binned(truth()), []
    for n in (4, 16, 128):
        state = run(sampler, None, paths.joint(n), given, Condition())
        counts = counted(state._replace(layout=sampler.process.layout.decode(state.layout)))
        errors.append(far(counts / NUM, right))
    noise = 0.4 * np.sqrt(right * (1 - right) / NUM).sum()
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.018 + noise, (errors, noise)


SIMULATED = {
    "dpm++": Steps("dpm++"),
    "dpm++, psi": Steps("dpm++", "psi", psi=4.0),
    "ddim": Steps("ddim"),
    "ddim, most probable": Steps("ddim", decides=True),
}


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
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


# ---- by quadrature -------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("name", "step"), [*((name, "ancestral") for name in CASES), ("joint", "ddim"), ("image_given_layout", "ddim")]
)
def test_every_path_draws_the_chains_own_law(name, step):
    path, given = CASES[name]
    steps = Steps(step)
    assert_drawn_from(draws(path(6), steps, **given), binned(chain_law(path(6), steps, **given)) * NUM, name)


@pytest.mark.parametrize("name", ["joint", "layout_first", "layout_only", "layout_given_image", "image_given_layout"])
def test_every_path_of_absorbing_labels_draws_the_chains_own_law(name):
    path, given = CASES[name]
    steps = Steps(absorbs=True)
    assert_drawn_from(draws(path(6), steps, **given), binned(chain_law(path(6), steps, **given)) * NUM, name)


OTHERS = {
    "ddim with noise, psi": Steps("ddim", "psi", eta=0.6, psi=4.0),
    "all labels anew": Steps("ancestral", "psi", psi=np.inf),
    "corrector": Steps("ancestral", corrector=3.0),
    "ddim": Steps("ddim"),
    "most probable": Steps("ddim", decides=True, eta=0.3),
    "absorbing, ddim with noise, psi, corrector": Steps("ddim", "psi", eta=0.6, psi=4.0, corrector=3.0, absorbs=True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_pair_of_steps_draws_the_chains_own_law(name):
    steps = OTHERS[name]
    assert_drawn_from(draws(paths.joint(6), steps), binned(chain_law(paths.joint(6), steps)) * NUM, "joint")


ALONE = {
    "ancestral": Steps(),
    "psi": Steps("ddim", "psi", psi=4.0),
    "corrector": Steps(corrector=3.0),
    "absorbing, ancestral": Steps(absorbs=True),
    "absorbing, psi": Steps("ddim", "psi", psi=4.0, absorbs=True),
    "absorbing, corrector": Steps(corrector=3.0, absorbs=True),
}


@pytest.mark.parametrize("name", ALONE)
def test_labels_alone_come_twice_as_near_when_steps_double(name):
    """In total variation, given the value or without one: the error of every number that depends on the labels halves,
    with absorbing noise up to a share of 1/n^2."""
    for path, given in (CASES["layout_given_image"], CASES["layout_only"]):
        right = truth(**given).sum(0)
        coarse, fine = (far(chain_law(path(n), ALONE[name], **given).sum(0), right) for n in (32, 64))
        assert fine < (0.5015 if ALONE[name].absorbs else 0.5) * coarse


# What a ratio of errors may exceed a half by from 16 to 32 steps; from 32 to 64 it is half of that.
PAIRS = {
    "ancestral": (paths.joint, Steps(), 0.0),
    "layout first": (paths.layout_first, Steps(), 0.0),
    "ddim with noise, psi": (paths.joint, OTHERS["ddim with noise, psi"], 0.0),
    "corrector": (paths.joint, OTHERS["corrector"], 0.005),
    "absorbing": (paths.layout_first, Steps(absorbs=True), 0.01),
    "absorbing, ddim with noise, psi, corrector": (
        paths.joint, OTHERS["absorbing, ddim with noise, psi, corrector"], 0.012,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_the_weak_error_of_every_pair_of_steps_halves_when_steps_double(name):
    """Of E[value x labels] and of the probability that the labels agree: by a half or more with uniform noise, else by
    a ratio that nears a half from above, as the errors are a/n - b/n^2."""
    path, steps, slack = PAIRS[name]
    laws = [chain_law(path(n), steps) for n in (16, 32, 64)]
    for number in (np.outer(GRID, CONFIGS.sum(1) - 1), CONFIGS[:, 0] == CONFIGS[:, 1]):
        errors = [abs(((law - truth()) * number).sum()) for law in laws]
        assert errors[1] < (0.5 + slack) * errors[0] and errors[2] < (0.5 + slack / 2) * errors[1], errors


@pytest.mark.parametrize("path", [paths.joint, paths.layout_first], ids=["joint", "layout_first"])
def test_the_distance_to_the_truth_falls_by_a_ratio_that_nears_a_half(path):
    """In total variation the spread of the value shows, whose error comes down to order 1 late: what the ratio exceeds
    a half by falls by a quarter or more each time. The limit is the truth but for the last step (`END_TAU`)."""
    right = binned(truth(tau=END_TAU))
    coarse, middle, fine = (far(binned(chain_law(path(n), Steps())), right) for n in (32, 64, 128))
    assert middle < 0.615 * coarse
    assert fine / middle - 0.5 < 0.75 * (middle / coarse - 0.5)


def test_the_spread_of_an_image_alone_has_an_error_of_order_one():
    """Of values N(0, TAU^2), whose variance the steps carry from level to level; what the ratio of errors exceeds a
    half by falls towards half of itself. The limit lacks what is not known of a value at the end of the curve."""
    counts, most = (64, 128, 256, 512, 1024), 1025
    t = np.stack([np.maximum(0, 1 - np.arange(most) / n) for n in counts]).astype(np.float32)
    step = jax.jit(lambda clean, noisy: GREY.posterior(clean, noisy, t[:, 1:], t[:, :-1]))
    one, none = np.ones((len(counts), most - 1, 1), np.float32), np.zeros((len(counts), most - 1, 1), np.float32)
    (stay, noise), (pull, _) = step(none, one), step(one, none)
    stay, noise, pull = (np.asarray(a, np.float64)[..., 0] for a in (stay, noise, pull))
    alpha, sigma = (np.asarray(a, np.float64)[:, :-1] for a in (GREY.schedule.alpha(t), GREY.schedule.sigma(t)))
    slope, variance = stay + pull * alpha * TAU**2 / (alpha**2 * TAU**2 + sigma**2), np.ones(len(counts))
    for a, v in zip(slope.T, noise.T, strict=True):
        variance = a**2 * variance + v
    errors = variance - END_TAU**2
    excess = errors[1:] / errors[:-1] - 0.5
    assert (excess > 0).all() and (excess[1:] < 0.65 * excess[:-1]).all() and excess[-1] < 0.0125, excess
