"""RePaint: sampling with known pixels by a model trained with one level for all of them (Lugmayr et al. 2022).

Every pixel stands at the path's level. After each step the known pixels are replaced by their true values noised to the
new level; then, n - 1 times, the whole pair is noised back by the step and the step is taken again, so that the unknown
pixels come to agree with the known ones. It stays biased on a finite grid however large n is. Noising back has the
variance sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2; the difference of the standard deviations, as in released code, is a
fraction of it and loses diversity. The last step, to level 0, is taken once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import CARRY, PIECE, PLAIN, Carry, Given, Sampler, Settings, as_arrays, row_levels
from gcdiff.samplers.walk import Pace, Walked, last, pieces
from gcdiff.types import Condition, Pair, pair_map


def walk_repaint(
    sampler: Sampler,
    params: Any,
    path: np.ndarray,
    given: Given,
    condition: Condition,
    settings: Settings = PLAIN,
    pace: Pace | None = None,
    resamples: int = 1,
) -> Iterator[Walked]:
    """Sample as `gcdiff.samplers.walk.walk` does, with each step taken `resamples` times.

    Pixels with a cap of 0 are known, and no others.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected at least 1")
    path, settings, steps = np.asarray(path, np.float32), as_arrays(settings), len(path) - 1
    times = np.int32(resamples)

    def piece(carry: Carry, first: int, count: int) -> Carry:
        rows = path[np.minimum(np.arange(first, first + PIECE + 1), steps)]
        return _piece(sampler, params, carry, given, rows, np.int32(count), times, condition, settings)

    return pieces(piece, sampler.begin(_opened(given), path[0]), path, pace)


def run_repaint(
    sampler: Sampler,
    params: Any,
    path: np.ndarray,
    given: Given,
    condition: Condition,
    settings: Settings = PLAIN,
    resamples: int = 1,
) -> Pair:
    """Sample one chunk, or one on every device, along `path` (steps + 1, 2), each step `resamples` times.

    Returns the state at the end.
    """
    return last(walk_repaint(sampler, params, path, given, condition, settings, None, resamples)).state


@functools.partial(jax.jit, static_argnums=0)
def _piece(sampler: Sampler, params, carry, given, rows, count, resamples, condition, settings) -> Carry:
    specs = WHOLE, CARRY, given.specs, WHOLE, WHOLE, WHOLE, BATCH, WHOLE
    run = parallel.on_each_in_groups(sampler.mesh, functools.partial(_steps, sampler), specs, CARRY)
    return run(params, carry, given, rows, count, resamples, condition, settings)


def _steps(sampler: Sampler, params, carry, given, rows, count, resamples, condition, settings) -> Carry:
    everywhere = _opened(given)

    def step(i, carry):
        # What the step before estimated was at another state: every step counts as the first of its path.
        t, s = rows[i], rows[i + 1]
        last = jnp.all(s == 0)
        times = jnp.where(last, 1, resamples)

        def once(n, carry):
            moved = sampler.step(params, carry, everywhere, jnp.stack([t, t, s]), condition, settings)
            keys = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, moved.step), 5)[3:])(given.keys)
            state = put_known(sampler.process, keys[:, 0], moved.state, given, s)
            back = renoise(sampler.process, keys[:, 1], state, given, s, t)
            again = n + 1 < times
            return moved._replace(state=jax.tree.map(lambda a, b: jnp.where(again, a, b), back, state))

        return jax.lax.fori_loop(0, times, once, carry)

    return jax.lax.fori_loop(0, count, step, carry)


def put_known(process: JointProcess, keys: Array, state: Pair, given: Given, row: Array) -> Pair:
    """Replace the known pixels of a state by their values noised to the levels of a row (2,)."""
    corrupt = jax.vmap(process.corrupt)
    noised = corrupt(keys, given.values, row_levels(row, _opened(given).caps))

    def choose(cap, new, old):
        return jnp.where((cap == 0).reshape(cap.shape + (1,) * (old.ndim - cap.ndim)), new, old)

    return pair_map(choose, given.caps, noised, state)


def renoise(process: JointProcess, keys: Array, state: Pair, given: Given, s: Array, t: Array) -> Pair:
    """Noise the whole pair from the levels of row s to those of row t, (2,) each."""
    everywhere = _opened(given).caps
    return jax.vmap(process.renoise)(keys, state, row_levels(s, everywhere), row_levels(t, everywhere))


def _opened(given: Given) -> Given:
    """The given values with every pixel at the path's level."""
    return given._replace(caps=jax.tree.map(jnp.ones_like, given.caps))
