"""A world whose joint law is known: one grey value and two labels, with the exact denoiser.

The law of a discretised chain is computed by quadrature (the value on a fine grid, the labels enumerated) from dense
matrices, independently of the code under test.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, Settings
from gcdiff.samplers.steps import Dials
from gcdiff.schedules import Schedule
from gcdiff.types import Pair

K, TAU, NUM = 2, 0.3, 20_001  # no multiple of parallel.GROUP: a CPU then computes all of them at once
CONFIGS = np.array([(a, b) for a in range(K) for b in range(K)])
PRIOR = np.array([0.45, 0.05, 0.15, 0.35])
MEANS = np.array([-0.9, 0.2, 0.6, 1.0])
GRID = np.linspace(-4.5, 4.5, 301)
EDGES = (GRID[:-1] + GRID[1:])[np.arange(75, 226, 15)] / 2  # bins end between grid points
GREY, MARKS = GaussianProcess(Schedule("cosine"), "x0"), Schedule("cosine", 1.0)
PROCESS = JointProcess(GREY, UniformProcess(K, MARKS))
ABSORBING = JointProcess(GREY, AbsorbingProcess(K, MARKS))


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


def absorbed(variables, noisy, log_snr, condition):
    """Labels that are hidden (K) say nothing, those that are seen are certain."""
    seen = jnp.where(noisy.layout == K, -jnp.inf, jnp.inf)
    return network(variables, noisy, log_snr._replace(layout=seen), condition)


def bits_network(variables, noisy, log_snr, condition):
    """The clean value and bits of labels that are noised as grey values are, one bit for a label."""
    x, bits, codes = noisy.image[:, 0, 0, 0], noisy.layout[:, 0, :, 0], 2.0 * CONFIGS - 1
    light, marks = (jnp.broadcast_to(snr[:, 0, :1], (len(x), 1)) for snr in log_snr)
    alpha, alpha_y = (jnp.sqrt(1 / (1 + jnp.exp(-snr))) for snr in (light, marks))
    variance = alpha**2 * TAU**2 + 1 / (1 + jnp.exp(light))
    off = jnp.square(bits[:, None] - alpha_y[..., None] * codes).sum(-1) * (1 + jnp.exp(marks))
    law = jax.nn.softmax(jnp.log(PRIOR) - 0.5 * ((x[:, None] - alpha * MEANS) ** 2 / variance + off))
    clean = (law * (MEANS + alpha * TAU**2 / variance * (x[:, None] - alpha * MEANS))).sum(-1)
    return Pair(clean[:, None, None, None], (law @ codes)[:, None, :, None])


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
    """An image step and a layout step, with their dials, and the noise of the labels."""

    image: str = "ancestral"
    layout: str = "ancestral"
    eta: float = 0.0
    psi: float = 0.0
    corrector: float = 0.0
    decides: bool = False
    absorbs: bool = False

    def sampler(self):
        process, exact_network = (ABSORBING, absorbed) if self.absorbs else (PROCESS, network)
        return Sampler(
            process, exact_network, self.image, self.layout, corrects=self.corrector > 0, decides=self.decides,
            clip=False,
        )  # fmt: skip

    def settings(self):
        return Settings(dials=Dials(self.eta, self.psi, self.corrector))

    @property
    def size(self):
        """The number of values that a noisy label takes; the last is the mask of absorbing noise."""
        return K + self.absorbs

    @property
    def states(self):
        """Both noisy labels, (state, pixel)."""
        return np.array(list(itertools.product(range(self.size), repeat=2)))

    def transition(self, keep):
        """q(later | earlier) of one label, (size, size): rows are the earlier value."""
        noise = np.eye(self.size)[-1] if self.absorbs else np.full(K, 1 / K)
        return keep * np.eye(self.size) + (1 - keep) * noise


def at_grid(alpha, sigma, keep, steps):
    """Clean value (grid, state) and leave-one-out law (grid, state, pixel, value) of the labels at every state."""
    shape = (len(GRID), len(steps.states))
    keep = (steps.states < K) * 1.0 if steps.absorbs else keep
    full = [np.full(shape, v) for v in (alpha, sigma)] + [np.broadcast_to(keep, (*shape, 2))]
    clean, loo = exact(np, np.repeat(GRID[:, None], shape[1], 1), np.broadcast_to(steps.states, (*shape, 2)), *full)
    return clean, np.pad(np.exp(loo), ((0, 0), (0, 0), (0, 0), (0, steps.size - K)))


def both(one_pixel, steps):
    """(grid, state, pixel, value) -> (grid, state, state after): the two pixels move independently."""
    return one_pixel[:, :, 0, steps.states[:, 0]] * one_pixel[:, :, 1, steps.states[:, 1]]


def move_labels(loo, kt, ks, steps, length):
    """The law (grid, state, state after) of a layout step over levels of `length`."""
    if kt == ks:
        return np.broadcast_to(np.eye(len(steps.states)), (len(GRID), *2 * [len(steps.states)]))

    def posterior(kept):
        to_now = np.moveaxis(steps.transition(kt / kept)[:, steps.states], 0, -1)  # q(y_t | y_s), (state, pixel, y_s)
        post = loo @ steps.transition(kept) * to_now
        total = post.sum(-1, keepdims=True)
        return post / np.where(total > 0, total, 1)  # at level 1 nothing is seen through absorbing noise

    one = posterior(ks)
    if steps.decides and ks == 1:
        one = np.eye(steps.size)[one.argmax(-1)]
    else:
        anew = 1 - np.exp(-steps.psi * length)
        one = (1 - anew) * one + anew * posterior(1.0) @ steps.transition(ks)
    return both(one, steps)


def correct_labels(loo, ks, steps, length):
    """The law of a corrector at keep ks; a label that absorbing noise has left alone is certain."""
    stay = np.eye(steps.size)[steps.states]
    seen = steps.absorbs & (steps.states < K)
    clean = np.where(seen[..., None], stay, loo)
    anew = 1 - np.exp(-steps.corrector * length)
    return both((1 - anew) * stay + anew * clean @ steps.transition(ks), steps)


def move_image(law, clean, move_y, scale_t, scale_s, eta):
    """The law after an image step with noise `eta` and the layout step `move_y`."""
    (at, st), (as_, ss) = scale_t, scale_s
    var = eta**2 * ss**2 * (1 - (at / as_) ** 2 * ss**2 / st**2)
    mean = as_ * clean + np.sqrt(ss**2 - var) / st * (GRID[:, None] - at * clean)
    new = np.zeros_like(law)
    for c in np.flatnonzero(law.any(0)):
        moved = law[:, c, None] * move_y[:, c]
        if var > 0:
            kernel = np.exp(-0.5 * (GRID - mean[:, c, None]) ** 2 / var)
            kernel /= kernel.sum(-1, keepdims=True)
            new += kernel.T @ moved
        else:
            new += np.stack([spread(column, mean[:, c]) for column in moved.T], -1)
    return new


def chain_law(path, steps, x=None, y=None):
    """The law (grid, state) at the end of the chain, of the four pairs of labels where it ends at their level 0; x or
    y are given where not None."""
    start = np.exp(-0.5 * GRID**2) if x is None else spread(np.ones(1), np.array([x]))
    labels = np.prod(steps.transition(0)[0][steps.states], -1) if y is None else (y == steps.states).all(-1)
    law = (start / start.sum())[:, None] * labels
    for t, s in zip(path[:-1], path[1:], strict=True):
        t, s = (np.array([0 if x is not None else r[0], 0 if y is not None else r[1]]) for r in (t, s))
        (at, st, kt), (as_, ss, ks) = scales(t), scales(s)
        clean, loo = at_grid(at, st, kt, steps)
        move_y = move_labels(loo, kt, ks, steps, t[1] - s[1])
        if s[0] == t[0]:
            law = np.einsum("gc,gcd->gd", law, move_y)
        else:
            eta = 1.0 if steps.image == "ancestral" else steps.eta
            law = move_image(law, clean, move_y, (at, st), (as_, ss), eta)
        if steps.corrector and kt < ks < 1:
            _, loo = at_grid(as_, ss, ks, steps)
            law = np.einsum("gc,gcd->gd", law, correct_labels(loo, ks, steps, t[1] - s[1]))
    done = (steps.states < K).all(-1)
    return law[:, done] if ks == 1 else law


def binned(law):
    edges = np.searchsorted(GRID, EDGES)
    return np.stack([part.sum(0) for part in np.split(law, edges)])


END_TAU = np.sqrt(TAU**2 - 1 / (TAU**-2 + np.tan(0.008 / 1.008 * np.pi / 2) ** -2))
"""The spread of a value's mean at the end of the curve of its levels, which is what the last step of a chain gives."""


def truth(x=None, y=None, tau=TAU):
    dense = PRIOR * np.exp(-0.5 * ((GRID[:, None] - MEANS) / tau) ** 2)
    if y is not None:
        dense = dense * (y == CONFIGS).all(-1)
    if x is not None:
        dense = spread(np.ones(1), np.array([x]))[:, None] * PRIOR * np.exp(-0.5 * ((x - MEANS) / TAU) ** 2)
    return dense / dense.sum()
