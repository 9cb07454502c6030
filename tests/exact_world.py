"""A world whose joint law is known: one grey value and two labels, with the exact denoiser.

The law of a discretised chain is computed by quadrature (the value on a fine grid, the labels enumerated) from dense
matrices, independently of the code under test.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, Settings
from gcdiff.samplers.steps import Dials
from gcdiff.schedules import Schedule
from gcdiff.types import Pair

K, TAU, NUM = 2, 0.3, 20_000
CONFIGS = np.array([(a, b) for a in range(K) for b in range(K)])
PRIOR = np.array([0.45, 0.05, 0.15, 0.35])
MEANS = np.array([-0.9, 0.2, 0.6, 1.0])
GRID = np.linspace(-4.5, 4.5, 301)
EDGES = (GRID[:-1] + GRID[1:])[np.arange(75, 226, 15)] / 2  # bins end between grid points
PROCESS = JointProcess(GaussianProcess(Schedule("cosine"), "x0"), UniformProcess(K, Schedule("cosine", 1.0)))


def exact(xp, x, y, alpha, sigma, keep):
    """Clean value (...) and leave-one-out log-probabilities (..., 2, K) for x (...), y and its keep (..., 2)."""
    variance = alpha**2 * TAU**2 + sigma**2
    gauss = -0.5 * (x[..., None] - alpha[..., None] * MEANS) ** 2 / variance[..., None]
    like = xp.where(y[..., None, :] == CONFIGS, keep[..., None, :], 0.0) + (1 - keep[..., None, :]) / K
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
    image, layout = jnp.broadcast_to(log_snr.image[:, 0, 0], x.shape), jnp.broadcast_to(log_snr.layout[:, 0], y.shape)
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


class Steps(NamedTuple):
    """An image step and a layout step, with their dials."""

    image: str = "ancestral"
    layout: str = "ancestral"
    eta: float = 0.0
    psi: float = 0.0
    corrector: float = 0.0
    decides: bool = False

    def sampler(self):
        return Sampler(
            PROCESS, network, self.image, self.layout, corrects=self.corrector > 0, decides=self.decides, clip=False
        )

    def settings(self):
        return Settings(dials=Dials(self.eta, self.psi, self.corrector))


def at_grid(alpha, sigma, keep):
    """Clean value (grid, config) and leave-one-out law (grid, config, pixel, class) at every state."""
    full = [np.full((len(GRID), 4), v) for v in (alpha, sigma)] + [np.full((len(GRID), 4, 2), keep)]
    clean, loo = exact(np, np.repeat(GRID[:, None], 4, 1), np.broadcast_to(CONFIGS, (len(GRID), 4, 2)), *full)
    return clean, np.exp(loo)


def both(one_pixel):
    """(grid, config, pixel, class) -> (grid, config, config after): the two pixels move independently."""
    return np.stack([one_pixel[:, :, 0, c[0]] * one_pixel[:, :, 1, c[1]] for c in CONFIGS], -1)


def move_labels(loo, kt, ks, steps, length):
    """The law (grid, config, config after) of a layout step over levels of `length`."""

    def posterior(kept):
        r = kt / kept if kept else 1.0
        step = r * np.eye(K) + (1 - r) / K  # q(y_t | y_s), rows y_s
        post = (kept * loo + (1 - kept) / K) * np.moveaxis(step[:, CONFIGS], 0, -1)
        return post / post.sum(-1, keepdims=True)

    one = posterior(ks)
    if kt < ks and steps.decides and ks == 1:
        one = np.eye(K)[one.argmax(-1)]
    elif kt < ks:
        anew = 1 - np.exp(-steps.psi * length)
        one = (1 - anew) * one + anew * (ks * posterior(1.0) + (1 - ks) / K)
    return both(one)


def move_image(law, clean, move_y, scale_t, scale_s, eta):
    """The law after an image step with noise `eta` and the layout step `move_y`."""
    (at, st), (as_, ss) = scale_t, scale_s
    var = eta**2 * ss**2 * (1 - (at / as_) ** 2 * ss**2 / st**2)
    mean = as_ * clean + np.sqrt(ss**2 - var) / st * (GRID[:, None] - at * clean)
    new = np.zeros_like(law)
    for c in range(4):
        if var > 0:
            kernel = np.exp(-0.5 * (GRID - mean[:, c, None]) ** 2 / var)
            kernel /= kernel.sum(-1, keepdims=True)
            new += np.einsum("g,gh,gd->hd", law[:, c], kernel, move_y[:, c])
        else:
            new += np.stack([spread(law[:, c] * move_y[:, c, d], mean[:, c]) for d in range(4)], -1)
    return new


def chain_law(path, steps, x=None, y=None):
    """The law (grid, config) at the end of the chain; x or y are given where not None."""
    start = np.exp(-0.5 * GRID**2) if x is None else spread(np.ones(1), np.array([x]))
    law = (start / start.sum())[:, None] * (np.full(4, 0.25) if y is None else (y == CONFIGS).all(-1))
    for t, s in zip(path[:-1], path[1:], strict=True):
        t, s = (np.array([0 if x is not None else r[0], 0 if y is not None else r[1]]) for r in (t, s))
        (at, st, kt), (as_, ss, ks) = scales(t), scales(s)
        clean, loo = at_grid(at, st, kt)
        move_y = move_labels(loo, kt, ks, steps, t[1] - s[1])
        if s[0] == t[0]:
            law = np.einsum("gc,gcd->gd", law, move_y)
        else:
            eta = 1.0 if steps.image == "ancestral" else steps.eta
            law = move_image(law, clean, move_y, (at, st), (as_, ss), eta)
        if steps.corrector and kt < ks < 1:
            _, loo = at_grid(as_, ss, ks)
            stay = np.eye(K)[CONFIGS][None]
            anew = 1 - np.exp(-steps.corrector * (t[1] - s[1]))
            again = (1 - anew) * stay + anew * (ks * loo + (1 - ks) / K)
            law = np.einsum("gc,gcd->gd", law, both(again))
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
