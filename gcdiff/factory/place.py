"""The folder of a data set that is being made: its files and the lines of its log.

generate.json says what is made. examples.jsonl has a line for every example that was drawn and judged, in the order of
their numbers, written after its files (`gcdiff.jobs.folder`).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image

from gcdiff.factory.judge import KEPT, VERDICTS, Judged
from gcdiff.factory.panoptic import Segment, file_name, panoptic_png, segments
from gcdiff.jobs.resumable import Entry, Format, JobFolder
from gcdiff.pictures import display, label_png
from gcdiff.types import ImageSpec, LabelSpec

IMAGES, LAYOUTS, PANOPTIC, CONFIDENCE, REPORT = "images", "layouts", "panoptic", "confidence", "report.json"
FORMAT = Format(
    "gcdiff generate", "examples.jsonl", key="number", header="generate.json", may_differ=("run",), last=(REPORT,)
)
"""The run may have moved, as long as its weights are the same. The report says that the folder is whole."""


class Row(NamedTuple):
    """A line of the log: an example's number, how it was judged, its caption, and the segments of its layout."""

    number: int
    verdict: str
    agreement: float | None
    confidence: float | None
    ratios: tuple[float | None, float | None] | None
    caption: str | None
    segments: list[Segment]

    @classmethod
    def of(cls, entry: Entry) -> Row:
        """The row of a line of the log. Raises ValueError or TypeError for a line that is not of this form."""
        row = cls(**entry)
        if row.verdict not in VERDICTS:
            raise ValueError(f"verdict is {row.verdict!r}, expected {', '.join(VERDICTS)}")
        return row._replace(segments=[tuple(s) for s in row.segments])  # type: ignore[arg-type]

    def files(self) -> list[str]:
        """The files of the example, relative to the folder; a refused one has none."""
        if self.verdict != KEPT:
            return []
        parts = (IMAGES, LAYOUTS, PANOPTIC) + ((CONFIDENCE,) if self.confidence is not None else ())
        return [f"{part}/{file_name(self.number)}" for part in parts]


@dataclasses.dataclass(frozen=True)
class Place:
    """The folder to which the files of examples are written, with their classes and kind of image."""

    folder: JobFolder
    labels: LabelSpec
    spec: ImageSpec

    @classmethod
    def of(cls, folder: JobFolder, labels: LabelSpec, spec: ImageSpec) -> Place:
        """The place in a job's folder; void gets a number that a label file can hold."""
        return cls(folder, _writable(labels), spec)

    def add(self, number: int, caption: str | None, image: np.ndarray, layout: np.ndarray, judged: Judged) -> Row:
        """Write the files of an example, image uint8 (H, W, C) and layout int32 (H, W), if it is kept."""
        verdict, agreement, confidence, certainty, ratios = judged
        areas = []
        if verdict == KEPT:
            areas, name = segments(layout, self.labels), file_name(number)
            self._save(IMAGES, name, Image.fromarray(display(image, self.spec)))
            self._save(LAYOUTS, name, label_png(layout, self.labels))
            self._save(PANOPTIC, name, panoptic_png(layout, self.labels))
            if certainty is not None:
                self._save(CONFIDENCE, name, Image.fromarray(certainty))
        return Row(number, verdict, agreement, confidence, ratios, caption, areas)

    def _save(self, folder: str, name: str, picture: Image.Image) -> None:
        with self.folder.writing(f"{folder}/{name}") as part:
            picture.save(part, format="PNG")


def _writable(labels: LabelSpec) -> LabelSpec:
    """The same classes, with a number for void that a label file of theirs can hold."""
    least = labels.labelled.num_classes
    if least <= labels.void_id < 256:
        return labels
    return dataclasses.replace(labels, void_id=least if labels.void == "class" else 255)
