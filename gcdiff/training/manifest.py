"""Manifests of folders of saved arrays: checksums of the files and shapes of the arrays, written last.

`manifest.json` holds the sha256 of every file, since flipped bytes inside array data are otherwise restored without a
word; the shape of every array, since a changed configuration is not damage; the held-out numbers of the
step; and the sha256 of all this. A folder is written beside its place under a name that ends in `.partial` and
moved there with its manifest, so that a step is whole or not there. What is damaged is set aside as `<step>.damaged`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

MANIFEST = "manifest.json"
PARTIAL = ".partial"
ASIDE = re.compile(r"(\d+)\.damaged(-\d+)?")
UNFINISHED = re.compile(r"\d+\.(partial|orbax-checkpoint-tmp).*")


def finish(
    folder: Path,
    path: Path,
    arrays: Mapping[str, Mapping[str, str]],
    numbers: Mapping[str, float] | None = None,
) -> None:
    """Write the manifest of a folder and move it to `path`. A folder at `path` is wholly on the disk.

    `arrays` are the `shapes` of every item, `numbers` what was measured; those that are not finite are left out.
    """
    for place in [folder, *folder.rglob("*")]:
        _settle(place)
    known = {name: float(value) for name, value in (numbers or {}).items() if math.isfinite(value)}
    (folder / MANIFEST).write_text(_sealed({"files": _checksums(folder), "arrays": arrays, "numbers": known}))
    _settle(folder / MANIFEST)
    folder.rename(path)
    _settle(path.parent)


def partial(path: Path) -> Path:
    """The place of a folder while it is written or removed."""
    return path.with_name(path.name + PARTIAL)


def remove(path: Path) -> None:
    """Remove a folder, after renaming it: a half removed folder never has the name of a step."""
    shutil.rmtree(partial(path), ignore_errors=True)
    path.rename(partial(path))
    shutil.rmtree(partial(path))


def set_aside(path: Path) -> Path:
    """Rename a damaged folder so that it is no step any more; returns the new path."""
    names = itertools.chain([".damaged"], (f".damaged-{n}" for n in itertools.count(2)))
    place = next(free for name in names if not (free := path.with_name(path.name + name)).exists())
    return path.rename(place)


def steps(directory: Path) -> list[int]:
    """The steps that have a folder in `directory`, finished or not."""
    return [int(p.name) for p in _folders(directory) if p.name.isdigit()]


def aside(directory: Path) -> list[Path]:
    """The folders that were set aside, by step."""
    return sorted((p for p in _folders(directory) if ASIDE.fullmatch(p.name)), key=lambda p: int(p.name.split(".")[0]))


def leftovers(directory: Path) -> list[Path]:
    """The unfinished folders of saves that were killed."""
    return sorted(p for p in _folders(directory) if UNFINISHED.fullmatch(p.name))


def newest_first(directory: Path) -> Iterator[tuple[int, str | None]]:
    """Every step, the newest first, with the `damage` of its folder."""
    for step in sorted(steps(directory), reverse=True):
        yield step, damage(directory / str(step))


def finished(directory: Path) -> dict[int, dict[str, float]]:
    """The held-out numbers by step, of all steps with a whole manifest. Other files are not checked."""
    by_step = {}
    for step in sorted(steps(directory)):
        try:
            by_step[step] = _read(directory / str(step)).get("numbers", {})
        except (OSError, ValueError):
            continue
    return by_step


def damage(path: Path) -> str | None:
    """A line about damage to the files of a folder, naming the first of them; None for a good folder."""
    try:
        wanted = _read(path)["files"]
    except FileNotFoundError:
        return f"no {MANIFEST}: the save did not finish"
    except (OSError, ValueError) as error:
        return str(error) if isinstance(error, ValueError) else f"{MANIFEST} cannot be read ({error.strerror})"
    try:
        actual = _checksums(path)
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    bad = sorted(name for name in wanted if actual.get(name) != wanted[name])
    if not bad:
        return None
    more = f", and {len(bad) - 1} more" if bad[1:] else ""
    return f"{bad[0]} is {'changed' if bad[0] in actual else 'missing'}{more}"


def check_fit(path: Path, item: str, target: Any) -> None:
    """Raise ValueError, naming the array, unless an item of a folder has the arrays of `target`."""
    check_arrays(path, arrays(path).get(item, {}), target)


def arrays(path: Path) -> dict[str, dict[str, str]]:
    """The types and shapes of the arrays in a folder, by item and name (see `shapes`)."""
    return _read(path)["arrays"]


def check_arrays(place: Path, stored: Mapping[str, str], target: Any) -> None:
    """Raise ValueError, naming the array, unless the `shapes` stored in `place` are those of `target`."""
    wanted = shapes(target)
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            have, want = (side.get(name, "nothing") for side in (stored, wanted))
            raise ValueError(f"{place}: holds {have} for {name}, the configuration expects {want}")


def abstract(tree: Any) -> Any:
    """Shapes with shardings: without one, Orbax asks for the devices that the arrays were saved from."""
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or default), tree
    )


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree, in its order, by their '/'-joined paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, str]:
    """The types and shapes of the arrays of a pytree, as in float32[3, 4], by name."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named(tree).items()}


def _folders(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sealed(content: Mapping[str, Any]) -> str:
    """The text of a manifest, with the sha256 of its content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, sort_keys=True)


def _read(path: Path) -> dict[str, Any]:
    """Read a manifest. Raises FileNotFoundError, and ValueError unless it is to the byte what was written."""
    try:
        text = (path / MANIFEST).read_text()
        content = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    if "sha256" in content:
        whole = text == _sealed({name: value for name, value in content.items() if name != "sha256"})
    else:  # as they were before they held a sum
        whole = content.keys() == {"files", "arrays"} and isinstance(content["files"], dict)
    if not whole:
        raise ValueError(f"{MANIFEST} is changed")
    return content


def _checksums(path: Path) -> dict[str, str]:
    sums = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        with file.open("rb") as content:
            sums[file.relative_to(path).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums


def _settle(place: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync); a full disk may be reported only now."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
