"""The appearance of the world of cells: its classes, its stains, its uneven light and the pixel model.

A micrograph in transmitted light: the background is bright, and what is stained is darker. A stain (bright or dark) is
one of two contrasts; with m(k) the grey of class k under the micrograph's stain,

    x_i = b(u_i, v_i) m(k_i) + NOISE * normal                                                                    (1)
    b(u, v) = 1 + c_0 + c_1 u + c_2 v + c_3 (u^2 - 1/3) + c_4 u v + c_5 (v^2 - 1/3)                              (2)

rounded to 8 bits and the same in three channels. The bias field b is the light, which is uneven: u and v run from -1
to 1 over columns and rows, the c_j are independent normals of standard deviation BIAS_SPREAD, drawn anew until b stays
within BIAS_RANGE. Given b and the stain the classes are 8 NOISE or more apart; yet one grey comes from different
classes under different stains and lights, so a single pixel is ambiguous. Stain and bias change the image only.
"""

from __future__ import annotations

import numpy as np

from gcdiff.types import LabelSpec

LABELS = LabelSpec(
    names=("background", "cytoplasm", "membrane", "nucleus"),
    palette=((226, 222, 214), (214, 146, 178), (150, 70, 140), (58, 36, 112)),
)
BACKGROUND, CYTOPLASM, MEMBRANE, NUCLEUS = range(4)
CLASS_SHARE = np.array([0.8895, 0.0418, 0.0528, 0.0159])
"""The classes' shares of all training pixels, at 32x32."""

STAINS = ("bright", "dark")
MEANS = 0.80 - np.array([[0.15], [0.23]]) * np.arange(4)
"""The grey m of every class under every stain, float (stains, classes)."""

NOISE = 0.015
"""Standard deviation of the noise, of a range of 1, independent per pixel."""

BIAS_SPREAD = np.array([0.04, 0.07, 0.07, 0.06, 0.06, 0.06])
BIAS_RANGE = (0.80, 1.18)
"""Within it no grey comes nearer than 4 NOISE to black or white, which therefore do not clip."""


def bias_basis(size: tuple[int, int]) -> np.ndarray:
    """The six functions of equation (2) on the pixels of an image of size (H, W): float (H, W, 6)."""
    rows, columns = ((2 * np.arange(n) + 1) / n - 1 for n in size)
    return _basis(rows, columns)


def _basis(v: np.ndarray, u: np.ndarray) -> np.ndarray:
    v, u = np.meshgrid(v, u, indexing="ij")
    return np.stack([np.ones_like(u), u, v, u**2 - 1 / 3, u * v, v**2 - 1 / 3], axis=-1)


_CHECKED = _basis(*[np.linspace(-1, 1, 9)] * 2).reshape(81, 6)  # from corner to corner


def draw_bias(rng: np.random.Generator) -> np.ndarray:
    """The coefficients c of equation (2), float (6,), of a field within BIAS_RANGE on 9x9 points."""
    while True:
        coefficients = BIAS_SPREAD * rng.standard_normal(6)
        field = 1 + _CHECKED @ coefficients
        if BIAS_RANGE[0] <= field.min() and field.max() <= BIAS_RANGE[1]:
            return coefficients


def render(layout: np.ndarray, stain: int, bias: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Equation (1): the image uint8 (H, W, 3) of a layout int (H, W), a stain and a bias c (6,); noise is from rng."""
    field = 1 + bias_basis(layout.shape) @ bias
    grey = field * MEANS[stain][layout] + NOISE * rng.standard_normal(layout.shape)
    return np.repeat(np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)[..., None], 3, axis=-1)
