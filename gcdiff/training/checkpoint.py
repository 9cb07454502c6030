"""Checkpoints of a run: Orbax arrays and JSON, one directory per step, complete or not there.

A checkpoint holds the items `state` (step, parameters, optimiser), `ema` (the averaged parameters alone, all that
using a model needs), `profiles` (the averages of other lengths, where a run keeps them) and `meta` (JSON), and a
manifest of its files and arrays, written last. Damage is reported, deleted and stepped over; a checkpoint that does not
fit is an error and is never touched. One process writes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from gcdiff.training import manifest
from gcdiff.training.state import TrainState


class Checkpointer:
    """Saves and restores training states under `directory`, keeping the newest `keep`."""

    def __init__(self, directory: str | Path, keep: int = 2):
        self.directory = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest(self) -> int | None:
        """The newest step on disk, None if there is none."""
        return max(manifest.steps(self.directory), default=None)

    def save(self, step: int, state: TrainState, documents: dict, numbers: dict | None = None) -> None:
        """Save `state` and the JSON-able `documents` as `step`; returns when all is on disk."""
        items = _items(state)
        arrays = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        self._manager.save(step, args=ocp.args.Composite(meta=ocp.args.JsonSave(documents), **arrays))
        manifest.write_manifest(self.directory / str(step), items)

    def restore(self, target: TrainState) -> tuple[TrainState, dict] | None:
        """The newest undamaged checkpoint as (state, meta), None if there is none. Damaged ones are deleted.

        `target` gives structure, shapes, dtypes and shardings (jax.ShapeDtypeStruct or arrays).
        Raises ValueError if the checkpoint does not fit `target`.
        """
        for step, damage in manifest.newest_first(self.directory):
            path = self.directory / str(step)
            if damage:
                print(f"{path}: damaged ({damage}); deleted", file=sys.stderr)
                shutil.rmtree(path)
                self._manager.reload()
                continue
            items = _items(target)
            for name, item in items.items():
                manifest.check_fit(path, name, item)
            arrays = {name: ocp.args.StandardRestore(manifest.abstract(item)) for name, item in items.items()}
            found = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore(), **arrays))
            averages = {name: found[name] for name in ("ema", "profiles") if name in items}
            documents = found["meta"] if "meta" in found["meta"] else {"meta": found["meta"]}
            return TrainState(**found["state"], **averages), documents
        return None

    def wait(self) -> None:
        pass

    def close(self) -> None:
        self._manager.close()


def save_ema(directory: str | Path, step: int, ema: Any, meta: dict) -> None:
    """Save averaged parameters that come without a training state as `step`; returns when all is on disk."""
    path = Path(directory).absolute() / str(step)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(path, args=ocp.args.Composite(ema=ocp.args.StandardSave(ema), meta=ocp.args.JsonSave(meta)))
    manifest.write_manifest(path, {"ema": ema})


def restore_ema(directory: str | Path, target: Any) -> Any:
    """The averaged parameters of the newest undamaged checkpoint under `directory`, which is left as it is.

    `target` gives structure, shapes and dtypes; leaves without a sharding go to the first device. Raises
    FileNotFoundError if there is no checkpoint, ValueError if none is whole or it does not fit `target`.
    """
    directory = Path(directory).absolute()
    if not manifest.steps(directory):
        raise FileNotFoundError(f"{directory}: no checkpoint found")
    for step, damage in manifest.newest_first(directory):
        path = directory / str(step)
        if damage:
            print(f"{path}: damaged ({damage}); passed over", file=sys.stderr)
            continue
        manifest.check_fit(path, "ema", target)
        with ocp.StandardCheckpointer() as reader:
            return reader.restore(path / "ema", manifest.abstract(target))
    raise ValueError(f"{directory}: every checkpoint is damaged")


def _items(state: TrainState) -> dict[str, Any]:
    items = {"state": {"step": state.step, "params": state.params, "opt_state": state.opt_state}, "ema": state.ema}
    return {**items, "profiles": state.profiles} if state.profiles else items
