"""A labels.json for a folder without one: from class_dict.csv, class_names.txt, or what its layouts hold.

    class_dict.csv     a line for each class: name, red, green, blue, between commas, semicolons or tabs; a first line
                       with these words gives another order
    class_names.txt    the name of a class on each line, in the order of the numbers in layouts
    neither            each number, or each colour, in a layout is a class

Numbers with colours of one palette get these colours. 255 is void beside at least two other numbers that leave no gap,
or beside numbers of a palette; elsewhere it is a class, as in black and white masks.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gcdiff.data.builders.folder_files import FOR_LABELS, find_places, list_sides, refuse_missing_side
from gcdiff.data.builders.label_survey import LayoutSurvey, Report, survey
from gcdiff.data.label_maps import grey_of
from gcdiff.data.label_table import make_table
from gcdiff.data.source import Fault

SHOWN = 20
"""How many classes are listed on the screen."""
_HEADINGS = {"red": "r", "green": "g", "blue": "b", "class": "name", "class name": "name", "class names": "name"}
"""The columns of a class_dict.csv by other words in its first line."""


def find_labels(
    root: Path, out: Path, suffix: str, fault: Fault, progress: Report = lambda done, total: None
) -> tuple[Path, list[str]]:
    """The labels.json of a folder: its own, or one that was or is now made for it, and the lines that say so.

    A made one is written into the folder, or into `out` where the folder is read only. `progress(done, total)` is
    called after every layout that is looked at. Raises ValueError where no table follows from what the folder holds,
    and FileNotFoundError where it has no layouts.
    """
    for place in (root, out):
        if (place / "labels.json").is_file():
            unread = [name for name in FOR_LABELS if (root / name).is_file()]
            return place / "labels.json", [f"{root / name} is not read: {place / 'labels.json'} is" for name in unread]
    fields, origin, listed = make_fields(root, suffix, fault, progress)
    make_table(fields)
    content = json.dumps(fields, indent=1, ensure_ascii=False) + "\n"
    try:
        path = _write(root, content)
    except OSError:
        out.mkdir(parents=True, exist_ok=True)
        path = _write(out, content)
    said = f"{root} has no labels.json: made from {origin}, and written to {path}; correct names and numbers there"
    more = [f"  and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
    return path, [said, *(f"  {line}" for line in listed[:SHOWN]), *more]


def make_fields(
    root: Path, suffix: str, fault: Fault, progress: Report = lambda done, total: None
) -> tuple[dict[str, Any], str, list[str]]:
    """The fields of a labels.json for a folder, what they are made of, and a line for each class."""
    places = find_places(root, suffix)
    images, layout_files = (side.files for side in list_sides(places, fault))
    if not (layouts := list(layout_files.values())):
        refuse_missing_side(root, places, images, layout_files)
        raise FileNotFoundError(f"{root}/labels.json: no such file, expected a table that names the classes")
    table, names = (root / name for name in FOR_LABELS)
    if table.is_file():
        fields = _from_csv(table)
        greys = grey_of(np.array(fields["colors"]))
        numbers = set() if greys is None else set(survey(layouts, fault, progress).numbers)
        if not numbers <= set(range(len(fields["names"]))) and numbers <= {*greys.tolist(), 255}:
            fields["ids"] = dict(zip(map(str, greys.tolist()), fields["names"], strict=True))  # masks of one channel
        pairs = zip(fields["names"], fields["colors"], strict=True)
        return fields, table.name, [f"colour {tuple(color)}: {name}" for name, color in pairs]
    census = survey(layouts, fault, progress)
    origin = f"the {'colours' if census.colors else 'numbers'} in {len(layouts)} layouts"
    if census.palette:
        origin += " and their palette"
    if names.is_file():
        given = [line.strip() for line in _read(names).split("\n") if line.strip()]
        if repeated := sorted({name for name in given if given.count(name) > 1}):
            raise ValueError(f"{names}: {repeated[0]!r} for the second time, expected names that differ")
        fields, origin = _named(given, census, names), f"{names.name} and {origin}"
    else:
        fields = _unnamed(census)
    return fields, origin, _listed(fields, census)


def _listed(fields: dict, census: LayoutSurvey) -> list[str]:
    """A line for each number or colour in the layouts: its class, and its share of the pixels."""
    table, lines = make_table(fields), []
    for value, count in sorted((census.colors or census.numbers).items()):
        label = table.colors[value] if isinstance(value, tuple) else table.values[value]
        share = 100 * count / (census.colors or census.numbers).total()
        name = table.labels.names[label] if label >= 0 else "void"
        lines.append(f"{'colour' if census.colors else 'number'} {value}: {name}, {share:.3g} % of the pixels")
    return lines


def _unnamed(census: LayoutSurvey) -> dict[str, Any]:
    if census.colors:
        colors = sorted(census.colors)
        return {"names": [f"class {i}" for i in range(len(colors))], "colors": [list(color) for color in colors]}
    numbers, void = _numbers(census)
    return _numbered([f"class {number}" for number in numbers], numbers, void, census)


def _named(names: list[str], census: LayoutSurvey, path: Path) -> dict[str, Any]:
    if census.colors:
        way = f"expected {FOR_LABELS[0]}, with lines of name, red, green, blue"
        raise ValueError(f"{path}: names, but the layouts are in {len(census.colors)} colours: {way}")
    numbers, void = _numbers(census)
    if set(numbers) <= set(range(len(names))):
        return _numbered(names, list(range(len(names))), void, census)
    if len(numbers) == len(names):
        return _numbered(names, numbers, void, census)
    some = f"{', '.join(map(str, numbers[:SHOWN]))}{', ...' if len(numbers) > SHOWN else ''}"
    way = 'expected as many names as numbers, or a labels.json with "ids"'
    raise ValueError(f"{path}: {len(names)} names, but the layouts hold the {len(numbers)} numbers {some}: {way}")


def _numbered(names: list[str], numbers: list[int], void: bool, census: LayoutSurvey) -> dict[str, Any]:
    """The fields for classes with these numbers; `void` is whether 255 is void."""
    fields: dict[str, Any] = {"names": names}
    if numbers != list(range(len(numbers))):
        ids = {str(number): name for number, name in zip(numbers, names, strict=True)}
        fields["ids"] = ids | ({"255": "void"} if void else {})
    palette = census.palette or {}
    colors = [palette.get(number) for number in numbers]
    if all(colors) and len(set(colors)) == len(colors):
        fields["colors"] = [list(color) for color in colors if color]
        if void and palette.get(255) not in (None, *colors):
            fields["void_color"] = list(palette[255])
    return fields


def _numbers(census: LayoutSurvey) -> tuple[list[int], bool]:
    """The numbers that are classes, and whether 255 is void."""
    numbers = sorted(census.numbers)
    if numbers[-1] != 255 or len(numbers) < 3:
        return numbers, False
    *others, _ = numbers
    gapless = others[0] <= 1 and others == list(range(others[0], others[0] + len(others)))
    void = gapless or census.palette is not None
    return (others, True) if void else (numbers, False)


def _from_csv(path: Path) -> dict[str, Any]:
    """The names and colours of a class_dict.csv. Raises ValueError, naming the line."""
    columns, names, colors = {"name": 0, "r": 1, "g": 2, "b": 3}, [], []
    lines = _read(path).splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count)
    for number, row in enumerate(csv.reader(lines, delimiter=separator), start=1):
        words = [word.strip() for word in row]
        lower = [_HEADINGS.get(word.lower().replace("_", " "), word.lower()) for word in words]
        if not any(words):
            continue
        if not names and set(columns) <= set(lower):
            columns = {column: lower.index(column) for column in columns}
            continue
        try:
            colors.append([int(words[columns[c]]) for c in "rgb"])
            names.append(words[columns["name"]])
        except (ValueError, IndexError):
            said = f"{path}: line {number} is {separator.join(row)!r}"
            raise ValueError(f"{said}, expected name, red, green, blue") from None
    if not names:
        raise ValueError(f"{path}: empty, expected lines of name, red, green, blue")
    try:
        make_table(fields := {"names": names, "colors": colors})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return fields


def _read(path: Path) -> str:
    """The text of a file. Raises ValueError, naming it, where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (byte {error.start}), expected a text file saved as UTF-8") from None


def _write(folder: Path, content: str) -> Path:
    part, path = folder / ".gcdiff-labels.json", folder / "labels.json"
    try:
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
