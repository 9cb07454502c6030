"""What the world of faces is like, and what its oracle reads, clean and changed: labels and every attribute.

python experiments/worlds/faces.py [--out faces.json] [--sheet faces.png]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from gcdiff.evaluation.precision_recall import detection_counts, f1
from gcdiff.evaluation.segmentation import confusion, mean_iou, pixel_accuracy
from gcdiff.worlds.faces.appearance import ATTRIBUTES, LABELS
from gcdiff.worlds.faces.captions import attribute_vector
from gcdiff.worlds.faces.data import Faces, Portrait
from gcdiff.worlds.faces.oracle import Oracle

CLEAN, CHANGED = 2048, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--sheet", type=Path, default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    world = Faces("heldout", CLEAN, seed=11)
    start = time.perf_counter()
    portraits = [world.truth(i) for i in range(CLEAN)]
    drawn = CLEAN / (time.perf_counter() - start)
    images, layouts = (np.stack(side) for side in zip(*(p.example[:2] for p in portraits), strict=True))
    wanted = np.stack([attribute_vector(p.face.attributes) for p in portraits])
    shares = np.bincount(layouts.ravel(), minlength=LABELS.num_classes) / layouts.size
    table = {
        "faces_drawn_per_second": round(drawn),
        "pixel_share": dict(zip(LABELS.names, shares.round(4).tolist(), strict=True)),
        "share_of_faces": dict(zip(ATTRIBUTES, wanted.mean(0).round(3).tolist(), strict=True)),
        "oracle": {name: read(some, layouts, wanted) for name, some in changes(images)},
    }
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    sheet(portraits).save(arguments.sheet)
    print(markdown(table))


def changes(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The images as they are, and some as a generator that is not perfect might make them."""
    rng = np.random.default_rng(0)
    yield "clean", images
    some = images[:CHANGED].astype(np.float64)
    for sigma in (0.05, 0.1):
        noisy = some + 255 * sigma * rng.normal(size=some.shape)
        yield f"noise {sigma:g}", np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    yield "blur 0.5", np.rint(ndimage.gaussian_filter(some, (0, 0.5, 0.5, 0), mode="nearest")).astype(np.uint8)


def read(images: np.ndarray, layouts: np.ndarray, wanted: np.ndarray) -> dict:
    """How much of the first faces the oracle reads: an unsure pixel is wrong; per attribute the share right and F1."""
    num = len(images)
    wanted, start = wanted[:num], time.perf_counter()
    reading = Oracle().read(images)
    seconds = time.perf_counter() - start
    matrix = sum(confusion(*pair, LABELS.num_classes) for pair in zip(layouts[:num], reading.labels, strict=True))
    right = reading.attributes == wanted
    counts = [detection_counts(wanted[:, [i]], reading.attributes[:, [i]]).sum(0) for i in range(len(ATTRIBUTES))]
    return {
        "faces": num,
        "faces_read_per_second": round(num / seconds),
        "pixel_accuracy": round(pixel_accuracy(matrix), 4),
        "miou": round(mean_iou(matrix), 4),
        "unsure": round(float((reading.labels < 0).mean()), 4),
        "attributes_right": round(float(right.mean()), 5),
        "faces_wholly_right": round(float(right.all(1).mean()), 4),
        "right": dict(zip(ATTRIBUTES, right.mean(0).round(4).tolist(), strict=True)),
        "f1": {name: round(float(f1(count)), 4) for name, count in zip(ATTRIBUTES, counts, strict=True)},
    }


def markdown(table: dict) -> str:
    """The table of the page: the share of right answers, in brackets F1."""
    oracle = table["oracle"]
    rows = [["", "share of faces", *(f"{name} ({scores['faces']})" for name, scores in oracle.items())]]
    rows.append(["---"] * len(rows[0]))
    for name, share in table["share_of_faces"].items():
        read_as = [f"{scores['right'][name]:.3f} ({scores['f1'][name]:.2f})" for scores in oracle.values()]
        rows.append([name, f"{share:.3f}", *read_as])
    for name in ("attributes_right", "faces_wholly_right", "pixel_accuracy", "miou", "unsure"):
        rows.append([f"*{name.replace('_', ' ')}*", "", *(f"{scores[name]:.3f}" for scores in oracle.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def sheet(portraits: list[Portrait]) -> Image.Image:
    """24 faces beside their layouts, enlarged four times."""
    palette = np.array(LABELS.palette, np.uint8)
    pairs = [np.concatenate([p.example.image, palette[p.example.layout]], 1) for p in portraits[:24]]
    framed = [np.pad(pair, ((1, 1), (1, 1), (0, 0)), constant_values=255) for pair in pairs]
    picture = np.concatenate([np.concatenate(framed[i : i + 6], 1) for i in range(0, 24, 6)], 0)
    return Image.fromarray(picture.repeat(4, 0).repeat(4, 1))


if __name__ == "__main__":
    main()
