"""What the world of cells is like, and what its oracle reads in true renders and in changed ones.

python experiments/worlds/cells.py [--out cells.json]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from gcdiff.evaluation.segmentation import confusion, mean_iou, pixel_accuracy
from gcdiff.worlds.cells.appearance import LABELS
from gcdiff.worlds.cells.attributes import image_attributes, layout_attributes, read_twice
from gcdiff.worlds.cells.captions import ParsedCaption, parse_caption
from gcdiff.worlds.cells.data import Cells
from gcdiff.worlds.cells.scores import caption_scores

NUM = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("cells.json"))
    out = parser.parse_args().out
    world = Cells("heldout", NUM, seed=11)
    micrographs = [world.truth(i) for i in range(NUM)]
    images, layouts = (np.stack([getattr(m.example, side) for m in micrographs]) for side in ("image", "layout"))
    captions = [m.example.captions[i % 2] for i, m in enumerate(micrographs)]
    truth = [parse_caption(caption) for caption in captions]
    counts = np.bincount(layouts.ravel(), minlength=LABELS.num_classes)
    table = {
        "images": NUM,
        "pixel_share": dict(zip(LABELS.names, (counts / layouts.size).round(4).tolist(), strict=True)),
        "share_of_images": {name: shares([getattr(said, name) for said in truth]) for name in ParsedCaption._fields},
        "layouts_read_right": sum(layout_attributes(m.scene.layout) == m.scene.attributes for m in micrographs) / NUM,
        "f1_with_shuffled_captions": round(caption_scores(images, captions).all.shuffled.value, 4),
        "oracle": {name: right(changed, layouts, truth) for name, changed in changes(images)},
    }
    out.write_text(json.dumps(table, indent=1) + "\n")
    print(markdown(table["oracle"]))


def markdown(oracle: dict[str, dict[str, float]]) -> str:
    """The table of the page: a line for each change."""
    names = list(oracle["clean"])
    lines = ["| images | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{scores[n]:.3f}" for n in names) + " |" for name, scores in oracle.items()]
    return "\n".join(lines)


def shares(values: list) -> dict[str, float]:
    return {str(value): round(count / len(values), 4) for value, count in Counter(values).most_common()}


def changes(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The images as they are, and as a generator that is not perfect might make them."""
    rng = np.random.default_rng(0)
    yield "clean", images
    for sigma in (0.05, 0.1):
        noise = 255 * sigma * rng.standard_normal((*images.shape[:3], 1), np.float32)
        yield f"noise {sigma:g}", np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
    for sigma in (0.5, 0.7):
        blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
        yield f"Gaussian blur {sigma:g}", np.rint(blurred).astype(np.uint8)


def right(images: np.ndarray, layouts: np.ndarray, truth: list[ParsedCaption]) -> dict[str, float]:
    """The share of images whose attribute is right, all of them together, and scores of the labels."""
    read_as, (reading, smooth) = image_attributes(images), read_twice(images)
    table: dict[str, float] = {
        name: sum(getattr(a, name) == getattr(b, name) for a, b in zip(read_as, truth, strict=True)) / len(truth)
        for name in ParsedCaption._fields
    }
    divides = np.array([said.dividing for said in truth])
    table["dividing, where one does"] = (
        sum(read_as[i].dividing is True for i in np.flatnonzero(divides)) / divides.sum()
    )
    table["all attributes"] = sum(a == b for a, b in zip(read_as, truth, strict=True)) / len(truth)
    matrix = sum(confusion(*pair, LABELS.num_classes) for pair in zip(layouts, reading.labels, strict=True))
    table |= {"pixel_accuracy": pixel_accuracy(matrix), "miou": mean_iou(matrix)}
    table["pixel_accuracy, with neighbours"] = (smooth == layouts).mean()
    return {name: round(float(value), 5) for name, value in table.items()}


if __name__ == "__main__":
    main()
