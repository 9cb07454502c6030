"""Exports: a model's averaged parameters in one safetensors file, beside the files that say what the model is.

model.safetensors holds every array under the '/'-joined names of its place in the tree, in float32 or rounded to
bfloat16, and as metadata a sha256 of them all, since flipped bytes are otherwise read without a word. config.json,
specs.json (with the vocabulary) and DATA_LICENCE.txt are those of the run. Nothing that is read is executed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from gcdiff.training import manifest

WEIGHTS = "model.safetensors"
FILES = (WEIGHTS, "config.json", "specs.json", "DATA_LICENCE.txt")
WORSE = "worse"
"""The folder in a run or an export with the worse model of autoguidance, an export itself."""
MADE_ANEW = ".compiled"  # left there by commands that load the export


def is_export(directory: Path) -> bool:
    """Whether a directory holds an export and not a run."""
    return (directory / WEIGHTS).is_file() and not (directory / "checkpoints").exists()


def check_place(out: Path) -> None:
    """Raise ValueError unless `out` may be written: it is new, empty, or an export to replace."""
    present = {p.name for p in out.iterdir()} if out.is_dir() else set()
    other = sorted(present - {*FILES, WORSE, MADE_ANEW} if WEIGHTS in present else present)
    if other:
        raise ValueError(f"{out} holds {other[0]}: expected a new or an empty folder, or an export to write over")


def save_export(out: Path, params: Any, describe: Callable[[Path], object], dtype: str = "float32") -> None:
    """Write a pytree of arrays as an export to `out`; `describe(folder)` writes the files beside them.

    With `dtype` bfloat16 what is float32 is rounded, to half the bytes; what reads it makes float32 of it again.
    All is written beside `out` and moved there when it is complete. Raises ValueError where `check_place` does.
    """
    check_place(out)
    out = out.resolve()
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in manifest.named(params).items()}
    if dtype == "bfloat16":
        arrays = {n: a.astype(ml_dtypes.bfloat16) if a.dtype == np.float32 else a for n, a in arrays.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        new = Path(folder) / "new"
        new.mkdir()
        describe(new)
        (new / WEIGHTS).touch()
        mode = (new / WEIGHTS).stat().st_mode  # safetensors makes a file that its owner alone may read
        save_file(arrays, new / WEIGHTS, {"sha256": _digest(arrays)})
        (new / WEIGHTS).chmod(mode)
        if not out.exists():
            new.rename(out)
            return
        old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f"{out.name}.old-"))
        out.rename(old)
        new.rename(out)
    shutil.rmtree(old)


def restore_export(directory: Path, target: Any) -> Any:
    """Read the parameters of an export as numpy arrays. `target` gives structure, shapes and dtypes.

    What was rounded to bfloat16 for the file is float32 again.

    Raises ValueError, in one line, for a damaged file, and for a parameter that is missing, too many or of another
    shape.
    """
    file = directory / WEIGHTS
    arrays = read_arrays(file)
    wanted = manifest.named(target)
    for name in arrays.keys() & wanted.keys():
        if arrays[name].dtype == ml_dtypes.bfloat16 and wanted[name].dtype == np.float32:
            arrays[name] = arrays[name].astype(np.float32)
    manifest.check_arrays(file, manifest.shapes(arrays), target)
    return jax.tree.unflatten(jax.tree.structure(target), [arrays[name] for name in wanted])


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an export's file, as they are there. Raises ValueError, in one line, for a damaged one."""
    try:
        with safe_open(file, framework="np") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  it is no mapping
            digest = (opened.metadata() or {}).get("sha256")
    except Exception as error:  # its reader has an exception of its own
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: damaged, expected a safetensors file ({reason})") from None
    if digest is not None and digest != _digest(arrays):  # files that other programs write have none
        raise ValueError(f"{file}: damaged, its arrays have changed since they were written")
    return arrays


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of the names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype}{list(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
