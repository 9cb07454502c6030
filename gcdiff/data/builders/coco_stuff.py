"""COCO-Stuff: 123,287 images with 80 things and 91 kinds of stuff (Caesar, Uijlings and Ferrari 2018), and captions.

    train2017/000000000009.jpg ...                     or images/train2017/; the images of COCO (Lin et al. 2014)
    val2017/000000000139.jpg ...
    stuffthingmaps/train2017/000000000009.png ...      values 0 to 181 with gaps, 255 is void
    stuffthingmaps/val2017/000000000139.png ...        or annotations/val2017/
    annotations/captions_train2017.json, captions_val2017.json       or neither

The 171 classes are numbered without gaps, things first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gcdiff.data.label_maps import read_ids
from gcdiff.data.label_table import NO_CLASS
from gcdiff.data.labels import COCO_STUFF
from gcdiff.data.reader import list_files
from gcdiff.data.source import Fault, Item, Sides, by_number, match_pairs, read_sides
from gcdiff.types import VOID

SPLITS = ("train", "val")
GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Values without a class: things on COCO's list that were never annotated."""
RENUMBERED = "_labelTrainIds"
"""The end of the names of copies of the maps that another program renumbered; they are not read."""
_EXPECTED = f"a value of 0 to 181 but {', '.join(map(str, GAPS))}, or 255 (void)"


class CocoStuff:
    """COCO-Stuff as a `Source`, with the splits whose image folders exist.

    captions: the folder of captions_train2017.json and captions_val2017.json (default: annotations, where one of them
    is there), or "none".
    """

    name = "coco_stuff"
    labels = COCO_STUFF
    licence = (
        "COCO and COCO-Stuff: annotations and captions under CC BY 4.0; the images are under the terms of use of "
        "Flickr and belong to their owners."
    )
    class_captions = None

    def __init__(self, root: str | Path, captions: str | Path | None = None):
        self._root, self.note = Path(root), ""
        self._captions = None if str(captions) == "none" else Path(captions or self._root / "annotations")
        if captions is None and not any(self._captions_file(split).is_file() for split in SPLITS):
            self.note = f"No captions: {self._captions_file('train')} is not there."
            self._captions = None
        self.options = {} if self._captions else {"captions": False}
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

    def _captions_file(self, split: str) -> Path:
        return (self._captions or self._root) / f"captions_{split}2017.json"

    def _maps(self, name: str) -> Path:
        own, inner = (self._root / folder / name for folder in ("stuffthingmaps", "annotations"))
        return inner if inner.is_dir() and not own.is_dir() else own

    def _images(self, name: str) -> Path:
        inner = self._root / "images" / name
        return inner if inner.is_dir() else self._root / name

    def _items(self, split: str, images: Path, fault: Fault) -> list[Item]:
        maps, path = self._maps(f"{split}2017"), self._captions_file(split)
        captions = None if self._captions is None else _captions(path)
        files = [file for file in list_files(maps, (".png",)) if not file.stem.endswith(RENUMBERED)]
        matched = match_pairs(
            by_number(list_files(images, (".jpg",)), fault),
            {i: (file,) for i, file in by_number(files, fault).items()},
            lambda i: images / f"{i:012d}.jpg",
            lambda i: maps / f"{i:012d}.png",
            fault,
        )
        items = []
        for i, image, files in matched:
            if captions is None or captions.get(i):
                items.append(Item(image.stem, image, files, (captions or {}).get(i, ())))
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
