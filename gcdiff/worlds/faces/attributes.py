"""The attributes that a map of surfaces shows, measured where they belong on a face.

The eyes give the place: rows and columns are counted from the middle between them, in those of a 32 x 32 picture, and
areas in its pixels. What is measured at a place is how many pixels of some surfaces are there, so that a few wrong
pixels change nothing; the thresholds lie between faces with an attribute and faces without, clean and noisy.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from gcdiff.worlds.faces.appearance import ATTRIBUTES, HAIR_COLORS, SURFACE_ID, SURFACES
from gcdiff.worlds.faces.scene import HEIGHT, WIDTH

_USUAL_PLACE = (15.6, 16.0)  # of the middle between the eyes, where none are seen
_SKINS = ("pale", "light", "tan", "dark")


def _ids(*labels: str) -> list[int]:
    return [i for i, surface in enumerate(SURFACES) if surface.label in labels]


_EYES = {side: _ids(f"{side} eye") for side in ("left", "right")}
_HAIR, _BROWS, _MOUTH = _ids("hair"), _ids("left brow", "right brow"), _ids("mouth")
_HAT, _FRAME, _EARRING = _ids("hat"), _ids("glasses"), _ids("earring")


def read_attributes(surfaces: np.ndarray) -> np.ndarray:
    """Which attributes a map of surfaces int (H, W) shows: bool (13,), in the order of ATTRIBUTES."""
    y, x = _from_the_eyes(surfaces)
    across = np.abs(x)
    per_pixel = HEIGHT * WIDTH / surfaces.size

    def area(ids: list[int], where: np.ndarray) -> float:
        return np.isin(surfaces[where], ids).sum() * per_pixel

    piece = _largest_piece(np.isin(surfaces, _HAIR))
    hair = _counts(surfaces[piece], HAIR_COLORS)
    skin = _counts(surfaces[(across < 6.5) & (np.abs(y) < 7)], _SKINS)
    fringe = (across < 4) & (y > -6.8) & (y < -5.5)
    shown = {
        "Bald": hair.sum() * per_pixel < 6,
        "Bangs": area(_HAIR, fringe) > 0.5 * fringe.sum() * per_pixel,
        "Bushy_Eyebrows": area(_BROWS, (across < 8) & (y > -6) & (y < -2)) > 13,
        "Eyeglasses": area(_FRAME, (across < 8.5) & (np.abs(y) < 3.5)) > 15,
        "Goatee": area([SURFACE_ID["goatee"]], (across < 4) & (y > 5) & (y < 12)) > 5,
        "Pale_Skin": skin[0] > skin[1:].max(),
        "Smiling": _bow(surfaces, y, x) < -0.7,
        "Wearing_Earrings": area(_EARRING, (across > 6) & (across < 11) & (y > 2) & (y < 6.5)) > 2,
        "Wearing_Hat": area(_HAT, y < -4) > 40,
    }
    color = None if shown["Bald"] else HAIR_COLORS[hair.argmax()]
    return np.array([shown.get(name, name == color) for name in ATTRIBUTES], bool)


def _from_the_eyes(surfaces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, both (H, W), counted from the middle between the eyes."""
    height, width = surfaces.shape
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = y * (HEIGHT / height), x * (WIDTH / width)
    places = [np.isin(surfaces, eye) for eye in _EYES.values()]
    if not all(place.any() for place in places):
        return y - _USUAL_PLACE[0], x - _USUAL_PLACE[1]
    row, column = np.mean([(np.median(y[place]), np.median(x[place])) for place in places], axis=0)
    return y - row, x - column


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask bool (H, W) that is connected through sides; all of it where it is empty."""
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=numbered)
    return (numbered == 1 + np.bincount(numbered[mask])[1:].argmax()) if mask.any() else mask


def _counts(surfaces: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """How often each of the named surfaces occurs."""
    return np.bincount(surfaces.ravel(), minlength=len(SURFACES))[[SURFACE_ID[name] for name in names]]


def _bow(surfaces: np.ndarray, y: np.ndarray, x: np.ndarray) -> float:
    """How many rows the mouth's corners are below its middle, by the parabola that fits its pixels best."""
    mouth = np.isin(surfaces, _MOUTH) & (np.abs(x) < 4.5) & (y > 4.5) & (y < 10.5)
    columns, rows = x[mouth], y[mouth]
    if len(np.unique(columns)) < 3:
        return 0.0
    bend = np.polyfit(columns, rows, 2)[0]
    return float(bend * (np.ptp(columns) / 2) ** 2)
