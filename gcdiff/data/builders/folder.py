"""A user's own folder of images, layouts and captions; an example may lack some of the three.

    images/NAME.png or .jpg      layouts/NAME.png      captions.jsonl      labels.json

An image and a layout of the same name form an example and have the same size. `folder_files` has the other names of the
two folders, `label_maps` what a layout may be, and `label_table` the fields of labels.json. A line of captions.jsonl is

    {"file_name": "NAME.png", "text": ["one caption", "another"]}

Splits are, in this order of preference,

    the folders train, val, test and heldout within images/ and layouts/ (then a name is train/NAME),
    the lists of names in splits.json, {"train": [...], "val": [...]},
    a seeded share that is held out, drawn from the examples with both image and layout, or from all if there are none.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gcdiff.data.builders.folder_files import (
    BESIDE,
    SPLITS,
    find_places,
    key_of,
    list_sides,
    pairs_or_refuse,
    refuse_missing_side,
    say_no_files,
    say_unpaired,
)
from gcdiff.data.captions import read_jsonl
from gcdiff.data.label_maps import read_colored_layout
from gcdiff.data.label_table import open_table, read_table
from gcdiff.data.source import Fault, Item, Sides, read_sides

READ = ("images", "layouts", *BESIDE)
"""What is read of a folder, by the documented names."""
HELDOUT = 0.1
PAIRED = 0.1
"""The least share of the images, or of the layouts where they are fewer, that must have a partner."""


class Folder:
    """A folder as a `Source`. `heldout` is the share of examples held out where the folder defines no splits, at
    least one of them, or 0 for none.

    labels: a labels.json, or the name of a table that gcdiff has (default: the folder's labels.json).
    layout_suffix: what the name of a layout has beside that of its image, as "_mask".

    Raises ValueError or FileNotFoundError for a labels.json that is missing or wrong.
    """

    name = "folder"
    class_captions = None

    def __init__(
        self, root: str | Path, heldout: float = HELDOUT, seed: int = 0, labels: str | Path | None = None,
        layout_suffix: str = "",
    ):  # fmt: skip
        if not 0 <= heldout < 1:
            raise ValueError(f"heldout is {heldout}, expected a share from 0 (none) to below 1")
        self._root, self._heldout, self._seed = Path(root), heldout, seed
        self._table = read_table(self._root / "labels.json") if labels is None else open_table(labels)
        self.labels, self.licence = self._table.labels, self._table.licence
        self._places = find_places(self._root, layout_suffix)
        others = self._places.not_read(self._root)
        unread = f"Not read: {', '.join(others)}; expected {', '.join(READ)}." if others else ""
        self.note = self._note = " ".join(part for part in (self._places.note, unread) if part)
        self.options = {"heldout": heldout, **self._table.options()}

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        (images, bad), (layouts, others) = list_sides(self._places, fault)
        bad = bad | others
        path = self._root / "captions.jsonl"
        captions, wrong = {}, set()
        for name, texts in (read_jsonl(path, fault, wrong) if path.exists() else {}).items():
            key = key_of(name)
            if key in captions:
                bad.add(key)
                fault(f"{path}: {name} has captions under another ending, too")
            elif key in images or key in layouts or key in bad:
                captions[key] = texts
            else:
                where = self._places[0].name
                fault(f"{path}: {name} has neither image nor layout, expected the name of a file in {where}/")
        bad |= {key_of(name) for name in wrong}
        items = {
            key: Item(key, images.get(key), (layouts[key],) if key in layouts else (), captions.get(key, ()))
            for key in sorted((images.keys() | layouts.keys()) - bad)
        }
        if not items:
            raise FileNotFoundError(say_no_files(self._root, self._places))
        splits = {split: members for split, members in self._split(items, bad, fault).items() if members}
        refuse_missing_side(self._root, self._places, images, layouts)
        pairs_or_refuse(self._root, images, layouts, PAIRED)
        self.note = " ".join(part for part in (self._note, say_unpaired(images, layouts)) if part)
        return splits

    def read(self, item: Item) -> Sides:
        return read_sides(item, lambda files: read_colored_layout(files[0], self._table))

    def _split(self, items: dict[str, Item], bad: set[str], fault: Fault) -> dict[str, list[Item]]:
        if any("/" in key for key in items):
            if outside := next((i for i in items.values() if "/" not in i.key), None):
                file = outside.image or outside.layout[0]
                raise ValueError(f"{file}: in no split, expected a folder of {', '.join(SPLITS)}, as others are in")
            return {split: [i for i in items.values() if i.key.startswith(f"{split}/")] for split in SPLITS}
        path = self._root / "splits.json"
        if path.exists():
            return _listed(path, items, bad, fault)
        complete = [key for key, item in items.items() if item.image and item.layout] or list(items)
        count = max(1, round(self._heldout * len(complete))) if self._heldout else 0
        if count >= len(items):
            said = f"{self._root}: {len(items)} example{'s' * (len(items) > 1)}, of which none is left beside the"
            said += " held-out ones"
            raise ValueError(f"{said}; --heldout takes a smaller share, and 0 holds none out")
        drawn = np.random.default_rng(self._seed).permutation(len(complete))[:count]
        heldout = {complete[i] for i in drawn}
        return {
            "train": [item for key, item in items.items() if key not in heldout],
            "heldout": [item for key, item in items.items() if key in heldout],
        }


def _listed(path: Path, items: dict[str, Item], bad: set[str], fault: Fault) -> dict[str, list[Item]]:
    """The examples of the splits that a splits.json lists; an example in no split or in two is a fault."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(lists, dict) or not all(isinstance(names, list) for names in lists.values()):
            raise ValueError('expected {"train": [...], ...}')
    except ValueError as error:
        raise ValueError(f"{path}: not lists of names by split ({error})") from None
    chosen = {split: [key_of(str(name)) for name in names] for split, names in lists.items()}
    if not chosen.keys() <= set(SPLITS):
        raise ValueError(f"{path}: splits {', '.join(sorted(chosen))}, expected some of {', '.join(SPLITS)}")
    split_of: dict[str, str] = {}
    twice = set()
    for split, keys in chosen.items():
        for key in keys:
            if key in split_of:
                twice.add(key)
                fault(f"{path}: {key} is in {split_of[key]} and in {split}")
            elif key in items:
                split_of[key] = split
            elif key not in bad:
                fault(f"{path}: {key} in {split} has neither image nor layout")
    for key in sorted(items.keys() - split_of.keys()):
        fault(f"{path}: {key} is in no split")
    kept = {key: split for key, split in split_of.items() if key not in twice}
    return {split: [item for key, item in items.items() if kept.get(key) == split] for split in SPLITS}
