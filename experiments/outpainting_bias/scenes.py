"""Part 2: one model of street scenes, trained with levels of their own as well as on the diagonal, asked both ways.

The images are read by the street world's oracle. Text is dropped and there is no guidance; image and layout steps are
the ancestral ones for all, but for the row that says DDIM.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from methods import DIRECTIONS, TRUTH, Method, methods

import gcdiff
from gcdiff.api.model import Model
from gcdiff.evaluation.ratios import RATE
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.pictures import colorize, sheet
from gcdiff.samplers.steps import Dials
from gcdiff.types import Pair
from gcdiff.worlds.streets.appearance import LABELS, MEANS, SURFACE_CLASS
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle

SEED, SHOWN = 9, 6
PLAIN = tuple(LABELS.names.index(name) for name in ("sky", "road", "sidewalk"))
"""Classes of one surface in every scene: given the layout their colour depends on nothing but the light."""
ONE_CALL = "one call, every pixel on its own"


def measure(workdir: Path, scenes: int, samples: int, calls: int, rows: list[dict], save: Callable[[], None]) -> None:
    """Append to `rows` what is missing, calling `save` after each; cheap rows first.

    What was drawn for the first scenes stays in `workdir`/outpainting_bias, for the picture.
    """
    model, world = gcdiff.load(workdir), Streets("heldout", scenes, seed=SEED)
    given = Pair(np.stack([x.image for x in world]), np.stack([x.layout for x in world]))
    done = {(row["direction"], row["method"], row["calls"]) for row in rows}
    shown = workdir / "outpainting_bias"
    shown.mkdir(exist_ok=True)

    def add(direction: str, name: str, calls: int | None, answer: Callable[[], tuple[float, dict]]) -> None:
        if (direction, name, calls) not in done:
            print(f"{direction}: {name}", file=sys.stderr, flush=True)
            seconds, scores = answer()
            head = {"direction": direction, "method": name, "calls": calls, "seconds": round(seconds, 1)}
            rows.append(head | {k: [round(v, 4) for v in s[:3]] for k, s in scores.items()})
            save()

    add(DIRECTIONS[0], TRUTH, None, lambda: (0.0, score_images(given.image[:, None], given.layout)))
    add(DIRECTIONS[1], ONE_CALL, 1, lambda: one_call(model, given))
    for method in sorted((m for m in methods(calls) if not m.exact_only), key=lambda m: m.calls):
        for direction in filter(method.answers, DIRECTIONS):

            def answer(method=method, direction=direction):
                drawn, seconds = draw(model, method, direction, given, samples)
                np.save(shown / file_name(method, direction), drawn[:SHOWN, 0])
                reading = score_images if direction == DIRECTIONS[0] else score_layouts
                return seconds, reading(drawn, given.layout)

            add(direction, method.name, method.calls, answer)


def file_name(method: Method, direction: str) -> str:
    return f"{direction} {method.name} {method.calls}.npy".replace(" ", "_")


def draw(model: Model, method: Method, direction: str, given: Pair, samples: int) -> tuple[np.ndarray, float]:
    """(scenes, samples, ...) drawn for each scene, and the processor seconds that took once compiled."""
    sampler = dataclasses.replace(
        model.built.sampler, image_step="ddim", layout_step="ancestral", corrects=False, decides=False
    )
    settings = model.built.settings._replace(dials=Dials(eta=method.eta))
    model = dataclasses.replace(model, built=model.built._replace(sampler=sampler, settings=settings))
    side = int(direction == DIRECTIONS[0])  # the side of a pair that is given
    known = np.ones((len(given.layout) * samples, *model.size), bool)
    question = _side(given[side].repeat(samples, 0), side), _side(known, side)

    def ask(count: int, steps: int) -> Pair:
        pair, masks = (Pair(*(None if a is None else a[:count] for a in q)) for q in question)
        scales = gcdiff.Guidance()
        return model.outpaint(pair, masks, None, steps, scales, SEED, resamples=method.resamples)

    ask(1, 2)
    start = time.process_time()
    drawn = ask(len(known), method.steps)[1 - side]
    return drawn.reshape(len(given.layout), samples, *drawn.shape[1:]), time.process_time() - start


def _side(array: np.ndarray, side: int) -> Pair:
    return Pair(None, array) if side else Pair(array, None)


def score_images(images: np.ndarray, layouts: np.ndarray) -> dict:
    """Scores of images (scenes, samples, H, W, 3) against the layouts (scenes, H, W) that they were drawn for.

    wrong: the share of pixels whose oracle label is not the one given; unsure is wrong. miou: the mIoU of the two.
    spread: the std of the light over samples of one layout, as a multiple of the world's; with one sample a scene, the
    truth's, it is taken over scenes, after what each scene's own mean light is.
    """
    scenes, samples = images.shape[:2]
    read = Oracle().labels(images.reshape(-1, *images.shape[2:])).reshape(scenes, samples, *layouts.shape[1:])
    wrong = np.stack([(read != layouts[:, None]).sum((1, 2, 3)), np.full(scenes, read[0].size)], -1)
    matrices = [
        confusion(y[None].repeat(samples, 0), r, LABELS.num_classes) for y, r in zip(layouts, read, strict=True)
    ]
    means, variances = world_light(layouts)
    light = np.stack([[_light(x, y) for x in xs] for xs, y in zip(images, layouts, strict=True)])
    within = light.var(1, ddof=1) if samples > 1 else (light[:, 0] - means) ** 2
    return {
        "wrong": score(wrong, RATE),
        "miou": score(np.stack(matrices), mean_iou),
        "spread": score(np.stack([within, variances], -1), lambda sums: float(np.sqrt(_ratio(sums)))),
    }


def _light(image: np.ndarray, layout: np.ndarray) -> float:
    """The mean of an image uint8 (H, W, 3) over the plain classes' pixels, in [0, 1]."""
    return float(image[np.isin(layout, PLAIN)].mean() / 255)


def world_light(layouts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of `_light` over the world's lights, given each layout: (N,) each. Texture adds 1e-7."""
    of_class = np.stack(
        [MEANS[:, np.equal(SURFACE_CLASS, k)].mean((1, 2)) for k in PLAIN], -1
    )  # (lights, plain classes)
    counts = np.stack([(layouts == k).sum((1, 2)) for k in PLAIN], -1)
    light = (counts / counts.sum(-1, keepdims=True)) @ of_class.T
    return light.mean(-1), light.var(-1)


def score_layouts(drawn: np.ndarray, layouts: np.ndarray) -> dict:
    """Scores of layouts (scenes, samples, H, W) drawn for images against the true ones.

    wrong: the share of wrong labels. miou: of the two. spread: how often two draws for one image differ in a pixel.
    """
    scenes, samples = drawn.shape[:2]
    wrong = np.stack([(drawn != layouts[:, None]).sum((1, 2, 3)), np.full(scenes, drawn[0].size)], -1)
    pairs = zip(layouts, drawn, strict=True)
    matrices = [confusion(y[None].repeat(samples, 0), drawn, LABELS.num_classes) for y, drawn in pairs]
    shares = (drawn[..., None] == np.arange(LABELS.num_classes)).mean(1)
    differ = samples / (samples - 1) * (1 - (shares**2).sum(-1)).mean((1, 2))
    return {
        "wrong": score(wrong, RATE),
        "miou": score(np.stack(matrices), mean_iou),
        "spread": score(np.stack([differ, np.ones(scenes)], -1), RATE),
    }


def one_call(model: Model, given: Pair) -> tuple[float, dict]:
    """Processor seconds and scores of the one-call law of every pixel: what draws from it would get, on average."""
    model.segment(given.image[:1], probabilities=True)
    start = time.process_time()
    p = np.asarray(model.segment(given.image, probabilities=True))
    seconds = time.process_time() - start
    right = np.take_along_axis(p, given.layout[..., None], -1)[..., 0]
    ones = np.ones(len(p))
    return seconds, {
        "wrong": score(np.stack([1 - right.mean((1, 2)), ones], -1), RATE),
        "spread": score(np.stack([1 - (p**2).sum(-1).mean((1, 2)), ones], -1), RATE),
    }


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])


def picture(workdir: Path, calls: int) -> np.ndarray:
    """The first scenes: what was given, then a row for each method."""
    world = Streets("heldout", SHOWN, seed=SEED)
    images, layouts = np.stack([x.image for x in world]), np.stack([x.layout for x in world])
    rows, titles = [], []
    for direction, first in zip(DIRECTIONS, (colorize(layouts, LABELS), images), strict=True):
        rows.append(list(first))
        titles.append(f"{direction}: given")
        for method in methods(calls):
            path = workdir / "outpainting_bias" / file_name(method, direction)
            if path.exists():
                drawn = np.load(path)
                rows.append(list(drawn if direction == DIRECTIONS[0] else colorize(drawn, LABELS)))
                titles.append(f"{direction}: {method.name}, {method.calls} calls")
    return sheet(rows, titles, factor=2)
