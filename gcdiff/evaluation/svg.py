"""The charts of a report as inline SVG; colours and fonts come from the page's style sheet, by class names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from gcdiff.evaluation.results import shown

MOST = 40
"""How many classes a confusion matrix shows."""


def svg(width: float, height: float, label: str, parts: Sequence[str], name: str = "") -> str:
    """An SVG element that scales to its container, with `label` as its description in words."""
    said = escape(label)
    return (
        f'<svg class="{name}" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="{said}">{"".join(parts)}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{name}"/>'


def text(x: float, y: float, said: str, name: str = "", anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{name}" text-anchor="{anchor}" {more}>{escape(said)}</text>'


def dot(x: float, y: float, radius: float, name: str, title: str = "") -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{name}"><title>{escape(title)}</title></circle>'


def path(points: Sequence[tuple[float, float]], name: str) -> str:
    walk = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{walk}" class="{name}"/>'


Range = tuple[float, float, float]
"""A value, and the low and the high end of its interval, nan where it has none."""


def strip(model: Range | None, real: Range | None) -> str:
    """A small chart of two values with their intervals on one axis.

    The axis begins at 0, or at the least value below; it ends at 1 where all values lie between 0.05 and 1.
    """
    numbers = [x for side in (model, real) if side for x in side if math.isfinite(x)]
    if not numbers:
        return ""
    low, high = min(0.0, *numbers), max(numbers)
    high = 1.0 if 0.05 < high <= 1 and low == 0 else high * 1.1 if high > 0 else 0.0
    width, height = 220, 26
    scale = (width - 12) / ((high - low) or 1.0)
    parts = [line(6, height / 2, width - 6, height / 2, "rule")]
    for side, name, y in ((real, "real", height / 2 + 4), (model, "model", height / 2 - 4)):
        if side is None or not math.isfinite(side[0]):
            continue
        value, *ends = ((x - low) * scale + 6 for x in side)
        if all(map(math.isfinite, ends)):
            parts.append(line(ends[0], y, ends[1], y, f"bar {name}"))
        parts.append(dot(value, y, 3.4, f"dot {name}"))
    said = ", ".join(f"{n} {shown(s[0])}" for n, s in (("model", model), ("real", real)) if s)
    return svg(width, height, f"{said}, on an axis from {shown(low)} to {shown(high)}", parts, "strip")


def curve(title: str, dial: str, places: Sequence[float], values: Sequence[Range], level: Range | None) -> str:
    """A chart of a number over the values of a setting, evenly spaced, with the real number as a dashed line."""
    width, height, left, right, top, bottom = 340, 230, 52, 34, 34, 42
    sides = [*values, *([level] if level else [])]
    numbers = [x for side in sides for x in side if math.isfinite(x)]
    if not numbers:
        return ""
    ticks = _ticks(min(numbers), max(numbers))
    low, high = ticks[0], ticks[-1]

    def x(i: int) -> float:
        return left + 18 + i * (width - left - right - 36) / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return height - bottom - (value - low) / (high - low) * (height - top - bottom)

    parts = [text(left - 40, 16, title, "name")]
    for tick in ticks:
        parts += [line(left, y(tick), width - right, y(tick), "rule")]
        parts += [text(left - 8, y(tick) + 4, f"{tick:.6g}", "tick", "end")]
    for i, place in enumerate(places):
        parts.append(text(x(i), height - bottom + 18, f"{place:g}", "tick", "middle"))
    parts.append(text((left + width - right) / 2, height - 6, dial, "tick", "middle"))
    if level and math.isfinite(level[0]):
        if all(map(math.isfinite, level)):
            box = f'x="{left}" y="{y(level[2]):.1f}" width="{width - left - right}"'
            parts.append(f'<rect {box} height="{max(y(level[1]) - y(level[2]), 0):.1f}" class="band"/>')
        parts.append(line(left, y(level[0]), width - right, y(level[0]), "level"))
        parts.append(text(width - right + 4, y(level[0]) + 4, "real", "tick real"))
    known = [(i, side) for i, side in enumerate(values) if math.isfinite(side[0])]
    parts.append(path([(x(i), y(side[0])) for i, side in known], "walk"))
    for i, (value, *ends) in known:
        if all(map(math.isfinite, ends)):
            parts.append(line(x(i), y(ends[0]), x(i), y(ends[1]), "bar model"))
        parts.append(dot(x(i), y(value), 4, "dot model", f"{dial} {places[i]:g}: {shown(value)}"))
    return svg(width, height, f"{title} over {dial}", parts, "chart")


def reliability(table: np.ndarray) -> str:
    """A reliability diagram of a table (BINS, 3): accuracy over confidence, and the share of pixels in each bin."""
    size, left, top, bars = 330, 46, 12, 64
    pixels, right, confidence = np.asarray(table, float).T
    share = pixels / max(pixels.sum(), 1)
    full = size - left - 12

    def x(value: float) -> float:
        return left + value * full

    def y(value: float) -> float:
        return top + (1 - value) * full

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts += [line(x(0), y(tick), x(1), y(tick), "rule"), text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end")]
        parts.append(text(x(tick), y(0) + bars + 30, f"{tick:g}", "tick", "middle"))
    parts.append(line(x(0), y(0), x(1), y(1), "level"))
    held = np.flatnonzero(pixels)
    walk = [(x(confidence[i] / pixels[i]), y(right[i] / pixels[i])) for i in held]
    parts.append(path(walk, "walk"))
    base, wide = y(0) + 14 + bars, full / len(pixels)
    for i, (px, py) in zip(held, walk, strict=True):
        said = (
            f"{right[i] / pixels[i]:.3f} right at confidence {confidence[i] / pixels[i]:.3f}, {share[i]:.1%} of pixels"
        )
        parts.append(dot(px, py, 2.5 + 5 * math.sqrt(share[i]), "dot model", said))
        tall = max(bars * share[i] / share.max(), 1)
        box = f'x="{x(0) + i * wide + 1:.1f}" y="{base - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect {box} class="column"><title>{escape(said)}</title></rect>')
    parts.append(text(x(0.5), base + 36, "confidence (columns: share of pixels)", "tick", "middle"))
    parts.append(text(14, y(0.5), "right", "tick", "middle", f'transform="rotate(-90 14 {y(0.5):.1f})"'))
    label = "Reliability: the share of right answers over their confidence"
    return svg(size, base + 44, label, parts, "chart")


def confusion(matrix: np.ndarray, names: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    """A confusion matrix (K, K + 1), each row in shares of a true class's pixels; the last column is no class.

    Only the MOST commonest classes are shown.
    """
    kept = np.sort(np.argsort(-matrix.sum(1), kind="stable")[:MOST])
    kept = kept[matrix[kept].sum(1) > 0]
    columns = [*kept, *([len(names)] if matrix[:, -1].any() else [])]
    shares = matrix[kept] / matrix[kept].sum(1, keepdims=True)
    cell, left, top = (38, 112, 96) if len(kept) <= 20 else (20, 112, 96)
    parts = []
    for j, column in enumerate(columns):
        name = names[column] if column < len(names) else "no class"
        x, y = left + j * cell + cell / 2, top - 8
        parts.append(text(x, y, name, "tick", "start", f'transform="rotate(-50 {x:.1f} {y:.1f})"'))
    for i, row in enumerate(kept):
        y = top + i * cell
        color = "rgb({},{},{})".format(*palette[row])
        parts.append(f'<rect x="{left - 16}" y="{y + cell / 2 - 5:.1f}" width="10" height="10" rx="2" fill="{color}"/>')
        parts.append(text(left - 22, y + cell / 2 + 4, names[row], "tick", "end"))
        for j, column in enumerate(columns):
            share = shares[i, column]
            other = names[column] if column < len(names) else "no class"
            said = f"{names[row]} called {other}: {share:.2%}"
            kind = "hit" if column == row else "miss"
            box = f'x="{left + j * cell + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="3"'
            strength = math.sqrt(share) if kind == "miss" else share
            parts.append(f'<rect {box} class="empty"/><rect {box} class="{kind}" fill-opacity="{strength:.3f}">')
            parts.append(f"<title>{escape(said)}</title></rect>")
            if cell > 30 and share >= 0.005:
                shade = "cell strong" if strength > 0.55 else "cell"
                parts.append(text(left + (j + 0.5) * cell, y + cell / 2 + 4, f"{100 * share:.0f}", shade, "middle"))
    width = left + len(columns) * cell + 46
    return svg(width, top + len(kept) * cell + 6, "Confusion matrix: true classes by predicted ones", parts, "chart")


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from below `low` to above `high`."""
    if high == low:
        low = high - (abs(high) / 2 or 1.0)
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(n * unit for n in (1, 2, 5, 10) if n * unit >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = max(12, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]
