"""From the numbers and colours of label files to classes: the table of 256 values, and the user's own labels.json.

labels.json has the fields

    names        the classes, in the order of their numbers
    ids          the numbers in label files as names or numbers of classes, {"0": "void", "255": "lesion"}; "other" is
                 every number that is not listed (default: the number of a class stands for the class)
    colors       [red, green, blue] of each class (default: colours that differ)
    swaps        pairs of names that change places when an image is mirrored (default: none)
    void         "missing" (default: void pixels are unknown) or "class" (void is modelled: it is the last class)
    void_id      the number of void in label files (default: 255 unless `ids` has a void, or that of the last class)
    void_color   the colour of void in label files in colours (default: no colour is void; not with "class")
    licence      of the data, one line
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from gcdiff.data.labels import bit_colors
from gcdiff.types import VOID, LabelSpec

FIELDS = ("names", "ids", "colors", "swaps", "void", "void_id", "void_color", "licence")
SHIPPED = ("ade20k", "voc")
"""The tables in gcdiff/data/tables, by name."""
NO_CLASS = -2
"""The entry of a table for a label value without a class."""
LARGEST = 65535
"""The largest number that `ids` may list."""
SHOWN = 12
"""How many values a message lists."""


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of a labels.json: the classes, the colour of void in label files (None: no colour is void), the
    licence, whether it gives the colours of the classes, and its `ids`: the class or VOID by number (None: it has
    none), with the class of every other number (NO_CLASS: other numbers are wrong)."""

    labels: LabelSpec
    void_color: tuple[int, int, int] | None
    licence: str
    colored: bool
    ids: Mapping[int, int] | None = None
    other: int = NO_CLASS

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The class, VOID or NO_CLASS for each number of a label file, int32 (256,), with `ids` (65536,)."""
        if self.ids is None:
            return id_table(self.labels)
        values = np.full(LARGEST + 1, self.other, np.int32)
        if self.other == NO_CLASS and self.labels.void == "missing" and VOID not in self.ids.values():
            values[255] = VOID
        values[list(self.ids)] = list(self.ids.values())
        return values

    @property
    def expected(self) -> str:
        """The valid numbers of a label file, for messages."""
        if self.ids is None:
            return f'{expected_ids(self.labels)}; other numbers go into "ids" of labels.json'
        listed = sorted(self.ids)
        return f"a number of ids: {', '.join(map(str, listed[:SHOWN]))}{', ...' if len(listed) > SHOWN else ''}"

    @property
    def colors(self) -> dict[tuple[int, int, int], int]:
        """The class or VOID of each colour."""
        known = {color: label for label, color in enumerate(self.labels.palette)}
        return known if self.void_color is None else known | {self.void_color: void_label(self.labels)}

    def options(self) -> dict[str, Any]:
        """The settings that must be equal for a preparation to go on, as JSON."""
        fields = {"labels": self.labels.to_dict(), "void_color": self.void_color}
        ids = self.ids and {str(number): label for number, label in sorted(self.ids.items())}
        return fields | {"ids": ids} | ({} if self.other == NO_CLASS else {"other": self.other})


def void_label(labels: LabelSpec) -> int:
    """The value of void in layouts int32: VOID, or the last class where void is modelled."""
    return VOID if labels.void == "missing" else labels.num_classes - 1


def id_table(labels: LabelSpec) -> np.ndarray:
    """The class, VOID or NO_CLASS for each of the 256 values of a label file, int32 (256,)."""
    table = np.full(256, NO_CLASS, np.int32)
    table[: labels.num_classes] = np.arange(labels.num_classes)
    if 0 <= labels.void_id < 256:
        table[labels.void_id] = void_label(labels)
    return table


def to_ids(layout: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """A layout int32 (H, W) with VOID as the uint8 values of a label file, the inverse of `id_table`."""
    return np.where((layout == VOID) | (layout == void_label(labels)), labels.void_id, layout).astype(np.uint8)


def expected_ids(labels: LabelSpec) -> str:
    """The valid values of a label file, for messages."""
    return f"0 to {labels.num_classes - 1} or {labels.void_id} (void)"


def open_table(labels: str | Path) -> Table:
    """A table by name (one of SHIPPED), or the labels.json at a path, as `read_table` reads it."""
    path = Path(labels)
    if str(labels) in SHIPPED and not path.is_file():
        with resources.as_file(resources.files("gcdiff.data") / "tables" / f"{labels}.json") as file:
            return read_table(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected a labels.json, or {' or '.join(SHIPPED)}")
    return read_table(path)


def read_table(path: Path) -> Table:
    """Read a labels.json. Raises FileNotFoundError or ValueError, naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected a table that names the classes")
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        return make_table(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object. Raises ValueError for one that is there twice, of which Python keeps the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {next(n for n in names if names.count(n) > 1)!r} twice in one table, expected it once")
    return fields


def make_table(fields: Any) -> Table:
    """The table of the fields of a labels.json. Raises ValueError, naming the field."""
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
    if void_color is not None:
        void_color = _color(void_color)
        if void == "class" or void_color in colors:
            raise ValueError(f"void_color is {void_color}, expected none with void as a class, and no class's colour")
    spec = LabelSpec(
        names=tuple(names),
        palette=tuple(colors),
        swaps=swaps,
        void=void,
        void_id=_void_id(fields, names, void),
        void_color=void_color or (0, 0, 0),
    )
    ids, other = _ids(fields["ids"], spec, fields.get("void_id")) if "ids" in fields else (None, NO_CLASS)
    licence = str(fields.get("licence", "The licence of these data is not known here."))
    return Table(spec, void_color, licence, "colors" in fields, ids, other)


def _void_id(fields: dict, names: list[str], void: str) -> int:
    """The number of void in the files that are written: with `ids`, void_id is that of the files that are read."""
    least = len(names) - (void == "class")
    if least > 255:
        raise ValueError(f"names has {least} classes, expected at most 255: one of the 256 values of a file is void's")
    default = least if void == "class" else 255
    void_id, largest = fields.get("void_id", default), LARGEST if "ids" in fields else 255
    if isinstance(void_id, bool) or not isinstance(void_id, int) or not 0 <= void_id <= largest:
        raise ValueError(f"void_id is {void_id!r}, expected {least} to 255")
    if least <= void_id < 256 or "ids" in fields:
        return void_id if least <= void_id < 256 else default
    way = ""
    if void_id == 0:
        way = f'; where 0 is void and 1 is {names[0]}, write "ids": {{"0": "void", "1": "{names[0]}", ...}}'
    raise ValueError(f"void_id is {void_id!r}, expected {least} to 255{way}")


def _ids(given: Any, labels: LabelSpec, void_id: int | None) -> tuple[dict[int, int], int]:
    """The class or VOID of each number that `ids` lists, and of every other number."""
    example = '{"0": "void", "1": "' + labels.names[0] + '"}'
    if not isinstance(given, dict) or not given:
        raise ValueError(f"ids is {given!r}, expected numbers of label files with their classes, as {example}")
    ids: dict[int, int] = {}
    other = _class(given["other"], "other", labels, void_id) if "other" in given else NO_CLASS
    for number, value in given.items():
        if number == "other":
            continue
        if not number.isascii() or not number.isdecimal() or int(number) > LARGEST:
            raise ValueError(f"ids lists {number!r}, expected a number from 0 to {LARGEST}, or other; as {example}")
        if int(number) in ids:
            raise ValueError(f"ids lists {int(number)} for the second time")
        ids[int(number)] = _class(value, number, labels, void_id)
    if void_id is not None and ids.setdefault(void_id, void_label(labels)) != void_label(labels):
        raise ValueError(f"void_id is {void_id}, which is {labels.names[ids[void_id]]} in ids")
    return ids, other


def _class(value: Any, number: str, labels: LabelSpec, void_id: int | None) -> int:
    if value in labels.names:
        return labels.names.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < labels.num_classes:
        return value
    if value is None or value == "void" or (value in (VOID, void_id, labels.void_id) and not isinstance(value, bool)):
        return void_label(labels)
    raise ValueError(f'ids gives {value!r} for {number}, expected the name or the number of a class, or "void"')


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
