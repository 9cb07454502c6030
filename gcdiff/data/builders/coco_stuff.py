"""COCO-Stuff: 123,287 images with 80 things and 91 kinds of stuff (Caesar, Uijlings and Ferrari 2018), and captions.

    train2017/000000000009.jpg ...                     or images/train2017/; the images of COCO (Lin et al. 2014)
    val2017/000000000139.jpg ...
    stuffthingmaps/train2017/000000000009.png ...      values 0 to 181 with gaps, 255 is void
    stuffthingmaps/val2017/000000000139.png ...
    annotations/captions_train2017.json, captions_val2017.json

The 171 classes are numbered without gaps, things first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gcdiff.data.labels import COCO_STUFF
from gcdiff.data.reader import NO_CLASS, list_files, read_ids
from gcdiff.data.source import Fault, Item, Sides, by_number, match_pairs, read_sides
from gcdiff.types import VOID

SPLITS = ("train", "val")
GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Values without a class: things on COCO's list that were never annotated."""
_EXPECTED = f"a value of 0 to 181 but {', '.join(map(str, GAPS))}, or 255 (void)"


class CocoStuff:
    """COCO-Stuff as a `Source`, with the splits whose image folders exist."""

    name = "coco_stuff"
    labels = COCO_STUFF
    licence = (
        "COCO and COCO-Stuff: annotations and captions under CC BY 4.0; the images are under the terms of use of "
        "Flickr and belong to their owners."
    )
    note = ""
    class_captions = None

    def __init__(self, root: str | Path):
        self._root, self.options = Path(root), {}
        self._table = np.full(256, NO_CLASS, np.int32)
        self._table[[value for value in range(182) if value not in GAPS]] = np.arange(COCO_STUFF.num_classes)
        self._table[255] = VOID

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        folders = {split: self._images(f"{split}2017") for split in SPLITS}
        available = {split: folder for split, folder in folders.items() if folder.is_dir()}
        if not available:
            raise FileNotFoundError(f"{folders['train']}: no such folder")
        return {split: self._items(split, folder, fault) for split, folder in available.items()}

    def read(self, item: Item) -> Sides:
        return read_sides(item, lambda files: read_ids(files[0], self._table, _EXPECTED))

    def _images(self, name: str) -> Path:
        inner = self._root / "images" / name
        return inner if inner.is_dir() else self._root / name

    def _items(self, split: str, images: Path, fault: Fault) -> list[Item]:
        maps = self._root / "stuffthingmaps" / f"{split}2017"
        path = self._root / "annotations" / f"captions_{split}2017.json"
        captions = _captions(path)
        matched = match_pairs(
            by_number(list_files(images, (".jpg",)), fault),
            {i: (file,) for i, file in by_number(list_files(maps, (".png",)), fault).items()},
            lambda i: images / f"{i:012d}.jpg",
            lambda i: maps / f"{i:012d}.png",
            fault,
        )
        items = []
        for i, image, files in matched:
            if captions.get(i):
                items.append(Item(image.stem, image, files, captions[i]))
            else:
                fault(f"{path}: no captions for {image.name}")
        return items


def _captions(path: Path) -> dict[int, tuple[str, ...]]:
    """The captions of a COCO annotation file by image id. Raises FileNotFoundError or ValueError, naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        captions: dict[int, list[str]] = {}
        for annotation in json.loads(path.read_text(encoding="utf-8-sig"))["annotations"]:
            captions.setdefault(int(annotation["image_id"]), []).append(str(annotation["caption"]).strip())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of COCO captions ({type(error).__name__}: {error})") from None
    return {i: tuple(caption for caption in texts if caption) for i, texts in captions.items()}
