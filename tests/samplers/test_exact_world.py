"""A world whose joint law is known: one grey value and two labels, with the exact denoiser.

The law of the discretised chain is computed by quadrature (the value on a fine grid, the labels enumerated) from
dense matrices, independently of the code under test; the sampler must draw from that very law on every path, and
the chain's distance to the truth must halve when the steps double.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gcdiff import paths
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, example_keys, given_values, run
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair

K, TAU, NUM = 2, 0.3, 20_000
CONFIGS = np.array([(a, b) for a in range(K) for b in range(K)])
PRIOR = np.array([0.45, 0.05, 0.15, 0.35])
MEANS = np.array([-0.9, 0.2, 0.6, 1.0])
GRID = np.linspace(-4.5, 4.5, 301)
EDGES = (GRID[:-1] + GRID[1:])[np.arange(75, 226, 15)] / 2  # bins end between grid points
PROCESS = JointProcess(GaussianProcess(Schedule("cosine"), "x0"), UniformProcess(K, Schedule("cosine", 1.0)))


def exact(xp, x, y, alpha, sigma, keep):
    """Clean value (...) and leave-one-out log-probabilities (..., 2, K) for x (...), y (..., 2)."""
    variance = alpha**2 * TAU**2 + sigma**2
    gauss = -0.5 * (x[..., None] - alpha[..., None] * MEANS) ** 2 / variance[..., None]
    like = xp.where(y[..., None, :] == CONFIGS, keep[..., None, None], 0.0) + (1 - keep[..., None, None]) / K
    weight = PRIOR * xp.exp(gauss - gauss.max(-1, keepdims=True))
    joint = weight * like.prod(-1)
    joint = joint / joint.sum(-1, keepdims=True)
    gain = alpha * TAU**2 / variance
    clean = (joint * (MEANS + gain[..., None] * (x[..., None] - alpha[..., None] * MEANS))).sum(-1)
    others = xp.stack([weight * like[..., 1], weight * like[..., 0]], -2)  # (..., pixel, config)
    loo = xp.stack([xp.where(CONFIGS[:, i] == k, others[..., i, :], 0.0).sum(-1) for i in (0, 1) for k in (0, 1)], -1)
    loo = loo.reshape(*loo.shape[:-1], 2, K)
    return clean, xp.log(loo / loo.sum(-1, keepdims=True))


def network(variables, noisy, log_snr, condition):
    del variables, condition
    x, y = noisy.image[:, 0, 0, 0], noisy.layout[:, 0]
    image, layout = (jnp.broadcast_to(a[:, 0, 0], x.shape) for a in log_snr)
    alpha, sigma = jnp.sqrt(1 / (1 + jnp.exp(-image))), jnp.sqrt(1 / (1 + jnp.exp(image)))
    clean, loo = exact(jnp, x, y, alpha, sigma, 1 / (1 + jnp.exp(-layout)))
    return Pair(clean[:, None, None, None], loo[:, None])


def scales(t):
    """alpha, sigma of the image and keep of the labels at a row of the path, in float64."""

    def snr(t, shift):
        return np.inf if t == 0 else -np.inf if t == 1 else shift - 2 * np.log(np.tan((t + 0.008) / 1.008 * np.pi / 2))

    light, marks = snr(float(t[0]), 0.0), snr(float(t[1]), 1.0)
    with np.errstate(over="ignore"):
        return np.sqrt(1 / (1 + np.exp(-light))), np.sqrt(1 / (1 + np.exp(light))), 1 / (1 + np.exp(-marks))


def spread(mass, points):
    """Mass at real points, shared between the two neighbours on the grid."""
    where = np.clip((points - GRID[0]) / (GRID[1] - GRID[0]), 0, len(GRID) - 1.000001)
    low = where.astype(int)
    out = np.zeros(len(GRID))
    np.add.at(out, low, mass * (1 - where + low))
    np.add.at(out, low + 1, mass * (where - low))
    return out


def chain_law(path, step, x=None, y=None):
    """The law (grid, config) at the end of the chain; x or y are given where not None."""
    start = np.exp(-0.5 * GRID**2) if x is None else spread(np.ones(1), np.array([x]))
    law = (start / start.sum())[:, None] * (np.full(4, 0.25) if y is None else (y == CONFIGS).all(-1))
    for t, s in zip(path[:-1], path[1:], strict=True):
        t, s = (np.array([0 if x is not None else r[0], 0 if y is not None else r[1]]) for r in (t, s))
        (at, st, kt), (as_, ss, ks) = scales(t), scales(s)
        full = [np.full((len(GRID), 4), v) for v in (at, st, kt)]
        clean, loo = exact(np, np.repeat(GRID[:, None], 4, 1), np.broadcast_to(CONFIGS, (len(GRID), 4, 2)), *full)
        r = kt / ks if ks else 1.0
        step_y = r * np.eye(K) + (1 - r) / K  # q(y_t | y_s), rows y_s
        p_s = ks * np.exp(loo) + (1 - ks) / K
        post = p_s * np.moveaxis(step_y[:, CONFIGS], 0, -1)  # (grid, config of y_t, pixel, y_s)
        post = post / post.sum(-1, keepdims=True)
        move_y = np.stack([post[:, :, 0, c[0]] * post[:, :, 1, c[1]] for c in CONFIGS], -1)
        if s[0] == t[0]:
            law = np.einsum("gc,gcd->gd", law, move_y)
            continue
        ratio = (at / as_) ** 2 * ss**2 / st**2
        if step == "ancestral":
            mean, var = at / as_ * (ss / st) ** 2 * GRID[:, None] + as_ * (1 - ratio) * clean, ss**2 * (1 - ratio)
        else:
            mean, var = ss / st * (GRID[:, None] - at * clean) + as_ * clean, 0.0
        new = np.zeros_like(law)
        for c in range(4):
            if var > 0:
                kernel = np.exp(-0.5 * (GRID - mean[:, c, None]) ** 2 / var)
                kernel /= kernel.sum(-1, keepdims=True)
                new += np.einsum("g,gh,gd->hd", law[:, c], kernel, move_y[:, c])
            else:
                new += np.stack([spread(law[:, c] * move_y[:, c, d], mean[:, c]) for d in range(4)], -1)
        law = new
    return law


def binned(law):
    edges = np.searchsorted(GRID, EDGES)
    return np.stack([part.sum(0) for part in np.split(law, edges)])


def truth(x=None, y=None):
    dense = PRIOR * np.exp(-0.5 * ((GRID[:, None] - MEANS) / TAU) ** 2)
    if y is not None:
        dense = dense * (y == CONFIGS).all(-1)
    if x is not None:
        dense = spread(np.ones(1), np.array([x]))[:, None] * PRIOR * np.exp(-0.5 * ((x - MEANS) / TAU) ** 2)
    return dense / dense.sum()


def draws(path, step, x=None, y=None):
    values = Pair(
        np.full((NUM, 1, 1, 1), 0.0 if x is None else x, np.float32),
        np.broadcast_to(np.array([0, 0] if y is None else y, np.int32), (NUM, 1, 2)),
    )
    known = Pair(np.full((NUM, 1, 1), x is not None), np.full((NUM, 1, 2), y is not None))
    sampler = Sampler(PROCESS, network, step, clip=False)
    given = given_values(example_keys(1, np.arange(NUM)), values, known)
    state = run(sampler, None, path, given, Condition())
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


@pytest.mark.parametrize("step", ["ancestral", "ddim"])
@pytest.mark.parametrize("name", CASES)
def test_every_path_draws_the_chains_own_law(name, step):
    path, given = CASES[name]
    expected = binned(chain_law(path(6), step, **given)) * NUM
    counts = draws(path(6), step, **given)
    if name == "image_only":
        expected, counts = expected.sum(1), counts.sum(1)  # the labels are pure noise
    elif name == "layout_only":
        expected, counts = expected.sum(0), counts.sum(0)
    big = expected > 5
    assert counts[~big].sum() < 5 * (1 + expected[~big].sum() + 3 * np.sqrt(expected[~big].sum()))
    chi2 = ((counts - expected)[big] ** 2 / expected[big]).sum()
    # The quadrature of the deterministic map spreads mass over a grid cell: a little slack beside the 1e-4 quantile.
    assert chi2 < 1.3 * stats.chi2.ppf(1 - 1e-4, big.sum() - 1)


@pytest.mark.parametrize("name", ["joint", "layout_first", "layout_given_image", "layout_only"])
def test_the_distance_to_the_truth_halves_when_steps_double(name):
    path, given = CASES[name]

    def distance(steps):
        a, b = binned(chain_law(path(steps), "ancestral", **given)), binned(truth(**given))
        if name == "layout_only":
            a, b = a.sum(0), b.sum(0)
        return 0.5 * np.abs(a - b).sum()

    # Order 1: the ratio approaches 1/2 from above; where the image moves, later.
    coarse, middle, fine = distance(64), distance(128), distance(256)
    assert middle < 0.6 * coarse
    assert fine < 0.57 * middle
