"""A labels.json for a folder without one: from class_dict.csv, class_names.txt, or what its layouts hold.

    class_dict.csv     a line for each class: name, red, green, blue; a first line with these words gives another order
    class_names.txt    the name of a class on each line, in the order of the numbers in layouts
    neither            each number, or each colour, that is found in a layout is a class

Numbers with colours of one palette get these colours. 255 is void beside at least two other numbers that leave no gap,
or beside numbers of a palette; elsewhere it is a class, as in black and white masks.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gcdiff.data.builders.folder_files import FOR_LABELS, find_places, list_sides
from gcdiff.data.label_maps import LabelFile, grey_of, read_label_file
from gcdiff.data.label_table import make_table
from gcdiff.data.source import Fault

MOST = 255
"""The most classes."""
SHOWN = 20
"""How many classes are listed on the screen."""
THREADS = 4
Color = tuple[int, int, int]


class Found(NamedTuple):
    """The pixels of each number and of each colour in layouts, and the colour of each number in their palettes (None:
    they have none)."""

    numbers: Counter[int]
    colors: Counter[Color]
    palette: dict[int, Color] | None


def find_labels(root: Path, out: Path, suffix: str, fault: Fault) -> tuple[Path, list[str]]:
    """The labels.json of a folder: its own, or one that was or is now made for it, and the lines that say so.

    A made one is written into the folder, or into `out` where the folder is read only. Raises ValueError where no table
    follows from what the folder holds, and FileNotFoundError where it has no layouts.
    """
    for place in (root, out):
        if (place / "labels.json").is_file():
            return place / "labels.json", []
    fields, origin, listed = make_fields(root, suffix, fault)
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


def make_fields(root: Path, suffix: str, fault: Fault) -> tuple[dict[str, Any], str, list[str]]:
    """The fields of a labels.json for a folder, what they are made of, and a line for each class."""
    layouts = list(list_sides(find_places(root, suffix), fault)[1].files.values())
    if not layouts:
        raise FileNotFoundError(f"{root}/labels.json: no such file, expected a table that names the classes")
    table, names = (root / name for name in FOR_LABELS)
    if table.is_file():
        fields = _from_csv(table)
        greys = grey_of(np.array(fields["colors"]))
        numbers = set() if greys is None else set(_survey(layouts, fault).numbers)
        if not numbers <= set(range(len(fields["names"]))) and numbers <= {*greys.tolist(), 255}:
            fields["ids"] = dict(zip(map(str, greys.tolist()), fields["names"], strict=True))  # masks of one channel
        pairs = zip(fields["names"], fields["colors"], strict=True)
        return fields, table.name, [f"colour {tuple(color)}: {name}" for name, color in pairs]
    found = _survey(layouts, fault)
    origin = f"the {'colours' if found.colors else 'numbers'} in {len(layouts)} layouts"
    if found.palette:
        origin += " and their palette"
    if names.is_file():
        given = [line.strip() for line in names.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        fields, origin = _named(given, found, names), f"{names.name} and {origin}"
    else:
        fields = _unnamed(found)
    return fields, origin, _listed(fields, found)


def _listed(fields: dict, found: Found) -> list[str]:
    """A line for each number or colour that was found: its class, and its share of the pixels."""
    table, lines = make_table(fields), []
    for value, count in sorted((found.colors or found.numbers).items()):
        label = table.colors[value] if isinstance(value, tuple) else table.values[value]
        share = 100 * count / (found.colors or found.numbers).total()
        name = table.labels.names[label] if label >= 0 else "void"
        lines.append(f"{'colour' if found.colors else 'number'} {value}: {name}, {share:.3g} % of the pixels")
    return lines


def _unnamed(found: Found) -> dict[str, Any]:
    if found.colors:
        colors = sorted(found.colors)
        return {"names": [f"class {i}" for i in range(len(colors))], "colors": [list(color) for color in colors]}
    numbers, void = _numbers(found)
    return _numbered([f"class {number}" for number in numbers], numbers, void, found)


def _named(names: list[str], found: Found, path: Path) -> dict[str, Any]:
    if found.colors:
        way = f"expected {FOR_LABELS[0]}, with lines of name, red, green, blue"
        raise ValueError(f"{path}: names, but the layouts are in {len(found.colors)} colours: {way}")
    numbers, void = _numbers(found)
    if set(numbers) <= set(range(len(names))):
        return _numbered(names, list(range(len(names))), void, found)
    if len(numbers) == len(names):
        return _numbered(names, numbers, void, found)
    some = f"{', '.join(map(str, numbers[:SHOWN]))}{', ...' if len(numbers) > SHOWN else ''}"
    way = 'expected as many names as numbers, or a labels.json with "ids"'
    raise ValueError(f"{path}: {len(names)} names, but the layouts hold the {len(numbers)} numbers {some}: {way}")


def _numbered(names: list[str], numbers: list[int], void: bool, found: Found) -> dict[str, Any]:
    """The fields for classes with these numbers; `void` is whether 255 is void."""
    fields: dict[str, Any] = {"names": names}
    if numbers != list(range(len(numbers))):
        ids = {str(number): name for number, name in zip(numbers, names, strict=True)}
        fields["ids"] = ids | ({"255": "void"} if void else {})
    palette = found.palette or {}
    colors = [palette.get(number) for number in numbers]
    if all(colors) and len(set(colors)) == len(colors):
        fields["colors"] = [list(color) for color in colors if color]
        if void and palette.get(255) not in (None, *colors):
            fields["void_color"] = list(palette[255])
    return fields


def _numbers(found: Found) -> tuple[list[int], bool]:
    """The numbers that are classes, and whether 255 is void."""
    numbers = sorted(found.numbers)
    if numbers[-1] != 255 or len(numbers) < 3:
        return numbers, False
    *others, _ = numbers
    gapless = others[0] <= 1 and others == list(range(others[0], others[0] + len(others)))
    void = gapless or found.palette is not None
    return (others, True) if void else (numbers, False)


def _from_csv(path: Path) -> dict[str, Any]:
    """The names and colours of a class_dict.csv. Raises ValueError, naming the line."""
    columns, names, colors = {"name": 0, "r": 1, "g": 2, "b": 3}, [], []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            words = [word.strip() for word in row]
            lower = [{"red": "r", "green": "g", "blue": "b", "class": "name"}.get(w.lower(), w.lower()) for w in words]
            if not any(words):
                continue
            if not names and set(columns) <= set(lower):
                columns = {column: lower.index(column) for column in columns}
                continue
            try:
                colors.append([int(words[columns[c]]) for c in "rgb"])
                names.append(words[columns["name"]])
            except (ValueError, IndexError):
                raise ValueError(
                    f"{path}: line {number} is {','.join(row)!r}, expected name, red, green, blue"
                ) from None
    if not names:
        raise ValueError(f"{path}: empty, expected lines of name, red, green, blue")
    try:
        make_table(fields := {"names": names, "colors": colors})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return fields


class _Content(NamedTuple):
    """What one layout holds: its file, pixels by number and by colour, the colours of its numbers; one bit or more."""

    path: Path
    numbers: dict[int, int]
    colors: dict[Color, int]
    palette: dict[int, Color]
    bilevel: bool


def _survey(layouts: Sequence[Path], fault: Fault) -> Found:
    """What layouts hold. Raises ValueError where that is no set of classes: numbers here and colours there, palettes
    that contradict each other, more values than classes, or soft edges."""
    numbers, colors, palette, white = Counter(), Counter(), {}, 0
    first: dict[str, Path] = {}
    plain = False
    with ThreadPoolExecutor(THREADS) as pool:
        for content in pool.map(_content, layouts):
            if isinstance(content, str):
                fault(content)
                continue
            first.setdefault("colours" if content.colors else "numbers", content.path)
            if len(first) == 2:
                said = f"{first['numbers']} holds numbers and {first['colours']} colours"
                raise ValueError(f"{said}, expected one of the two, or a labels.json")
            plain |= bool(content.numbers and not content.palette)
            for number, color in content.palette.items():
                if palette.setdefault(number, color) != color:
                    said = f"{content.path}: the palette gives {number} the colour {color}, and other layouts give it"
                    raise ValueError(f"{said} {palette[number]}, expected one palette, or RGB files to go by colour")
            white += content.numbers.get(1, 0) if content.bilevel else 0
            numbers.update({n: k for n, k in content.numbers.items() if not (content.bilevel and n)})
            colors.update(content.colors)
            _refuse_pictures(content.path.parent, colors or numbers)
    if white:  # of files of one bit: 255, where others have that for white
        numbers[255 if 255 in numbers and 1 not in numbers else 1] += white
    if not (numbers or colors):
        raise ValueError(f"{layouts[0].parent}: no layout is readable")
    return Found(numbers, colors, None if plain or not palette else palette)


def _content(path: Path) -> _Content | str:
    """What a layout holds, or the message about one that is not readable."""
    try:
        file = read_label_file(path)
    except (ValueError, OSError) as error:
        return str(error)
    if file.palette is not None:
        return _palette_content(path, file)
    if file.numbers is not None:
        return _Content(path, _counts(file.numbers), {}, {}, file.bilevel)
    pixels = file.colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    counts = _counts(pixels)
    return _Content(path, {}, {(c >> 16, (c >> 8) & 255, c & 255): k for c, k in counts.items()}, {}, False)


def _palette_content(path: Path, file: LabelFile) -> _Content:
    """What a file with a palette holds: numbers with colours; in a GIF greys or colours alone."""
    counts = _counts(file.numbers)
    colors = {n: _color(file.palette[n]) if n < len(file.palette) else (0, 0, 0) for n in counts}
    if file.format != "GIF":
        return _Content(path, counts, {}, colors, False)
    by_color = Counter()
    for number, count in counts.items():
        by_color[colors[number]] += count
    if grey_of(np.array(list(by_color))) is None:
        return _Content(path, {}, dict(by_color), {}, False)
    return _Content(path, {color[0]: count for color, count in by_color.items()}, {}, {}, False)


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _color(values: np.ndarray) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue


def _refuse_pictures(folder: Path, counts: Counter) -> None:
    """Raise ValueError for values as photographs, depth maps and soft edges have them."""
    if len(counts) > MOST:
        said = f"more than {MOST} {'colours' if isinstance(next(iter(counts)), tuple) else 'numbers'} in layouts"
        raise ValueError(f"{folder}: {said}, as in photographs, or in label files that were resized or lossy")
    extremes = counts[0] + counts[255] if 0 in counts and 255 in counts else 0
    others = sorted(set(counts) - {0, 255}) if extremes else []
    if len(others) > 2 and others[-1] - others[0] >= 2 * len(others) and extremes > 0.8 * counts.total():
        said = f"black and white masks with {len(others)} values between 0 and 255, as of soft edges"
        raise ValueError(f'{folder}: {said}; expected two values, or a labels.json with "ids"')


def _write(folder: Path, content: str) -> Path:
    part, path = folder / ".gcdiff-labels.json", folder / "labels.json"
    try:
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
