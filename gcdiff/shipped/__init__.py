"""Models that are part of the package: a folder beside this file for each, which its name stands for.

A folder NAME holds an export in bfloat16 (`gcdiff.training.export`) and a card: by which command the model was made,
in what time, at what cost, and what was measured. Wherever a run is read NAME stands for the model, unless there is a
folder of that name. Nothing is written here but by tools/ship.py; the sha256 of the weights is compared whenever they
are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MODELS: dict[str, str] = {
    "faces": "8baf72d80ab80c36a6683a886549212eb5388681cbe072c394681ce20f66b0be",
    "streets": "12d5d3e5322d40b4581fb976f5ac94fb838a8c906352f4fd872ac8cb903a4aa7",
    "streets/worse": "a92871e278be9d942efeb10880be6e5c5d0b3a718b36a57ed989043e91435339",
}
"""The sha256 of each shipped model's file of weights, by the model's name; NAME/worse is the worse model of
autoguidance that NAME brings. tools/ship.py prints the rows."""
HOME = Path(__file__).resolve().parent
CARD = "card.json"
LARGEST = 20_000_000
"""The most bytes that a file of a shipped model may have."""


def find(workdir: str | Path) -> Path:
    """The folder that a run directory or the name of a shipped model stands for; a folder of that name goes first.

    Raises FileNotFoundError, in one line with the names there are, where there is neither.
    """
    path = Path(workdir)
    if path.is_dir():
        return path
    if (name := path.as_posix()) not in MODELS:
        names = [name for name in MODELS if "/" not in name]
        way = f"; models that are shipped: {', '.join(names)}" if names else ""
        raise FileNotFoundError(f"{path} is not a run directory: there is no such folder{way}")
    if not (HOME / name).is_dir():
        raise FileNotFoundError(f"{HOME / name}: missing, expected the shipped model {name}: install gcdiff again")
    return HOME / name


def is_shipped(workdir: str | Path) -> bool:
    """Whether a run directory, or a name, stands for a model in the package."""
    path = Path(workdir)
    return within(path) if path.is_dir() else path.as_posix() in MODELS


def within(place: Path) -> bool:
    """Whether a place lies in the folder of shipped models."""
    return place.resolve().is_relative_to(HOME)


def check(weights: Path) -> None:
    """Raise ValueError, in one line, unless a shipped model's file of weights has the sha256 that stands in MODELS."""
    if sha256(weights) != MODELS.get(weights.resolve().parent.relative_to(HOME).as_posix()):
        raise ValueError(f"{weights}: damaged, expected the file that gcdiff was published with: install gcdiff again")


def check_new(workdir: Path) -> None:
    """Raise ValueError where a training would write into the package, or make a folder that hides a shipped model."""
    check_outside(workdir)
    if workdir.as_posix() in MODELS and not workdir.is_dir():
        way = f"expected another --workdir, with --init {workdir} to begin with its weights"
        raise ValueError(f"{workdir} is a shipped model, which a folder of that name would hide: {way}")


def check_outside(place: Path) -> None:
    """Raise ValueError for a place to write to that lies in the folder of shipped models."""
    if within(place):
        raise ValueError(f"{place} lies where gcdiff keeps its shipped models: expected a place outside the package")


def said(workdir: Path) -> str | None:
    """A line on whether a shipped model's name stands for it or for a folder of that name; None for other names."""
    if (name := workdir.as_posix()) not in MODELS:
        return None
    if workdir.is_dir():
        return f"{name}: the folder of that name here is used, not the shipped model"
    return f"{name}: the shipped model is used, as there is no folder of that name here"


def hidden(workdir: Path) -> str:
    """What a message about a folder that is no run adds where it hides a shipped model."""
    hides = workdir.is_dir() and workdir.as_posix() in MODELS
    return f"; the folder hides the shipped model {workdir}: rename it, or work elsewhere" if hides else ""


def cache(workdir: Path) -> Path:
    """The folder of the user's cache for what is kept beside a run, but cannot be beside a shipped model."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcdiff" / workdir.name


def card(folder: Path) -> dict[str, Any]:
    """Read the card of a shipped model's folder; empty where there is none."""
    file = folder / CARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def sha256(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
