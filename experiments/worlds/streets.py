"""What the world of streets is like, and what its oracle reads, clean and changed: labels and what captions tell.

python experiments/worlds/streets.py [--out streets.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from gcdiff.evaluation.segmentation import confusion, mean_iou, pixel_accuracy
from gcdiff.worlds.streets.appearance import LABELS, OPTIONAL
from gcdiff.worlds.streets.captions import ParsedCaption, parse_caption
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle, count_car_colors, one_pixel_bayes_accuracy, pieces

CLEAN, CHANGED, ONE_PIXEL = 4000, 512, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    world = Streets("heldout", CLEAN, seed=11)
    images, layouts, captions = zip(*(world[i][:3] for i in range(CLEAN)), strict=True)
    images, layouts = np.stack(images), np.stack(layouts)
    parsed = [parse_caption(attributes) for _, attributes in captions]
    shares = np.bincount(layouts.ravel(), minlength=LABELS.num_classes) / layouts.size
    table = {
        "pixel_share": dict(zip(LABELS.names, shares.round(4).tolist(), strict=True)),
        "share_of_scenes": {name: round(float(np.mean([name in t.classes for t in parsed])), 3) for name in OPTIONAL},
        "one_pixel_bayes_accuracy": round(one_pixel_bayes_accuracy(images[:ONE_PIXEL], layouts[:ONE_PIXEL]), 4),
        "oracle": {name: read(some, layouts, parsed) for name, some in changes(images)},
    }
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    print(markdown(table["oracle"]))


def changes(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The images as they are, and some as a generator that is not perfect might make them."""
    rng = np.random.default_rng(0)
    yield f"clean ({CLEAN})", images
    some = images[:CHANGED].astype(np.float64)
    for sigma in (0.03, 0.05, 0.1):
        noisy = some + 255 * sigma * rng.normal(size=some.shape)
        yield f"noise {sigma:g} ({CHANGED})", np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    yield f"3x3 box blur ({CHANGED})", ndimage.uniform_filter(images[:CHANGED], (0, 3, 3, 0), mode="nearest")


def read(images: np.ndarray, layouts: np.ndarray, parsed: Sequence[ParsedCaption]) -> dict[str, float]:
    """The share of the first scenes of which each attribute is read right, and the labels' scores; unsure is wrong."""
    reading = Oracle().read(images)
    right: dict[str, list[bool]] = {name: [] for name in (*OPTIONAL, "weather", "colours of cars")}
    for labels, surfaces, weather, truth in zip(
        reading.labels, reading.surfaces, reading.weather, parsed, strict=False
    ):
        for name in OPTIONAL:
            shown = bool(pieces(labels == LABELS.names.index(name)))
            right[name].append(shown == (name in truth.classes))
        right["weather"].append(weather == truth.weather)
        right["colours of cars"].append(set(count_car_colors(labels, surfaces)) == set(truth.car_colors or ()))
    every = np.array(list(right.values()))
    matrix = sum(confusion(*pair, LABELS.num_classes) for pair in zip(layouts, reading.labels, strict=False))
    shares = {name: np.mean(values) for name, values in right.items()}
    shares |= {"*attributes right*": every.mean(), "*scenes wholly right*": every.all(0).mean()}
    shares |= {"*pixel accuracy*": pixel_accuracy(matrix), "*mIoU*": mean_iou(matrix)}
    return {name: round(float(value), 5) for name, value in shares.items()}


def markdown(columns: dict[str, dict[str, float]]) -> str:
    """The shares as the page has them."""
    first = next(iter(columns.values()))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{c[name]:.3f}" for c in columns.values()) + " |" for name in first]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
