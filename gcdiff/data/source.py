"""What a data set on disk is: a `Source` lists the examples of each split without reading pixels, and reads one.

What is wrong with a single example goes to a function `fault`, one line that names the file: `refuse` raises it, and
whoever goes on without the example collects it. What is wrong with the whole (a folder that is not there) is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gcdiff.data.captions import ClassCaptions
from gcdiff.data.reader import list_files, read_image, size_of
from gcdiff.types import LabelSpec

Fault = Callable[[str], None]


class Item(NamedTuple):
    """An example on disk: its name, its image (None: missing), the files of its layout (none: missing), captions."""

    key: str
    image: Path | None
    layout: tuple[Path, ...]
    captions: tuple[str, ...] = ()


class Sides(NamedTuple):
    """What was read of an example: image uint8 (h, w, 3) and layout int32 (H, W) with VOID; None where missing.

    The image is as large as the layout, or larger by a whole factor where the data set has it so.
    """

    image: np.ndarray | None
    layout: np.ndarray | None


class Source(Protocol):
    """A data set on disk. `class_captions` makes the captions of examples that are listed without, from their layouts.

    `options` are what it was asked for besides its folder, as JSON; `note` is what a user of the data has to know.
    """

    name: str
    labels: LabelSpec
    licence: str
    note: str
    options: Mapping[str, Any]
    class_captions: ClassCaptions | None

    def splits(self, fault: Fault) -> dict[str, list[Item]]: ...

    def read(self, item: Item) -> Sides: ...


def refuse(message: str) -> None:
    """The `fault` of whoever takes none."""
    raise ValueError(message)


def pairs(
    images: Mapping[Any, Path],
    layouts: Mapping[Any, tuple[Path, ...]],
    image_of: Callable[[Any], Path],
    layout_of: Callable[[Any], Path],
    fault: Fault,
) -> list[tuple[Any, Path, tuple[Path, ...]]]:
    """(key, image, files of the layout) of the keys that both sides have, sorted; the others are faults.

    `image_of` and `layout_of` say which file was expected for a key.
    """
    for key in sorted(images.keys() - layouts.keys()):
        fault(f"{images[key]}: no partner, expected {layout_of(key)}")
    for key in sorted(layouts.keys() - images.keys()):
        fault(f"{layouts[key][0]}: no partner, expected {image_of(key)}")
    return [(key, images[key], layouts[key]) for key in sorted(images.keys() & layouts.keys())]


def files_ending(folder: Path, ending: str) -> dict[str, Path]:
    """The files NAME<ending> of a folder by NAME, sorted. Raises FileNotFoundError where there is none."""
    files = list_files(folder, (f".{ending.rpartition('.')[2]}",))
    found = {file.name[: -len(ending)]: file for file in files if file.name.lower().endswith(ending.lower())}
    if not found:
        raise FileNotFoundError(f"{folder}: expected files ending in {ending}")
    return found


def numbered(files: Iterable[Path], fault: Fault) -> dict[int, Path]:
    """Files by the number that their name is, sorted; others are faults."""
    found = {}
    for file in files:
        if not file.stem.isdecimal():
            fault(f"{file}: expected a number for a name")
        elif int(file.stem) in found:
            fault(f"{file}: same number as {found[int(file.stem)].name}")
        else:
            found[int(file.stem)] = file
    return dict(sorted(found.items()))


def read_sides(item: Item, read_layout: Callable[[tuple[Path, ...]], np.ndarray], larger: bool = False) -> Sides:
    """The two sides of an example, checked. With `larger` an image may be larger than its layout by a whole factor."""
    image = None if item.image is None else read_image(item.image)
    layout = read_layout(item.layout) if item.layout else None
    if image is not None and layout is not None and image.shape[:2] != layout.shape:
        if not larger:
            expected = f"expected {size_of(image)} like its image {item.image}"
            raise ValueError(f"{item.layout[0]}: size {size_of(layout)}, {expected}")
        (height, width), (rows, columns) = image.shape[:2], layout.shape
        if height % rows or width % columns or height // rows != width // columns:
            expected = f"expected a multiple of {size_of(layout)}, the size of {item.layout[0]}"
            raise ValueError(f"{item.image}: size {size_of(image)}, {expected}")
    return Sides(image, layout)
