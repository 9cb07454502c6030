"""Procedural faces with eleven classes: unlimited, with exact layouts and captions.

The layout depends on the face alone, and of its attributes not on the colour of hair or skin nor on a goatee: these,
the light and the wall change the image only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.worlds.faces.appearance import LABELS, LIGHT_GAIN, layout_of, render
from gcdiff.worlds.faces.captions import attribute_caption, sentence_caption
from gcdiff.worlds.faces.scene import HEIGHT, WIDTH, Face, draw_face, paint
from gcdiff.worlds.world import World


class Portrait(NamedTuple):
    """An example with what it was made from: the face, its surfaces int8 (H, W), its light (an index)."""

    face: Face
    surfaces: np.ndarray
    light: int
    example: Example


class Faces(World[Portrait]):
    """Faces, of sizes that are multiples of 8 from 32 on; each has two captions that name its attributes in other
    words."""

    name, labels, size = "faces", LABELS, (HEIGHT, WIDTH)

    def draw(self, rng: np.random.Generator) -> Portrait:
        face = draw_face(rng)
        surfaces = paint(face, self.size)
        light = int(rng.integers(len(LIGHT_GAIN)))
        captions = (attribute_caption(face.attributes, rng), sentence_caption(face.attributes, rng))
        return Portrait(face, surfaces, light, Example(render(surfaces, light, rng), layout_of(surfaces), captions))
