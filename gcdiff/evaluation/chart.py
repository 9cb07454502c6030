"""Line charts with intervals, drawn with Pillow: panels side by side over one x axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
BLACK, GRAY, PALE = (0, 0, 0), (110, 110, 110), (228, 228, 228)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 700, 110, 30, 140, 100  # a panel and its margins, in pixels
SUPERSAMPLING = 2  # charts are drawn this many times larger and reduced, for smooth lines


class Series(NamedTuple):
    """A named series of points (x, value, low, high), drawn in one colour; x > 0 on a logarithmic axis.

    mark: 'line' joins the values and shows their intervals; 'square' and 'dot' show the values alone.
    """

    name: str
    color: Color
    points: Sequence[tuple[float, float, float, float]]
    mark: str = "line"


class Panel(NamedTuple):
    """One plot of a chart.

    level, meaning: the position and the label of a dashed line, None for none. log: whether the y axis is logarithmic,
    for values above 0.
    """

    title: str
    series: Sequence[Series]
    level: float | None = None
    meaning: str = ""
    log: bool = False


def chart(panels: Sequence[Panel], x_label: str, log: bool = True, scale: float = 1.0) -> Image.Image:
    """Draw panels side by side over an x axis labelled `x_label`, under a legend of the first panel's series.

    log: whether the x axis is logarithmic. Of the numbers on it those are left out that others leave no room for.
    scale: how much larger than usual everything is.
    """
    canvas = Image.new("RGB", (len(panels) * WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(26)
    x = LEFT
    for series in filter(lambda s: s.name, panels[0].series):
        pen.text((x, 24), series.name, fill=series.color, font=font)
        x += pen.textlength(series.name, font=font) + 60
    for i, panel in enumerate(panels):
        _draw(pen, font, panel, i * WIDTH, x_label, log)
    width, height = (round(scale * side / SUPERSAMPLING) for side in canvas.size)
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def _draw(pen, font, panel: Panel, left: int, x_label: str, log: bool) -> None:
    positions = sorted({point[0] for series in panel.series for point in series.points})
    values = [v for s in panel.series for _, value, *ends in s.points for v in (value, *ends * (s.mark == "line"))]
    values += [] if panel.level is None else [panel.level]
    low, high = min(values), max(values)
    x0, x1, y0, y1 = left + LEFT, left + WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    to_x = _scale(positions[0], positions[-1], x0 + 40, x1 - 70, log)
    to_y = _scale(low, high, y0 - 25, y1 + 20, panel.log)
    for tick in _ticks(low, high, panel.log):
        pen.line([(x0, to_y(tick)), (x1, to_y(tick))], fill=PALE, width=2)
        pen.text((x0 - 12, to_y(tick)), f"{tick:g}", fill=BLACK, font=font, anchor="rm")
    free = x0
    for position in positions:
        pen.line([(to_x(position), y0), (to_x(position), y0 + 8)], fill=BLACK, width=3)
        half = pen.textlength(f"{position:g}", font=font) / 2
        if to_x(position) - half >= free:
            pen.text((to_x(position), y0 + 14), f"{position:g}", fill=BLACK, font=font, anchor="ma")
            free = to_x(position) + half + 12
    pen.line([(x0, y1), (x0, y0), (x1, y0)], fill=BLACK, width=3)
    pen.text(((x0 + x1) / 2, y0 + 52), x_label, fill=BLACK, font=font, anchor="ma")
    pen.text((x0, y1 - 44), panel.title, fill=BLACK, font=font)
    if panel.level is not None:
        for x in range(x0, x1 - 12, 24):
            pen.line([(x, to_y(panel.level)), (x + 12, to_y(panel.level))], fill=GRAY, width=3)
        pen.text((x1, to_y(panel.level) - 6), panel.meaning, fill=GRAY, font=font, anchor="rb")
    lines = [series for series in panel.series if series.mark == "line"]
    for series in sorted(panel.series, key=lambda s: s.mark != "dot"):  # dots lie below everything
        offset = 0
        if series.mark == "line":  # shifted, so that their intervals do not hide one another
            offset = 10 * (lines.index(series) - (len(lines) - 1) / 2)
            polyline = [(to_x(x) + offset, to_y(value)) for x, value, *_ in series.points]
            pen.line(polyline, fill=series.color, width=5)
        for x, value, *ends in series.points:
            x, y = to_x(x) + offset, to_y(value)
            if series.mark == "square":
                pen.rectangle((x - 9, y - 9, x + 9, y + 9), outline=series.color, width=4)
                continue
            if series.mark == "line":
                pen.line([(x, to_y(end)) for end in ends], fill=series.color, width=3)
            pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=series.color)


def _scale(low: float, high: float, start: float, stop: float, log: bool):
    """A function that maps low to start and high to stop."""
    transform = np.log if log else float
    span = max(transform(high) - transform(low), 1e-9)
    return lambda value: start + (stop - start) * (transform(value) - transform(low)) / span


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers from low to high, for the ticks of an axis."""
    round_numbers = [n * 10.0**p for p in range(-6, 7) for n in (1, 2, 5)]
    if log:
        return [n for n in round_numbers if low <= n <= high]
    step = next(n for n in round_numbers if (high - low) / n <= 6)
    return [round(i * step, 9) for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
