"""The appearance of the street world: its classes, its surfaces, its lights and the pixel model.

A scene is a map of surfaces; a surface is a class and a colour (a car is one class in four colours). One light shines
on the whole scene. Per channel, with all values in [0, 1],

    x_i = contrast(light) * colour(surface_i) + offset(light) + TEXTURE * normal                            (1)

clipped to [0, 1] and rounded to 8 bits. A light is a weather (day, night, fog: contrast and base offset) with one of
seven brightness levels and three tints, which shift the offset. An offset moves every surface alike: given the light
the classes are far apart (8 TEXTURE or more under every light), yet one colour comes from different classes under
different lights, so a single pixel is ambiguous.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.types import LabelSpec

LABELS = LabelSpec(
    names=("sky", "building", "road", "sidewalk", "vegetation", "car", "person", "pole", "sign", "bus"),
    palette=(
        (116, 173, 222),
        (150, 98, 84),
        (98, 92, 112),
        (214, 176, 186),
        (106, 158, 74),
        (40, 72, 178),
        (220, 54, 84),
        (72, 62, 62),
        (240, 200, 48),
        (242, 132, 48),
    ),
)
OPTIONAL = ("vegetation", "car", "person", "pole", "sign", "bus")
"""The classes that a scene may lack."""

CAR_COLORS = ("red", "blue", "white", "black")
WEATHERS = ("day", "night", "fog")
TEXTURE = 0.03
"""Standard deviation of the texture, of a range of 1, independent per pixel and channel."""


class Surface(NamedTuple):
    """A kind of pixel: its name, its class, its colour before the light, its share of all training pixels."""

    name: str
    label: str
    color: tuple[float, float, float]
    share: float


SURFACES = (
    Surface("sky", "sky", (0.44, 0.64, 0.95), 0.174),
    Surface("facade", "building", (0.74, 0.44, 0.14), 0.104),
    Surface("dark facade", "building", (0.71, 0.35, 0.12), 0.104),
    Surface("window", "building", (0.52, 0.22, 0.05), 0.054),
    Surface("road", "road", (0.39, 0.40, 0.52), 0.323),
    Surface("sidewalk", "sidewalk", (0.80, 0.67, 0.60), 0.157),
    Surface("tree", "vegetation", (0.29, 0.70, 0.02), 0.0237),
    Surface("red", "car", (1.00, 0.00, 0.38), 0.005),
    Surface("blue", "car", (0.10, 0.00, 0.88), 0.005),
    Surface("white", "car", (0.90, 1.00, 0.97), 0.005),
    Surface("black", "car", (0.02, 0.07, 0.03), 0.0086),
    Surface("person", "person", (0.65, 0.08, 0.89), 0.007),
    Surface("pole", "pole", (0.00, 0.70, 0.53), 0.0063),
    Surface("sign", "sign", (0.10, 1.00, 0.94), 0.0047),
    Surface("bus", "bus", (0.93, 0.90, 0.11), 0.0184),
)
SURFACE_ID = {surface.name: i for i, surface in enumerate(SURFACES)}
SURFACE_COLOR = np.array([surface.color for surface in SURFACES], np.float32)
SURFACE_CLASS = np.array([LABELS.names.index(surface.label) for surface in SURFACES], np.int32)
SURFACE_SHARE = np.array([surface.share for surface in SURFACES]) / sum(surface.share for surface in SURFACES)

_BRIGHTNESS = np.linspace(-0.075, 0.075, 7)
_TINTS = np.array([(0.0, 0.0, 0.0), (0.05, -0.02, -0.09), (-0.05, 0.02, 0.09)])  # none, warm, cool
_CONTRAST = np.array([0.64, 0.50, 0.50])
_BASE = np.array([(0.22, 0.20, 0.19), (0.125, 0.115, 0.165), (0.34, 0.34, 0.34)])

LIGHT_WEATHER = np.repeat(np.arange(3), len(_BRIGHTNESS) * len(_TINTS))
"""The weather of every light, int (63,), an index into WEATHERS. All lights are equally likely."""

LIGHT_CONTRAST = _CONTRAST[LIGHT_WEATHER].astype(np.float32)
LIGHT_OFFSET = (_BASE[:, None, None] + _BRIGHTNESS[:, None, None] + _TINTS[None]).reshape(-1, 3).astype(np.float32)
MEANS = LIGHT_CONTRAST[:, None, None] * SURFACE_COLOR + LIGHT_OFFSET[:, None]
"""The mean of equation (1), float32 (lights, surfaces, 3)."""


def layout_of(surfaces: np.ndarray) -> np.ndarray:
    """The layout int32 (H, W) of a map of surfaces (H, W)."""
    return SURFACE_CLASS[surfaces]


def render(surfaces: np.ndarray, light: int, rng: np.random.Generator) -> np.ndarray:
    """Equation (1): the image uint8 (H, W, 3) of surfaces int (H, W) under a light, its texture drawn from rng."""
    noise = rng.standard_normal((*surfaces.shape, 3), np.float32)
    return np.rint(255 * np.clip(MEANS[light][surfaces] + TEXTURE * noise, 0, 1)).astype(np.uint8)
