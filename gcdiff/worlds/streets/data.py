"""Procedural street scenes with ten classes: unlimited, with exact layouts and captions.

The layout depends on the scene alone; day, night and fog change the image only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.worlds.streets.appearance import LABELS, LIGHT_WEATHER, WEATHERS, layout_of, render
from gcdiff.worlds.streets.captions import attribute_caption, paper_caption
from gcdiff.worlds.streets.scene import HEIGHT, WIDTH, Scene, draw_scene
from gcdiff.worlds.world import World


class Street(NamedTuple):
    """An example with what it was made from: the scene, its light (an index)."""

    scene: Scene
    light: int
    example: Example


class Streets(World[Street]):
    """Street scenes; each has two captions: the paper's form and the attribute form."""

    name, labels, size = "streets", LABELS, (HEIGHT, WIDTH)

    def draw(self, rng: np.random.Generator) -> Street:
        scene = draw_scene(rng, self.size)
        layout = layout_of(scene.surfaces)
        light = int(rng.integers(len(LIGHT_WEATHER)))
        captions = (paper_caption(layout, rng), attribute_caption(scene.things, WEATHERS[LIGHT_WEATHER[light]], rng))
        return Street(scene, light, Example(render(scene.surfaces, light, rng), layout, captions))
