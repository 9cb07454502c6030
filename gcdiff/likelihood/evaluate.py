"""Evaluate a network's terms of the bound, compiled once, and collect the terms of a chunk into its `Bound`."""

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
from gcdiff.likelihood.report import Bound, Parts
from gcdiff.likelihood.terms import levels_at, priors, term
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.processes.joint import JointProcess
from gcdiff.types import VOID, Condition, Pair, pair_map

MOVES = "t"
"""Stands in place of a level where a side goes from 1 to 0."""


class Chunk(NamedTuple):
    """A batch of examples that are evaluated together, on all devices; chunks of one shape share one compiled program.

    clean: image float32 (B, h, w, C) in [-1, 1], layout int32 (B, H, W) with VOID. keys: (B,), one per example, on
    which alone its levels and noise depend. count: how many examples count; those after them are padding.
    """

    clean: Pair
    keys: Array
    condition: Condition
    count: int


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """The terms of the bound, as pure functions of a process and a network.

    The network is `apply_fn(variables, noisy, log_snr, condition)`. `clip` bounds the clean image estimate to [-1, 1],
    where images are, which brings it no further from any. The jitted methods compile once per chunk shape, whatever the
    leg, the path, the number of steps and of draws; with a `mesh` they run on a chunk on each of its devices, and
    arrays are those of all chunks. Raises ValueError for a layout process without a likelihood.
    """

    process: JointProcess
    apply_fn: Callable
    clip: bool = True
    mesh: Mesh | None = None

    def __post_init__(self):
        if self.process.layout is not None and not self.process.layout.has_likelihood:
            raise ValueError(f"layout process is {type(self.process.layout).__name__}, expected one with a likelihood")

    @property
    def sides(self) -> Pair:
        return Pair(self.process.image, self.process.layout)

    def predict(self, params: Any, noisy: Pair, levels: Pair, condition: Condition) -> Pair:
        """The clean prediction: image estimate and leave-one-out log-probabilities."""
        prediction = self.process.predictor(self.process.denoiser(self.apply_fn, params))(noisy, levels, condition)
        clips = self.clip and prediction.image is not None
        return prediction._replace(image=jnp.clip(prediction.image, -1.0, 1.0)) if clips else prediction

    @jax.jit(static_argnums=0)
    def term(self, params, clean: Pair, keys: Array, number: Array, s: Pair, t: Pair, rate: Array, condition) -> Pair:
        """One term of the bound (`gcdiff.likelihood.terms.term`), with the noise of `number` (draw, purpose)."""

        def nats(params, clean, keys, number, s, t, rate, condition) -> Pair:
            predict = functools.partial(self.predict, params)
            return term(self.process, predict, clean, _numbered(keys, number), s, t, rate, condition)

        specs = WHOLE, BATCH, BATCH, WHOLE, BATCH, BATCH, WHOLE, BATCH
        run = parallel.on_each(self.mesh, nats, specs, BATCH)
        return run(params, clean, keys, number, s, t, rate, condition)

    @jax.jit(static_argnums=0)
    def jitter(self, keys: Array, number: Array) -> Array:
        """A uniform random number in [0, 1) for each example, float32 (B,)."""

        def uniform(keys, number) -> Array:
            return jax.vmap(jax.random.uniform)(_numbered(keys, number))

        return parallel.on_each(self.mesh, uniform, (BATCH, WHOLE), BATCH)(keys, number)

    @jax.jit(static_argnums=0)
    def levels(self, share: Array, t_min: Array) -> Pair:
        """The levels at which v is `share` (B,) of its value at t_min, of each side: Pair of (B,)."""
        at = functools.partial(levels_at, self.process)
        return parallel.on_each(self.mesh, at, (BATCH, WHOLE), BATCH)(share, t_min)

    @jax.jit(static_argnums=0)
    def priors(self, clean: Pair) -> Pair:
        """The prior terms, Pair of (B,) nats."""
        return parallel.on_each(self.mesh, functools.partial(priors, self.process), (BATCH,), BATCH)(clean)


def _numbered(keys: Array, number: Array) -> Array:
    return jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(k, number[0]), number[1]))(keys)


def nats_of(
    likelihood: Likelihood, params, chunk: Chunk, number: tuple[int, int], s: Pair, t: Pair, rate: bool
) -> Pair:
    """One term of a chunk, Pair of float64 (B,) nats; the levels are numbers or (B,)."""
    s, t = (pair_map(lambda a: np.broadcast_to(np.asarray(a, np.float32), (len(chunk.keys),)), at) for at in (s, t))
    stream = np.array(number, np.uint32)
    nats = likelihood.term(params, chunk.clean, chunk.keys, stream, s, t, np.bool_(rate), chunk.condition)
    return pair_map(lambda a: a.astype(np.float64), parallel.to_host(nats))


def collect(likelihood: Likelihood, chunk: Chunk, held: Pair, terms: list[tuple[Pair, Pair]]) -> Bound:
    """The bound of a chunk from the terms of its draws, without the padding."""

    def parts(level, prior, diffusion, last) -> Parts | None:
        prior = np.broadcast_to(np.asarray(prior, np.float64)[:, None], diffusion.shape)
        return Parts(*(part[: chunk.count] for part in (prior, diffusion, last))) if level == MOVES else None

    stacked = (pair_map(lambda *draws: np.stack(draws, axis=1), *pairs) for pairs in zip(*terms, strict=True))
    image, layout = parallel.to_host(chunk.clean)
    sizes = Pair(
        None if image is None else np.full(chunk.count, float(np.prod(image.shape[1:]))),
        None if layout is None else (layout[: chunk.count] != VOID).sum(axis=(1, 2)).astype(np.float64),
    )
    return Bound(pair_map(parts, held, parallel.to_host(likelihood.priors(chunk.clean)), *stacked), sizes)


def join(bounds: list[Bound]) -> Bound:
    """Join the bounds of chunks to the bound of all their examples."""
    if not bounds:
        raise ValueError("chunks is empty, expected at least one chunk of examples")
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *bounds)
