"""A user's own folder of images, layouts and captions; an example may lack some of the three.

    images/NAME.png or .jpg      layouts/NAME.png      captions.jsonl      labels.json

An image and a layout of the same name form an example and have the same size. Layouts are index PNGs, or RGB
PNGs in exactly the colours of the table. A line of captions.jsonl is

    {"file_name": "NAME.png", "text": ["one caption", "another"]}

labels.json has the fields

    names        the classes, in the order of their numbers
    colors       [red, green, blue] of each class (default: colours that differ)
    swaps        pairs of names that change places when an image is mirrored (default: none)
    void         "missing" (default: void pixels are unknown) or "class" (void is modelled: it is the last class)
    void_id      the number of void in index PNGs (default: 255, or that of the last class)
    void_color   the colour of void in RGB PNGs (default: no colour is void; not with "class")
    licence      of the data, one line

Splits are, in this order of preference,

    the folders train, val, test and heldout within images/ and layouts/ (then a name is train/NAME),
    the lists of names in splits.json, {"train": [...], "val": [...]},
    a seeded share that is held out, drawn from the examples with both image and layout, or from all if there are none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gcdiff.data.captions import read_jsonl
from gcdiff.data.labels import bit_colors
from gcdiff.data.reader import IMAGE_SUFFIXES, LABEL_SUFFIXES, read_colored_layout
from gcdiff.data.source import Fault, Item, Sides, read_sides
from gcdiff.types import LabelSpec

SPLITS = ("train", "val", "test", "heldout")
FIELDS = ("names", "colors", "swaps", "void", "void_id", "void_color", "licence")
READ = ("images", "layouts", "captions.jsonl", "labels.json", "splits.json")
"""What is read of a folder."""
HELDOUT = 0.1
PAIRED = 0.1
"""The least share of the images, or of the layouts where they are fewer, that must have a partner."""


class Folder:
    """A folder as a `Source`. `heldout` is the share of examples held out where the folder defines no splits.

    Raises ValueError or FileNotFoundError for a labels.json that is missing or wrong.
    """

    name = "folder"
    class_captions = None

    def __init__(self, root: str | Path, heldout: float = HELDOUT, seed: int = 0):
        if not 0 < heldout < 1:
            raise ValueError(f"heldout is {heldout}, expected a share between 0 and 1")
        self._root, self._heldout, self._seed = Path(root), heldout, seed
        self.labels, self._void_color, self.licence, self._colored = read_table(self._root / "labels.json")
        others = sorted(e.name for e in self._root.iterdir() if e.name not in READ and not e.name.startswith("."))
        self.note = f"Not read: {', '.join(others)}; expected {', '.join(READ)}." if others else ""
        self.options = {"heldout": heldout, "labels": self.labels.to_dict(), "void_color": self._void_color}

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        images = _names(self._root / "images", IMAGE_SUFFIXES, fault)
        layouts = _names(self._root / "layouts", LABEL_SUFFIXES, fault)
        path = self._root / "captions.jsonl"
        captions = {}
        for name, texts in (read_jsonl(path, fault) if path.exists() else {}).items():
            key = _stem(name)
            if key not in images and key not in layouts:
                fault(f"{path}: {name} has neither image nor layout")
            elif key in captions:
                fault(f"{path}: {name} has captions under another ending, too")
            else:
                captions[key] = texts
        items = {
            key: Item(key, images.get(key), (layouts[key],) if key in layouts else (), captions.get(key, ()))
            for key in sorted(images.keys() | layouts.keys())
        }
        if not items:
            raise FileNotFoundError(f"{self._root}: expected files in images/ or layouts/")
        found = {split: members for split, members in self._split(items, fault).items() if members}
        pairs, fewer = len(images.keys() & layouts.keys()), min(len(images), len(layouts))
        if pairs < PAIRED * fewer:
            image, layout = images[min(images.keys() - layouts.keys())], layouts[min(layouts.keys() - images.keys())]
            said = f"{self._root}: {pairs} of {len(images)} images and {len(layouts)} layouts are pairs, expected"
            raise ValueError(f"{said} the same name before the ending, not {image.name} and {layout.name}")
        return found

    def read(self, item: Item) -> Sides:
        return read_sides(
            item, lambda files: read_colored_layout(files[0], self.labels, self._void_color, self._colored)
        )

    def _split(self, items: dict[str, Item], fault: Fault) -> dict[str, list[Item]]:
        if any("/" in key for key in items):
            if outside := next((i for i in items.values() if "/" not in i.key), None):
                file = outside.image or outside.layout[0]
                raise ValueError(f"{file}: in no split, expected a folder of {', '.join(SPLITS)}, as others are in")
            return {split: [i for i in items.values() if i.key.startswith(f"{split}/")] for split in SPLITS}
        path = self._root / "splits.json"
        if path.exists():
            return _listed(path, items, fault)
        complete = [key for key, item in items.items() if item.image and item.layout] or list(items)
        count = max(1, round(self._heldout * len(complete)))
        if count >= len(items):
            raise ValueError(f"{self._root}: {len(items)} example, of which none is left beside the held-out ones")
        drawn = np.random.default_rng(self._seed).permutation(len(complete))[:count]
        heldout = {complete[i] for i in drawn}
        return {
            "train": [item for key, item in items.items() if key not in heldout],
            "heldout": [item for key, item in items.items() if key in heldout],
        }


class Table(NamedTuple):
    """A labels.json: the classes, the colour of void in layouts (None: no colour is void), the licence, and whether it
    gives the colours of the classes."""

    labels: LabelSpec
    void_color: tuple[int, int, int] | None
    licence: str
    colored: bool


def read_table(path: Path) -> Table:
    """What a labels.json says.

    Raises FileNotFoundError or ValueError, naming the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected a table that names the classes")
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    try:
        return _table(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _table(fields: Any) -> Table:
    if not isinstance(fields, dict) or not fields.keys() <= set(FIELDS) or "names" not in fields:
        unknown = sorted(fields.keys() - set(FIELDS)) if isinstance(fields, dict) else "no fields"
        raise ValueError(f"has {unknown or 'no names'}, expected names and, if need be, {', '.join(FIELDS[1:])}")
    names = fields["names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"names is {names!r}, expected a list of names")
    colors = fields.get("colors", list(bit_colors(len(names))))
    if not isinstance(colors, list):
        raise ValueError(f"colors is {colors!r}, expected a list of colours")
    colors = [_color(c) for c in colors]
    if "colors" in fields and len(set(colors)) < len(colors):
        raise ValueError(f"the colour {next(c for c in colors if colors.count(c) > 1)} is that of two classes")
    swaps = _swaps(fields.get("swaps", []), names)
    void, void_color = fields.get("void", "missing"), fields.get("void_color")
    void_id = fields.get("void_id", len(names) - 1 if void == "class" else 255)
    least = len(names) - (void == "class")
    if least > 255:
        raise ValueError(f"names has {least} classes, expected at most 255: one of the 256 values of a file is void's")
    if not isinstance(void_id, int) or not least <= void_id < 256:
        way = (
            "; where files have 0 for void, subtract 1 from their values, so that it becomes 255"
            if void_id == 0
            else ""
        )
        raise ValueError(f"void_id is {void_id!r}, expected {least} to 255{way}")
    if void_color is not None:
        void_color = _color(void_color)
        if void == "class" or void_color in colors:
            raise ValueError(f"void_color is {void_color}, expected none with void as a class, and no class's colour")
    spec = LabelSpec(
        names=tuple(names),
        palette=tuple(colors),
        swaps=swaps,
        void=void,
        void_id=void_id,
        void_color=void_color or (0, 0, 0),
    )
    licence = str(fields.get("licence", "The licence of these data is not known here."))
    return Table(spec, void_color, licence, "colors" in fields)


def _swaps(pairs: Any, names: list[str]) -> tuple[tuple[int, int], ...]:
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"swaps is {pairs!r}, expected pairs of names")
    flat = [name for pair in pairs for name in pair]
    for name in flat:
        if name not in names or flat.count(name) > 1:
            raise ValueError(f"swaps has {name!r}, expected names of classes, each of them once")
    return tuple((names.index(a), names.index(b)) for a, b in pairs)


def _color(color: Any) -> tuple[int, int, int]:
    if isinstance(color, list | tuple) and len(color) == 3 and all(isinstance(c, int) and 0 <= c < 256 for c in color):
        return color[0], color[1], color[2]
    raise ValueError(f"{color!r} is no colour, expected [red, green, blue] of 0 to 255")


def _names(folder: Path, suffixes: tuple[str, ...], fault: Fault) -> dict[str, Path]:
    """The files of a folder by NAME, or of the split folders in it by SPLIT/NAME; {} if the folder does not exist."""
    files: dict[str, Path] = {}
    entries = [e for e in sorted(folder.iterdir()) if not e.name.startswith(".")] if folder.is_dir() else []
    inner = [e for e in entries if e.is_dir()]
    for entry in inner:
        if entry.name not in SPLITS or len(inner) < len(entries):
            raise ValueError(f"{entry}: a folder, expected files alone, or folders alone: {', '.join(SPLITS)}")
    for file in (f for e in entries for f in (sorted(e.iterdir()) if e.is_dir() else [e])):
        if file.suffix.lower() not in suffixes:
            if not file.name.startswith("."):
                fault(f"{file}: expected a name ending in {', '.join(suffixes)}")
            continue
        key = file.stem if not inner else f"{file.parent.name}/{file.stem}"
        if key in files:
            fault(f"{file}: same name as {files[key].name}, expected names that differ before the ending")
        else:
            files[key] = file
    return files


def _listed(path: Path, items: dict[str, Item], fault: Fault) -> dict[str, list[Item]]:
    """The examples of the splits that a splits.json lists; an example in no split or in two is a fault."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(lists, dict) or not all(isinstance(names, list) for names in lists.values()):
            raise ValueError('expected {"train": [...], ...}')
    except ValueError as error:
        raise ValueError(f"{path}: not lists of names by split ({error})") from None
    chosen = {split: [_stem(str(name)) for name in names] for split, names in lists.items()}
    if not chosen.keys() <= set(SPLITS):
        raise ValueError(f"{path}: splits {', '.join(sorted(chosen))}, expected some of {', '.join(SPLITS)}")
    split_of: dict[str, str] = {}
    for split, keys in chosen.items():
        for key in keys:
            if key not in items:
                fault(f"{path}: {key} in {split} has neither image nor layout")
            elif key in split_of:
                fault(f"{path}: {key} is in {split_of[key]} and in {split}")
            else:
                split_of[key] = split
    for key in sorted(items.keys() - split_of.keys()):
        fault(f"{path}: {key} is in no split")
    return {split: [item for key, item in items.items() if split_of.get(key) == split] for split in SPLITS}


def _stem(name: str) -> str:
    """A file name without the ending of an image or layout file."""
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending.lower() in IMAGE_SUFFIXES else name
