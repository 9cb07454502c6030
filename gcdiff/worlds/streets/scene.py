"""The scenes of the street world: a map of surfaces and a list of things, drawn at random.

All lengths are in rows and columns of a 32 x 64 scene, whatever size is drawn. The street is seen in one-point
perspective: from the vanishing point (`vanish_x`, `horizon`) the two curbs spread by `road_slope` columns per row, and
the feet of the houses fall by `house_slope` rows per column. What lies between is sidewalk.

Things (trees, poles with signs, vehicles, persons) have boxes that keep apart, so that none hides another and every
thing that is listed can be seen; one that finds no room after a few tries is left out.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from gcdiff.worlds.streets.appearance import CAR_COLORS, SURFACE_ID

HEIGHT, WIDTH = 32, 64
_TRIES = 10

# How likely it is that 0, 1, 2, ... things are tried to be placed in a scene.
_TREES = (0.45, 0.27, 0.19, 0.09)
_POLES = (0.48, 0.34, 0.18)
_PERSONS = (0.56, 0.22, 0.14, 0.08)
_CARS = (0.42, 0.25, 0.2, 0.13)
_BUSES = (0.73, 0.27)
_SIGN = 0.62  # on each pole

Box = tuple[float, float, float, float]  # top, left, bottom, right


class Thing(NamedTuple):
    """Something that can be counted: its class, and its colour if it is a car."""

    label: str
    color: str | None = None


class Scene(NamedTuple):
    """A map of surfaces int8 (H, W) and the things that stand in it."""

    surfaces: np.ndarray
    things: tuple[Thing, ...]


@dataclasses.dataclass
class _Street:
    """A scene while it is drawn."""

    rng: np.random.Generator
    surfaces: np.ndarray
    things: list[Thing] = dataclasses.field(default_factory=list)
    taken: list[Box] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        uniform = self.rng.uniform
        self.vanish_x, self.horizon = uniform(24, 40), uniform(11, 13.5)
        self.road_start, self.road_slope, self.house_slope = uniform(2, 4), uniform(1.4, 1.9), uniform(0.12, 0.22)
        height, width = self.surfaces.shape
        self.scale_y, self.scale_x = height / HEIGHT, width / WIDTH
        self.y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / self.scale_y
        self.x = (np.arange(width, dtype=np.float32)[None] + 0.5) / self.scale_x

    def road_half(self, y: float) -> float:
        """Half the width of the road at row y."""
        return self.road_start + self.road_slope * (y - self.horizon)

    def house_foot(self, x: float) -> float:
        """The row where the houses end and the sidewalk begins, in column x."""
        return self.horizon + self.house_slope * abs(x - self.vanish_x)

    def curb(self, x: float) -> float:
        """The row where the sidewalk ends and the road begins, in column x."""
        return self.horizon + (abs(x - self.vanish_x) - self.road_start) / self.road_slope

    def count(self, odds: tuple[float, ...]) -> int:
        return int(np.searchsorted(np.cumsum(odds), self.rng.random()))

    def take(self, box: Box, gap: float) -> bool:
        """Claim a box if it is inside the scene and `gap` away from all others."""
        top, left, bottom, right = box
        if top < 0 or left < 0 or bottom > HEIGHT or right > WIDTH:
            return False
        for other in self.taken:
            apart_y = top >= other[2] + gap or other[0] >= bottom + gap
            apart_x = left >= other[3] + gap or other[1] >= right + gap
            if not (apart_y or apart_x):
                return False
        self.taken.append(box)
        return True

    def fill(self, surface: str, top: float, left: float, bottom: float, right: float) -> None:
        rows = slice(round(top * self.scale_y), round(bottom * self.scale_y))
        self.surfaces[rows, round(left * self.scale_x) : round(right * self.scale_x)] = SURFACE_ID[surface]


def draw_scene(rng: np.random.Generator, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Scene:
    """Draw a scene of size (H, W), at least (16, 32); the promises about sizes in pixels hold from (32, 64) on."""
    if size[0] < 16 or size[1] < 32:
        raise ValueError(f"size of street scenes is {tuple(size)}, expected at least (16, 32)")
    street = _Street(rng, np.full(size, SURFACE_ID["sky"], np.int8))
    _draw_ground(street)
    for odds, draw in (
        (_BUSES, _draw_bus),
        (_CARS, _draw_car),
        (_POLES, _draw_pole),
        (_PERSONS, _draw_person),
        (_TREES, _draw_tree),
    ):
        for _ in range(street.count(odds)):
            any(draw(street) for _ in range(_TRIES))
    return Scene(street.surfaces, tuple(street.things))


def _draw_ground(street: _Street) -> None:
    """Sky, houses with windows, sidewalks, road."""
    x, y, surfaces = street.x, street.y, street.surfaces
    distance = np.abs(x - street.vanish_x)
    roof, left, tone = _houses(street)
    house = (y > roof) & (y <= HEIGHT)
    window = house & ((y - roof) % 4 >= 1) & ((y - roof) % 4 < 3) & ((x - left) % 4 >= 1) & ((x - left) % 4 < 3)
    np.copyto(surfaces, tone, where=house)
    surfaces[window & (y < street.horizon + 1)] = SURFACE_ID["window"]
    surfaces[y > street.horizon + street.house_slope * distance] = SURFACE_ID["sidewalk"]
    road = (y > street.horizon) & (distance < street.road_start + street.road_slope * (y - street.horizon))
    surfaces[road] = SURFACE_ID["road"]


def _houses(street: _Street) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per column (1, W): the roof's row, the house's left edge, its facade; houses grow towards the viewer."""
    rng, x = street.rng, street.x
    widths = rng.integers(6, 13, size=10)
    edges = np.cumsum(widths) - rng.integers(6)
    which = np.minimum(
        np.searchsorted(edges, x[0]), 9
    )  # should the row end short of the border, its last house goes on
    center = edges - widths / 2
    away = np.abs(center - street.vanish_x)
    roofs = np.maximum(1, np.floor(street.horizon - 2.5 - 0.17 * away - rng.uniform(0, 4.5, size=10)))
    open_sky = (away < 4.5) | (rng.random(10) < 0.06)
    roofs[open_sky] = HEIGHT
    tones = np.where(rng.random(10) < 0.5, SURFACE_ID["facade"], SURFACE_ID["dark facade"]).astype(np.int8)
    return roofs[which][None], (edges - widths)[which][None], tones[which][None]


def _draw_tree(street: _Street) -> bool:
    """A tree before the houses: a round crown on a trunk; a crown may leave the scene on the left or right."""
    x = street.rng.uniform(4, WIDTH - 4)
    radius_x, radius_y, trunk = street.rng.uniform((3.6, 3.1, 3.0), (5.4, 4.4, 5.0))
    foot = street.house_foot(x) + 1
    center = foot - trunk - radius_y + 1
    box = (center - radius_y, max(x - radius_x, 0), foot, min(x + radius_x, WIDTH))
    if foot > street.curb(x) or not street.take(box, 0):
        return False
    street.fill("tree", center, x - 1, foot, x + 1)
    crown = ((street.y - center) / radius_y) ** 2 + ((street.x - x) / radius_x) ** 2 < 1
    street.surfaces[crown] = SURFACE_ID["tree"]
    street.things.append(Thing("vegetation"))
    return True


def _draw_pole(street: _Street) -> bool:
    """A pole at the curb, two columns wide, perhaps with a sign."""
    rng = street.rng
    x = int(rng.integers(4, WIDTH - 4))
    foot = round(street.curb(x) - 0.5)
    if abs(x - street.vanish_x) < 7 or foot > HEIGHT - 3:
        return False
    top = foot - int(rng.integers(10, 15))
    half = int(rng.integers(2, 4)) if rng.random() < _SIGN else 1
    if not street.take((top, x - half, foot, x + half), 1):
        return False
    street.fill("pole", top, x - 1, foot, x + 1)
    street.things.append(Thing("pole"))
    if half > 1:
        street.fill("sign", top, x - half, top + half + 2, x + half)
        street.things.append(Thing("sign"))
    return True


def _draw_person(street: _Street) -> bool:
    """A person on the sidewalk: a head two columns wide on a body of three or four."""
    rng = street.rng
    x = int(rng.integers(3, WIDTH - 3))
    low, high = street.house_foot(x) + 1.5, min(street.curb(x) + 1, HEIGHT - 1)
    if abs(x - street.vanish_x) < 9 or low > high:
        return False
    foot = round(rng.uniform(low, high))
    tall = 6 + (foot - street.horizon > 7) + int(rng.integers(2))
    if not street.take((foot - tall, x - 2, foot, x + 2), 1):
        return False
    street.fill("person", foot - tall, x - 1, foot, x + 1)
    street.fill("person", foot - tall + 2, x - 2, foot - 2, x + 2)
    street.things.append(Thing("person"))
    return True


def _stand_on_road(street: _Street, wide: float, high: float, nearest: float) -> tuple[int, int, int, int] | None:
    """A free box on the road whose foot is `nearest` rows or more below the horizon; it shrinks with the distance."""
    foot = round(street.rng.uniform(street.horizon + nearest, HEIGHT - 0.6))
    scale = 0.6 + 0.4 * (foot - street.horizon) / (HEIGHT - street.horizon)
    width, tall = round(wide * scale), round(high * scale)
    room = street.road_half(foot - 1) - width / 2
    low = max(0, street.vanish_x - room - width / 2)
    left = round(street.rng.uniform(low, max(low, min(WIDTH, street.vanish_x + room + width / 2) - width)))
    box = (foot - tall, left, foot, left + width)
    return box if room > 0 and street.take(box, 2) else None


def _draw_bus(street: _Street) -> bool:
    """A bus from the side: a tall box on two wheels."""
    box = _stand_on_road(street, 16, 12, nearest=8)
    if box is None:
        return False
    top, left, bottom, right = box
    street.fill("bus", top, left, bottom - 1, right)
    for wheel in (left + 2, right - 5):
        street.fill("bus", bottom - 1, wheel, bottom, wheel + 3)
    street.things.append(Thing("bus"))
    return True


def _draw_car(street: _Street) -> bool:
    """A car from the side: cabin, body and dark wheels."""
    color = CAR_COLORS[street.rng.integers(4)]
    box = _stand_on_road(street, 13, 7, nearest=7)
    if box is None:
        return False
    top, left, bottom, right = box
    street.fill(color, top + 2, left, bottom - 1, right)
    street.fill(color, top, left + 2, top + 2, right - 3)
    for wheel in (left + 2, right - 4):
        street.fill("black", bottom - 2, wheel, bottom, wheel + 2)
    street.things.append(Thing("car", color))
    return True
