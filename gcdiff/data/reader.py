"""Reading and checking image and mask files; every error is one line that names the file.

Label files are read by `gcdiff.data.label_maps`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *LABEL_SUFFIXES[1:])
NEAR_WHITE = 192
"""The least value of a white pixel of a mask; one of a black pixel is as near to 0."""
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image is turned upright, by its EXIF orientation."""
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (H, W, 3), turned upright by its EXIF orientation.

    Raises FileNotFoundError, and ValueError for a broken file or one that has more than 8 bits per channel.
    """
    image = open_picture(path)
    if image.mode not in _EIGHT_BIT:
        raise ValueError(f"{path}: mode {image.mode}, expected an image of 8 bits a channel")
    if (turn := orientation(image)) in _TURNED:
        image = image.transpose(_TURNED[turn])
    return np.array(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image: 1 (upright) where there is none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # its parser raises exceptions of many types; the pixels are intact
        return 1


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of an image file turns it, so that it is not shown as it is stored."""
    with Image.open(path) as image:
        return orientation(image) in _TURNED


def image_files(folder: Path) -> dict[str, Path]:
    """The images (IMAGE_SUFFIXES) of a folder, or of `images` in it, by name without the ending, sorted.

    Raises FileNotFoundError for a folder that is missing or empty, ValueError for two files of one name.
    """
    return files_by_name(folder, "images", IMAGE_SUFFIXES)


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    """The masks (LABEL_SUFFIXES) of a folder by name without the ending: bool (H, W), True where white.

    Raises ValueError for a value that is near neither black nor white, and for a mask with transparent pixels.
    """
    return {name: _read_mask(file) for name, file in files_by_name(folder, None, LABEL_SUFFIXES).items()}


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of the endings, sorted. Raises FileNotFoundError where there are none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: {'a file, expected a' if folder.exists() else 'no such'} folder")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
    if not files:
        others = next((f"holds {f.name}" for f in sorted(folder.iterdir()) if not f.name.startswith(".")), "empty")
        raise FileNotFoundError(f"{folder}: {others}, expected files ending in {', '.join(suffixes)}")
    return files


def unread(folder: Path, part: str | None, suffixes: tuple[str, ...]) -> list[str]:
    """The names of the files that lie beside those of `image_files` (part "images"), `read_layouts` ("layouts") or
    `read_masks` (None) and have none of the endings, sorted; hidden files are left out."""
    files = (f for f in _inner(folder, part).iterdir() if f.is_file() and not f.name.startswith("."))
    return sorted(f.name for f in files if f.suffix.lower() not in suffixes)


def _read_mask(path: Path) -> np.ndarray:
    image = open_picture(path)
    if image.has_transparency_data and np.array(image.convert("RGBA"))[..., 3].min() < 255:
        raise ValueError(f"{path}: has transparent pixels, expected an opaque mask in black (0) and white (255)")
    channels = read_image(path)
    values = channels.max(axis=-1)
    colored = np.argwhere(values - channels.min(axis=-1) > 255 - NEAR_WHITE)
    if len(colored):
        row, column = colored[0]
        said = f"colour {tuple(channels[row, column].tolist())} at row {row}, column {column}"
        raise ValueError(f"{path}: {said}, expected a mask in black (0) and white (255)")
    if 0 < values.max() < NEAR_WHITE:  # a mask with values 0 and 1, say, would be all False
        raise ValueError(f"{path}: brightest value {values.max()}, expected a mask in black (0) and white (255)")
    between = np.argwhere((values > 255 - NEAR_WHITE) & (values < NEAR_WHITE))
    if len(between):
        row, column = between[0]
        said = f"value {values[row, column]} at row {row}, column {column}"
        raise ValueError(f"{path}: {said}, expected a mask in black (0) and white (255)")
    return values >= NEAR_WHITE


def files_by_name(folder: Path, part: str | None, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by name without the ending, in NFC: those of the subfolder `part` if there is one, as in an output of
    gcdiff, else those of the folder."""
    files: dict[str, Path] = {}
    for file in list_files(_inner(folder, part), suffixes):
        if (name := in_nfc(file.stem)) in files:
            before = files[name].name
            raise ValueError(f"{file}: same name as {before}, expected names that differ before the ending")
        files[name] = file
    return files


def _inner(folder: Path, part: str | None) -> Path:
    """The subfolder `part` of a folder if there is one, else the folder."""
    return folder / part if part and (folder / part).is_dir() else folder


def in_nfc(name: str) -> str:
    """A name in the Unicode form NFC: some systems write an accent as a character of its own, others do not."""
    return unicodedata.normalize("NFC", name)


def open_picture(path: Path) -> Image.Image:
    """A picture file, decoded. Raises FileNotFoundError, and ValueError for a file that is broken or too large, or that
    holds several pictures."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with Image.open(path) as image:
            pictures = _pictures(image)
            image.load()
    except Image.DecompressionBombError as error:
        pixels, limit = re.findall("[0-9]+", str(error))
        way = "make it smaller, or cut it into tiles"
        raise ValueError(f"{path}: {pixels} pixels, expected at most {limit}: {way}") from None
    # Pillow's decoders raise exceptions of many types: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ValueError(f"{path}: not a readable image ({' '.join(str(error).split())})") from error
    if pictures > 1:
        raise ValueError(f"{path}: holds {pictures} pictures, expected a file of one")
    return image


def _pictures(image: Image.Image) -> int:
    """The number of pictures in a file, without the smaller ones of a TIFF, which are previews."""
    if image.format not in ("TIFF", "GIF", "WEBP", "PNG"):  # the others have none, or previews beside the first
        return 1
    count = getattr(image, "n_frames", 1)
    if image.format != "TIFF" or count == 1:
        return count
    sizes = []
    for i in range(count):
        image.seek(i)
        sizes.append(image.size)
    image.seek(0)
    return sizes.count(sizes[0])


def size_of(array: np.ndarray) -> str:
    """Width x height of an image or a layout, for messages: '512x256'."""
    return f"{array.shape[1]}x{array.shape[0]}"
