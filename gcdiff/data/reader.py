"""Reading and checking image, label and mask files; every error is one line that names the file.

A label map is an index PNG (8-bit grey or palette). The value of a pixel is its class and `LabelSpec.void_id` is void,
unless a table maps values to classes. `read_colored_layout` also takes RGB maps in exactly the colours of the classes;
resizing or lossy compression of such a map makes colours that belong to no class.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.types import VOID, LabelSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)
NO_CLASS = -2
"""The entry of a table for a label value without a class."""
NEAR_WHITE = 192
"""The least value of a white pixel of a mask; one of a black pixel is as near to 0."""
_PNG = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (H, W, 3), turned upright by its EXIF orientation.

    Raises FileNotFoundError, and ValueError for a broken file or one that has more than 8 bits per channel.
    """
    image = _open(path)
    if image.mode not in _EIGHT_BIT:
        raise ValueError(f"{path}: mode {image.mode}, expected an image of 8 bits a channel")
    if orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    return np.array(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image: 1 (upright) where there is none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # its parser raises exceptions of many types; the pixels are intact
        return 1


def read_layout(path: Path, labels: LabelSpec) -> np.ndarray:
    """A label file as int32 (H, W). Raises ValueError for a broken file and for a label outside the table."""
    return _from_ids(path, _open(path), id_table(labels), expected_ids(labels))


def read_ids(path: Path, table: np.ndarray, expected: str) -> np.ndarray:
    """A label file as int32 (H, W), its values translated into classes or VOID by a `table` int (256,).

    Raises ValueError for a value whose entry is NO_CLASS; `expected` describes the valid values in the message.
    """
    return _from_ids(path, _open(path), table, expected)


def read_colored_layout(
    path: Path, labels: LabelSpec, void_color: tuple[int, int, int] | None, given: bool = False
) -> np.ndarray:
    """A label file as int32 (H, W), of indices or in exactly the colours of the classes and of void (None: void
    has no colour). `given` is whether the user chose the colours: then a palette must not contradict them.

    Raises ValueError for a broken file, a label outside the table, a colour that belongs to no class, and indices whose
    colours in the file's palette are those of other classes.
    """
    image = _open(path)
    known = {color: label for label, color in enumerate(labels.palette)}
    if void_color is not None:
        known[void_color] = void_label(labels)
    if image.mode != "RGB":
        if given and image.mode == "P":
            _check_palette(path, image, labels, known)
        return _from_ids(path, image, id_table(labels), expected_ids(labels))
    codes = np.array([(r << 16) + (g << 8) + b for r, g, b in known])
    order = np.argsort(codes)
    pixels = np.array(image, np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    nearest = order[np.minimum(np.searchsorted(codes, pixels, sorter=order), len(codes) - 1)]
    unknown = np.argwhere(codes[nearest] != pixels)
    if len(unknown):
        row, column = unknown[0]
        color = image.getpixel((int(column), int(row)))
        said = f"{path}: colour {color} at row {row}, column {column}, expected a colour of the table"
        if not np.diff(np.array(image, np.int32)).any():
            said += "; if it holds numbers of classes, in three equal channels, save one of them"
        raise ValueError(said)
    return np.array(list(known.values()), np.int32)[nearest]


def _check_palette(path: Path, image: Image.Image, labels: LabelSpec, known: dict) -> None:
    """Raise ValueError where an index is that of one class and its colour in the palette that of another."""
    colors = np.array(image.getpalette("RGB"), int).reshape(-1, 3).tolist()
    classes, names = id_table(labels), {**dict(enumerate(labels.names)), VOID: "void"}
    for value in np.unique(np.array(image)).tolist():
        color = tuple(colors[value]) if value < len(colors) else None
        if known.get(color, classes[value]) != classes[value] != NO_CLASS:
            said = f"{path}: index {value} is {names[classes[value]]}, but the palette gives it {color}, the colour of"
            raise ValueError(f"{said} {names[known[color]]}; expected one and the same, or an RGB file to go by colour")


def void_label(labels: LabelSpec) -> int:
    """The value of void in layouts int32: VOID, or the last class where void is modelled."""
    return VOID if labels.void == "missing" else labels.num_classes - 1


def id_table(labels: LabelSpec) -> np.ndarray:
    """The class, VOID or NO_CLASS for each of the 256 values of a label file, int32 (256,)."""
    table = np.full(256, NO_CLASS, np.int32)
    table[: labels.num_classes] = np.arange(labels.num_classes)
    if 0 <= labels.void_id < 256:
        table[labels.void_id] = void_label(labels)
    return table


def to_ids(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """A layout int32 (H, W) with VOID as the uint8 values of a label file, the inverse of `id_table`."""
    return np.where((layout == VOID) | (layout == void_label(labels)), labels.void_id, layout).astype(np.uint8)


def expected_ids(labels: LabelSpec) -> str:
    """The valid values of a label file, for messages."""
    return f"0 to {labels.num_classes - 1} or {labels.void_id} (void)"


def _from_ids(path: Path, image: Image.Image, table: np.ndarray, expected: str) -> np.ndarray:
    if image.mode not in ("L", "P"):
        raise ValueError(f"{path}: mode {image.mode}, expected an index PNG (8-bit grey or palette)")
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] != _PNG:
        raise ValueError(f"{path}: not a PNG inside, expected an index PNG (8-bit grey or palette)")
    if image.mode == "L" and head[24] != 8:  # Pillow stretches its values to 0..255
        raise ValueError(f"{path}: grey of {head[24]} bits, expected an index PNG (8-bit grey or palette)")
    values = np.array(image)
    layout = table[values]
    outside = np.argwhere(layout == NO_CLASS)
    if len(outside):
        row, column = outside[0]
        raise ValueError(f"{path}: label {values[row, column]} at row {row}, column {column}, expected {expected}")
    return layout.astype(np.int32)


def image_files(folder: Path) -> dict[str, Path]:
    """The images (PNG, JPEG) of a folder, or of `images` in it, by name without the ending, sorted.

    Raises FileNotFoundError for a folder that is missing or empty, ValueError for two files of one name.
    """
    return _by_name(folder, "images", IMAGE_SUFFIXES)


def read_layouts(folder: Path, labels: LabelSpec, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """The label PNGs of a folder, or of `layouts` in it, by name without the ending: int32 (H, W), void as VOID.

    With `size` (H, W) all are resized to it, labels by majority; else they keep the sizes of the files.
    """
    layouts = {}
    for name, file in _by_name(folder, "layouts", LABEL_SUFFIXES).items():
        layouts[name] = layout = read_layout(file, labels)
        if size is not None:
            layouts[name] = resize(Example(np.zeros((*layout.shape, 3), np.uint8), layout, ()), size).layout
    return layouts


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    """The mask PNGs of a folder by name without the ending: bool (H, W), True where white.

    Raises ValueError for a value that is near neither black nor white, and for a mask with transparent pixels.
    """
    return {name: _read_mask(file) for name, file in _by_name(folder, None, LABEL_SUFFIXES).items()}


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of the endings, sorted. Raises FileNotFoundError where there are none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: {'a file, expected a' if folder.exists() else 'no such'} folder")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{folder}: empty, expected files ending in {', '.join(suffixes)}")
    return files


def _read_mask(path: Path) -> np.ndarray:
    image = _open(path)
    if image.has_transparency_data and np.array(image.convert("RGBA"))[..., 3].min() < 255:
        raise ValueError(f"{path}: has transparent pixels, expected an opaque mask in black (0) and white (255)")
    values = read_image(path).max(axis=-1)
    if 0 < values.max() < NEAR_WHITE:  # a mask with values 0 and 1, say, would be all False
        raise ValueError(f"{path}: brightest value {values.max()}, expected a mask in black (0) and white (255)")
    between = np.argwhere((values > 255 - NEAR_WHITE) & (values < NEAR_WHITE))
    if len(between):
        row, column = between[0]
        said = f"value {values[row, column]} at row {row}, column {column}"
        raise ValueError(f"{path}: {said}, expected a mask in black (0) and white (255)")
    return values >= NEAR_WHITE


def _by_name(folder: Path, part: str | None, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by name without the ending: those of the subfolder `part` if there is one, as in an output of gcdiff, else
    those of the folder."""
    inner = folder / part if part else folder
    files: dict[str, Path] = {}
    for file in list_files(inner if inner.is_dir() else folder, suffixes):
        if file.stem in files:
            before = files[file.stem].name
            raise ValueError(f"{file}: same name as {before}, expected names that differ before the ending")
        files[file.stem] = file
    return files


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Image.DecompressionBombError as error:
        pixels, limit = re.findall("[0-9]+", str(error))
        way = "make it smaller, or cut it into tiles"
        raise ValueError(f"{path}: {pixels} pixels, expected at most {limit}: {way}") from None
    # Pillow's decoders raise exceptions of many types: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ValueError(f"{path}: not a readable image ({' '.join(str(error).split())})") from error


def size_of(array: np.ndarray) -> str:
    """Width x height of an image or a layout, for messages: '512x256'."""
    return f"{array.shape[1]}x{array.shape[0]}"
