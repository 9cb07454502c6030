"""What the demo asks a model of street scenes, and what it measures of the answers.

    python experiments/streets/measure.py       # draws the real scenes of reference.npz again: three minutes, one core

All questions are about held-out scenes that no training looks at. Whatever is read of a drawn image, the oracle reads
it once. Fréchet distances are those of the 24 parameters of scenes (`gcdiff.worlds.streets.scores`) to the 2,048 real
scenes whose parameters stand in reference.npz; how much of that is the number's is the distance of as many real scenes.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gcdiff
from gcdiff.evaluation.moments import frechet, grouped_moments
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.jobs.progress import Progress
from gcdiff.types import Pair
from gcdiff.worlds.oracles import label_agreement
from gcdiff.worlds.streets.appearance import CAR_COLORS
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle
from gcdiff.worlds.streets.scores import scene_parameters, scores_of

SHOWN, SEGMENTED, SYNTHESIZED, CARS, REFERENCE = 8, 256, 64, 64, 2048
"""How many examples a picture shows; how many images are segmented, layouts given, captions with cars asked for, and
real scenes the reference."""
SEED, REFERENCE_SEED, MOST = 7, 8, 1 << 16
FILE = Path(__file__).with_name("reference.npz")


class Scenes(NamedTuple):
    """Real scenes: images uint8 (N, H, W, 3), layouts int (N, H, W), one caption each."""

    images: np.ndarray
    layouts: np.ndarray
    captions: list[str]

    def first(self, num: int) -> Scenes:
        return Scenes(*(part[:num] for part in self))


class Answers(NamedTuple):
    """A model's answers to the questions that a picture shows: each about the first of the scenes."""

    drawn: Pair
    synthesized: np.ndarray
    segmented: np.ndarray
    outpainted: Pair
    known: np.ndarray


def heldout(num: int, seed: int = SEED) -> Scenes:
    """The first `num` held-out scenes; their captions are by turns of the paper's form and of the attribute form."""
    scenes = [Streets("heldout", num, seed=seed)[i] for i in range(num)]
    images, layouts = np.stack([s.image for s in scenes]), np.stack([s.layout for s in scenes])
    return Scenes(images, layouts, [s.captions[i % 2] for i, s in enumerate(scenes)])


def car_captions(num: int, first: int) -> list[str]:
    """The first `num` captions with cars and their colours, of held-out scenes from the number `first` on."""
    world, found = Streets("heldout", MOST, seed=SEED), []
    for i in range(first, MOST):
        caption = world[i].captions[1]
        if any(f" {color} car" in caption for color in CAR_COLORS):
            found.append(caption)
            if len(found) == num:
                break
    return found


def ask(model: gcdiff.Model, scenes: Scenes, pairs: int, synthesized: int, together: bool = False) -> Answers:
    """Every direction: `pairs` from text, `synthesized` images for layouts, all scenes segmented, SHOWN outpainted.

    `together` asks two questions at a time, without progress lines: for few examples, where most is compiling, which
    keeps one core busy.
    """
    few, given, known = scenes.first(SHOWN), scenes.first(synthesized), np.zeros(scenes.layouts[:SHOWN].shape, bool)
    known[:, :, : known.shape[2] // 2] = True
    line = told if together else said

    def draw() -> tuple[Pair, Pair]:
        with line("text to image and layout", pairs) as progress:
            drawn = model.sample(scenes.captions[:pairs], pairs, seed=SEED, progress=progress)
        with line("left half to the rest", SHOWN) as progress:  # by the program that has been compiled
            pair = Pair(few.images, few.layouts)
            return drawn, model.outpaint(pair, Pair(known, known), few.captions, seed=SEED, progress=progress)

    def turn() -> tuple[np.ndarray, np.ndarray]:
        with line("image to layout", len(scenes.images)) as progress:
            segmented = model.segment(scenes.images, progress=progress)
        with line("layout to image", synthesized) as progress:
            return segmented, model.synthesize(given.layouts, given.captions, seed=SEED, progress=progress)

    if together:
        with ThreadPoolExecutor(1) as lane:
            other = lane.submit(turn)
            drawn, outpainted = draw()
            segmented, images = other.result()
    else:
        (segmented, images), (drawn, outpainted) = turn(), draw()
    return Answers(drawn, images, segmented, outpainted, known)


def measure(model: gcdiff.Model, scenes: Scenes, answers: Answers) -> tuple[dict[str, list], dict[str, int]]:
    """The numbers by the names of `sheet.MEANINGS`, as [value, low, high], and how many examples each is of."""
    drawn, classes = answers.drawn, model.labels.num_classes
    pairs, oracle = len(drawn.image), Oracle()
    with said("text to cars of given colours", CARS) as progress:
        wanted = car_captions(CARS, SEGMENTED)
        cars = model.sample(wanted, len(wanted), seed=SEED + 1, progress=progress)
    note("reading what was drawn")
    reading, captions = oracle.read(drawn.image), scenes.captions[:pairs]
    asked = scores_of(reading, captions)
    rows = zip(scenes.layouts, answers.segmented, strict=True)
    seen = oracle.labels(answers.synthesized)
    scores = {
        "segmentation": score(np.stack([confusion(*row, classes) for row in rows]), mean_iou),
        "agreement": label_agreement(reading.labels, drawn.layout, classes),
        "synthesis": label_agreement(seen, scenes.layouts[: len(seen)], classes),
        "f1": asked.f1,
        "f1_shuffled": asked.f1_shuffled,
        "weather": asked.weather,
        "colors": scores_of(oracle.read(cars.image), wanted).car_color,
    }
    real = scenes.first(pairs)
    features = {
        "frechet": scene_parameters(drawn.image, drawn.layout, reading),
        "frechet_real": scene_parameters(real.images, real.layouts, oracle.read(real.images)),
    }
    far = {name: frechet(moments(rows), moments(reference()), standardised=True) for name, rows in features.items()}
    numbers = {name: triple(value) for name, value in {**scores, **far}.items()}
    return numbers, {name: s.examples for name, s in scores.items()} | dict.fromkeys(far, pairs)


def moments(features: np.ndarray) -> Any:
    return grouped_moments(np.arange(len(features)), features, {})


@functools.cache
def reference() -> np.ndarray:
    """The parameters of the reference's scenes, float32 (REFERENCE, 24)."""
    return np.load(FILE)["parameters"]


def draw_reference(num: int = REFERENCE) -> np.ndarray:
    """The parameters of the reference's first `num` scenes, drawn and read again."""
    scenes = heldout(num, REFERENCE_SEED)
    return scene_parameters(scenes.images, scenes.layouts, Oracle().read(scenes.images)).astype(np.float32)


def triple(value: Any) -> list[float | None]:
    """[value, low, high] with four digits; None where there was nothing to measure."""
    return [None if np.isnan(x) else round(float(x), 4) for x in (value.value, value.low, value.high)]


@contextlib.contextmanager
def said(what: str, num: int) -> Iterator[Callable[[Any], None]]:
    """A context with the progress line of a question about `num` examples, as its `progress`."""
    note(f"{what}: {num}")
    with contextlib.ExitStack() as stack:
        lines: list[Progress] = []

        def show(at: Any) -> None:
            if not lines:
                lines.append(stack.enter_context(contextlib.closing(Progress(at.total, "call"))))
                lines[0].note(0, "compiling")
            else:
                lines[0].update(at.done, {})

        yield show


@contextlib.contextmanager
def told(what: str, num: int) -> Iterator[None]:
    """A context with a line at the start and at the end of a question about `num` examples."""
    began = time.monotonic()
    note(f"{what}: {num}, compiling and drawing")
    yield
    note(f"{what}: done in {time.monotonic() - began:.0f} s")


def note(what: str) -> None:
    print(f"{what}\n", end="", flush=True)  # at once: two threads speak


if __name__ == "__main__":
    np.savez_compressed(FILE, parameters=draw_reference())
