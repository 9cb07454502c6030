"""What a run has saved, its checkpoints and its snapshots of averages, without a configuration or a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from gcdiff.training import manifest

CHECKPOINTS, SNAPSHOTS = "checkpoints", "snapshots"


class Saved(NamedTuple):
    """A folder of saved arrays: when it was finished, in seconds of the clock, and its size in bytes. `finished` is
    whether its manifest, which is written last, is there."""

    path: Path
    step: int
    time: float
    size: int
    finished: bool


def saved(directory: Path) -> list[Saved]:
    """The steps under `directory`, the oldest first, in any state."""
    return [_look_at(directory / str(step), step) for step in sorted(manifest.steps(directory))]


def surplus(directory: Path, keep: int) -> list[Saved]:
    """The steps under `directory` that are not among the newest `keep` good ones, the oldest first.

    A save that has not finished and is newer than all good ones is none of them: it may be going on. Raises ValueError
    where no step is good, or `keep` is less than 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, expected at least 1")
    good, rest = 0, []
    for folder in reversed(saved(directory)):
        if good < keep and manifest.damage(folder.path) is None:
            good += 1
        elif good or folder.finished:
            rest.append(folder)
    if not good:
        raise ValueError(f"{directory}: no checkpoint is good, expected one to keep; nothing is removed")
    return rest[::-1]


def metrics(workdir: Path) -> dict[int, dict[str, float]]:
    """The loss and the held-out numbers that metrics.jsonl has of each step; nothing of lines that cannot be read."""
    found: dict[int, dict[str, float]] = {}
    file = workdir / "metrics.jsonl"
    for line in file.read_text(errors="replace").splitlines() if file.is_file() else []:
        try:
            fields = json.loads(line)
            shown = {k: v for k, v in fields.items() if k == "train/loss" or k.startswith("eval/")}
            numbers = {k.split("/", 1)[1]: v for k, v in shown.items() if isinstance(v, int | float)}
            found.setdefault(fields["step"], {}).update(numbers)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _look_at(path: Path, step: int) -> Saved:
    listed = path / manifest.MANIFEST
    finished = listed.is_file()
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return Saved(path, step, (listed if finished else path).stat().st_mtime, size, finished)
