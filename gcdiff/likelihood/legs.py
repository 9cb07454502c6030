"""Upper bounds on -log p(x, y), of its marginals and of its conditionals, from the terms of `gcdiff.likelihood.terms`.

A leg is a straight piece of a path of levels (image, layout):

    joint                 (t, t)   p(x, y)
    image_only            (t, 1)   p(x)          layout_only           (1, t)   p(y)
    image_given_layout    (t, 0)   p(x | y)      layout_given_image    (0, t)   p(y | x)

Three paths from (1, 1) to (0, 0) are made of them. Each path is a model of its own; of an exact predictor all three
bounds are equal, in continuous time, so that the signed gap between them says how far a model contradicts itself. All
legs share their random levels and their noise, which takes much of the noise out of a gap.

`bound` is in continuous time: the integral of the rates from level 1 down to t_min, at random levels, and one last
step. A level is drawn uniformly in v, each draw's in its own stratum. `grid_bound` is the bound of a sampler: the sum
over the steps of a path. Of an exact predictor it exceeds the former by O(1/steps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gcdiff import parallel
from gcdiff.likelihood.evaluate import MOVES, Chunk, Likelihood, collect, join, nats_of
from gcdiff.likelihood.report import Bound
from gcdiff.likelihood.terms import noise_amount
from gcdiff.processes.joint import JointProcess
from gcdiff.types import Pair, pair_map

LOG_SNR_MAX = 13.3
LEGS = {
    "joint": Pair(MOVES, MOVES),
    "image_only": Pair(MOVES, 1.0),
    "image_given_layout": Pair(MOVES, 0.0),
    "layout_only": Pair(1.0, MOVES),
    "layout_given_image": Pair(0.0, MOVES),
}
"""The levels of each leg: 0 or 1 where a side stands still."""

_LEAST_LEVEL = 1e-6
_GREATEST_LOG_SNR = 15.0
_JITTER, _RATE, _LAST, _ROWS = range(4)  # what a draw's random numbers are for; those of a grid's rows follow

Progress = Callable[[int], bool | None] | None
"""Called with 1 after each piece of the work; False stops before the next piece, None and True go on."""


class Stopped(RuntimeError):
    """An evaluation was stopped before the first chunk of examples was measured.

    >>> from gcdiff.likelihood import Stopped
    >>> try:
    ...     report = model.likelihood(gcdiff.Pair(images, layouts), progress=lambda progress: False)
    ... except Stopped:
    ...     report = None
    """


class _Pieces:
    """The pieces of an evaluation, between which `progress` may stop it."""

    def __init__(self, progress: Progress):
        self.progress, self.stopped = progress, False

    def begin(self) -> None:
        """Before each piece. Raises Stopped where the evaluation was stopped."""
        if self.stopped:
            raise Stopped("the likelihood was stopped before the first chunk of examples was measured: no bound")

    def end(self) -> None:
        """After each piece."""
        self.stopped = self.progress is not None and self.progress(1) is False


def _by_chunk(
    likelihood: Likelihood, chunks: Iterable[Chunk], held: Mapping[str, Pair],
    terms: Callable[[Chunk, _Pieces], Mapping[str, list]], progress: Progress,
) -> dict[str, Bound]:  # fmt: skip
    """The bounds of all chunks by name, from the terms of a chunk by name, an entry for each draw.

    Where `progress` stops the evaluation, the chunk in work is left out: its draws are strata, and some of them alone
    are no bound.
    """
    pieces = _Pieces(progress)
    bounds: dict[str, list[Bound]] = {name: [] for name in held}
    for whole, chunk in enumerate(chunks):  # so many are whole
        try:
            of_chunk = terms(chunk, pieces)
        except Stopped:
            if whole == 0:
                raise
            break
        for name, draws in of_chunk.items():
            bounds[name].append(collect(likelihood, chunk, held[name], draws))
        if pieces.stopped:
            break
    return {name: join(parts) for name, parts in bounds.items()}


def least_level(process: JointProcess, log_snr_max: float = LOG_SNR_MAX) -> float:
    """t_min: the lowest level at which neither side's log-SNR is above `log_snr_max`, common to all legs.

    A schedule's curve may end earlier (cosine at 8.8 plus its shift); then t_min is as good as 0, on the curve's end.
    """
    if log_snr_max > _GREATEST_LOG_SNR:
        raise ValueError(
            f"log_snr_max is {log_snr_max}, expected at most {_GREATEST_LOG_SNR}: 1 - keep loses its digits"
        )
    grid = np.geomspace(_LEAST_LEVEL, 1.0, 20_001, dtype=np.float32)[:-1]
    log_snr = pair_map(lambda side: np.asarray(side.log_snr(grid)), Pair(process.image, process.layout))
    below = np.all([side <= log_snr_max for side in log_snr if side is not None], axis=0)
    if not below.any():
        raise ValueError(f"log_snr_max is {log_snr_max}, expected more than the least log-SNR of the schedules")
    return float(grid[np.argmax(below)])


def bound(
    likelihood: Likelihood,
    params: Any,
    chunks: Iterable[Chunk],
    legs: Sequence[str] = tuple(LEGS),
    draws: int = 8,
    log_snr_max: float = LOG_SNR_MAX,
    progress: Progress = None,
) -> dict[str, Bound]:
    """The bounds of `legs` in continuous time, by name.

    Every `log_snr_max` gives a bound; which one is tightest depends on the network: one that is poor at little noise is
    charged for it. A draw of a leg costs two calls of the network, and one more for 'joint' where the schedules differ.
    `progress(1)` is called after each leg of a draw, chunks * draws * legs times in all; where it returns False the
    bounds are those of the chunks that are whole. Raises ValueError for an unknown leg, for one along a side that the
    process does not have, and where `log_snr_max` is above 15; Stopped where it was stopped before a chunk was whole.
    """
    t_min, held = least_level(likelihood.process, log_snr_max), {leg: _held(likelihood, leg) for leg in legs}
    if draws < 1:
        raise ValueError(f"draws is {draws}, expected at least 1")
    reach = pair_map(lambda side: float(noise_amount(side.log_snr(t_min))), likelihood.sides)

    def terms(chunk: Chunk, pieces: _Pieces) -> dict[str, list]:
        of_chunk: dict[str, list] = {leg: [] for leg in legs}
        for draw in range(draws):
            share = (draw + parallel.to_host(likelihood.jitter(chunk.keys, np.array([draw, _JITTER])))) / draws
            levels = parallel.to_host(likelihood.levels(share, np.float32(t_min)))
            for leg in legs:
                pieces.begin()
                rate, last = _draw(likelihood, params, chunk, held[leg], levels, t_min, draw)
                of_chunk[leg].append((pair_map(np.multiply, rate, reach), last))
                pieces.end()
        return of_chunk

    return _by_chunk(likelihood, chunks, held, terms, progress)


def _held(likelihood: Likelihood, leg: str) -> Pair:
    """The levels of a leg (`LEGS`), None for a side that the process does not have."""
    if leg not in LEGS:
        raise ValueError(f"leg is {leg!r}, expected one of {', '.join(LEGS)}")
    for name, side, level in zip(Pair._fields, likelihood.sides, LEGS[leg], strict=True):
        if side is None and level == MOVES:
            raise ValueError(f"leg is {leg!r}, expected one on which the {name} stands still: the process has none")
    return pair_map(lambda side, level: level, likelihood.sides, LEGS[leg])


def _draw(likelihood, params, chunk: Chunk, held: Pair, levels: Pair, t_min: float, draw: int) -> tuple[Pair, Pair]:
    """The rates in v at `levels` and the last step from t_min, of one leg and draw: Pairs of (B,) nats."""
    s = pair_map(lambda level: 0.0 if level == MOVES else level, held)

    def call(image, layout, rate: bool) -> Pair:
        t = pair_map(lambda level, moving: moving if level == MOVES else level, held, Pair(image, layout))
        return nats_of(likelihood, params, chunk, (draw, _RATE if rate else _LAST), s, t, rate)

    last = call(t_min, t_min, False)
    if held == LEGS["joint"] and not np.array_equal(*levels):
        # On the diagonal both sides are at one t; where their schedules differ, each rate has its own.
        image, layout = (call(level, level, True) for level in levels)
        return Pair(image.image, layout.layout), last
    return call(*levels, True), last


def grid_bound(
    likelihood: Likelihood,
    params: Any,
    chunks: Iterable[Chunk],
    path: np.ndarray,
    draws: int = 1,
    steps: int | None = None,
    progress: Progress = None,
) -> Bound:
    """The bound of the sampler that walks down one `path`; `grid_bounds` says what the arguments are."""
    return grid_bounds(likelihood, params, chunks, {"path": path}, draws, steps, progress)["path"]


def grid_bounds(
    likelihood: Likelihood,
    params: Any,
    chunks: Iterable[Chunk],
    paths: Mapping[str, np.ndarray],
    draws: int = 1,
    steps: int | None = None,
    progress: Progress = None,
) -> dict[str, Bound]:
    """The bounds, by name, of samplers that walk down `paths`, each (T + 1, 2), in ancestral steps.

    All T steps are summed; or, of those that do not end at level 0, `steps` random ones for each example and draw,
    weighted, each in a stratum of its own among those of all draws. `progress(1)` is called after each step; where it
    returns False the bounds are those of the chunks that are whole. Raises ValueError for a path on which a level
    rises, or goes anywhere but from 1 to 0 where it moves; Stopped where it was stopped before a chunk was whole.
    """
    rows = {name: np.asarray(path, np.float32) for name, path in paths.items()}
    held = {
        name: pair_map(lambda side, column: _level_of(column), likelihood.sides, Pair(*path.T))
        for name, path in rows.items()
    }
    if draws < 1 or (steps is not None and steps < 1):
        raise ValueError(f"draws is {draws} and steps is {steps}, expected at least 1")

    def terms(chunk: Chunk, pieces: _Pieces) -> dict[str, list]:
        return {
            name: [_walk(likelihood, params, chunk, path, (draw, draws), steps, pieces) for draw in range(draws)]
            for name, path in rows.items()
        }

    return _by_chunk(likelihood, chunks, held, terms, progress)


def _level_of(column: np.ndarray) -> str | float:
    """The level of one side along a path: MOVES, or 0 or 1 where it stands still."""
    first, end = float(column[0]), float(column[-1])
    if (np.diff(column) > 0).any() or (first, end) not in ((1.0, 0.0), (0.0, 0.0), (1.0, 1.0)):
        raise ValueError(f"path has levels {column.tolist()}, expected 1 falling to 0, or 0 or 1 throughout")
    return MOVES if first > end else first


def _walk(likelihood, params, chunk: Chunk, rows: np.ndarray, of: tuple[int, int], steps: int | None, pieces):
    """One draw of a path's sum, `of` (draw, draws): the diffusion and the last steps, Pairs of (B,) nats."""
    draw, draws = of
    ends = (rows[1:] == 0) & (rows[:-1] > 0)  # (T, 2): a side's last step
    size, inner = len(chunk.keys), np.flatnonzero(~ends.any(axis=1))
    count = len(inner) if steps is None else min(steps, len(inner))
    sums = np.zeros((2, 2, size))  # (diffusion or last, image or layout)

    def add(row: np.ndarray, number: int, weight: float, last: Sequence[bool]) -> None:
        pieces.begin()
        s, t = (Pair(*rows[at].T) for at in (row + 1, row))
        nats = nats_of(likelihood, params, chunk, (draw, _ROWS + number), s, t, False)
        for side, is_last in enumerate(last):
            if nats[side] is not None:
                sums[int(is_last), side] += weight * nats[side]
        pieces.end()

    for number in range(count):
        # Each in its own stratum of the steps, which holds one step where all are summed; the draws share it out.
        jitter = likelihood.jitter(chunk.keys, np.array([draw, _ROWS + len(rows) + number]))
        stratum = number + (draw + parallel.to_host(jitter).astype(np.float64)) / draws
        add(inner[(stratum * len(inner) / count).astype(int)], number, len(inner) / count, (False, False))
    for number, row in enumerate(np.flatnonzero(ends.any(axis=1)), count):
        add(np.full(size, row), number, 1.0, ends[row])
    return Pair(*sums[0]), Pair(*sums[1])
