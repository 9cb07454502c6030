"""The appearance of the face world: its classes, its surfaces, its lights and the pixel model.

A face is a map of surfaces; a surface is a class and a colour (hair is one class in four colours). One light shines on
the whole picture. Per channel c, with all values in [0, 1],

    x_ic = gain_c(light) * colour_c(surface_i) + sigma(surface_i) * normal                                  (1)

clipped to [0, 1] and rounded to 8 bits. A light is one of five brightnesses times one of three tints.

Left and right are the person's own: the left eye and brow are in the right half of the picture, the right ones in the
left half. Their colours are those of the other side, so that only the place tells them apart. There are eleven classes:
the nose is a shade of skin, so that earrings, which captions speak of, have a class. A goatee is skin as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.types import LabelSpec

LABELS = LabelSpec(
    names=(
        "background", "skin", "hair", "left eye", "right eye", "left brow", "right brow", "earring", "mouth", "glasses",
        "hat",
    ),
    palette=(
        (58, 64, 84), (236, 188, 160), (122, 74, 40), (64, 156, 255), (60, 220, 200), (150, 90, 220), (222, 110, 214),
        (250, 214, 40), (212, 48, 72), (24, 24, 32), (70, 160, 70),
    ),
    swaps=((3, 4), (5, 6)),
)  # fmt: skip

ATTRIBUTES = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Pale_Skin",
    "Smiling",
    "Wearing_Earrings",
    "Wearing_Hat",
)
"""The binary attributes of a face, by the names that CelebA has for them."""

HAIR_COLORS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
"""Of these every face has exactly one, but those that are bald."""

IMAGE_ONLY = (*HAIR_COLORS, "Goatee", "Pale_Skin")
"""These change the image and never the layout; the others change both."""

RARE = ("Bald", "Goatee", "Gray_Hair", "Pale_Skin", "Wearing_Hat")
"""These are in 5 to 8 of a hundred faces each."""


class Surface(NamedTuple):
    """A kind of pixel: its name, its class, its colour and texture before the light, its share of all pixels."""

    name: str
    label: str
    color: tuple[float, float, float]
    sigma: float
    share: float


SURFACES = (
    Surface("blue wall", "background", (0.42, 0.62, 0.95), 0.020, 0.193),
    Surface("green wall", "background", (0.36, 0.82, 0.45), 0.020, 0.193),
    Surface("lilac wall", "background", (0.74, 0.52, 0.95), 0.020, 0.193),
    Surface("pale", "skin", (1.00, 0.87, 0.78), 0.015, 0.0137),
    Surface("light", "skin", (0.96, 0.71, 0.54), 0.015, 0.0702),
    Surface("tan", "skin", (0.80, 0.54, 0.36), 0.015, 0.0702),
    Surface("dark", "skin", (0.62, 0.40, 0.28), 0.015, 0.0702),
    Surface("nose", "skin", (0.88, 0.46, 0.40), 0.015, 0.00593),
    Surface("goatee", "skin", (0.34, 0.38, 0.40), 0.020, 0.00125),
    Surface("Black_Hair", "hair", (0.02, 0.04, 0.12), 0.020, 0.049),
    Surface("Blond_Hair", "hair", (0.94, 0.81, 0.24), 0.020, 0.0302),
    Surface("Brown_Hair", "hair", (0.44, 0.22, 0.05), 0.020, 0.0487),
    Surface("Gray_Hair", "hair", (0.63, 0.65, 0.66), 0.025, 0.00967),
    Surface("left sclera", "left eye", (0.74, 0.93, 1.00), 0.015, 0.00391),
    Surface("right sclera", "right eye", (0.74, 0.93, 1.00), 0.015, 0.00391),
    Surface("left iris", "left eye", (0.04, 0.38, 0.42), 0.015, 0.00293),
    Surface("right iris", "right eye", (0.04, 0.38, 0.42), 0.015, 0.00293),
    Surface("left brow", "left brow", (0.26, 0.00, 0.02), 0.015, 0.00554),
    Surface("right brow", "right brow", (0.26, 0.00, 0.02), 0.015, 0.00554),
    Surface("earring", "earring", (1.00, 1.00, 0.00), 0.015, 0.00151),
    Surface("lips", "mouth", (0.80, 0.08, 0.24), 0.015, 0.00859),
    Surface("teeth", "mouth", (1.00, 1.00, 1.00), 0.015, 0.00212),
    Surface("frame", "glasses", (0.05, 0.04, 0.48), 0.015, 0.00592),
    Surface("orange hat", "hat", (1.00, 0.42, 0.02), 0.025, 0.00274),
    Surface("green hat", "hat", (0.06, 0.46, 0.10), 0.025, 0.00274),
    Surface("purple hat", "hat", (0.50, 0.05, 0.62), 0.025, 0.00274),
)
SURFACE_ID = {surface.name: i for i, surface in enumerate(SURFACES)}
SURFACE_COLOR = np.array([surface.color for surface in SURFACES], np.float32)
SURFACE_SIGMA = np.array([surface.sigma for surface in SURFACES], np.float32)
SURFACE_CLASS = np.array([LABELS.names.index(surface.label) for surface in SURFACES], np.int32)
SURFACE_SHARE = np.array([surface.share for surface in SURFACES]) / sum(surface.share for surface in SURFACES)

_BRIGHTNESS = np.linspace(0.70, 1.0, 5)
_TINTS = np.array([(1.0, 1.0, 1.0), (1.0, 0.93, 0.84), (0.87, 0.94, 1.0)])  # none, warm, cool
LIGHT_GAIN = (_BRIGHTNESS[:, None, None] * _TINTS).reshape(-1, 3).astype(np.float32)
"""The gain of every light, float32 (15, 3). All lights are equally likely."""

MEANS = LIGHT_GAIN[:, None] * SURFACE_COLOR
"""The mean of equation (1), float32 (lights, surfaces, 3)."""


def layout_of(surfaces: np.ndarray) -> np.ndarray:
    """The layout int32 (H, W) of a map of surfaces (H, W)."""
    return SURFACE_CLASS[surfaces]


def render(surfaces: np.ndarray, light: int, rng: np.random.Generator) -> np.ndarray:
    """Equation (1): the image uint8 (H, W, 3) of surfaces int (H, W) under a light, its texture drawn from rng."""
    noise = rng.standard_normal((*surfaces.shape, 3), np.float32)
    image = MEANS[light][surfaces] + SURFACE_SIGMA[surfaces][..., None] * noise
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
