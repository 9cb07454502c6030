"""Checkpoints of a run: Orbax arrays and JSON, one directory per step, complete or not there.

A checkpoint holds the items `state` (step, parameters, optimiser), `ema` (the averaged parameters alone), `profiles`
(the averages of other lengths, where a run keeps them), `frozen` (the parameters that are not trained, where there are
such: they are in no other item), JSON documents, each an item of its own, and a manifest of its files and arrays,
written last. `ema` and `frozen` are all that using a model needs. A save copies the arrays off the devices and goes on
in the background. Damage is reported, set aside and stepped over; a checkpoint that does not fit is an error and is
never touched.

With several processes every one of them calls `save`, `wait` and `restore`, in the same order, and writes and reads its
own parts of the arrays; the first decides which step is good, and alone writes manifests, sets aside and drops.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gcdiff.training import manifest
from gcdiff.training.groups import join, split
from gcdiff.training.keep import Keep, check_best, dropped
from gcdiff.training.state import TrainState

FROZEN = "frozen"
APART = ("ema", "profiles", FROZEN)
"""The fields of a state that are items of their own, where they hold arrays."""

GONE = "the directory has been removed"


class Checkpointer:
    """Saves and restores training states under `directory`, keeping what `keep` says. What killed saves have left
    there is removed."""

    def __init__(self, directory: str | Path, keep: Keep | None = None):
        hush_orbax()
        self.directory = Path(directory).absolute()
        self._keep = keep or Keep()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        self._place = os.open(self.directory, os.O_RDONLY)  # as long as it is open its number goes to no other
        self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._background = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[int, Future] | None = None
        self._saves = 0

    def latest(self) -> int | None:
        """The newest step that is finished, None if there is none."""
        return max(manifest.finished(self.directory), default=None)

    def save(
        self, step: int, state: TrainState, documents: Mapping[str, Any], numbers: Mapping[str, float] | None = None
    ) -> None:
        """Save `state` and JSON-able `documents` by name as `step`; returns when the arrays have been copied off the
        devices, and `state` may be donated.

        `numbers` are the held-out numbers of the step, where it was evaluated. Old steps are dropped when this one is
        finished. Raises OSError, in one line, if this or the save before could not be written or the step is there
        already, and ValueError if `keep.best` is none of the numbers.
        """
        if numbers:
            check_best(numbers, self._keep)
        self.wait()
        path = self.directory / str(step)
        if path.exists():
            raise FileExistsError(f"{path}: there is a checkpoint of this step already")
        documents = json.loads(json.dumps(documents))  # first: a value that JSON cannot hold is no fault of the disk
        items = _items(state)
        args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args |= {name: ocp.args.JsonSave(document) for name, document in documents.items()}
        self._saves += 1  # every save has a folder of its own: one that failed may still write to its own
        folder = path.with_name(f"{manifest.partial(path).name}-{self._saves}")
        try:
            if self._gone():
                raise FileNotFoundError(GONE)
            self._writer.save(folder, args=ocp.args.Composite(**args))
        except Exception as error:
            raise self._failure(step, error) from error
        arrays = {name: manifest.shapes(item) for name, item in items.items()}
        self._pending = step, self._background.submit(self._finish, folder, path, arrays, numbers)

    def wait(self) -> None:
        """Wait until the last save is on disk.

        Raises OSError, in one line, if it could not be written: on every process, whichever it was.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()
        if jax.process_count() > 1:
            failed = multihost_utils.process_allgather(np.array(error is not None))
            if error is None and failed.any():
                error = OSError(f"process {int(np.argmax(failed))} could not write")
        if error is not None:
            raise self._failure(step, error) from error

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest undamaged checkpoint as (state, documents by name), None if there is none. Damaged ones
        are set aside.

        `target` gives structure, shapes, dtypes and shardings (jax.ShapeDtypeStruct or arrays), for any number of
        devices. Raises ValueError if the checkpoint does not fit `target`.
        """
        self.wait()
        step = self._newest_good()
        if step is None:
            return None
        path, items = self.directory / str(step), _items(target)
        for name, item in items.items():
            manifest.check_fit(path, name, item)
        documents = sorted({p.name for p in path.iterdir() if p.is_dir()} - manifest.arrays(path).keys())
        args = {name: ocp.args.StandardRestore(manifest.abstract(item)) for name, item in items.items()}
        args |= {name: ocp.args.JsonRestore() for name in documents}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            stored = reader.restore(path, args=ocp.args.Composite(**args))
        fields = {**stored["state"], **{name: stored[name] for name in APART if name in items}}
        return dataclasses.replace(target, **fields), {name: stored[name] for name in documents}

    def close(self) -> None:
        """Wait until this process has written its last save, and for no other process; it may be called on any way out.

        Raises OSError, in one line, if it could not be written.
        """
        self._background.shutdown()
        (step, future), self._pending = self._pending or (0, None), None
        self._writer.close()
        error = None if future is None else future.exception()
        failure = None if error is None else self._failure(step, error)
        os.close(self._place)
        if failure is not None:
            raise failure from error

    def _finish(
        self, folder: Path, path: Path, arrays: dict[str, dict[str, str]], numbers: Mapping[str, float] | None
    ) -> None:
        """Finish a save once the arrays have been copied: manifest, then dropping old steps. Runs in the background."""
        self._writer.wait_until_finished()
        if jax.process_index() == 0:
            if self._gone():
                raise FileNotFoundError(GONE)
            manifest.finish(folder, path, arrays, numbers)
            for old in dropped(manifest.finished(self.directory), self._keep):
                manifest.remove(self.directory / str(old))

    def _failure(self, step: int, error: BaseException) -> OSError:
        """The error of a failed save, in one line with the last good step; what the save left is removed."""
        self._remove_leftovers()
        latest, reason = self.latest(), GONE if self._gone() else _reason(error)
        if latest == step:
            return OSError(f"{self.directory}: step {step} is saved, but an older one not removed ({reason})")
        rest = "there is no checkpoint" if latest is None else f"the last good checkpoint is step {latest}"
        return OSError(f"{self.directory}: step {step} could not be saved ({reason}); {rest}")

    def _gone(self) -> bool:
        """Whether the directory has been removed or replaced. Orbax would make a new one, be it on another disk."""
        try:
            return not os.path.samestat(os.fstat(self._place), self.directory.stat())
        except OSError:
            return True

    def _remove_leftovers(self) -> None:
        if jax.process_index() == 0:
            for path in manifest.leftovers(self.directory):
                shutil.rmtree(path, ignore_errors=True)

    def _newest_good(self) -> int | None:
        """The newest undamaged step or None. The first process looks for it, and sets damaged steps aside."""
        good = -1
        if jax.process_index() == 0:
            for step, damage in manifest.newest_first(self.directory):
                if damage is None:
                    good = step
                    break
                path = self.directory / str(step)
                print(f"{path}: damaged ({damage}); set aside as {manifest.set_aside(path).name}", file=sys.stderr)
        if jax.process_count() > 1:
            good = int(multihost_utils.broadcast_one_to_all(np.int32(good)))
        return None if good < 0 else good


def save_ema(directory: str | Path, step: int, ema: Any, meta: dict) -> None:
    """Save averaged parameters that come without a training state as `step`; returns when all is on disk."""
    path = Path(directory).absolute() / str(step)
    args = ocp.args.Composite(ema=ocp.args.StandardSave(ema), meta=ocp.args.JsonSave(meta))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(manifest.partial(path), args=args)
    manifest.finish(manifest.partial(path), path, {"ema": manifest.shapes(ema)})


def restore_ema(directory: str | Path, target: Any) -> Any:
    """Read the averaged parameters of the newest undamaged checkpoint under `directory`, with those that are frozen.

    `target` gives structure, shapes and dtypes; leaves without a sharding go to the first device. Raises
    FileNotFoundError if there is no checkpoint, ValueError if none is whole or it does not fit `target`.
    """
    path = _newest_whole(Path(directory).absolute())
    stored = manifest.arrays(path)
    frozen = stored.get(FROZEN, {})
    manifest.check_arrays(path, {**stored.get("ema", {}), **frozen}, target)
    averaged, rest = split(target, frozen)
    return join(_read(path, "ema", averaged), None if rest is None else _read(path, FROZEN, rest))


def restore_frozen(directory: str | Path, target: Any) -> Any:
    """Read the frozen parameters alone, as in `restore_ema`; `target` is the frozen part of the tree."""
    path = _newest_whole(Path(directory).absolute())
    manifest.check_fit(path, FROZEN, target)
    return _read(path, FROZEN, target)


def frozen_in(directory: str | Path) -> set[str]:
    """The names of the frozen parameters of the newest finished checkpoint under `directory`; there may be none."""
    directory = Path(directory).absolute()
    step = max(manifest.finished(directory), default=None)
    return set() if step is None else set(manifest.arrays(directory / str(step)).get(FROZEN, ()))


def _newest_whole(directory: Path) -> Path:
    """The folder of the newest undamaged checkpoint. Raises as `restore_ema` does."""
    if not manifest.steps(directory):
        raise FileNotFoundError(f"{directory}: no checkpoint found")
    for step, damage in manifest.newest_first(directory):
        path = directory / str(step)
        if damage:
            print(f"{path}: damaged ({damage}); passed over", file=sys.stderr)
            continue
        return path
    raise ValueError(f"{directory}: every checkpoint is damaged")


def _read(path: Path, item: str, target: Any) -> Any:
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path / item, manifest.abstract(target))


def _items(state: TrainState) -> dict[str, Any]:
    """The trees of arrays that a state is saved as, by name."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    apart = {name: tree for name in APART if jax.tree.leaves(tree := fields.pop(name))}
    return {"state": fields, **apart}


def _reason(error: BaseException) -> str:
    """The message of an error in one line; of errors of a system call, the system's own."""
    text = " ".join(str(error).split()) or type(error).__name__
    if code := re.search(r"\[os_error_code='(\d+)'\]", text):  # behind several paths
        return os.strerror(int(code[1]))
    return error.strerror if isinstance(error, OSError) and error.strerror else text[:200]


@functools.cache
def hush_orbax() -> None:
    """Silence Orbax's logs of errors that it also raises, and of its unfinished writes after them."""
    orbax = f"{os.sep}orbax{os.sep}"
    logging.getLogger("absl").addFilter(lambda r: r.levelno < logging.ERROR or orbax not in r.pathname)
    logging.getLogger("asyncio").addFilter(lambda r: "exception was never retrieved" not in r.getMessage())
    previous = sys.unraisablehook

    def hook(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook
