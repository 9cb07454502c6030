"""What makes a folder of saved arrays trustworthy: a list of its files and arrays, written last.

`manifest.json` holds the sha256 of every file, since flipped bytes inside array data are otherwise restored without a
word; the shape of every array, since a changed configuration is not damage; the held-out numbers of
the step; and the sha256 of all this. A folder is written beside its place under a name that ends in `.partial` and
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
    """Give a folder its manifest and move it to `path`. When that is there, all of it is on the disk.

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
    """Where a folder is while it is written or removed."""
    return path.with_name(path.name + PARTIAL)


def remove(path: Path) -> None:
    """Remove a folder; at no time is half of it there under its name."""
    shutil.rmtree(partial(path), ignore_errors=True)
    path.rename(partial(path))
    shutil.rmtree(partial(path))


def set_aside(path: Path) -> Path:
    """Rename a damaged folder so that it is no step any more, and return where it is."""
    names = itertools.chain([".damaged"], (f".damaged-{n}" for n in itertools.count(2)))
    place = next(free for name in names if not (free := path.with_name(path.name + name)).exists())
    return path.rename(place)


def steps(directory: Path) -> list[int]:
    """The steps that `directory` has a folder of, in any state."""
    return [int(p.name) for p in _folders(directory) if p.name.isdigit()]


def aside(directory: Path) -> list[Path]:
    """The folders that were set aside, by step."""
    return sorted((p for p in _folders(directory) if ASIDE.fullmatch(p.name)), key=lambda p: int(p.name.split(".")[0]))


def leftovers(directory: Path) -> list[Path]:
    """What saves that were killed have left."""
    return sorted(p for p in _folders(directory) if UNFINISHED.fullmatch(p.name))


def newest_first(directory: Path) -> Iterator[tuple[int, str | None]]:
    """Every step with what is wrong with its folder, None if nothing is, one after the other."""
    for step in sorted(steps(directory), reverse=True):
        yield step, damage(directory / str(step))


def finished(directory: Path) -> dict[int, dict[str, float]]:
    """The steps whose manifest is there and whole, with their held-out numbers. Their files are not looked at."""
    by_step = {}
    for step in sorted(steps(directory)):
        try:
            by_step[step] = _read(directory / str(step)).get("numbers", {})
        except (OSError, ValueError):
            continue
    return by_step


def damage(path: Path) -> str | None:
    """What is wrong with the files of a folder, naming the first of them; None if nothing is."""
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
    """Raise ValueError, naming the array, unless the item of a folder has the arrays of `target`."""
    check_arrays(path, arrays(path).get(item, {}), target)


def arrays(path: Path) -> dict[str, dict[str, str]]:
    """The `shapes` of the items of a folder."""
    return _read(path)["arrays"]


def check_arrays(place: Path, stored: Mapping[str, str], target: Any) -> None:
    """Raise ValueError, naming the array, unless the `shapes` that are stored in a place are those of `target`."""
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
    """The leaves of a pytree, in its order, by the '/'-joined names of their places."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, str]:
    """Types and shapes of the arrays of a pytree, as in float32[3, 4], by name."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named(tree).items()}


def _folders(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sealed(content: Mapping[str, Any]) -> str:
    """The text of a manifest, with the sha256 of what it says."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, sort_keys=True)


def _read(path: Path) -> dict[str, Any]:
    """What a manifest says. Raises FileNotFoundError, and ValueError unless it is to the byte what was written."""
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
    """Wait until a file or the names in a folder are on the disk; a disk that is full may say so only now."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
