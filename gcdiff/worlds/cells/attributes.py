"""The attributes of a layout or an image of cells: how many, of which size, under which stain, whether one divides.

A cell is a connected piece of what is not background; its nuclei are the connected pieces of nucleus in it; a cell with
two nuclei or more divides. Cells are large if their area for each nucleus is, on average, above LARGE.

Layouts are read as they are. Of an image the oracle's probabilities p(k_i | x) are first brought together with those of
the neighbours: classes that lie side by side in training layouts support each other, others do not. With
A(k, l) = log p(k, l) - log p(k) - log p(l) of the classes of neighbouring pixels, clipped to +-MOST_AFFINITY,

    q(k_i)  ~  p(k_i | x) exp(COUPLING sum_{j beside i} sum_l A(k_i, l) q(l_j))                                  (1)

iterated from q = p: the mean field of a Markov random field (Zhang, The Mean Field Theory in EM Procedures for Markov
Random Fields, 1992). Where the pixels themselves are certain, as in true renders, they decide; it helps where noise or
blur has made them uncertain. An outlier has the class that its neighbours suggest.
"""

from __future__ import annotations

import numpy as np

from gcdiff.types import VOID
from gcdiff.worlds.cells.appearance import BACKGROUND, MEANS, NUCLEUS, STAINS
from gcdiff.worlds.cells.captions import ParsedCaption
from gcdiff.worlds.cells.oracle import Reading, read
from gcdiff.worlds.cells.scene import SIDE, SIZES, Attributes, count_name
from gcdiff.worlds.pixels import OUTLIER, connected

MIN_CELL, MIN_NUCLEUS, LARGE = 10.0, 1.5, 42.0
"""Areas in pixels of an image 32 high: of the smallest cell and nucleus that count, and between small and large."""

ABSORBED = 0.31
"""The drop of the grey below the background's, averaged over cells, between the stains; .26 and .40 in training."""

COUPLING, MOST_AFFINITY = 0.5, 4.0
_AFFINITY = np.array(  # of pixels side by side, and of pixels corner to corner
    [
        [(0.1, -12.8, -1.0, -11.9), (-12.8, 2.6, 1.7, 2.2), (-1.0, 1.7, 2.1, -0.4), (-11.9, 2.2, -0.4, 3.6)],
        [(0.1, -2.8, -0.7, -8.8), (-2.8, 2.3, 1.8, 2.4), (-0.7, 1.8, 1.6, 0.7), (-8.8, 2.4, 0.7, 3.2)],
    ]
)
_SIDES, _CORNERS = COUPLING * np.clip(_AFFINITY, -MOST_AFFINITY, MOST_AFFINITY).astype(np.float32)
_ROUNDS = 8


def layout_attributes(layout: np.ndarray) -> Attributes:
    """The attributes that a layout int (H, W) shows; void counts as background."""
    unit = (layout.shape[0] / SIDE) ** 2
    areas, nuclei = [], []
    for cell in connected((layout != BACKGROUND) & (layout != VOID), MIN_CELL * unit, corners=True):
        areas.append(cell.sum() / unit)
        nuclei.append(len(connected(cell & (layout == NUCLEUS), MIN_NUCLEUS * unit, corners=True)))
    if not areas:
        return Attributes("none", None, False)
    large = int(np.mean(np.array(areas) / np.maximum(nuclei, 1)) > LARGE)
    return Attributes(count_name(len(areas)), SIZES[large], max(nuclei) > 1)


def image_attributes(images: np.ndarray) -> tuple[ParsedCaption, ...]:
    """The attributes that each of images uint8 (N, H, W, 3) shows; size and stain are None where there are no cells."""
    return attributes_of(*read_twice(images))


def attributes_of(reading: Reading, labels: np.ndarray) -> tuple[ParsedCaption, ...]:
    """`image_attributes` of what `read_twice` has read."""
    shown = map(layout_attributes, labels)
    return tuple(
        ParsedCaption(one.count, one.size, STAINS[stain] if one.size else None, one.dividing)
        for one, stain in zip(shown, reading.stain, strict=True)
    )


def read_twice(images: np.ndarray) -> tuple[Reading, np.ndarray]:
    """The oracle's reading of images uint8 (N, H, W, 3), and the labels of equation (1), int32 (N, H, W).

    Where the cells absorb more or less on average than the stain would have it that the oracle reads, the image is
    read again under the other one. On true renders the two agree; blur, which leaves averages as they are, makes
    greys between the classes and may mislead the oracle.
    """
    reading = read(images)
    labels = smooth_labels(reading)
    stain = np.array([_stain(*one) for one in zip(images, reading.bias, labels, reading.stain, strict=True)])
    wrong = np.flatnonzero(stain != reading.stain)
    if wrong.size:
        again = read(images[wrong], stain[wrong])
        for field, new in zip((*reading, labels), (*again, smooth_labels(again)), strict=True):
            field[wrong] = new
    return reading, labels


def _stain(image: np.ndarray, field: np.ndarray, labels: np.ndarray, otherwise: int) -> int:
    """The stain of one image by what its cells absorb; `otherwise` if there are none."""
    cells = connected(labels != BACKGROUND, MIN_CELL * (len(labels) / SIDE) ** 2, corners=True)
    if not cells:
        return otherwise
    return int(np.mean((MEANS[0, BACKGROUND] - image.mean(-1) / (255 * field))[np.any(cells, axis=0)]) > ABSORBED)


def smooth_labels(reading: Reading) -> np.ndarray:
    """The labels of largest q in equation (1), int32 (N, H, W)."""
    chunks = np.array_split(reading.probabilities, -(-len(reading.probabilities) // 16))
    return np.concatenate([_mean_field(chunk).argmax(-1).astype(np.int32) for chunk in chunks])


def _mean_field(belief: np.ndarray) -> np.ndarray:
    """Equation (1) for probabilities p float32 (N, H, W, 4): q."""
    pixel = np.log(belief + OUTLIER)
    for _ in range(_ROUNDS):
        sides, corners = _neighbours(belief, ((0, 1), (1, 0))), _neighbours(belief, ((1, 1), (1, -1)))
        logits = pixel + sides @ _SIDES + corners @ _CORNERS
        belief = np.exp(logits - logits.max(-1, keepdims=True))
        belief /= belief.sum(-1, keepdims=True)
    return belief


def _neighbours(belief: np.ndarray, steps: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The sum of the beliefs (N, H, W, 4) of the pixels at +-steps; beyond the border there is nothing."""
    height, width = belief.shape[1:3]
    padded = np.pad(belief, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = [(sign * down, sign * right) for down, right in steps for sign in (-1, 1)]
    return np.sum([padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in moves], axis=0)
