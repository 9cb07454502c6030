"""Checkpoints of a run: Orbax arrays and JSON, one directory per step, complete or not there.

A checkpoint holds three items: `state` (step, parameters, optimiser), `ema` (the averaged parameters alone, all that
using a model needs) and `meta` (JSON). Beside them lies `manifest.json`, written last: the sha256 of every file, since
flipped bytes inside array data are otherwise restored without a word, and the shape of every array, since a changed
configuration must be told apart from damage. Damage is reported, deleted and stepped over; a checkpoint that does not
fit is an error and is never touched. One process writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from gcdiff.training.state import TrainState

MANIFEST = "manifest.json"


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
        return max(_steps(self.directory), default=None)

    def save(self, step: int, state: TrainState, meta: dict) -> None:
        """Save `state` and the JSON-able `meta` as `step`; returns when all is on disk."""
        items = _items(state)
        arrays = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        self._manager.save(step, args=ocp.args.Composite(meta=ocp.args.JsonSave(meta), **arrays))
        path = self.directory / str(step)
        manifest = {"files": _checksums(path), "arrays": {name: _shapes(item) for name, item in items.items()}}
        partial = path / (MANIFEST + ".partial")
        partial.write_text(json.dumps(manifest))
        os.replace(partial, path / MANIFEST)

    def restore(self, target: TrainState) -> tuple[TrainState, dict] | None:
        """The newest undamaged checkpoint as (state, meta), None if there is none. Damaged ones are deleted.

        `target` gives structure, shapes, dtypes and shardings (jax.ShapeDtypeStruct or arrays).
        Raises ValueError if the checkpoint does not fit `target`.
        """
        for step, damage in _newest_first(self.directory):
            path = self.directory / str(step)
            if damage:
                print(f"{path}: damaged ({damage}); deleted", file=sys.stderr)
                shutil.rmtree(path)
                self._manager.reload()
                continue
            items = _items(target)
            for name, item in items.items():
                _check_fit(path, name, item)
            arrays = {name: ocp.args.StandardRestore(_abstract(item)) for name, item in items.items()}
            found = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore(), **arrays))
            return TrainState(**found["state"], ema=found["ema"]), found["meta"]
        return None

    def close(self) -> None:
        self._manager.close()


def restore_ema(directory: str | Path, target: Any) -> Any:
    """The averaged parameters of the newest undamaged checkpoint under `directory`, which is left as it is.

    `target` gives structure, shapes and dtypes; leaves without a sharding go to the first device. Raises
    FileNotFoundError if there is no checkpoint, ValueError if none is whole or it does not fit `target`.
    """
    directory = Path(directory).absolute()
    if not _steps(directory):
        raise FileNotFoundError(f"{directory}: no checkpoint found")
    for step, damage in _newest_first(directory):
        path = directory / str(step)
        if damage:
            print(f"{path}: damaged ({damage}); passed over", file=sys.stderr)
            continue
        _check_fit(path, "ema", target)
        with ocp.StandardCheckpointer() as reader:
            return reader.restore(path / "ema", _abstract(target))
    raise ValueError(f"{directory}: every checkpoint is damaged")


def _items(state: TrainState) -> dict[str, Any]:
    return {"state": {"step": state.step, "params": state.params, "opt_state": state.opt_state}, "ema": state.ema}


def _steps(directory: Path) -> list[int]:
    return [int(p.name) for p in directory.iterdir() if p.name.isdigit()] if directory.is_dir() else []


def _newest_first(directory: Path) -> Iterator[tuple[int, str | None]]:
    for step in sorted(_steps(directory), reverse=True):
        yield step, _damage(directory / str(step))


def _damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None if nothing is."""
    try:
        wanted = json.loads((path / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"no {MANIFEST}: the save did not finish"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} cannot be read"
    found = _checksums(path)
    bad = sorted(name for name in wanted if found.get(name) != wanted[name])
    return f"{bad[0]} is {'changed' if bad[0] in found else 'missing'}" if bad else None


def _checksums(path: Path) -> dict[str, str]:
    sums = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        with file.open("rb") as content:
            sums[file.relative_to(path).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums


def _shapes(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _check_fit(path: Path, item: str, target: Any) -> None:
    stored, wanted = json.loads((path / MANIFEST).read_text())["arrays"][item], _shapes(target)
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            have, want = (shapes.get(name, "nothing") for shapes in (stored, wanted))
            raise ValueError(f"{path}: holds {have} for {name}, the configuration expects {want}")


def _abstract(tree: Any) -> Any:
    """Shapes with shardings: without one, Orbax asks for the devices that the checkpoint was saved from."""
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or default), tree
    )
