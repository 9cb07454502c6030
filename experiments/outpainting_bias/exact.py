"""Part 1: worlds whose joint law is known, so that whatever is wrong is the sampler's doing.

One of K = 4 classes, equally likely, shows in `grey` values and `labels` labels: every grey value is normal around the
class's mean with standard deviation TAU, independently given the class, and every label is the class. The network is
the exact denoiser: with levels of their own for all values,

    log p(c | everything) = sum_j log N(x_j; alpha_j mean_c, alpha_j^2 TAU^2 + sigma_j^2)
                          + sum_i log(keep_i [y_i = c] + (1 - keep_i)/K) + const                                   (1)
    E[x_j | everything]   = sum_c p(c | everything) (mean_c + gain_j (x_j - alpha_j mean_c)),
                            gain_j = alpha_j TAU^2 / (alpha_j^2 TAU^2 + sigma_j^2)                                 (2)

and the leave-one-out law of label i is (1) without its own term.
"""

from __future__ import annotations

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from methods import DIRECTIONS, TRUTH, Method, methods

from gcdiff import paths
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.repaint import run_repaint
from gcdiff.samplers.sample import Sampler, Settings, example_keys, given_values
from gcdiff.samplers.steps import Dials
from gcdiff.samplers.walk import run
from gcdiff.schedules import Schedule, alpha_of, sigma_of
from gcdiff.types import Condition, Pair

CLASSES, TAU = 4, 0.12
MEANS = np.linspace(-0.9, 0.9, CLASSES)
SIZES = ((1, 1), (4, 4), (16, 16), (1, 16))
"""Grey values and labels of the worlds."""

GIVENS, COPIES, MANY = 256, 16, 200
"""Given images, layouts drawn for each of them, and draws of the truth of the images in the place of each."""


@dataclasses.dataclass(frozen=True)
class World:
    """The exact denoiser as a network: (variables, noisy, log_snr, condition) -> Pair of predictions."""

    grey: int
    labels: int

    def __call__(self, variables, noisy: Pair, log_snr: Pair, condition: Condition) -> Pair:
        x, y, means = noisy.image[..., 0], noisy.layout, jnp.asarray(MEANS, jnp.float32)
        alpha, sigma, keep = alpha_of(log_snr.image), sigma_of(log_snr.image), jax.nn.sigmoid(log_snr.layout)
        variance = jnp.square(alpha * TAU) + jnp.square(sigma)
        off = x[..., None] - alpha[..., None] * means
        seen = -0.5 * jnp.square(off) / variance[..., None]
        same = jax.nn.one_hot(y, CLASSES) * keep[..., None] + (1.0 - keep[..., None]) / CLASSES
        log_same = jnp.log(jnp.maximum(same, 1e-30))
        total = jnp.sum(seen, (1, 2)) + jnp.sum(log_same, (1, 2))
        clean = means + (alpha * TAU**2 / variance)[..., None] * off
        image = jnp.sum(jax.nn.softmax(total)[:, None, None] * clean, -1)
        return Pair(image[..., None], total[:, None, None] - log_same)


class DifferenceOfStds(GaussianProcess):
    """Noises back with the difference of the standard deviations, sigma_t - (alpha_t/alpha_s) sigma_s, as in
    released code. Right is the root of the difference of their squares."""

    def renoise(self, key: Array, xs: Array, s, t) -> Array:
        (a_s, n_s), (a_t, n_t) = ((self.schedule.alpha(level), self.schedule.sigma(level)) for level in (s, t))
        std = n_t - a_t / a_s * n_s
        return (a_t / a_s)[..., None] * xs + std[..., None] * jax.random.normal(key, xs.shape)


def measure(calls: int) -> list[dict]:
    """All rows: worlds by directions by methods, the truth first."""
    rows = []
    for size in SIZES:
        world = World(*size)
        images, _ = draw_world(world, GIVENS)
        rows.append(_row(world, DIRECTIONS[0], TRUTH, None, 0.0, score_images(*draw_world(world, MANY * GIVENS))))
        rows.append(_row(world, DIRECTIONS[1], TRUTH, None, 0.0, score_layouts(images, None)))
        for method in methods(calls):
            for direction in filter(method.answers, DIRECTIONS):
                rows.append(_row(world, direction, method.name, method.calls, *_ask(world, method, direction, images)))
    return rows


def _ask(world: World, method: Method, direction: str, images: np.ndarray) -> tuple[float, dict]:
    """Processor seconds and scores."""
    if direction == DIRECTIONS[0]:
        classes = np.arange(GIVENS * COPIES) % CLASSES
        drawn, seconds = draw(world, method, Pair(None, classes))
        return seconds, score_images(drawn.image[:, 0, :, 0], classes)
    drawn, seconds = draw(world, method, Pair(images.repeat(COPIES, 0), None))
    return seconds, score_layouts(images, drawn.layout.reshape(GIVENS, COPIES, world.labels))


def _row(world: World, direction: str, method: str, calls: int | None, seconds: float, scores: dict) -> dict:
    head = {"grey": world.grey, "labels": world.labels, "direction": direction, "method": method, "calls": calls}
    return head | {"seconds": round(seconds, 2)} | {name: round(float(v), 5) for name, v in scores.items()}


def draw_world(world: World, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact draws: images (num, grey) and classes (num,)."""
    rng = np.random.default_rng(0)
    classes = np.arange(num) % CLASSES
    return MEANS[classes][:, None] + TAU * rng.standard_normal((num, world.grey)), classes


def draw(world: World, method: Method, given: Pair) -> tuple[Pair, float]:
    """Pairs drawn for given images (B, grey) or classes (B,), and the processor seconds that took once compiled."""
    num = len(given.image if given.layout is None else given.layout)
    image, layout = np.zeros((num, 1, world.grey, 1), np.float32), np.zeros((num, 1, world.labels), np.int32)
    if given.image is not None:
        image[:, 0, :, 0] = given.image
    if given.layout is not None:
        layout[:, 0] = given.layout[:, None]
    known = Pair(np.full(image.shape[:3], given.image is not None), np.full(layout.shape, given.layout is not None))
    question = given_values(example_keys(1, np.arange(num)), Pair(image, layout), known)
    walk = run if method.resamples is None else functools.partial(run_repaint, resamples=method.resamples)
    image_process = (DifferenceOfStds if method.released else GaussianProcess)(Schedule("cosine"), "x0")
    process = JointProcess(image_process, UniformProcess(CLASSES, Schedule("cosine")))
    sampler, settings = Sampler(process, world, "ddim", clip=False), Settings(dials=Dials(eta=method.eta))
    path = paths.joint(method.steps) ** method.power
    walk(sampler, {}, paths.joint(2), question, Condition(), settings)
    start = time.process_time()
    drawn = jax.tree.map(np.asarray, walk(sampler, {}, path, question, Condition(), settings))
    return drawn, time.process_time() - start


def law_of_class(images: np.ndarray) -> np.ndarray:
    """p(c | x), (N, K), of clean images (N, grey)."""
    log_p = -0.5 * (((images[..., None] - MEANS) / TAU) ** 2).sum(1)
    p = np.exp(log_p - log_p.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def score_images(images: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """How often an image's Bayes class is not the one given, and the std of its values around its Bayes class's mean,
    with their standard errors."""
    read = law_of_class(images).argmax(-1)
    wrong, squares = read != classes, ((images - MEANS[read][:, None]) ** 2).mean(1)
    std = np.sqrt(squares.mean())
    return {
        "wrong": wrong.mean(),
        "wrong_se": _error(wrong),
        "spread": std,
        "spread_se": _error(squares) / (2 * std),
    }


def score_layouts(images: np.ndarray, layouts: np.ndarray | None) -> dict[str, float]:
    """How often a label is not its image's Bayes class, and how often two draws for one image differ in a label.

    layouts (G, copies, labels), or None for the exact law; standard errors are over images, of the distance to it.
    """
    p = law_of_class(images)
    exact = 1 - p.max(-1), 1 - (p**2).sum(-1)
    if layouts is None:
        return {"wrong": exact[0].mean(), "wrong_se": 0.0, "spread": exact[1].mean(), "spread_se": 0.0}
    copies = layouts.shape[1]
    wrong = (layouts != p.argmax(-1)[:, None, None]).mean((1, 2))
    shares = (layouts[..., None] == np.arange(CLASSES)).mean(1)  # (G, labels, K)
    differ = copies / (copies - 1) * (1 - (shares**2).sum(-1)).mean(1)
    return {
        "wrong": wrong.mean(),
        "wrong_se": _error(wrong - exact[0]),
        "spread": differ.mean(),
        "spread_se": _error(differ - exact[1]),
    }


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
