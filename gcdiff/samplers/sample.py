"""The sampling loop: down a path of levels, in compiled pieces of ten steps.

It starts from the given values noised to the path's first row: as they are where known, pure noise at level 1, an edit
in between. The carry is (state, previous clean image estimate, step). A piece takes ten rows of levels and a count,
both traced: any number of steps, any path, masks, texts, scales and seeds run through one compiled program per chunk
shape.
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
    """The state of a chunk: the noisy pair, the clean image estimate of the last step, the number of steps done.

    The estimate is what multistep solvers extrapolate from; the steps of `gcdiff.samplers.steps` do not read it.
    """

    state: Pair
    clean: Any
    step: Array


class Given(NamedTuple):
    """What does not change along a path: keys (B,), values, bool known-masks (B, H, W).

    Values are what is known, and what is noised where a path starts below level 1; at level 1 any finite number does.
    """

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

    def start(self, given: Given, row: Array) -> Carry:
        """The values noised to the first row (2,) of a path; void labels come out uniform at every level."""
        corrupt = jax.vmap(lambda k, *a: self.process.corrupt(jax.random.fold_in(k, 0), *a))
        state = corrupt(given.keys, given.values, row_levels(row, given.known))
        clean = None if state.image is None else jnp.zeros_like(state.image)
        return Carry(state, clean, jnp.zeros((), jnp.int32))

    def step(self, params: Any, carry: Carry, given: Given, s: Array, t: Array, condition, scales: Pair) -> Carry:
        """One step between two rows (2,) of a path."""
        levels_s, levels_t = (self.process.clip_levels(row_levels(row, given.known)) for row in (s, t))
        if levels_t.layout is not None:
            # Wherever a path starts, a void pixel starts at level 1: its first step brings it to the path's level.
            unknown = (given.values.layout == VOID) & (carry.step == 0)
            levels_t = levels_t._replace(layout=jnp.where(unknown, 1.0, levels_t.layout))
        clean = self.predict(params, carry.state, levels_t, condition, scales)
        keys = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, carry.step + 1)))(given.keys)
        image, layout = carry.state
        if clean.image is not None:
            move = jax.vmap(lambda k, *a: IMAGE_STEPS[self.image_step](self.process.image, k, *a))
            image = move(keys[:, 0], clean.image, image, levels_s.image, levels_t.image)
        if clean.layout is not None:
            layout = self.process.layout.reverse(keys[:, 1], clean.layout, layout, levels_s.layout, levels_t.layout)
        previous = carry.clean if clean.image is None else clean.image
        return Carry(Pair(image, layout), previous, carry.step + 1)

    @jax.jit(static_argnums=0)
    def piece(self, params, carry: Carry, given: Given, rows: Array, count: Array, condition, scales: Pair) -> Carry:
        """`count` <= 10 steps along rows (11, 2)."""

        def body(i, carry):
            return self.step(params, carry, given, rows[i + 1], rows[i], condition, scales)

        return jax.lax.fori_loop(0, count, body, carry)

    @jax.jit(static_argnums=0)
    def begin(self, given: Given, row: Array) -> Carry:
        return self.start(given, row)

    @jax.jit(static_argnums=0)
    def probabilities(self, params, state: Pair, given: Given, row: Array, condition, scales: Pair) -> Array:
        """p(y0_i | everything) at the levels of one row (2,): float32 (B, H, W, K)."""
        levels = self.process.clip_levels(row_levels(row, given.known))
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
    carry = sampler.begin(given, jnp.asarray(path[0]))
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
    """What a chunk is given. Void is never known."""
    if values.layout is not None:
        known = known._replace(layout=known.layout & (values.layout != VOID))
    return Given(keys, values, known)


def example_keys(seed: int, ids: np.ndarray) -> Array:
    """One key per example, from the seed and the example's own id."""
    return per_example(jax.random.key(seed), jnp.asarray(ids))
