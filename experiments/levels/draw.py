"""Draw what levels are: states on the way down each question's path, and what a doubtful layout is worth.

    python experiments/levels/draw.py --workdir runs/demo-long

Writes levels.png and uncertain.png into --out (default: this folder).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

import gcdiff
from gcdiff import paths
from gcdiff.codecs import to_state, to_uint8
from gcdiff.pictures import colorize, sheet
from gcdiff.samplers.sample import example_keys, given_values
from gcdiff.samplers.walk import run
from gcdiff.types import VOID, Pair
from gcdiff.worlds.streets.data import Streets

STEPS, SHOWN = 40, (0, 10, 20, 30, 36, 40)
TEXT = "a street with two trees and one bus"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo-long"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    model = gcdiff.load(arguments.workdir)
    example = Streets("heldout", 100)[11]
    levels(model, example).save(arguments.out / "levels.png")
    uncertain(model, example).save(arguments.out / "uncertain.png")


def levels(model, example) -> Image.Image:
    """Two rows for each question: the image and the layout on the way from the path's first row to its last."""
    left = np.arange(example.layout.shape[1]) < example.layout.shape[1] // 2
    none, half = np.zeros(example.layout.shape, bool), np.broadcast_to(left, example.layout.shape)
    questions = {
        "a labelled image from text: both from 1 to 0": (paths.joint, none, none),
        "a segmentation: image 0, layout from 1 to 0": (paths.layout_given_image, ~none, none),
        "an image for a layout: image from 1 to 0, layout 0": (paths.image_given_layout, none, ~none),
        "an image alone: image from 1 to 0, layout 1": (paths.image_only, none, none),
        "outpainting: 0 in the left half, from 1 to 0 in the right": (paths.joint, half, half),
        "an edit: both from .5 to 0": (lambda n: paths.partial(n, 0.5, 0.5), none, none),
    }
    rows, titles = [], []
    for title, (path, known_image, known_layout) in questions.items():
        states = [state(model, example, path(STEPS)[: n + 1], Pair(known_image, known_layout)) for n in SHOWN]
        rows += [[image for image, _ in states], [layout for _, layout in states]]
        titles += [title, ""]
    return Image.fromarray(sheet(rows, titles))


def state(model, example, path: np.ndarray, known: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The pair after a path, as pictures: uint8 (H, W, 3) each."""
    chunk = 4  # of the same example: a chunk has at least four
    values = Pair(*(np.repeat(a[None], chunk, axis=0) for a in (to_state(example.image), example.layout)))
    given = given_values(
        example_keys(5, np.arange(chunk)), values, Pair(*(np.repeat(m[None], chunk, 0) for m in known))
    )
    # One chunk, on one device.
    sampler, settings = dataclasses.replace(model.built.sampler, mesh=None), model.built.settings
    conditions = model.built.conditions
    condition = conditions.sampling(model.params, given.keys, conditions.read({"text": TEXT}, chunk))
    if len(path) == 1:
        pair = sampler.begin(given, path[0]).state
    else:
        pair = run(sampler, model.params["network"], path, given, condition, settings)
    return to_uint8(pair.image[0]), colorize(np.asarray(pair.layout)[0], model.labels)


def uncertain(model, example, num: int = 8) -> Image.Image:
    """One row for each statement about the same layout: images drawn for it without a caption."""
    layouts = np.repeat(example.layout[None], num, axis=0)
    coarse = layouts.copy()
    edge = np.zeros(example.layout.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(example.layout, step, axis) != example.layout
    coarse[:, edge] = VOID
    noisy = example.layout.copy()
    rng = np.random.default_rng(0)
    wrong = rng.random(noisy.shape) < 0.3
    noisy[wrong] = rng.integers(0, model.labels.num_classes, wrong.sum())
    observed = np.repeat(noisy[None], num, axis=0)
    statements = {
        "the layout is right": (layouts, {}),
        "confidence .5: follow it loosely": (layouts, {"confidence": 0.5}),
        "region_confidence .5: each region is right, or says nothing": (layouts, {"region_confidence": 0.5}),
        "a band of void along the outlines: they are coarse": (coarse, {}),
        "30 % of the labels redrawn, taken for right": (observed, {}),
        "the same as evidence, confidence .7": (observed, {"confidence": 0.7, "evidence": True}),
    }
    rows, titles = [], []
    for title, (given, options) in statements.items():
        images = model.synthesize(given, seed=3, **options)
        rows.append([colorize(given[0], model.labels), *images])
        titles.append(title)
    return Image.fromarray(sheet(rows, titles))


if __name__ == "__main__":
    main()
