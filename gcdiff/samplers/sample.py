"""The sampler: steps down a path of levels, compiled in pieces of at most ten.

It starts from the given values noised to the path's first row: as they are where known, pure noise at level 1, an edit
in between. The carry is (state, previous clean image estimate, step). A piece takes the rows of ten steps and a count,
both traced: any number of steps, any path, masks, texts, scales and seeds run through one compiled program per chunk
shape.
Random numbers of an example depend on (seed, example id) alone, and a piece always runs on a chunk of the same size,
so that a sample is the same bit for bit whatever else is drawn with it. Several devices draw a round: a chunk each,
side by side, by the program of one chunk. Arrays are then cut over them along their first axis.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.guidance import NO_GUIDANCE, Guidance, guide, log_law
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.processes.joint import JointProcess, Predictor
from gcdiff.rng import per_example
from gcdiff.samplers.steps import IMAGE_STEPS, LAYOUT_STEPS, Dials, ImageState, correct, most_probable
from gcdiff.types import VOID, Pair, pair_map

PIECE = 10


class Carry(NamedTuple):
    """The state of a chunk: the noisy pair, the clean image estimate of the last step, the number of steps done."""

    state: Pair
    clean: Any
    step: Array


CARRY = Carry(BATCH, BATCH, WHOLE)
"""The PartitionSpecs of a carry, on several devices."""


class Given(NamedTuple):
    """The inputs that stay fixed along a path: keys (B,), values, and the highest level of each pixel (B, H, W).

    A cap, float32, of 0 is a known pixel, of 1 an unknown one; in between the value is noised to that level once and
    stays there until the path falls below it. Labels that are `fed` (bool, one for all or (B, H, W)) are taken as the
    noisy labels themselves there. Values are what is known, and what is noised where a path starts below level 1; at
    level 1 any finite number does.
    """

    keys: Array
    values: Pair
    caps: Pair
    fed: Any = False

    @property
    def specs(self) -> Given:
        """The PartitionSpecs of the fields, on several devices."""
        return Given(BATCH, BATCH, BATCH, BATCH if np.ndim(self.fed) else WHOLE)

    def placed(self, mesh: Mesh | None) -> Given:
        """The given values on the devices of a mesh."""
        return Given(*(parallel.place(part, mesh, spec) for part, spec in zip(self, self.specs, strict=True)))


class Settings(NamedTuple):
    """The numbers of a sampler, all traced: guidance scales and the dials of the steps."""

    guidance: Guidance = NO_GUIDANCE
    dials: Dials = Dials()


PLAIN = Settings()
"""No guidance, and no noise beyond that of the ancestral steps."""


class Beside(NamedTuple):
    """Something of a model, its parameters or its condition, and the same of the worse model that guides it."""

    own: Any
    worse: Any


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampler for a process and a network, pure. `apply_fn(variables, noisy, log_snr, condition)` is the network.

    `branches` says which predictions guidance runs beside the one asked for, `corrects` whether a corrector (a second
    call) follows every step. `decides` makes the last step of a label its most probable class instead of a draw.
    `clip` bounds the clean image estimate to [-1, 1]; it is off in the exact laws. With a `threshold` an estimate that
    goes beyond is scaled instead, by that quantile of its absolute values (Saharia et al. 2022, Imagen, dynamic
    thresholding). With `worse`, the sampler of a worse model of the same pairs, predictions are guided away from its
    plain ones, and parameters and conditions are `Beside`. The jitted methods compile once per chunk shape; with a
    `mesh` they run on a chunk on each of its devices, and arrays are those of all chunks.
    """

    process: JointProcess
    apply_fn: Callable
    image_step: str = "ddim"
    layout_step: str = "ancestral"
    branches: tuple[str, ...] = ()
    corrects: bool = False
    decides: bool = False
    clip: bool = True
    threshold: float = 0.0
    mesh: Mesh | None = None
    worse: Sampler | None = None

    @property
    def rows_per_step(self) -> int:
        """How many rows of a batch the network sees for one example and step."""
        return (1 + len(self.branches) + (self.worse is not None)) * (1 + self.corrects)

    def predict(self, params: Any, state: Pair, levels: Pair, condition: Any, guidance: Guidance) -> Pair:
        """The clean prediction, guided: image estimate and leave-one-out log-probabilities."""
        worse = None
        if self.worse is not None:
            plain, its_condition = self.worse._plain(params.worse), condition.worse
            worse = lambda noisy, levels: plain(noisy, levels, its_condition)  # noqa: E731
            params, condition = params.own, condition.own
        finish = log_law if self.process.layout is None else self.process.layout.clean
        clean = guide(self._plain(params), guidance, self.branches, finish, worse)(state, levels, condition)
        return clean._replace(image=self._bounded(clean.image)) if self.clip and clean.image is not None else clean

    def _plain(self, params: Any) -> Predictor:
        """The clean prediction without guidance, as a function of (noisy, levels, condition)."""
        return self.process.predictor(self.process.denoiser(self.apply_fn, params))

    def _bounded(self, image: Array) -> Array:
        """Bound clean image estimates to [-1, 1], by clipping or by `threshold`."""
        if not self.threshold:
            return jnp.clip(image, -1.0, 1.0)
        largest = jnp.quantile(jnp.abs(image), self.threshold, axis=(1, 2, 3), keepdims=True)
        largest = jnp.maximum(largest, 1.0)
        return jnp.clip(image, -largest, largest) / largest

    def start(self, given: Given, row: Array) -> Carry:
        """Noise the values to the first row (2,) of a path; void labels come out as pure noise at every level."""
        levels = row_levels(row, given.caps)
        if levels.layout is not None:
            levels = levels._replace(layout=jnp.where(given.fed & (given.caps.layout < 1), 0.0, levels.layout))
        corrupt = jax.vmap(lambda k, *a: self.process.corrupt(jax.random.fold_in(k, 0), *a))
        state = corrupt(given.keys, given.values, levels)
        clean = None if state.image is None else jnp.zeros_like(state.image)
        return Carry(state, clean, jnp.zeros((), jnp.int32))

    def step(self, params: Any, carry: Carry, given: Given, rows: Array, condition, settings: Settings) -> Carry:
        """Take one step from rows[1] to rows[2], of rows (3, 2); rows[0] is where the step before started."""
        before, t, s = (self.process.clip_levels(row_levels(row, given.caps)) for row in rows)
        if t.layout is not None:
            # Wherever a path starts, a void pixel starts at level 1: its first step brings it to the path's level.
            unknown = (given.values.layout == VOID) & (carry.step == 0)
            t = t._replace(layout=jnp.where(unknown, 1.0, t.layout))
        clean = self.predict(params, carry.state, t, condition, settings.guidance)
        keys = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, carry.step + 1), 3))(given.keys)
        image, layout = carry.state
        if clean.image is not None:
            at = ImageState(clean.image, carry.clean, image)
            move = functools.partial(IMAGE_STEPS[self.image_step], self.process.image, dials=settings.dials)
            image = jax.vmap(move)(keys[:, 0], at, s.image, t.image, before.image)
        if clean.layout is not None:
            layout = self._move_labels(keys[:, 1], clean.layout, layout, s.layout, t.layout, settings.dials)
        state = Pair(image, layout)
        if self.corrects and layout is not None:
            again = self.predict(params, state, s, condition, settings.guidance)
            layout = correct(self.process.layout, keys[:, 2], again.layout, layout, s.layout, t.layout, settings.dials)
            state = state._replace(layout=layout)
        previous = carry.clean if clean.image is None else clean.image
        return Carry(state, previous, carry.step + 1)

    def _move_labels(self, keys, clean, noisy, s, t, dials: Dials) -> Array:
        process = self.process.layout
        moved = LAYOUT_STEPS[self.layout_step](process, keys, clean, noisy, s, t, dials)
        if not self.decides or process.state_channels:  # a state of bits is decided when it is decoded
            return moved
        last = (s == 0) & (t > 0)
        decided = jax.lax.cond(
            jnp.any(last), lambda: most_probable(process, clean, noisy, t), lambda: jnp.zeros(t.shape, jnp.int32)
        )
        return jnp.where(last, decided, moved)

    @jax.jit(static_argnums=0)
    def piece(self, params, carry: Carry, given: Given, rows: Array, count: Array, condition, settings) -> Carry:
        """Take `count` <= 10 steps along rows (12, 2), of which the first is where the step before started."""

        def steps(params, carry, given, rows, count, condition, settings) -> Carry:
            def body(i, carry):
                return self.step(params, carry, given, jax.lax.dynamic_slice_in_dim(rows, i, 3), condition, settings)

            return jax.lax.fori_loop(0, count, body, carry)

        specs = WHOLE, CARRY, given.specs, WHOLE, WHOLE, BATCH, WHOLE
        run = parallel.on_each_in_groups(self.mesh, steps, specs, CARRY)
        return run(params, carry, given, rows, count, condition, settings)

    @jax.jit(static_argnums=0)
    def begin(self, given: Given, row: Array) -> Carry:
        return parallel.on_each_in_groups(self.mesh, self.start, (given.specs, WHOLE), CARRY)(given, row)

    @jax.jit(static_argnums=0)
    def preview(self, params, state: Pair, given: Given, row: Array, condition, settings: Settings) -> Pair:
        """The clean prediction at the levels of one row (2,): image estimate (B, h, w, C) and most probable labels
        int32 (B, H, W)."""

        def clean(params, state, given, row, condition, settings) -> Pair:
            levels = self.process.clip_levels(row_levels(row, given.caps))
            image, layout = self.predict(params, state, levels, condition, settings.guidance)
            if layout is not None and not self.process.layout.state_channels:
                layout = most_probable(self.process.layout, layout, state.layout, levels.layout)
            elif layout is not None:
                layout = self.process.layout.decode(layout)
            return Pair(image, layout)

        specs = WHOLE, BATCH, given.specs, WHOLE, BATCH, WHOLE
        return parallel.on_each_in_groups(self.mesh, clean, specs, BATCH)(
            params, state, given, row, condition, settings
        )

    @jax.jit(static_argnums=0)
    def probabilities(self, params, state: Pair, given: Given, row: Array, condition, settings: Settings) -> Array:
        """The class probabilities p(y0_i | everything) at the levels of one row (2,): float32 (B, H, W, K)."""

        def marginals(params, state, given, row, condition, settings) -> Array:
            levels = self.process.clip_levels(row_levels(row, given.caps))
            clean = self.predict(params, state, levels, condition, settings.guidance)
            return jnp.exp(self.process.layout.loo_to_posterior(clean.layout, state.layout, levels.layout))

        specs = WHOLE, BATCH, given.specs, WHOLE, BATCH, WHOLE
        run = parallel.on_each_in_groups(self.mesh, marginals, specs, BATCH)
        return run(params, state, given, row, condition, settings)


def row_levels(row: Array, caps: Pair) -> Pair:
    """The level maps (B, H, W) of one row (2,) of a path: no pixel above its cap."""
    return pair_map(jnp.minimum, Pair(row[0], row[1]), caps)


def as_arrays(settings: Settings) -> Settings:
    """Settings with numbers as NumPy's float32: other numbers compile nothing, and go beside arrays on any devices."""
    return jax.tree.map(np.float32, settings)


def given_values(keys: Array, values: Pair, known: Pair) -> Given:
    """The `Given` of a chunk with masks of known pixels `known`, bool (B, H, W). Void is never known."""
    return capped(keys, values, pair_map(lambda k: np.where(k, 0.0, 1.0), known))


@jax.jit
def capped(keys: Array, values: Pair, caps: Pair, fed: Any = False) -> Given:
    """The `Given` of a chunk with a highest level for each pixel (B, H, W). Void is at level 1."""
    caps = pair_map(lambda c: jnp.asarray(c, jnp.float32), caps)
    if values.layout is not None:
        caps = caps._replace(layout=jnp.where(values.layout == VOID, 1.0, caps.layout))
    return Given(keys, values, caps, jnp.asarray(fed))


def example_keys(seed: int, ids: np.ndarray) -> Array:
    """One key per example, from the seed and the example's own id."""
    return _example_keys(np.uint32(seed), np.asarray(ids))


@jax.jit
def _example_keys(seed: Array, ids: Array) -> Array:
    return per_example(jax.random.key(seed), ids)
