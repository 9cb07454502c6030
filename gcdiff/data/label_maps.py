"""Reading and checking label files; every error is one line that names the file.

A label file holds numbers (grey of 1 to 16 bits, or indices of a palette) or colours (RGB), without loss. A number
stands for the class of this number and `LabelSpec.void_id` for void, unless a `Table` says otherwise.
`read_colored_layout` also takes files in exactly the colours of the classes; resizing or lossy compression of such a
file makes colours that belong to no class.

    PNG, TIFF, BMP    numbers or colours
    GIF               grey, or colours of the table: programs that write GIFs renumber the indices of a palette
    lossless WebP     colours, or numbers in three equal channels: it has no single one
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gcdiff.data.dataset import Example
from gcdiff.data.label_table import NO_CLASS, Table, expected_ids, id_table
from gcdiff.data.reader import LABEL_SUFFIXES, files_by_name, open_picture
from gcdiff.data.transforms import resize
from gcdiff.types import VOID, LabelSpec

LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF")
_INDEX = "an index PNG (8-bit grey or palette)"


class LabelFile(NamedTuple):
    """The content of a label file: numbers uint8 or int32 (H, W), colours uint8 (H, W, 3) or both readings of one file;
    the colours of a palette uint8 (256, 3), with how many are given; the format, and whether a pixel has one bit."""

    numbers: np.ndarray | None
    colors: np.ndarray | None
    palette: np.ndarray | None
    format: str
    bilevel: bool = False


def read_layout(path: Path, labels: LabelSpec) -> np.ndarray:
    """A label file as int32 (H, W). Raises ValueError for a broken file and for a label outside the table."""
    return read_ids(path, id_table(labels), expected_ids(labels))


def read_ids(path: Path, table: np.ndarray, expected: str) -> np.ndarray:
    """A label file as int32 (H, W), its numbers translated into classes or VOID by a `table` int (256,) or longer.

    Raises ValueError for a number whose entry is NO_CLASS; `expected` describes the valid numbers in the message.
    """
    numbers = read_label_file(path).numbers
    if numbers is None:
        raise ValueError(f"{path}: mode RGB, expected {_INDEX}")
    return _checked(path, numbers, classes_of(numbers, table), expected)


def read_colored_layout(path: Path, table: Table) -> np.ndarray:
    """A label file as int32 (H, W), of numbers or in exactly the colours of a table.

    Raises ValueError for a broken file, a number or a colour that belongs to no class, and for a palette that says one
    class by its numbers and another one by its colours.
    """
    file = read_label_file(path)
    if file.palette is not None and file.numbers is not None:
        return _from_palette(path, file.format, file.numbers, file.palette, table)
    if file.colors is None:
        assert file.numbers is not None
        layout = classes_of(file.numbers, table.values)
        if file.bilevel and (layout == NO_CLASS).any():  # white is 1 or, as others count, 255
            layout = classes_of(file.numbers * np.uint8(255), table.values)
        return _checked(path, file.numbers, layout, table.expected)
    by_color = _classes_of_colors(file.colors, table)
    equal = _is_grey(file.colors)
    if equal and (file.format == "WEBP" or table.ids is not None):
        by_number = classes_of(file.colors[..., 0], table.values)
        for layout in (by_color, by_number) if table.colored else (by_number, by_color):
            if (layout != NO_CLASS).all():
                return layout
        return _checked(path, file.colors[..., 0], by_number, table.expected)
    unknown = np.argwhere(by_color == NO_CLASS)
    if len(unknown):
        row, column = unknown[0]
        color = tuple(file.colors[row, column].tolist())
        said = f"{path}: colour {color} at row {row}, column {column}, expected a colour of the table"
        if equal:
            said += '; if it holds numbers of classes, in three equal channels, list them in "ids" of labels.json, or'
            said += " save one channel"
        raise ValueError(said)
    return by_color


def read_layouts(folder: Path, labels: LabelSpec, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """The label files of a folder, or of `layouts` in it, by name without the ending: int32 (H, W), void as VOID.

    With `size` (H, W) all are resized to it, labels by majority; else they keep the sizes of the files.
    """
    layouts = {}
    for name, file in files_by_name(folder, "layouts", LABEL_SUFFIXES).items():
        layouts[name] = layout = read_layout(file, labels)
        if size is not None:
            layouts[name] = resize(Example(np.zeros((*layout.shape, 3), np.uint8), layout, ()), size).layout
    return layouts


def read_label_file(path: Path) -> LabelFile:
    """A label file, before its numbers and colours are understood. Raises ValueError for a file that is broken or
    lossy, or that holds what is neither a number nor a colour."""
    image = open_picture(path)
    if loss := _loss(path, image):
        raise ValueError(f"{path}: {loss}, which does not keep labels as they are; expected {_INDEX}")
    mode, pixels, bits, form = image.mode, np.array(image), _bits(path, image), str(image.format)
    if mode in ("LA", "PA", "RGBA"):
        if pixels[..., -1].min() < 255:
            raise ValueError(f"{path}: mode {mode} with transparent pixels, expected {_INDEX}")
        mode, pixels = mode[:-1], pixels[..., 0] if mode != "RGBA" else pixels[..., :3]
    if mode == "RGB" and bits == 8:
        equal = form == "WEBP" and _is_grey(pixels)
        return LabelFile(pixels[..., 0] if equal else None, pixels, None, form)
    if mode == "P":
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return LabelFile(pixels, None, palette, form)
    if mode == "1":
        return LabelFile(pixels.astype(np.uint8), None, None, form, bilevel=True)
    if mode == "L" and bits <= 8:  # Pillow stretches fewer bits to 0..255
        return LabelFile(pixels // np.uint8(255 // (2**bits - 1)), None, None, form)
    if mode == "I" or mode.startswith("I;16"):
        return LabelFile(pixels.astype(np.int32), None, None, form)
    depth = f" of {bits} bits a channel" if bits > 8 else ""
    raise ValueError(f"{path}: mode {mode}{depth}, expected {_INDEX}")


def classes_of(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The class, VOID or NO_CLASS of each number by a table int32 (256,) or longer, in the shape of `numbers`."""
    if numbers.dtype == np.uint8:
        return table[numbers]
    inside = (numbers >= 0) & (numbers < len(table))
    return np.where(inside, table[np.where(inside, numbers, 0)], NO_CLASS).astype(np.int32)


def grey_of(colors: np.ndarray) -> np.ndarray | None:
    """The grey uint8 (n,) of colours uint8 (n, 3); None where one of them is no grey."""
    return colors[:, 0] if _is_grey(colors) else None


def _is_grey(colors: np.ndarray) -> bool:
    return bool((colors == colors[..., :1]).all())


def _classes_of_colors(colors: np.ndarray, table: Table) -> np.ndarray:
    """The class, VOID or NO_CLASS of each colour uint8 (..., 3): int32 (...)."""
    weights = np.array([1 << 16, 1 << 8, 1], np.int32)
    codes, classes = np.array(list(table.colors)) @ weights, np.array(list(table.colors.values()), np.int32)
    order, pixels = np.argsort(codes), colors.astype(np.int32) @ weights
    nearest = order[np.minimum(np.searchsorted(codes, pixels, sorter=order), len(codes) - 1)]
    return np.where(codes[nearest] == pixels, classes[nearest], NO_CLASS)


def _from_palette(path: Path, form: str, numbers: np.ndarray, palette: np.ndarray, table: Table) -> np.ndarray:
    """The layout of a file with a palette: by its numbers, or where these are no classes by its colours or greys. In a
    GIF the numbers say nothing."""
    used = np.unique(numbers)
    colors = np.pad(palette, ((0, max(0, int(used.max()) + 1 - len(palette))), (0, 0)))[used]
    gif, none = form == "GIF", np.full(used.shape, NO_CLASS, np.int32)
    by_number = none if gif else classes_of(used, table.values)
    by_color = _classes_of_colors(colors, table) if gif or table.colored else none
    by_color[used >= len(palette)] = NO_CLASS
    grey = grey_of(colors)
    if not gif and (used.max() >= len(palette) or len(np.unique(colors, axis=0)) < len(used)):
        grey = None  # a palette that is too short, or that does not distinguish the numbers
    by_grey = none if grey is None else classes_of(grey, table.values)
    _check_palette(path, table.labels, used, colors, by_number, by_color)
    for classes in (by_color, by_grey) if gif else (by_number, by_color, by_grey):
        if (classes != NO_CLASS).all():
            if classes is by_number and not (by_color == by_number).all() and (by_grey != NO_CLASS).all():
                shown = np.where(by_grey == VOID, NO_CLASS, by_grey)
                _check_palette(path, table.labels, used, colors, by_number, shown)
            lookup = np.full(256, NO_CLASS, np.int32)
            lookup[used] = classes
            return lookup[numbers]
    if gif:
        said = f"{path}: a GIF in the colours {', '.join(map(str, map(tuple, colors[:3].tolist())))}, expected those of"
        raise ValueError(f'{said} "colors" in labels.json, or {_INDEX}: GIFs do not keep the numbers of a palette')
    return _checked(path, numbers, classes_of(numbers, table.values), table.expected)


def _check_palette(path, labels: LabelSpec, used, colors, by_number, by_color) -> None:
    """Raise ValueError where a number is that of one class and its colour in the palette that of another."""
    names = {**dict(enumerate(labels.names)), VOID: "void"}
    for value, color, number, other in zip(used, colors, by_number, by_color, strict=True):
        if number != other and NO_CLASS not in (number, other):
            said = (
                f"{path}: index {value} is {names[int(number)]}, but the palette gives it {tuple(color.tolist())}, the"
            )
            said += f" colour of {names[int(other)]}"
            raise ValueError(f"{said}; expected one and the same, or an RGB file to go by colour")


def _checked(path: Path, numbers: np.ndarray, layout: np.ndarray, expected: str) -> np.ndarray:
    """The layout. Raises ValueError where it has a pixel without a class."""
    outside = np.argwhere(layout == NO_CLASS)
    if len(outside):
        row, column = outside[0]
        raise ValueError(f"{path}: label {numbers[row, column]} at row {row}, column {column}, expected {expected}")
    return layout.astype(np.int32, copy=False)


def _bits(path: Path, image: Image.Image) -> int:
    """The bits of a channel in a PNG or TIFF file; 8 in other files."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return bits[0] if isinstance(bits, tuple) else bits
    return 8


def _loss(path: Path, image: Image.Image) -> str:
    """The cause of lost information in a file, for a message; "" where nothing is lost."""
    if image.format in ("JPEG", "MPO", "JPEG2000"):
        return f"a {'JPEG' if image.format == 'MPO' else image.format} inside"
    if image.format not in LOSSLESS:
        return f"a {image.format} inside"
    compression = str(image.info.get("compression", ""))
    if image.format == "TIFF" and any(word in compression for word in ("jpeg", "webp")):
        return f"a TIFF compressed by {compression}"
    return "a lossy WebP" if image.format == "WEBP" and _is_lossy_webp(path) else ""


def _is_lossy_webp(path: Path) -> bool:
    """Whether a WebP file has a chunk of lossy pixels. Chunks are (name of 4 bytes, size of 4 bytes, content)."""
    data, place = path.read_bytes(), 12
    while place + 8 <= len(data):
        if data[place : place + 4] == b"VP8 ":
            return True
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return False
