"""What makes a folder of saved arrays trustworthy: a list of its files and arrays, written last.

`manifest.json` holds the sha256 of every file, since flipped bytes inside array data are otherwise restored without a
word, and the shape of every array, since a changed configuration must be told apart from damage.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

MANIFEST = "manifest.json"


def write_manifest(path: Path, items: Mapping[str, Any]) -> None:
    """List the files under `path` and the arrays of `items`, pytrees by name, in its manifest."""
    manifest = {"files": _checksums(path), "arrays": {name: shapes(item) for name, item in items.items()}}
    partial = path / (MANIFEST + ".partial")
    partial.write_text(json.dumps(manifest))
    os.replace(partial, path / MANIFEST)


def steps(directory: Path) -> list[int]:
    """The steps that `directory` has a folder of, in any state."""
    return [int(p.name) for p in directory.iterdir() if p.name.isdigit()] if directory.is_dir() else []


def newest_first(directory: Path) -> Iterator[tuple[int, str | None]]:
    """Every step with what is wrong with its folder, None if nothing is, one after the other."""
    for step in sorted(steps(directory), reverse=True):
        yield step, damage(directory / str(step))


def damage(path: Path) -> str | None:
    """What is wrong with the files of a folder, naming the first of them; None if nothing is."""
    try:
        wanted = json.loads((path / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"no {MANIFEST}: the save did not finish"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} cannot be read"
    found = _checksums(path)
    bad = sorted(name for name in wanted if found.get(name) != wanted[name])
    if not bad:
        return None
    more = f", and {len(bad) - 1} more" if bad[1:] else ""
    return f"{bad[0]} is {'changed' if bad[0] in found else 'missing'}{more}"


def check_fit(path: Path, item: str, target: Any) -> None:
    """Raise ValueError, naming the array, unless the item of a folder has the arrays of `target`."""
    check_arrays(path, json.loads((path / MANIFEST).read_text())["arrays"].get(item, {}), target)


def check_arrays(place: Path, stored: Mapping[str, str], target: Any) -> None:
    """Raise ValueError, naming the array, unless the `shapes` that are stored in a place are those of `target`."""
    wanted = shapes(target)
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            have, want = (found.get(name, "nothing") for found in (stored, wanted))
            raise ValueError(f"{place}: holds {have} for {name}, the configuration expects {want}")


def abstract(tree: Any) -> Any:
    """Shapes with shardings: without one, Orbax asks for the devices that the arrays were saved from."""
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or default), tree
    )


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree, in its order, by the '/'-joined names of their places."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, str]:
    """Types and shapes of the arrays of a pytree, as in float32[3, 4], by name."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named(tree).items()}


def _checksums(path: Path) -> dict[str, str]:
    sums = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        with file.open("rb") as content:
            sums[file.relative_to(path).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums
