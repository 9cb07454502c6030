"""Between the state of the process and what a person sees: 8-bit images, colours of a layout, pictures of many.

The state of the image is float32 in [-1, 1]; today the codec is the identity on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gcdiff.types import VOID, ImageSpec, LabelSpec


def to_state(image: np.ndarray) -> np.ndarray:
    """uint8 (..., C) -> float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1.0


def to_uint8(state: np.ndarray) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded to the nearest value."""
    return np.clip(np.rint((np.asarray(state) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def display(image: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 (..., C) -> what is shown, uint8 (..., 3): the first group that is not hidden, grey or in colours."""
    first = 0
    for group in spec.groups:
        part = image[..., first : first + group.channels]
        if group.display == "rgb":
            return part
        if group.display == "grey":
            return np.repeat(part[..., :1], 3, axis=-1)
        first += group.channels
    raise ValueError("every channel group of the image is hidden: nothing to show")


def colorize(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """int (..., H, W) with VOID -> uint8 (..., H, W, 3) in the palette's colours."""
    table = np.array([*labels.palette, labels.void_color], np.uint8)
    return table[np.where(layout == VOID, labels.num_classes, layout)]


def overlay(image: np.ndarray, layout: np.ndarray, labels: LabelSpec, share: float = 0.5) -> np.ndarray:
    """The layout's colours over the image, uint8 (..., H, W, 3)."""
    mixed = (1 - share) * image.astype(np.float32) + share * colorize(layout, labels).astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def to_label_ids(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """int32 with VOID -> uint8 ids as they stand in files, void as `labels.void_id`."""
    return np.where(layout == VOID, labels.void_id, layout).astype(np.uint8)


def label_png(layout: np.ndarray, labels: LabelSpec) -> Image.Image:
    """A raw label PNG: index mode, so that viewers show colours and programs read ids."""
    picture = Image.fromarray(to_label_ids(layout, labels), mode="P")
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[labels.void_id] = labels.void_color
    picture.putpalette(table.tobytes())
    return picture


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel as a square of `factor` pixels: (..., H, W, 3)."""
    return image.repeat(factor, axis=-3).repeat(factor, axis=-2)


def sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], factor: int = 3, gap: int = 4) -> np.ndarray:
    """A picture of rows of equally large images uint8 (H, W, 3), each row under its title, on white."""
    height, width = rows[0][0].shape[:2]
    cell_h, cell_w, title_h = height * factor + gap, width * factor + gap, 16
    columns = max(len(r) for r in rows)
    canvas = Image.new("RGB", (columns * cell_w + gap, len(rows) * (cell_h + title_h) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = gap + i * (cell_h + title_h)
        draw.text((gap, top), title, fill="black")
        for j, image in enumerate(row):
            canvas.paste(Image.fromarray(enlarge(image, factor)), (gap + j * cell_w, top + title_h))
    return np.asarray(canvas)


def save_pairs(folder: Path, images, layouts, labels: LabelSpec, spec: ImageSpec, names: Sequence[str]) -> None:
    """Write what a person looks at and what a program reads: image, layout in colour, raw labels, and an overview.

    `images` or `layouts` may be None. Files: NAME.png, NAME_layout.png, NAME_labels.png, overview.png.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, name in enumerate(names):
        row = []
        if images is not None:
            shown = display(images[i], spec)
            Image.fromarray(shown).save(folder / f"{name}.png")
            row.append(shown)
        if layouts is not None:
            colors = colorize(layouts[i], labels)
            Image.fromarray(colors).save(folder / f"{name}_layout.png")
            label_png(layouts[i], labels).save(folder / f"{name}_labels.png")
            row.append(colors)
        if images is not None and layouts is not None and images[i].shape[:2] == layouts[i].shape:
            row.append(overlay(shown, layouts[i], labels))
        rows.append(row)
    if len({r[0].shape for r in rows}) == 1:
        Image.fromarray(sheet(rows[:16], list(names)[:16])).save(folder / "overview.png")
