"""The scenes of the world of cells: a layout with cells drawn at random, and its attributes.

All lengths are in units of which a micrograph is 32 high, whatever size is drawn. A cell is a disc whose radius wobbles
with the angle, r(theta) = R (1 + Re(a_2 e^(2 i theta) + a_3 e^(3 i theta))); its outermost unit is membrane, and a
round nucleus lies near its middle. A dividing cell is two such lobes that overlap, each with a nucleus: one membrane
around both. Cells of one micrograph are all large or all small, lie wholly inside it and keep apart, so that each can
be counted; one that finds no room is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.worlds.cells.appearance import BACKGROUND, CYTOPLASM, MEMBRANE, NUCLEUS

SIDE = 32
COUNTS = ("none", "one", "few", "many")
SIZES = ("small", "large")
FEWEST = (0, 1, 2, 4)
"""The least number of cells of each count of COUNTS."""

_COUNT_ODDS = (0.12, 0.28, 0.32, 0.28)
_DIVIDING = 0.06  # of the micrographs with cells
_RADIUS = ((2.9, 3.3), (4.3, 4.9))  # small, large
_MOST = (7, 4)
_MEMBRANE = 1.1
_NUCLEUS = 0.38  # of the radius
_WOBBLE = (0.07, 0.04)  # |a_2|, |a_3|
_GAP, _MARGIN = 2.0, 0.5  # between two cells, between a cell and the border
_TRIES, _RESTARTS = 20, 60


class Attributes(NamedTuple):
    """The attributes of a layout: a count of COUNTS, a size of SIZES (None without cells), whether one divides."""

    count: str
    size: str | None
    dividing: bool


class Scene(NamedTuple):
    """A layout int32 (H, W), how many cells lie in it, and what a person says of them."""

    layout: np.ndarray
    cells: int
    attributes: Attributes


class _Lobe(NamedTuple):
    """A disc: its centre as x + i y, its radius R."""

    center: complex
    radius: float

    @property
    def reach(self) -> float:
        """The largest of r(theta)."""
        return self.radius * (1 + sum(_WOBBLE))


_Cell = list[_Lobe]


def count_name(cells: int) -> str:
    """The word for a number of cells: none, one, few (2 or 3), many."""
    return COUNTS[sum(cells >= fewest for fewest in FEWEST) - 1]


def draw_scene(rng: np.random.Generator, size: tuple[int, int] = (SIDE, SIDE)) -> Scene:
    """Draw a scene of size (H, W), at least (16, 16); the promises about sizes in pixels hold from (32, 32) on."""
    if min(size) < 16:
        raise ValueError(f"size of cells is {tuple(size)}, expected at least (16, 16)")
    count = int(np.searchsorted(np.cumsum(_COUNT_ODDS), rng.random()))
    large = int(rng.integers(2))
    wanted = int(rng.integers(FEWEST[count], (0, 1, 3, _MOST[large])[count] + 1))
    dividing = wanted > 0 and rng.random() < _DIVIDING
    width = SIDE * size[1] / size[0]
    cells: list[_Cell] = []
    for _ in range(_RESTARTS):
        cells = max(cells, _place(rng, wanted, large, dividing, width), key=len)
        if len(cells) == wanted:
            break
    dividing = any(len(cell) > 1 for cell in cells)
    attributes = Attributes(count_name(len(cells)), SIZES[large] if cells else None, dividing)
    return Scene(_paint(rng, cells, size), len(cells), attributes)


def _place(rng: np.random.Generator, wanted: int, large: int, dividing: bool, width: float) -> list[_Cell]:
    """Up to `wanted` cells that keep apart in a field 32 high; the first of them divides, if one does."""
    cells: list[_Cell] = []
    for _ in range(wanted):
        radius = rng.uniform(*_RADIUS[large])
        for _ in range(_TRIES):
            cell = _cell(rng, radius, dividing and not cells, width)
            others = [lobe for other in cells for lobe in other]
            if all(_inside(lobe, width) and _apart(lobe, others) for lobe in cell):
                cells.append(cell)
                break
    return cells


def _cell(rng: np.random.Generator, radius: float, dividing: bool, width: float) -> _Cell:
    room = radius * (1 + sum(_WOBBLE)) + _MARGIN
    x, y, angle = rng.random(3)
    center = complex(room + x * (width - 2 * room), room + y * (SIDE - 2 * room))
    if not dividing:
        return [_Lobe(center, radius)]
    axis = 0.65 * radius * complex(np.exp(2j * np.pi * angle))
    return [_Lobe(center - axis, 0.95 * radius), _Lobe(center + axis, 0.95 * radius)]


def _inside(lobe: _Lobe, width: float) -> bool:
    x, y, room = lobe.center.real, lobe.center.imag, lobe.reach + _MARGIN
    return room <= x <= width - room and room <= y <= SIDE - room


def _apart(lobe: _Lobe, others: list[_Lobe]) -> bool:
    return all(abs(lobe.center - other.center) >= lobe.reach + other.reach + _GAP for other in others)


def _paint(rng: np.random.Generator, cells: list[_Cell], size: tuple[int, int]) -> np.ndarray:
    """The layout int32 (H, W) of cells."""
    unit = size[0] / SIDE
    y, x = ((np.arange(n) + 0.5) / unit for n in size)
    place = x + 1j * y[:, None]
    layout = np.full(size, BACKGROUND, np.int32)
    for cell in cells:
        turns = np.exp(2j * np.pi * rng.random((len(cell), 3)))
        depth = np.max([_depth(*one, place) for one in zip(cell, turns, strict=True)], axis=0)
        layout[depth > 0] = MEMBRANE
        layout[depth > _MEMBRANE] = CYTOPLASM
        for lobe, turn in zip(cell, turns, strict=True):
            nucleus = lobe.center + 0.1 * lobe.radius * turn[2]
            layout[abs(place - nucleus) < _NUCLEUS * lobe.radius] = NUCLEUS
    return layout


def _depth(lobe: _Lobe, turns: np.ndarray, place: np.ndarray) -> np.ndarray:
    """How far inside its border pixels are: r(theta) less the distance from the centre. turns: a / |a|, (3,)."""
    offset = place - lobe.center
    distance = abs(offset)
    unit = offset / np.maximum(distance, 1e-6)
    wobble = (_WOBBLE[0] * turns[0] * unit**2 + _WOBBLE[1] * turns[1] * unit**3).real
    return lobe.radius * (1 + wobble) - distance
