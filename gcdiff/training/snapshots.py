"""Snapshots: stored averages of a run, from which one of any other length is made after the training.

A snapshot holds the averages of `gcdiff.training.averages` as they were at one step, in a folder of its own: written
beside its place, listed in a manifest, moved there when all is on disk. At most `MOST` are kept, spread over the whole
training, so that their disk use does not grow with it: MOST x (number of averages) x (size of the parameters).
Damage is reported and passed over. With several processes all of them save; the first lists, moves and drops.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gcdiff.training import manifest
from gcdiff.training.averages import gamma_of, mixture
from gcdiff.training.checkpoint import frozen_in, restore_frozen
from gcdiff.training.groups import join, split

MOST = 16
"""With two averages in each of 16 snapshots, one in between is off by 1e-4 of itself on a random walk."""
MOST_MISFIT = 0.1
ITEM = "profiles"


class Snapshots:
    """Saves averages under `directory`, and first drops those of steps after `step`, where a run goes on."""

    def __init__(self, directory: str | Path, step: int = 0):
        self.directory = Path(directory).absolute()
        if jax.process_index() == 0:
            for saved in manifest.steps(self.directory):
                if saved > step:
                    manifest.remove(self.directory / str(saved))

    def save(self, step: int, averages: tuple) -> None:
        """Save a tuple of pytrees as `step`; returns when all is on disk. Raises OSError if it cannot be written."""
        path, first = self.directory / str(step), jax.process_index() == 0
        if first:  # before the others write: Orbax lets all begin together
            for old in (*manifest.leftovers(self.directory), path):
                shutil.rmtree(old, ignore_errors=True)
        with ocp.StandardCheckpointer() as saver:
            saver.save(manifest.partial(path) / ITEM, averages)
        if first:
            manifest.finish(manifest.partial(path), path, {ITEM: manifest.shapes(averages)})
            while len(kept := manifest.steps(self.directory)) > MOST:
                manifest.remove(self.directory / str(least_missed(kept)))


def least_missed(steps: Sequence[int]) -> int:
    """The step to drop: the one, not the last, whose neighbours are closest together, the earliest of several."""
    edges = [0, *sorted(steps)]
    return min(zip(edges, edges[1:-1], edges[2:], strict=False), key=lambda e: (e[2] - e[0], e[1]))[1]


def disk_use(averages: tuple) -> int:
    """The bytes on disk of as many snapshots as are kept."""
    return MOST * sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(averages))


def average_of(
    directory: str | Path, target: Any, sigma_rels: Sequence[float], sigma_rel: float,
    checkpoints: str | Path | None = None,
) -> Any:  # fmt: skip
    """The average of length `sigma_rel` at the newest snapshot, made of all undamaged ones; numpy arrays.

    `target` gives the structure, shapes and dtypes of one average, `sigma_rels` are the lengths of those stored. Sums
    are float64. Frozen parameters are in no snapshot: they are taken from the newest of the run's `checkpoints`.

    Raises FileNotFoundError if there is no snapshot, ValueError if none is whole or it does not fit
    `target`, and for a length that the stored ones do not give.
    """
    gamma_of(sigma_rel)
    target, frozen = split(target, frozen_in(checkpoints) if checkpoints is not None else ())
    directory, targets = Path(directory).absolute(), (target,) * len(sigma_rels)
    if not manifest.steps(directory):
        raise FileNotFoundError(f"{directory}: no stored averages found")
    steps = []
    for step, damage in manifest.newest_first(directory):
        if damage:
            print(f"{directory / str(step)}: damaged ({damage}); passed over", file=sys.stderr)
        else:
            manifest.check_fit(directory / str(step), ITEM, targets)
            steps.append(step)
    if not steps:
        raise ValueError(f"{directory}: all stored averages are damaged")
    weights, misfit = mixture(np.repeat(steps, len(sigma_rels)), np.tile(sigma_rels, len(steps)), steps[0], sigma_rel)
    if misfit > MOST_MISFIT:
        raise ValueError(
            f"{directory}: sigma_rel is {sigma_rel}, which the averages of {', '.join(map(str, sigma_rels))} at "
            f"{len(steps)} steps miss by {misfit:.0%}: expected one nearer to these, or more checkpoints in training"
        )
    total = jax.tree.map(lambda a: np.zeros(a.shape), target)

    with ocp.StandardCheckpointer() as reader:
        for step, shares in zip(steps, weights.reshape(len(steps), -1), strict=True):
            stored = reader.restore(directory / str(step) / ITEM, manifest.abstract(targets))
            for share, average in zip(shares, stored, strict=True):
                total = jax.tree.map(
                    lambda sum, a, share=share: sum + share * np.asarray(a, np.float64), total, average
                )
    average = jax.tree.map(lambda sum, a: sum.astype(a.dtype), total, target)
    if frozen is None or checkpoints is None:
        return average
    return join(average, jax.tree.map(np.asarray, restore_frozen(checkpoints, frozen)))
