"""The demo's pictures: rows of examples, each pixel of theirs a square, with captions, a legend and a table.

Texts are wrapped by the width that they have in their font, and rows are as high as their texts: nothing is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gcdiff.evaluation.results import shown
from gcdiff.pictures import enlarge
from gcdiff.types import LabelSpec

FACTOR, GAP, MARGIN, NAMES = 4, 8, 24, 230
"""A pixel's side, the gap between examples, the margin of a sheet and the width of the names at its left."""
COLUMNS, TABLE = (MARGIN, MARGIN + 740, MARGIN + 870), 1080
"""Where the table's columns begin, and where it ends."""
BLACK, GRAY = (20, 20, 20), (95, 95, 95)
HEAD, TITLE, TEXT = (ImageFont.load_default(size) for size in (42, 30, 22))

MEANINGS = {
    "segmentation": "image to layout: mIoU of one call of the network",
    "agreement": "text to pair: mIoU of the layout with what the oracle sees in the image",
    "synthesis": "layout to image: mIoU of the given layout with what the oracle sees",
    "f1": "text to pair: F1 of the classes that the caption names",
    "f1_shuffled": "the same against other scenes' captions",
    "weather": "text to pair: day, night or fog as asked",
    "colors": "text to pair: the colours of the cars as asked",
    "frechet": "text to pair: Frechet distance from real scenes (less is better)",
    "frechet_real": "that of as many real scenes",
}
"""What the numbers are, by their names in files, in the order of the table."""


class Row(NamedTuple):
    """A direction: its title, lines of equally many examples uint8 (N, H, W, 3) by what they are, and captions."""

    title: str
    lines: Mapping[str, np.ndarray]
    captions: Sequence[str] = ()


class Head(NamedTuple):
    """What stands above a sheet: its title, and what made it."""

    title: str
    about: str


class Page:
    """A white picture of a given width that grows downwards; `top` is where the next thing goes."""

    def __init__(self, width: int):
        self.width, self.top, self.parts = width, MARGIN, []

    def text(self, words: str, font, left: int = MARGIN, width: int | None = None, color=BLACK) -> int:
        """Enter wrapped text at `top`, and return its height."""
        lines = wrapped(words, font, width or self.width - left - MARGIN)
        step = line_height(font)
        for i, line in enumerate(lines):
            self.parts.append((left, self.top + i * step, line, font, color))
        return step * len(lines)

    def image(self, pixels: np.ndarray, left: int) -> None:
        """Enter a picture uint8 (h, w, 3) at `top`."""
        self.parts.append((left, self.top, pixels))

    def picture(self) -> Image.Image:
        """The page, up to `top`."""
        canvas = Image.new("RGB", (self.width, self.top + MARGIN), "white")
        pen = ImageDraw.Draw(canvas)
        for left, top, *what in self.parts:
            if len(what) == 1:
                canvas.paste(Image.fromarray(what[0]), (left, top))
            else:
                pen.text((left, top), what[0], font=what[1], fill=what[2])
        return canvas


def line_height(font) -> int:
    return round(1.3 * font.size)


def wrapped(words: str, font, width: int) -> list[str]:
    """The lines of a text that are at most `width` wide; a word that is wider is broken."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def sheet(
    head: Head, rows: Sequence[Row], labels: LabelSpec, numbers: Mapping[str, Sequence[float]], called: str,
    curve: Image.Image | None = None,
) -> Image.Image:  # fmt: skip
    """All directions on one sheet. `numbers` are (value, low, high) by their names in MEANINGS, `called` is the head of
    their table; `curve` stands beside it."""
    first = next(iter(rows[0].lines.values()))
    count, cell = len(first), FACTOR * first.shape[2] + GAP
    page = Page(MARGIN + NAMES + count * cell - GAP + MARGIN)
    page.top += page.text(head.title, HEAD) + GAP
    page.top += page.text(head.about, TEXT, color=GRAY) + 2 * GAP
    legend(page, labels)
    for row in rows:
        direction(page, row, cell)
    bottom = page.top
    table(page, numbers, called)
    if curve is not None:
        side = page.width - MARGIN - curve.width
        below = page.top if side < TABLE else bottom
        page.parts.append((max(side, MARGIN), below, np.asarray(curve)))
        page.top = max(page.top, below + curve.height)
    return page.picture()


def legend(page: Page, labels: LabelSpec) -> None:
    """The classes with their colours, in as many lines as they need."""
    square, step, left = 24, 36, MARGIN
    for name, color in zip(labels.names, labels.palette, strict=True):
        wide = square + GAP + round(TEXT.getlength(name)) + 3 * GAP
        if left > MARGIN and left + wide > page.width - MARGIN:
            left, page.top = MARGIN, page.top + step
        box = np.full((square, square, 3), BLACK, np.uint8)
        box[1:-1, 1:-1] = color
        page.image(box, left)
        page.text(name, TEXT, left + square + GAP, wide)
        left += wide
    page.top += step


def direction(page: Page, row: Row, cell: int) -> None:
    """A row's title, its captions and its lines of examples."""
    page.top += 2 * GAP
    page.top += page.text(row.title, TITLE) + GAP
    left = MARGIN + NAMES
    heights = [page.text(words, TEXT, left + i * cell, cell - 3 * GAP, GRAY) for i, words in enumerate(row.captions)]
    page.top += max(heights, default=0) + (GAP if heights else 0)
    for name, images in row.lines.items():
        page.text(name, TEXT, width=NAMES - 2 * GAP)
        for i, image in enumerate(images):
            page.image(enlarge(image, FACTOR), left + i * cell)
        page.top += FACTOR * images.shape[1] + GAP


def table(page: Page, numbers: Mapping[str, Sequence[float]], called: str) -> None:
    """The numbers with their intervals, those that there are."""
    page.top += 3 * GAP
    for words, left in zip((called, "value", "95 % interval"), COLUMNS, strict=True):
        page.text(words, TITLE if left == MARGIN else TEXT, left, 730)
    page.top += line_height(TITLE) + GAP
    for name, (value, *ends) in kept(numbers).items():
        for words, left in zip((MEANINGS[name], shown(value), between(ends)), COLUMNS, strict=True):
            page.text(words, TEXT, left, 730)
        page.top += line_height(TEXT)


def kept(numbers: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The numbers that have a meaning and a value, in their order."""
    return {name: numbers[name] for name in MEANINGS if name in numbers and numbers[name][0] is not None}


def between(ends: Sequence[float | None]) -> str:
    """An interval in words; nothing where there is none."""
    return "" if None in ends else " to ".join(map(shown, ends))
