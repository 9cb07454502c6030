"""Images, label maps and masks from files, each checked: every error is one line that names the file.

A label map is an index PNG (8-bit grey or palette): the value of a pixel is its class, `LabelSpec.void_id` is void.
Colour codes are not read: a resized or recompressed colour map has colours that are no class's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.types import VOID, LabelSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (H, W, 3). Raises ValueError for a file that is broken or not of 8 bits a channel."""
    image = _open(path)
    if image.mode not in _EIGHT_BIT:
        raise ValueError(f"{path}: mode {image.mode}, expected an image of 8 bits a channel")
    return np.array(image.convert("RGB"))


def read_layout(path: Path, labels: LabelSpec) -> np.ndarray:
    """A label file as int32 (H, W). Raises ValueError for a broken file and for a label outside the table."""
    image = _open(path)
    if image.mode not in ("L", "P"):
        raise ValueError(f"{path}: mode {image.mode}, expected an index PNG (8-bit grey or palette)")
    values = np.array(image, np.int32)
    void = values == labels.void_id
    outside = np.argwhere((values >= labels.num_classes) & ~void)
    if len(outside):
        row, column = outside[0]
        expected = f"0 to {labels.num_classes - 1} or {labels.void_id} (void)"
        raise ValueError(f"{path}: label {values[row, column]} at row {row}, column {column}, expected {expected}")
    return np.where(void, VOID if labels.void == "missing" else labels.num_classes - 1, values).astype(np.int32)


def read_pair(image: Path, layout: Path, labels: LabelSpec) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W, 3) and int32 (H, W) from two files. Raises ValueError where their sizes differ."""
    x, y = read_image(image), read_layout(layout, labels)
    if x.shape[:2] != y.shape:
        raise ValueError(f"{layout}: size {_size(y)}, expected {_size(x)} like its image {image}")
    return x, y


def pair_files(images: Path, layouts: Path) -> list[tuple[Path, Path]]:
    """The files of two folders with the same names on both sides, sorted.

    Raises FileNotFoundError for a folder that is missing or empty and for a file without its partner.
    """
    sides = [{file.name: file for file in list_files(folder, LABEL_SUFFIXES)} for folder in (images, layouts)]
    for files, partners, folder in ((sides[0], sides[1], layouts), (sides[1], sides[0], images)):
        for name in files:
            if name not in partners:
                raise FileNotFoundError(f"{files[name]}: no partner, expected {folder / name}")
    return [(file, sides[1][name]) for name, file in sides[0].items()]


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


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
