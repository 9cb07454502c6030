"""The list of a run's checkpoints and snapshots of averages, read without its configuration or a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from gcdiff.training import manifest
from gcdiff.training.keep import Keep, dropped

CHECKPOINTS, SNAPSHOTS = "checkpoints", "snapshots"


class Saved(NamedTuple):
    """A folder of saved arrays: its step, the time when it was finished (seconds since the epoch), its size in bytes.

    `finished` is whether its manifest, which is written last, is there.
    """

    path: Path
    step: int
    time: float
    size: int
    finished: bool


def saved(directory: Path) -> list[Saved]:
    """The folders of all steps under `directory`, the oldest first, finished or not."""
    return [_look_at(directory / str(step)) for step in sorted(manifest.steps(directory))]


def aside(directory: Path) -> list[Saved]:
    """The damaged folders under `directory` that were set aside, the oldest first."""
    return [_look_at(path) for path in manifest.aside(directory)]


def surplus(directory: Path, keep: Keep) -> list[Saved]:
    """The folders under `directory` that pruning removes: all but the undamaged steps that `keep` keeps.

    Steps come first, the oldest before the others, then what was set aside and what killed saves have left.

    Raises ValueError where no step is good.
    """
    folders = saved(directory)
    good = [folder for folder in folders if manifest.damage(folder.path) is None]
    if not good:
        raise ValueError(f"{directory}: no checkpoint is good, expected one to keep; nothing is removed")
    numbers = manifest.finished(directory)
    drop = dropped({folder.step: numbers[folder.step] for folder in good}, keep)
    rest = [folder for folder in folders if folder not in good or folder.step in drop]
    return [*rest, *aside(directory), *map(_look_at, manifest.leftovers(directory))]


def metrics(workdir: Path) -> dict[int, dict[str, float]]:
    """The loss and the held-out numbers in metrics.jsonl by step; lines that cannot be read are passed over."""
    by_step: dict[int, dict[str, float]] = {}
    file = workdir / "metrics.jsonl"
    for line in file.read_text(errors="replace").splitlines() if file.is_file() else []:
        try:
            fields = json.loads(line)
            shown = {k: v for k, v in fields.items() if k == "train/loss" or k.startswith("eval/")}
            numbers = {k.split("/", 1)[1]: v for k, v in shown.items() if isinstance(v, int | float)}
            by_step.setdefault(fields["step"], {}).update(numbers)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return by_step


def _look_at(path: Path) -> Saved:
    listed = path / manifest.MANIFEST
    finished = listed.is_file()
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    step = int(path.name.split(".")[0])
    return Saved(path, step, (listed if finished else path).stat().st_mtime, size, finished)
