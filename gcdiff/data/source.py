"""The interface of data sets on disk: a `Source` lists the examples of each split and reads them one by one.

Errors of a single example go to a function `fault` as one line that names the file. `refuse` is the one that raises
them as ValueErrors; a caller that skips such examples passes one that collects them. Errors of the whole data set, such
as a missing folder, are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gcdiff.data.captions import ClassCaptions
from gcdiff.data.reader import is_turned, list_files, read_image, size_of
from gcdiff.types import LabelSpec

Fault = Callable[[str], None]
"""Takes the message about an example that is wrong."""


class Item(NamedTuple):
    """An example on disk: its name, its image (None: missing), the files of its layout ((): missing), its captions."""

    key: str
    image: Path | None
    layout: tuple[Path, ...]
    captions: tuple[str, ...] = ()


class Sides(NamedTuple):
    """The sides of an example: image uint8 (h, w, 3) and layout int32 (H, W) with VOID; None where missing.

    The image has the layout's size, or in some data sets a multiple of it.
    """

    image: np.ndarray | None
    layout: np.ndarray | None


class Source(Protocol):
    """A data set on disk. `class_captions` makes captions from the layouts for examples that are listed without any.

    `options` holds the constructor's arguments besides the folder, as JSON; `note` is a remark for users of the data.
    """

    name: str
    labels: LabelSpec
    licence: str
    note: str
    options: Mapping[str, Any]
    class_captions: ClassCaptions | None

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        """The examples of each split. Messages about single examples go to `fault`."""
        ...

    def read(self, item: Item) -> Sides:
        """Read an example. Raises ValueError or OSError, naming the file."""
        ...


def refuse(message: str) -> None:
    """The `fault` that accepts no faulty example: raises ValueError."""
    raise ValueError(message)


def match_pairs(
    images: Mapping[Any, Path],
    layouts: Mapping[Any, tuple[Path, ...]],
    image_of: Callable[[Any], Path],
    layout_of: Callable[[Any], Path],
    fault: Fault,
) -> list[tuple[Any, Path, tuple[Path, ...]]]:
    """(key, image, layout files) of the keys that both sides have, sorted. A key of one side alone is a fault.

    `image_of` and `layout_of` give the file that is expected for a key.
    """
    for key in sorted(images.keys() - layouts.keys()):
        fault(f"{images[key]}: no partner, expected {layout_of(key)}")
    for key in sorted(layouts.keys() - images.keys()):
        fault(f"{layouts[key][0]}: no partner, expected {image_of(key)}")
    return [(key, images[key], layouts[key]) for key in sorted(images.keys() & layouts.keys())]


def files_ending(folder: Path, ending: str) -> dict[str, Path]:
    """The files NAME<ending> of a folder by NAME, sorted. Raises FileNotFoundError where there are none."""
    files = list_files(folder, (f".{ending.rpartition('.')[2]}",))
    matching = {file.name[: -len(ending)]: file for file in files if file.name.lower().endswith(ending.lower())}
    if not matching:
        raise FileNotFoundError(f"{folder}: expected files ending in {ending}")
    return matching


def by_number(files: Iterable[Path], fault: Fault) -> dict[int, Path]:
    """Files whose names are numbers, by that number, sorted. Another name and a second file of a number are faults."""
    numbered = {}
    for file in files:
        if not file.stem.isdecimal():
            fault(f"{file}: expected a number for a name")
        elif int(file.stem) in numbered:
            fault(f"{file}: same number as {numbered[int(file.stem)].name}")
        else:
            numbered[int(file.stem)] = file
    return dict(sorted(numbered.items()))


def read_sides(item: Item, read_layout: Callable[[tuple[Path, ...]], np.ndarray], larger: bool = False) -> Sides:
    """Read the two sides of an example and check their sizes: equal, or with `larger` the image's a multiple.

    Raises ValueError for sizes that do not fit, and what `read_layout` raises.
    """
    image = None if item.image is None else read_image(item.image)
    layout = read_layout(item.layout) if item.layout else None
    if image is not None and layout is not None and image.shape[:2] != layout.shape:
        if not larger:
            expected = f"expected {size_of(image)} like its image {item.image}"
            if image.shape[1::-1] == layout.shape and item.image is not None and is_turned(item.image):
                expected += ", which its EXIF turns: turn the layout, too"
            raise ValueError(f"{item.layout[0]}: size {size_of(layout)}, {expected}")
        (height, width), (rows, columns) = image.shape[:2], layout.shape
        if height % rows or width % columns or height // rows != width // columns:
            expected = f"expected a multiple of {size_of(layout)}, the size of {item.layout[0]}"
            raise ValueError(f"{item.image}: size {size_of(image)}, {expected}")
    return Sides(image, layout)
