"""What the world of street scenes is like, and what its oracle reads: class shares, ambiguity, robustness.

python experiments/streets/world.py [--out world.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from gcdiff.data.synthetic.streets import Streets
from gcdiff.data.synthetic.streets_appearance import LABELS, OPTIONAL
from gcdiff.data.synthetic.streets_oracle import Oracle, one_pixel_bayes_accuracy
from gcdiff.evaluation.segmentation import confusion, mean_iou, pixel_accuracy

COUNTED, READ = 4000, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("world.json"))
    arguments = parser.parse_args()
    world = Streets("heldout", COUNTED, seed=11)
    scenes = [world[i] for i in range(COUNTED)]
    layouts = np.stack([s.layout for s in scenes])
    shares = np.bincount(layouts.ravel(), minlength=LABELS.num_classes) / layouts.size
    present = {n: float((layouts == LABELS.names.index(n)).any(axis=(1, 2)).mean()) for n in OPTIONAL}
    images, few = np.stack([s.image for s in scenes[:READ]]), layouts[:READ]
    table = {
        "pixel_share": dict(zip(LABELS.names, shares.round(4).tolist(), strict=True)),
        "share_of_scenes": {name: round(value, 3) for name, value in present.items()},
        "one_pixel_bayes_accuracy": round(one_pixel_bayes_accuracy(images, few), 4),
        "oracle": {name: read(changed, few) for name, changed in changes(images)},
    }
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


def changes(images: np.ndarray):
    """The images as they are, and as a generator that is not perfect might make them."""
    rng = np.random.default_rng(0)
    yield "clean", images
    for sigma in (0.03, 0.05, 0.1):
        yield f"noise {sigma:g}", np.clip(images + 255 * sigma * rng.normal(size=images.shape), 0, 255).astype(np.uint8)
    yield "3x3 box blur", ndimage.uniform_filter(images, (0, 3, 3, 0), mode="nearest")


def read(images: np.ndarray, layouts: np.ndarray) -> dict[str, float]:
    """Pixel accuracy and mIoU of the oracle's labels; unsure is wrong."""
    matrix = sum(confusion(*pair, LABELS.num_classes) for pair in zip(layouts, Oracle().labels(images), strict=True))
    return {"pixel_accuracy": round(pixel_accuracy(matrix), 4), "miou": round(mean_iou(matrix), 4)}


if __name__ == "__main__":
    main()
