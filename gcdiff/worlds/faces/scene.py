"""The scenes of the face world: attributes, then a shape, then a map of surfaces, drawn at random.

All lengths are in rows and columns of a 32 x 32 picture, whatever size is drawn. A face stands at `center_x`, its eyes
on the row `eye_y`; the head is rolled by `roll` rows per column, which moves columns up and down and keeps everything
as many rows thick as it was. Thin brows are one row thick and bushy ones two, so that even the smallest picture shows
which they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.worlds.faces.appearance import SURFACE_ID

HEIGHT, WIDTH = 32, 32

_BALD, _HAT, _BANGS = 0.06, 0.07, 0.30  # bangs where there is hair and no hat
_HAIR = {"Black_Hair": 0.35, "Blond_Hair": 0.22, "Brown_Hair": 0.36, "Gray_Hair": 0.07}  # of those who have any
_OTHERS = {
    "Bushy_Eyebrows": 0.18,
    "Eyeglasses": 0.15,
    "Goatee": 0.07,
    "Pale_Skin": 0.06,
    "Smiling": 0.48,
    "Wearing_Earrings": 0.2,
}
_SKINS = ("light", "tan", "dark")  # of those who are not pale
_WALLS = ("blue wall", "green wall", "lilac wall")
_HATS = ("orange hat", "green hat", "purple hat")


class Face(NamedTuple):
    """A face without its light: attributes, the surfaces chosen, and the shape."""

    attributes: frozenset[str]
    wall: str
    skin: str
    hat: str
    center_x: float
    eye_y: float
    roll: float
    turn: float  # columns by which nose and parting lean to the right of the picture
    half_width: float
    half_height: float
    eye_gap: float  # from the middle to an eye's middle
    hair_volume: float
    hair_length: float  # rows below the eyes
    mouth_y: float  # rows below the eyes
    mouth_width: float  # half of it

    @property
    def hair(self) -> str | None:
        """The surface of the hair, None for the bald."""
        return next((name for name in _HAIR if name in self.attributes), None)


def draw_face(rng: np.random.Generator) -> Face:
    """Draw a face: the bald have no colour of hair, bangs are of those who have hair and no hat."""
    chosen = {name for name, odds in _OTHERS.items() if rng.random() < odds}
    bald, hat, bangs = rng.random(3) < (_BALD, _HAT, _BANGS)
    chosen.add("Bald" if bald else list(_HAIR)[np.searchsorted(np.cumsum(list(_HAIR.values()))[:-1], rng.random())])
    if hat:
        chosen.add("Wearing_Hat")
    elif bangs and not bald:
        chosen.add("Bangs")
    skin, wall, cap = rng.integers(3, size=3)
    wide = (2.9, 3.6) if "Smiling" in chosen else (2.0, 2.9)
    low = (14, 15.4, -0.08, -0.6, 7.2, 10.2, 3.8, 1.6, 3.5, 6.6, wide[0])
    high = (18, 17.2, 0.08, 0.6, 8.2, 11.2, 4.4, 2.6, 16, 7.4, wide[1])
    return Face(
        frozenset(chosen),
        _WALLS[wall],
        "pale" if "Pale_Skin" in chosen else _SKINS[skin],
        _HATS[cap],
        *rng.uniform(low, high),
    )


def paint(face: Face, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """The surfaces int8 (H, W) of a face at size (H, W), multiples of 8 from 32 on; other sizes raise ValueError."""
    if min(size) < 32 or any(side % 8 for side in size):
        raise ValueError(f"size of faces is {tuple(size)}, expected multiples of 8, at least 32")
    x = (np.arange(size[1])[None] + 0.5) * (WIDTH / size[1]) - face.center_x
    y = (np.arange(size[0])[:, None] + 0.5) * (HEIGHT / size[0]) - face.eye_y - face.roll * x
    surfaces = np.full(size, SURFACE_ID[face.wall], np.int8)
    _paint_head(surfaces, face, x, y)
    _paint_features(surfaces, face, x, y)
    _paint_worn(surfaces, face, x, y)
    return surfaces


def _paint_head(surfaces: np.ndarray, face: Face, x: np.ndarray, y: np.ndarray) -> None:
    """Hair behind the head, neck, ears, the head itself and the hair before it."""
    across = np.abs(x)
    width, tall = face.half_width, face.half_height
    oval = (x / width) ** 2 + (y / tall) ** 2
    if face.hair:
        volume = face.hair_volume
        crown = (x / (width + volume)) ** 2 + (y / (tall + volume)) ** 2 < 1
        sides = (across < width + volume) & (y >= 0)
        surfaces[(crown & (y < 0) | sides) & (y < face.hair_length)] = SURFACE_ID[face.hair]
    skin = SURFACE_ID[face.skin]
    surfaces[(across < 3.6) & (y > 5)] = skin
    surfaces[((across - width) / 1.5) ** 2 + ((y - 1) / 2.2) ** 2 < 1] = skin
    surfaces[oval < 1] = skin
    if face.hair:
        low = -5.0 if "Bangs" in face.attributes else -8.3 + 0.02 * (x - 2 * face.turn) ** 2
        surfaces[(oval < 1) & (y < low)] = SURFACE_ID[face.hair]


def _paint_features(surfaces: np.ndarray, face: Face, x: np.ndarray, y: np.ndarray) -> None:
    """Goatee, nose, mouth, eyes and brows."""
    chin = (x / 3.2) ** 2 + ((y - face.mouth_y - 1) / 2.8) ** 2 < 1
    if "Goatee" in face.attributes:
        surfaces[chin & (y < face.half_height)] = SURFACE_ID["goatee"]
    surfaces[(np.abs(x - face.turn) < 0.5 + 0.13 * y) & (y > 1) & (y < 4.6)] = SURFACE_ID["nose"]
    _paint_mouth(surfaces, face, x, y - face.mouth_y)
    thick = 2 if "Bushy_Eyebrows" in face.attributes else 1
    for side, sign in (("left", 1), ("right", -1)):
        away = sign * x - face.eye_gap
        surfaces[(np.abs(away) < 1.75) & (np.abs(y) < 1)] = SURFACE_ID[f"{side} sclera"]
        surfaces[(np.abs(away) < 0.75) & (np.abs(y) < 1)] = SURFACE_ID[f"{side} iris"]
        surfaces[(np.abs(away - 0.6) < 2.4) & (y >= -2.7 - thick) & (y < -2.7)] = SURFACE_ID[f"{side} brow"]


def _paint_mouth(surfaces: np.ndarray, face: Face, x: np.ndarray, y: np.ndarray) -> None:
    """A straight mouth, or one whose corners are higher than its middle and that shows teeth."""
    inside = np.abs(x) < face.mouth_width
    if "Smiling" not in face.attributes:
        surfaces[inside & (np.abs(y) < 0.75)] = SURFACE_ID["lips"]
        return
    bow = y - 1.2 + 2.8 * (x / face.mouth_width) ** 2
    surfaces[inside & (bow >= -1.3) & (bow < 1)] = SURFACE_ID["lips"]
    surfaces[(np.abs(x) < face.mouth_width - 1.2) & (bow >= -1.3) & (bow < -0.2)] = SURFACE_ID["teeth"]


def _paint_worn(surfaces: np.ndarray, face: Face, x: np.ndarray, y: np.ndarray) -> None:
    """Glasses, hat, earrings."""
    across = np.abs(x)
    if "Eyeglasses" in face.attributes:
        away = np.abs(across - face.eye_gap)
        rim = (away < 3.3) & (np.abs(y) < 2.5) & ((away >= 2.3) | (np.abs(y) >= 1.5))
        bridge = (across < face.eye_gap) & (y >= -0.8) & (y < 0.2) & (away >= 2.3)
        surfaces[rim | bridge] = SURFACE_ID["frame"]
    if "Wearing_Hat" in face.attributes:
        crown = (x / (face.half_width + 1)) ** 2 + ((y + 5) / 8.5) ** 2 < 1
        brim = (across < face.half_width + 3) & (y >= -6.6)
        surfaces[(crown | brim) & (y < -5)] = SURFACE_ID[face.hat]
    if "Wearing_Earrings" in face.attributes:
        away = across - face.half_width
        surfaces[(away >= 0) & (away < 2) & (y >= 3.2) & (y < 5.2)] = SURFACE_ID["earring"]
