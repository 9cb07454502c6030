"""Procedural micrographs of cells with four classes: unlimited, with exact layouts and captions.

A world like medical data: one class has 1.6 % of the pixels and one finding is in 5 % of the images, grey values alone
do not tell the class, for the light is uneven and stains differ. The layout depends on the scene alone; light, stain
and noise change the image only. The image is grey in three equal channels, as files and commands that read and write
colours have it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.worlds.cells.appearance import LABELS, STAINS, draw_bias, render
from gcdiff.worlds.cells.captions import report, sentence
from gcdiff.worlds.cells.scene import SIDE, Scene, draw_scene
from gcdiff.worlds.world import World


class Micrograph(NamedTuple):
    """An example with what it was made from: the scene, the stain (an index), the bias field's coefficients (6,)."""

    scene: Scene
    stain: int
    bias: np.ndarray
    example: Example


class Cells(World[Micrograph]):
    """Micrographs of cells; each has two captions: a sentence and a report."""

    name, labels, size = "cells", LABELS, (SIDE, SIDE)

    def draw(self, rng: np.random.Generator) -> Micrograph:
        scene = draw_scene(rng, self.size)
        stain, bias = int(rng.integers(len(STAINS))), draw_bias(rng)
        captions = tuple(form(scene.attributes, STAINS[stain]) for form in (sentence, report))
        image = render(scene.layout, stain, bias, rng)
        return Micrograph(scene, stain, bias, Example(image, scene.layout, captions))
