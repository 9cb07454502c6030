"""Images, label maps and masks from files, each checked: every error is one line that names the file.

A label map is an index PNG (8-bit grey or palette): the value of a pixel is its class, `LabelSpec.void_id` is void, or
a table says which value is which class. `read_colored_layout` takes maps in colours too, where every colour is exactly
one of the table's: a resized or recompressed colour map has others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.types import VOID, LabelSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)
NO_CLASS = -2
"""In a table of label values: this one means nothing."""
_PNG = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (H, W, 3), turned as its EXIF says. Raises ValueError for a file that is broken, and for
    numbers that are not brought to 8 bits a channel."""
    image = _open(path)
    if image.mode not in _EIGHT_BIT:
        raise ValueError(f"{path}: mode {image.mode}, expected an image of 8 bits a channel")
    if orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    return np.array(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """How the rows and columns of an image lie, as its EXIF says: 1 as they are seen, or where nothing is said."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # its parser raises what it comes across; the pixels are whole
        return 1


def read_layout(path: Path, labels: LabelSpec) -> np.ndarray:
    """A label file as int32 (H, W). Raises ValueError for a broken file and for a label outside the table."""
    return _from_ids(path, _open(path), id_table(labels), expected_ids(labels))


def read_ids(path: Path, table: np.ndarray, expected: str) -> np.ndarray:
    """A label file int32 (H, W) whose values a `table` int (256,) translates into classes or VOID.

    Values that the table gives as NO_CLASS are refused in a ValueError that says what was `expected`.
    """
    return _from_ids(path, _open(path), table, expected)


def read_colored_layout(path: Path, labels: LabelSpec, void_color: tuple[int, int, int] | None) -> np.ndarray:
    """A label file as int32 (H, W), of indices or in exactly the colours of the classes and of void (None: has none).

    Raises ValueError for a broken file, a label outside the table and a colour that is no class's.
    """
    image = _open(path)
    if image.mode != "RGB":
        return _from_ids(path, image, id_table(labels), expected_ids(labels))
    known = {color: label for label, color in enumerate(labels.palette)}
    if void_color is not None:
        known[void_color] = void_label(labels)
    codes = np.array([(r << 16) + (g << 8) + b for r, g, b in known])
    order = np.argsort(codes)
    pixels = np.array(image, np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found = order[np.minimum(np.searchsorted(codes, pixels, sorter=order), len(codes) - 1)]
    unknown = np.argwhere(codes[found] != pixels)
    if len(unknown):
        row, column = unknown[0]
        color = image.getpixel((int(column), int(row)))
        raise ValueError(f"{path}: colour {color} at row {row}, column {column}, expected a colour of the table")
    return np.array(list(known.values()), np.int32)[found]


def void_label(labels: LabelSpec) -> int:
    """What void is in a layout that was read: VOID, or the last class where void is modelled."""
    return VOID if labels.void == "missing" else labels.num_classes - 1


def id_table(labels: LabelSpec) -> np.ndarray:
    """What the 256 values of a label file mean: a class, VOID, or NO_CLASS; int32 (256,)."""
    table = np.full(256, NO_CLASS, np.int32)
    table[: labels.num_classes] = np.arange(labels.num_classes)
    if 0 <= labels.void_id < 256:
        table[labels.void_id] = void_label(labels)
    return table


def to_ids(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """A layout int32 (H, W) with VOID as the uint8 values of a label file: what `id_table` takes back."""
    return np.where((layout == VOID) | (layout == void_label(labels)), labels.void_id, layout).astype(np.uint8)


def expected_ids(labels: LabelSpec) -> str:
    return f"0 to {labels.num_classes - 1} or {labels.void_id} (void)"


def _from_ids(path: Path, image: Image.Image, table: np.ndarray, expected: str) -> np.ndarray:
    if image.mode not in ("L", "P"):
        raise ValueError(f"{path}: mode {image.mode}, expected an index PNG (8-bit grey or palette)")
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] != _PNG:
        raise ValueError(f"{path}: not a PNG inside, expected an index PNG (8-bit grey or palette)")
    if image.mode == "L" and head[24] != 8:  # its values are stretched to 0 to 255 when it is read
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

    With `size` (H, W) all are brought to it, labels by majority; else they have the sizes of the files.
    """
    found = {}
    for name, file in _by_name(folder, "layouts", LABEL_SUFFIXES).items():
        found[name] = layout = read_layout(file, labels)
        if size is not None:
            found[name] = resize(Example(np.zeros((*layout.shape, 3), np.uint8), layout, ()), size).layout
    return found


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    """The mask PNGs of a folder by name without the ending: bool (H, W), True where white."""
    return {name: _read_mask(file) for name, file in _by_name(folder, None, LABEL_SUFFIXES).items()}


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of the endings, sorted. Raises FileNotFoundError where there is none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{folder}: empty, expected files ending in {', '.join(suffixes)}")
    return files


def _read_mask(path: Path) -> np.ndarray:
    values = read_image(path).max(axis=-1)
    if values.max() == 1:  # a mask written as numbers would read as all black
        raise ValueError(f"{path}: brightest value 1, expected a mask in black (0) and white (255)")
    return values >= 128


def _by_name(folder: Path, part: str | None, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by their names without the ending, of the folder `part` of an output of gcdiff or of a plain folder."""
    inner = folder / part if part else folder
    found: dict[str, Path] = {}
    for file in list_files(inner if inner.is_dir() else folder, suffixes):
        if file.stem in found:
            before = found[file.stem].name
            raise ValueError(f"{file}: same name as {before}, expected names that differ before the ending")
        found[file.stem] = file
    return found


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    # Pillow's decoders raise what they come across: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ValueError(f"{path}: not a readable image ({' '.join(str(error).split())})") from error


def size_of(array: np.ndarray) -> str:
    """Width and height of an image or a layout, as people write them: '512x256'."""
    return f"{array.shape[1]}x{array.shape[0]}"
