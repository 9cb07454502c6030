"""Images and layouts as pictures and files: colours, overlays, sheets, label PNGs, resized maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gcdiff.types import VOID, ImageSpec, LabelSpec

PARTS = ("images", "layouts", "colors")
"""The folders of an output: images, raw labels, layouts in their colours; files of one name belong together."""


def check_images(images: Sequence[np.ndarray], channels: int) -> list[np.ndarray]:
    """Return images as a list. Raises ValueError unless each is uint8 (h, w, channels), and for none at all."""
    images = [np.asarray(image) for image in images]
    if not images:
        raise ValueError("images: there are none, expected at least one")
    for image in images:
        if image.ndim != 3 or image.shape[-1] != channels or image.dtype != np.uint8:
            actual = f"one has shape {image.shape} and type {image.dtype}"
            raise ValueError(f"images: {actual}, expected uint8 (H, W, {channels}) for each of them")
    return images


def check_layouts(layouts: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """Return layouts as int32 (N, h, w). Raises ValueError for other shapes, types, and labels outside the table."""
    layouts = np.asarray(layouts)
    if layouts.ndim != 3 or layouts.dtype.kind not in "iu":
        raise ValueError(f"layouts have shape {layouts.shape} and type {layouts.dtype}, expected int (N, H, W)")
    bad = layouts[(layouts < VOID) | (layouts >= labels.num_classes)]
    if bad.size:
        raise ValueError(f"layouts hold label {bad[0]}, expected 0..{labels.num_classes - 1} or void ({VOID})")
    return layouts.astype(np.int32)


def display(image: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """The picture uint8 (..., 3) of an image uint8 (..., C): its first channel group that is not hidden."""
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
    """A layout int (..., H, W) with VOID in the palette's colours: uint8 (..., H, W, 3)."""
    table = np.array([*labels.palette, labels.void_color], np.uint8)
    return table[np.where(layout == VOID, labels.num_classes, layout)]


def overlay(image: np.ndarray, layout: np.ndarray, labels: LabelSpec, share: float = 0.5) -> np.ndarray:
    """The image with the layout's colours laid over it: uint8 (..., H, W, 3)."""
    mixed = (1 - share) * image.astype(np.float32) + share * colorize(layout, labels).astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def to_label_ids(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """int32 with VOID -> uint8 ids as they stand in files: void, missing or modelled as the last class, as
    `labels.void_id`. Raises ValueError for more than 255 classes, which 8 bits do not hold beside void."""
    if labels.num_classes > 255:
        raise ValueError(f"{labels.num_classes} classes, expected at most 255 in a label PNG of 8 bits")
    void = layout == VOID
    if labels.void == "class":
        void |= layout == labels.num_classes - 1
    return np.where(void, labels.void_id, layout).astype(np.uint8)


def void_left_out(layouts: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """Layouts int (..., H, W) with VOID in place of the class void; unchanged where void is no class."""
    layouts = np.asarray(layouts)
    return layouts if labels.void == "missing" else np.where(layouts == labels.num_classes - 1, VOID, layouts)


def label_png(layout: np.ndarray, labels: LabelSpec) -> Image.Image:
    """A PNG of label ids in index mode: viewers show colours, and programs read ids."""
    picture = Image.fromarray(to_label_ids(layout, labels), mode="P")
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[labels.void_id] = labels.palette[-1] if labels.void == "class" else labels.void_color
    picture.putpalette(table.tobytes())
    return picture


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class probabilities float32 (h, w, K) resized bilinearly to (H, W): float32 (H, W, K)."""
    return np.stack(list(_each_map(maps, size)), axis=-1)


def decide(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most probable class int32 (H, W) of `resize_maps`, the lowest of equals; one class is in memory at a time."""
    best, label = np.full(size, -np.inf, np.float32), np.zeros(size, np.int32)
    for k, values in enumerate(_each_map(maps, size)):
        np.copyto(label, k, where=values > best)
        np.maximum(best, values, out=best)
    return label


def _each_map(maps: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    for values in np.moveaxis(maps, -1, 0):
        if values.shape == tuple(size):
            yield values
        else:
            picture = Image.fromarray(np.ascontiguousarray(values))
            yield np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """The image with every pixel as a square of `factor` pixels: (..., H, W, 3)."""
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


def legend(labels: LabelSpec, width: int) -> np.ndarray:
    """The colours of the classes and of void with their names, in columns on white: uint8 (h, width, 3)."""
    void = [] if labels.void == "class" else [("void", labels.void_color)]
    entries = [*zip(labels.names, labels.palette, strict=True), *void]
    row, square, gap = 14, 10, 4
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    texts = [_drawable(f"{i} {name}" if i < labels.num_classes else name) for i, (name, _) in enumerate(entries)]
    column = square + 3 * gap + int(max(draw.textlength(text) for text in texts))
    columns = max(1, (width - gap) // column)
    canvas = Image.new("RGB", (width, row * -(-len(entries) // columns) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (text, (_, color)) in enumerate(zip(texts, entries, strict=True)):
        left, top = gap + column * (i % columns), row * (i // columns) + 2
        draw.rectangle((left, top, left + square, top + square), fill=tuple(color), outline="black")
        draw.text((left + square + gap, top - 1), text, fill="black")
    return np.asarray(canvas)


def _drawable(text: str) -> str:
    """The text with a question mark for every character that the built-in font lacks."""
    return text.encode("latin-1", "replace").decode("latin-1")


def save_pairs(
    folder: Path, pairs: Iterable[tuple[str, np.ndarray, np.ndarray]], labels: LabelSpec, spec: ImageSpec,
    cell: tuple[int, int],
) -> int:  # fmt: skip
    """Write pairs as picture and label files; returns the number of pairs.

    `pairs` are (name, uint8 (h, w, C), int (H, W)), taken one by one. Files: images/NAME.png, layouts/NAME.png (raw
    labels), colors/NAME.png (the layout in its colours) and overview.png, the first 16 in cells of size `cell`.
    """
    for part in PARTS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    count, names, rows = 0, [], []
    for count, (name, image, layout) in enumerate(pairs, start=1):  # noqa: B007
        shown, colors = display(image, spec), colorize(layout, labels)
        pictures = Image.fromarray(shown), label_png(layout, labels), Image.fromarray(colors)
        for part, picture in zip(PARTS, pictures, strict=True):
            picture.save(folder / part / f"{name}.png")
        if count <= 16:
            small = _nearest(layout, cell)
            names.append(name)
            rows.append([_nearest(shown, cell), _nearest(colors, cell), overlay(_nearest(shown, cell), small, labels)])
    if rows:
        Image.fromarray(sheet(rows, names, factor=max(1, 192 // cell[1]))).save(folder / "overview.png")
    return count


def _nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array (h, w, ...) resized to (H, W), each pixel taken from the one in which its centre lies."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, array.shape, strict=False))
    return array[rows[:, None], columns]
