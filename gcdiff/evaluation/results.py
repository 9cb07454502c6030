"""The results of an evaluation: numbers beside their ceilings, tables, cases, sweeps; as JSON and for a console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.measure import Measure

BRACKETS = "In brackets: ranges that are no 95 % intervals; each one's convention says what it is."

GOALS = {"higher": "higher is better", "lower": "lower is better", "real": "best as the real", "": ""}


class Row(NamedTuple):
    """One number of a metric, of the model and of real examples, computed by the same code; None where it is missing.

    goal: a key of GOALS. beside: what the real number is of.
    """

    metric: str
    name: str
    title: str
    goal: str
    model: Measure | None
    real: Measure | None
    beside: str


class ClassRow(NamedTuple):
    """The numbers of one class by name, each of the model and of real examples, with the class's colour."""

    name: str
    color: tuple[int, int, int]
    numbers: Mapping[str, tuple[float, float]]


class Case(NamedTuple):
    """One example: its kind ('best', 'median', 'worst'), its score, and pictures uint8 (H, W, 3) with their titles."""

    kind: str
    id: int
    score: float
    caption: str
    pictures: tuple[tuple[str, np.ndarray], ...]


class Gallery(NamedTuple):
    """Cases of one task (segmentation, drawn pairs, synthesis), ordered by a score."""

    name: str
    title: str
    score: str
    cases: tuple[Case, ...]


class Point(NamedTuple):
    """The rows at one value of a sampling setting."""

    value: float
    rows: tuple[Row, ...]


class Sweep(NamedTuple):
    """The rows at several values of one sampling setting (`dial`), from `examples` pairs each."""

    dial: str
    examples: int
    points: tuple[Point, ...]


class Findings(NamedTuple):
    """All results of an evaluation.

    left_out: metrics that could not be computed, and why. confusion: (K, K + 1), None where nothing was segmented.
    reliability: (BINS, 3), pixels, right answers and summed confidence by confidence; None where it is not there.
    made: how it was made, by name.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    classes: tuple[ClassRow, ...]
    confusion: np.ndarray | None
    reliability: np.ndarray | None
    galleries: tuple[Gallery, ...]
    sweeps: tuple[Sweep, ...]
    made: Mapping[str, Any]


def to_dict(findings: Findings) -> dict:
    """The findings as plain values for JSON: no pictures, and None for numbers that are not finite."""
    galleries = {
        g.name: {"score": g.score, "cases": [plain(c._replace(pictures=())._asdict()) for c in g.cases]}
        for g in findings.galleries
    }
    for gallery in galleries.values():
        for case in gallery["cases"]:
            del case["pictures"]
    return {
        "made": plain(findings.made),
        "rows": [plain(row) for row in findings.rows],
        "left_out": plain(findings.left_out),
        "classes": [plain(row) for row in findings.classes],
        "confusion": plain(findings.confusion),
        "reliability": plain(findings.reliability),
        "cases": galleries,
        "sweeps": [plain(sweep) for sweep in findings.sweeps],
    }


def plain(value: Any) -> Any:
    """Convert named tuples and mappings to dictionaries, arrays to lists, floats that are not finite to None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def shown(number: float | None) -> str:
    """Format a number with about four digits; a dash for none."""
    if number is None or not math.isfinite(number):
        return "–"
    if number and abs(number) < 0.001:
        return f"{number:.1e}"
    return f"{number:.{3 if abs(number) < 10 else 2 if abs(number) < 100 else 0 if abs(number) >= 1000 else 1}f}"


def counted(measure: Measure) -> str:
    """The numbers of examples behind a measure: '128', or '128 : 512' for two sets."""
    return " : ".join(str(n) for n in measure.counts.values())


def table(rows: Sequence[Row]) -> str:
    """Rows as lines of text: the model's number and the real one with their intervals, and numbers of examples.

    Intervals that are not of 95 % stand in brackets, and a last line says so.
    """
    wide = max((len(row.title) + 2 for row in rows), default=0)
    heads = f"{'model':>8}  {'95 % interval':17}  {'real':>8}  {'95 % interval':17}  examples"
    lines, metric = [f"{'':{wide}}{heads}"], None
    for row in rows:
        if row.metric != metric:
            metric = row.metric
            lines.append(metric)
        first = row.model or row.real
        count = "" if first is None else counted(first)
        lines.append(f"{'  ' + row.title:{wide}}{_cell(row.model)}  {_cell(row.real)}  {count}")
    if any(m is not None and not m.is_95 and ends(m, "-") for row in rows for m in (row.model, row.real)):
        lines.append(BRACKETS)
    return "\n".join(line.rstrip() for line in lines)


def ends(measure: Measure, to: str) -> str:
    """The two ends of an interval as text, in brackets where it is not of 95 %; '' for none."""
    if math.isnan(measure.low) or math.isnan(measure.high):
        return ""
    said = f"{shown(measure.low)} {to} {shown(measure.high)}"
    return said if measure.is_95 else f"({said})"


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return f"{'–':>8}  {'':17}"
    return f"{shown(measure.value):>8}  {ends(measure, '-'):17}"
