"""Cityscapes: 5,000 street scenes with 19 classes (Cordts et al. 2016), in the folders of its two archives.

    leftImg8bit/{train,val,test}/CITY/STEM_leftImg8bit.png        2048x1024
    gtFine/{train,val}/CITY/STEM_gtFine_labelIds.png              values 0 to 33

The test scenes have images only: the archive's label files for them are blank. Captions are made from the classes, in
the form of Park et al. (Learning to Generate Semantic Layouts for Higher Text-Image Correspondence, 2023),
or read from a .jsonl file whose file_name is STEM_leftImg8bit.png.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from gcdiff.data.captions import ClassCaptions, read_jsonl
from gcdiff.data.label_maps import read_ids
from gcdiff.data.label_table import NO_CLASS
from gcdiff.data.labels import CITYSCAPES
from gcdiff.data.source import Fault, Item, Sides, files_ending, match_pairs, read_sides
from gcdiff.types import VOID

SPLITS = ("train", "val", "test")
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label ids of the 19 classes of the benchmark, in order; the other ids of 0 to 33, and 255, are void."""
NOUNS = (
    "Roads", "Sidewalks", "Buildings", "Walls", "Fences", "Poles", "Traffic lights", "Traffic signs", "Vegetations",
    "Terrains", "Skies", "People", "Riders", "Cars", "Trucks", "Buses", "Trains", "Motorcycles", "Bicycles",
)  # fmt: skip
LABELS = {
    "missing": dataclasses.replace(
        CITYSCAPES, names=CITYSCAPES.names[:19], palette=CITYSCAPES.palette[:19], void="missing", void_id=255
    ),
    "class": CITYSCAPES,
}
_IMAGE, _LAYOUT = "_leftImg8bit.png", "_gtFine_labelIds.png"
_EXPECTED = "a label id, 0 to 33 or 255"


class Cityscapes:
    """Cityscapes as a `Source`, with the splits whose image folders exist.

    void: "missing" (19 classes; the class of a void pixel is unknown) or "class" (20 classes, as Park et al. model it).
    captions: a .jsonl file; None makes the captions from the classes.
    train_val: merge val into train, as in the paper's 3,475 pairs; nothing is held out.
    """

    name = "cityscapes"
    licence = (
        "Cityscapes: for non-commercial research, teaching and personal experimentation only, under its own licence "
        "(www.cityscapes-dataset.com/license); it may not be passed on."
    )

    def __init__(
        self, root: str | Path, void: str = "missing", captions: str | Path | None = None, train_val: bool = False
    ):
        if void not in LABELS:
            raise ValueError(f"void is {void!r}, expected {', '.join(LABELS)}")
        self._root, self._captions = Path(root), None if captions is None else Path(captions)
        self._train_val, self.labels = train_val, LABELS[void]
        self.options = {"void": void, "captions": captions is not None, "train_val": train_val}
        self.note = "train holds train and val, as in the paper: nothing is held out." if train_val else ""
        self.class_captions = ClassCaptions(NOUNS + (None,) * (void == "class")) if captions is None else None
        void_label = VOID if void == "missing" else 19
        self._table = np.full(256, NO_CLASS, np.int32)
        self._table[[*range(34), 255]] = void_label
        self._table[list(TRAIN_IDS)] = np.arange(19)

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        captions = None if self._captions is None else read_jsonl(self._captions, fault)
        available = [split for split in SPLITS if (self._root / "leftImg8bit" / split).is_dir()]
        if not available:
            raise FileNotFoundError(f"{self._root / 'leftImg8bit' / 'train'}: no such folder")
        items = {split: self._items(split, captions, fault) for split in available}
        if self._train_val:
            items["train"] = items.get("train", []) + items.pop("val", [])
        return items

    def read(self, item: Item) -> Sides:
        return read_sides(item, lambda files: read_ids(files[0], self._table, _EXPECTED))

    def _items(self, split: str, captions: dict[str, tuple[str, ...]] | None, fault: Fault) -> list[Item]:
        images, layouts = self._root / "leftImg8bit" / split, self._root / "gtFine" / split
        matched = [(name, file, ()) for name, file in _files(images, _IMAGE).items()]
        if split != "test":
            matched = match_pairs(
                {name: file for name, file, _ in matched},
                {name: (file,) for name, file in _files(layouts, _LAYOUT).items()},
                lambda name: images / f"{name}{_IMAGE}",
                lambda name: layouts / f"{name}{_LAYOUT}",
                fault,
            )
        items = []
        for name, image, files in matched:
            if captions is not None and image.name not in captions and split != "test":
                fault(f"{self._captions}: no captions for {image.name}")
            else:
                items.append(Item(Path(name).name, image, files, (captions or {}).get(image.name, ())))
        return items


def _files(folder: Path, ending: str) -> dict[str, Path]:
    """The files of all cities by CITY/STEM. Raises FileNotFoundError where there are none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    cities = sorted(city for city in folder.iterdir() if city.is_dir() and not city.name.startswith("."))
    if not cities:
        raise FileNotFoundError(f"{folder}: empty, expected a folder for each city")
    return {f"{city.name}/{stem}": file for city in cities for stem, file in files_ending(city, ending).items()}
