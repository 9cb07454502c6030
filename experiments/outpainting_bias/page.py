"""The tables of README.md, from the results."""

from __future__ import annotations

import json
import re
from pathlib import Path

from methods import DIRECTIONS, TRUTH, methods


def update(folder: Path) -> None:
    """Rewrite what stands between <!-- NAME --> and <!-- end --> in README.md, for every result there is."""
    path = folder / "README.md"
    if not path.exists():
        return
    text = path.read_text()
    for name, table in (("exact", exact), ("streets", streets)):
        results = folder / f"{name}.json"
        if results.exists():
            block = f"<!-- {name} -->\n\n{table(json.loads(results.read_text()))}\n\n<!-- end -->"
            text = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
    path.write_text(text)


def exact(results: dict) -> str:
    """For each direction a table: a row for each method, wrong rate and spread in every world."""
    sizes = list(dict.fromkeys((row["grey"], row["labels"]) for row in results["rows"]))
    tables = []
    for direction in DIRECTIONS:
        asked = [row for row in results["rows"] if row["direction"] == direction]
        by_setting = {(row["method"], row["calls"], row["grey"], row["labels"]): row for row in asked}
        truth = {size: by_setting[TRUTH, None, *size] for size in sizes}
        spread = "spread" if direction == DIRECTIONS[0] else "two draws differ, %"
        head = [f"{direction.replace('to', '→')}: wrong, % / {spread}", "calls", "seconds"]
        worlds = [f"{grey} grey, {labels} label{'s' * (labels > 1)}" for grey, labels in sizes]
        lines = [_line(head + worlds), "|---|" + "--:|" * (2 + len(sizes))]
        keys = [(TRUTH, None), *((m.name, m.calls) for m in methods(results["calls"]) if m.answers(direction))]
        for name, calls in keys:
            rows = [by_setting[name, calls, *size] for size in sizes]
            cells = [_exact_cell(row, truth[size], direction) for row, size in zip(rows, sizes, strict=True)]
            seconds = "" if calls is None else f"{sum(row['seconds'] for row in rows):.1f}"
            lines.append(_line([name, calls or "", seconds, *cells]))
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _exact_cell(row: dict, truth: dict, direction: str) -> str:
    first = direction == DIRECTIONS[0]
    scale, digits = (1 / truth["spread"], 2) if first else (100, 1)
    cells = (row["wrong"], row["wrong_se"], 100, 1), (row["spread"], row["spread_se"], scale, digits)
    if row is truth:
        return " / ".join(f"{unit * value:.{places}f}" for value, _, unit, places in cells)
    return " / ".join(f"{u * v:.{places}f} ± {u * e:.{places}f}" for v, e, u, places in cells)


def streets(results: dict) -> str:
    """For each direction a table: a row for each method."""
    tables = []
    for direction in DIRECTIONS:
        first = direction == DIRECTIONS[0]
        rows = [row for row in results["rows"] if row["direction"] == direction]
        order = [(m.name, m.calls) for m in methods(results["calls"])]
        rows.sort(key=lambda row: (key in order, order.index(key)) if (key := _key(row)) in order else (False, 0))
        spread = "spread of the light, of the world's" if first else "two draws differ, % of pixels"
        head = [direction.replace("to", "→"), "calls", "seconds", "wrong, % of pixels", "mIoU", spread]
        lines = [_line(head), "|---|" + "--:|" * 5]
        for row in rows:
            miou = _interval(row["miou"], 1, 2) if "miou" in row else ""
            scale, digits = (1, 2) if first else (100, 2)
            cells = [_interval(row["wrong"], 100, 2), miou, _interval(row["spread"], scale, digits)]
            seconds = "" if row["calls"] is None else f"{row['seconds']:.1f}"
            lines.append(_line([row["method"], row["calls"] or "", seconds, *cells]))
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _key(row: dict) -> tuple:
    return row["method"], row["calls"]


def _interval(value: list[float], scale: float, digits: int) -> str:
    middle, low, high = (f"{scale * v:.{digits}f}" for v in value)
    return f"{middle} ({low} – {high})"


def _line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
