"""The sampling loop: from noise down a path of levels, in compiled pieces of ten steps.

The carry is (state, previous clean image estimate, step). A piece takes ten rows of levels and a count, both traced:
any number of steps, any path, masks, texts, scales and seeds run through one compiled program per chunk shape.
Random numbers of an example depend on (seed, example id) alone, and a piece always runs on a chunk of the same size,
so that a sample is the same bit for bit whatever else is drawn with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff.guidance import text_guidance
from gcdiff.processes.joint import JointProcess
from gcdiff.rng import per_example
from gcdiff.samplers.steps import IMAGE_STEPS
from gcdiff.types import VOID, Condition, Pair, pair_map

PIECE = 10
NO_GUIDANCE = Pair(1.0, 1.0)


class Carry(NamedTuple):
    """The state of a chunk: the noisy pair, the clean image estimate of the last step, the number of steps done."""

    state: Pair
    clean: Any
    step: Array


class Given(NamedTuple):
    """What does not change along a path: keys (B,), values where known, bool known-masks (B, H, W)."""

    keys: Array
    values: Pair
    known: Pair


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Pure functions of a process and a network. `apply_fn(variables, noisy, log_snr, condition)` is the network.

    `guided` says whether the branch without text is run at all. `clip` bounds the clean image estimate to [-1, 1];
    it is off in the exact laws. The jitted methods compile once per chunk shape.
    """

    process: JointProcess
    apply_fn: Callable
    image_step: str = "ddim"
    guided: bool = False
    clip: bool = True

    def predict(self, params: Any, state: Pair, levels: Pair, condition: Condition, scales: Pair) -> Pair:
        """The (guided) clean prediction: image estimate and leave-one-out log-probabilities."""
        predict = self.process.predictor(self.process.denoiser(self.apply_fn, params))
        if self.guided:
            predict = text_guidance(predict, scales)
        clean = predict(state, levels, condition)
        return clean._replace(image=jnp.clip(clean.image, -1.0, 1.0)) if self._clips(clean) else clean

    def _clips(self, clean: Pair) -> bool:
        return self.clip and clean.image is not None

    def start(self, given: Given) -> Carry:
        """Known values where known, pure noise elsewhere."""
        shapes = pair_map(lambda a: a.shape[1:], given.values)
        noise = jax.vmap(lambda k: self.process.prior(jax.random.fold_in(k, 0), shapes))(given.keys)
        image = layout = clean = None
        if noise.image is not None:
            image = jnp.where(given.known.image[..., None], given.values.image, noise.image)
            clean = jnp.zeros_like(image)
        if noise.layout is not None:
            layout = jnp.where(given.known.layout, given.values.layout, noise.layout)
        return Carry(Pair(image, layout), clean, jnp.zeros((), jnp.int32))

    def step(self, params: Any, carry: Carry, given: Given, s: Array, t: Array, condition, scales: Pair) -> Carry:
        """One step between two rows (2,) of a path."""
        levels_s, levels_t = row_levels(s, given.known), row_levels(t, given.known)
        clean = self.predict(params, carry.state, levels_t, condition, scales)
        keys = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, carry.step + 1)))(given.keys)
        image, layout = carry.state
        if clean.image is not None:
            move = jax.vmap(lambda k, *a: IMAGE_STEPS[self.image_step](self.process.image, k, *a))
            image = move(keys[:, 0], clean.image, image, levels_s.image, levels_t.image)
        if clean.layout is not None:
            move = jax.vmap(self.process.layout.reverse)
            layout = move(keys[:, 1], clean.layout, layout, levels_s.layout, levels_t.layout)
        previous = carry.clean if clean.image is None else clean.image
        return Carry(Pair(image, layout), previous, carry.step + 1)

    @jax.jit(static_argnums=0)
    def piece(self, params, carry: Carry, given: Given, rows: Array, count: Array, condition, scales: Pair) -> Carry:
        """`count` <= 10 steps along rows (11, 2)."""

        def body(i, carry):
            return self.step(params, carry, given, rows[i + 1], rows[i], condition, scales)

        return jax.lax.fori_loop(0, count, body, carry)

    @jax.jit(static_argnums=0)
    def begin(self, given: Given) -> Carry:
        return self.start(given)

    @jax.jit(static_argnums=0)
    def probabilities(self, params, state: Pair, given: Given, row: Array, condition, scales: Pair) -> Array:
        """p(y0_i | everything) at the levels of one row (2,): float32 (B, H, W, K)."""
        levels = row_levels(row, given.known)
        clean = self.predict(params, state, levels, condition, scales)
        return jnp.exp(self.process.layout.loo_to_posterior(clean.layout, state.layout, levels.layout))


def row_levels(row: Array, known: Pair) -> Pair:
    """The level maps (B, H, W) of one row (2,) of a path: 0 where known."""
    return pair_map(lambda k, t: jnp.where(k, 0.0, t), known, Pair(row[0], row[1]))


def run(
    sampler: Sampler,
    params: Any,
    path: np.ndarray,
    given: Given,
    condition: Condition,
    scales: Pair = NO_GUIDANCE,
    progress: Callable[[int], None] | None = None,
) -> Pair:
    """Walk one chunk down `path` (steps + 1, 2) and return its state. `progress(n)` is told after n more steps."""
    carry = sampler.begin(given)
    scales = Pair(*(jnp.float32(s) for s in scales))
    steps = len(path) - 1
    for first in range(0, steps, PIECE):
        rows = path[np.minimum(np.arange(first, first + PIECE + 1), steps)]
        count = min(PIECE, steps - first)
        carry = sampler.piece(params, carry, given, jnp.asarray(rows), jnp.int32(count), condition, scales)
        if progress is not None:
            jax.block_until_ready(carry)
            progress(count)
    return carry.state


def given_values(keys: Array, values: Pair, known: Pair) -> Given:
    """What a chunk is given. Void is never known; values elsewhere than where known are not looked at."""
    if values.layout is not None:
        known = known._replace(layout=known.layout & (values.layout != VOID))
        values = values._replace(layout=jnp.maximum(values.layout, 0))
    return Given(keys, values, known)


def example_keys(seed: int, ids: np.ndarray) -> Array:
    """One key per example, from the seed and the example's own id."""
    return per_example(jax.random.key(seed), jnp.asarray(ids))
