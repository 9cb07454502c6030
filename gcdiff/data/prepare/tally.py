"""Counts of the examples that were prepared, and a table of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np

from gcdiff.data.label_table import void_label
from gcdiff.types import LabelSpec

COUNTS = ("examples", "images", "layouts", "captioned", "captions", "with_void")

SHOWN = 10
"""How many classes without a pixel are named."""


@dataclasses.dataclass
class Tally:
    """Counts over examples.

    counts: by name of COUNTS; sizes: examples by "HxW"; pixels int64 (1 + K,): pixels of void and of each class;
    present int64 (K,): layouts with at least one pixel of the class."""

    counts: Counter[str]
    sizes: Counter[str]
    pixels: np.ndarray
    present: np.ndarray

    @classmethod
    def empty(cls, labels: LabelSpec) -> Tally:
        k = labels.num_classes
        return cls(Counter(dict.fromkeys(COUNTS, 0)), Counter(), np.zeros(k + 1, np.int64), np.zeros(k, np.int64))

    @classmethod
    def of(cls, size: tuple[int, int], has_image: bool, layout: np.ndarray | None, captions: int, labels: LabelSpec):
        """The counts of one example of size (H, W); layout int32 (H, W) or None, `captions` the number of captions."""
        one = cls.empty(labels)
        one.counts.update(examples=1, images=has_image, captioned=captions > 0, captions=captions)
        one.sizes[f"{size[0]}x{size[1]}"] = 1
        if layout is not None:
            one.pixels = np.bincount(layout.ravel() + 1, minlength=labels.num_classes + 1).astype(np.int64)
            one.present = (one.pixels[1:] > 0).astype(np.int64)
            one.counts.update(layouts=1, with_void=bool((layout == void_label(labels)).any()))
        return one

    def add(self, other: Tally) -> None:
        self.counts.update(other.counts)
        self.sizes.update(other.sizes)
        self.pixels = self.pixels + other.pixels
        self.present = self.present + other.present

    def to_dict(self) -> dict:
        arrays = {"pixels": self.pixels.tolist(), "present": self.present.tolist()}
        return {"counts": dict(self.counts), "sizes": dict(sorted(self.sizes.items())), **arrays}

    @classmethod
    def from_dict(cls, fields: Mapping) -> Tally:
        pixels, present = (np.array(fields[name], np.int64) for name in ("pixels", "present"))
        return cls(Counter(fields["counts"]), Counter(fields["sizes"]), pixels, present)

    def report(self, labels: LabelSpec) -> dict:
        """The counts as plain numbers, with the missing sides, and the classes as shares of the labelled pixels."""
        n, total, labelled = self.counts["examples"], max(1, int(self.pixels.sum())), max(1, int(self.pixels[1:].sum()))
        void = int(self.pixels[0]) + (int(self.pixels[-1]) if labels.void == "class" else 0)
        return {
            "examples": n,
            "without_image": n - self.counts["images"],
            "without_layout": n - self.counts["layouts"],
            "without_captions": n - self.counts["captioned"],
            "captions": self.counts["captions"],
            "with_void": self.counts["with_void"],
            "sizes": dict(sorted(self.sizes.items())),
            "void": round(void / total, 6),
            "classes": {
                name: {"share": round(int(pixels) / labelled, 6), "layouts": int(present)}
                for name, pixels, present in zip(labels.names, self.pixels[1:], self.present, strict=True)
            },
        }


def table(report: Mapping) -> str:
    """A report as text: the counts of all splits, the first faults, the sizes in each split, the share of void and the
    classes without a pixel, the note and the licence."""
    columns = ("examples", "without_image", "without_layout", "without_captions", "with_void")
    rows = [["split", *(column.replace("_", " ") for column in columns)]]
    rows += [[name, *(str(split[column]) for column in columns)] for name, split in report["splits"].items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    lines += [f"left out: {fault}" for fault in report["faults"][:5]]
    if len(report["faults"]) > 5:
        lines.append(f"left out: {len(report['faults']) - 5} more, listed in report.json")
    for name, split in report["splits"].items():
        lines.append(f"{name}: {_sizes(split['sizes'])}")
        if split["examples"] > split["without_layout"]:
            absent = [label for label, count in split["classes"].items() if not count["layouts"]]
            more = f", and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            without = f"; no pixel of {', '.join(absent[:SHOWN])}{more}" if absent else ""
            lines[-1] += f"; {100 * split['void']:.3g} % of the pixels of layouts are void{without}"
    return "\n".join([*lines, *([report["note"]] if report["note"] else []), report["licence"]])


def _sizes(sizes: Mapping[str, int]) -> str:
    """The sizes of examples, by "HxW", as text."""
    if len(sizes) == 1:
        return f"all are {next(iter(sizes))} (HxW)"
    heights, widths = zip(*((int(h), int(w)) for h, _, w in (size.partition("x") for size in sizes)), strict=True)
    (low, high), (narrow, wide) = ((min(side), max(side)) for side in (heights, widths))
    return f"{len(sizes)} sizes (HxW), from {low} to {high} high and from {narrow} to {wide} wide"
