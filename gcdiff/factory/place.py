"""The folder of a data set that is being made: what it was begun for, and which examples are in it already.

generate.json says what is made. examples.jsonl has a line for every example that was drawn and judged, in the order of
their numbers, written after its files: what it names is there, and what it does not name is drawn again. Every file is
written under another name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gcdiff.factory.judge import KEPT, VERDICTS, Judged
from gcdiff.factory.panoptic import Segment, file_name, panoptic_png, segments
from gcdiff.jobs.lock import hold
from gcdiff.pictures import display, label_png
from gcdiff.types import ImageSpec, LabelSpec

HEADER, LOG, REPORT, PART = "generate.json", "examples.jsonl", "report.json", ".gcdiff-part"
IMAGES, LAYOUTS, PANOPTIC, CONFIDENCE = "images", "layouts", "panoptic", "confidence"


class Row(NamedTuple):
    """A line of the log: an example's number, what was found of it, its caption, and the segments of its layout."""

    number: int
    verdict: str
    agreement: float | None
    confidence: float | None
    ratios: tuple[float | None, float | None] | None
    caption: str | None
    segments: list[Segment]

    def to_line(self) -> str:
        return json.dumps(self._asdict()) + "\n"

    @classmethod
    def from_line(cls, line: str, number: int) -> Row:
        """Raises ValueError, KeyError or TypeError for a line that is not that of example `number`."""
        row = cls(**json.loads(line))
        if row.number != number or row.verdict not in VERDICTS:
            raise ValueError(line)
        return row._replace(segments=[tuple(s) for s in row.segments])  # type: ignore[arg-type]


class Place:
    """An opened folder. `rows` are the examples that are in it, kept or refused."""

    def __init__(self, folder: Path, labels: LabelSpec, spec: ImageSpec, rows: list[Row]):
        self.folder, self.labels, self._spec, self.rows = folder, labels, spec, rows

    def add(self, number: int, caption: str | None, image: np.ndarray, layout: np.ndarray, judged: Judged) -> None:
        """Write an example, image uint8 (H, W, C) and layout int32 (H, W), and then its line."""
        verdict, agreement, confidence, certainty, ratios = judged
        found = []
        if verdict == KEPT:
            found, name = segments(layout, self.labels), file_name(number)
            self._save(IMAGES, name, Image.fromarray(display(image, self._spec)))
            self._save(LAYOUTS, name, label_png(layout, self.labels))
            self._save(PANOPTIC, name, panoptic_png(layout, self.labels))
            if certainty is not None:
                self._save(CONFIDENCE, name, Image.fromarray(certainty))
        row = Row(number, verdict, agreement, confidence, ratios, caption, found)
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(row.to_line())
        self.rows.append(row)

    def write(self, name: str, text: str) -> None:
        """A text file, in one step."""
        self._put(name, lambda part: part.write_text(text, encoding="utf-8"))

    def _save(self, folder: str, name: str, picture: Image.Image) -> None:
        (self.folder / folder).mkdir(exist_ok=True)
        self._put(f"{folder}/{name}", lambda part: picture.save(part, format="PNG"))

    def _put(self, name: str, write: Callable[[Path], object]) -> None:
        part = self.folder / PART
        try:
            write(part)
            part.replace(self.folder / name)
        except OSError as error:
            raise OSError(f"{self.folder / name}: cannot be written ({error.strerror or error})") from None


@contextlib.contextmanager
def opened(folder: Path, header: Mapping[str, Any], labels: LabelSpec, spec: ImageSpec) -> Iterator[Place]:
    """The folder, held until the block ends; one that was made here is gone again if no example came into it.

    Raises ValueError for a folder that holds something else, that was begun for something else, naming the first field
    that differs, and for one that another process works in.
    """
    created = not folder.exists()
    visible = [] if created else [f for f in folder.iterdir() if not f.name.startswith(".")]
    if visible and not (folder / HEADER).is_file():
        raise ValueError(f"{folder} is not empty and was not written by gcdiff generate, expected an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold(folder))
        rows = _rows(folder) if _begun(folder, header) else []
        place = Place(folder, _writable(labels), spec, rows)
        if not visible:
            stack.callback(_clear, place, created)
            place.write(HEADER, json.dumps(header, indent=1) + "\n")
        lines = "".join(row.to_line() for row in rows)
        if not (folder / LOG).exists() or (folder / LOG).read_text(encoding="utf-8", errors="replace") != lines:
            place.write(LOG, lines)  # without the line that was being written when it was stopped
        for name in (REPORT, PART):  # the report says that the folder is whole
            (folder / name).unlink(missing_ok=True)
        yield place


def _clear(place: Place, created: bool) -> None:
    """Leave nothing of a folder that was begun in vain."""
    if not place.rows:
        for name in (HEADER, LOG, PART, ".lock"):
            (place.folder / name).unlink(missing_ok=True)
        for name in (IMAGES, LAYOUTS, PANOPTIC, CONFIDENCE):
            shutil.rmtree(place.folder / name, ignore_errors=True)
        if created:
            shutil.rmtree(place.folder)


def _begun(folder: Path, header: Mapping[str, Any]) -> bool:
    """Whether the folder was begun, for the same; the run may have moved, as long as its weights are the same."""
    path = folder / HEADER
    if not path.is_file():
        return False
    try:
        begun, now = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(header))
        others = [name for name in {**now, **begun} if name != "run" and begun.get(name) != now.get(name)]
    except (ValueError, TypeError):
        raise ValueError(f"{path}: damaged, expected what gcdiff generate has written") from None
    if others:
        name = others[0]
        said = f"{folder} was begun with {name} {begun.get(name)!r}, now it is {now.get(name)!r}"
        raise ValueError(f"{said}: expected the same, or another folder")
    return True


def _rows(folder: Path) -> list[Row]:
    """The lines of the log, up to the first that is not whole or whose files are not there."""
    rows: list[Row] = []
    path = folder / LOG
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(True) if path.exists() else []:
        try:
            row = Row.from_line(line, len(rows))
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith("\n") or (row.verdict == KEPT and not _there(folder, row)):
            break
        rows.append(row)
    return rows


def _there(folder: Path, row: Row) -> bool:
    parts = (IMAGES, LAYOUTS, PANOPTIC) + ((CONFIDENCE,) if row.confidence is not None else ())
    return all((folder / part / file_name(row.number)).is_file() for part in parts)


def _writable(labels: LabelSpec) -> LabelSpec:
    """The same classes with a number for void that a label file of theirs can have."""
    least = labels.labelled.num_classes
    if least <= labels.void_id < 256:
        return labels
    return dataclasses.replace(labels, void_id=least if labels.void == "class" else 255)
