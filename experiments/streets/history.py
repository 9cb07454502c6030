"""What a run's log says of its training: how long its steps took, and its held-out numbers as a chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from gcdiff.evaluation.chart import Panel, Series, chart

IMAGE, LAYOUT, RIGHT = (196, 98, 16), (30, 90, 180), (20, 120, 70)
SCALE = 1.4  # letters as large as those of the sheet beside it
MIOU = "eval/segmentation_miou"


def rows(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, in their order; none before the first."""
    log = workdir / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def training_seconds(log: list[dict[str, Any]]) -> float:
    """How long the steps took over all starts, without compiling, evaluations and saves: the mean time of a step in
    each line, times the steps since the line before."""
    seconds, before = 0.0, 0
    for row in log:
        if "time/step" in row:
            seconds += row["time/step"] * (row["step"] - before)
            before = row["step"]
    return seconds


def curve(log: list[dict[str, Any]]) -> Image.Image | None:
    """The held-out numbers over the steps: both losses, each a mean over the levels of noise, and the mIoU of
    one-call segmentation. None before the first evaluation."""
    looks = [row for row in log if MIOU in row and row["step"] > 0]
    if not looks:
        return None
    panels = [
        Panel("held-out losses", [line(looks, side, color) for side, color in (("image", IMAGE), ("layout", LAYOUT))]),
        Panel("held-out segmentation, mIoU of one call", [series("", RIGHT, [(r["step"], r[MIOU]) for r in looks])]),
    ]
    panels[0] = panels[0]._replace(log=all(value > 0 for s in panels[0].series for _, value, *_ in s.points))
    return chart(panels, "steps of training", log=False, scale=SCALE)


def line(looks: list[dict[str, Any]], side: str, color: tuple[int, int, int]) -> Series:
    """The held-out loss of a side, 'image' or 'layout': the mean of those by level."""
    names = [name for name in looks[-1] if name.startswith(f"eval/{side}_") and name[-1].isdigit()]
    return series(side, color, [(row["step"], sum(row[name] for name in names) / len(names)) for row in looks])


def series(name: str, color: tuple[int, int, int], points: list[tuple[int, float]]) -> Series:
    return Series(name, color, [(step, value, value, value) for step, value in points])
