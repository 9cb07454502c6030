"""What the layouts of a folder hold: the numbers or colours, by which a table of classes is made for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gcdiff.data.label_maps import LabelFile, grey_of, read_label_file
from gcdiff.data.source import Fault

MOST = 255
"""The most classes."""
THREADS = 4
Color = tuple[int, int, int]
Report = Callable[[int, int], None]
"""Takes the number of layouts that were looked at, and of all."""


class LayoutSurvey(NamedTuple):
    """The pixels of each number and of each colour in layouts, and the colour of each number in their palettes (None:
    they have none)."""

    numbers: Counter[int]
    colors: Counter[Color]
    palette: dict[int, Color] | None


class _Content(NamedTuple):
    """The content of one layout: file, pixels by number and by colour, colours of its numbers, whether of one bit."""

    path: Path
    numbers: dict[int, int]
    colors: dict[Color, int]
    palette: dict[int, Color]
    bilevel: bool


def survey(layouts: Sequence[Path], fault: Fault, progress: Report) -> LayoutSurvey:
    """Count the numbers and colours of layouts. Raises ValueError where they are no set of classes: numbers here and
    colours there, palettes that contradict each other, more values than classes, or soft edges."""
    numbers, colors, palette, white = Counter(), Counter(), {}, 0
    first: dict[str, Path] = {}
    plain = False
    with ThreadPoolExecutor(THREADS) as pool:
        for done, content in enumerate(pool.map(_content, layouts), start=1):
            progress(done, len(layouts))
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
    return LayoutSurvey(numbers, colors, None if plain or not palette else palette)


def _content(path: Path) -> _Content | str:
    """The content of a layout, or the message about one that is not readable."""
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
    """The content of a file with a palette: numbers with colours; in a GIF greys or colours alone."""
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
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _color(values: np.ndarray) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue


def _refuse_pictures(folder: Path, counts: Counter) -> None:
    """Raise ValueError for values as photographs, depth maps and soft edges have them."""
    if len(counts) > MOST:
        said = f"more than {MOST} {'colours' if isinstance(next(iter(counts)), tuple) else 'numbers'} in layouts"
        raise ValueError(f"{folder}: {said}, as in photographs, or in label files that were resized or lossy")
    low, high = ([n for n in counts if isinstance(n, int) and a <= n < b] for a, b in ((1, 32), (224, 255)))
    extremes = counts[0] + counts[255] if 0 in counts and 255 in counts else 0
    others = sorted(set(counts) - {0, 255}) if extremes else []
    near = sum(counts[n] for n in (*low, *high)) if min(len(low), len(high)) > 2 else 0  # as JPEG leaves them
    spread = len(others) > 2 and others[-1] - others[0] >= 2 * len(others)
    if spread and extremes + near > 0.8 * counts.total():
        said = f"black and white masks with {len(others)} values between 0 and 255, as of soft edges"
        raise ValueError(f'{folder}: {said}; expected two values, or a labels.json with "ids"')
