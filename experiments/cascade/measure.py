"""Base and super-resolution stage together: do finer pairs agree, and are small things sharper than enlarged ones?

    gcdiff train --config configs/streets.py --workdir runs/streets
    gcdiff train --config configs/streets_sr.py --workdir runs/streets_sr
    python experiments/cascade/measure.py --base runs/streets --stage runs/streets_sr --out experiments/cascade

On streets the world's oracle reads the labels of drawn images; on other data there are pictures, and the numbers of
the segmentation. Leaves NAME.json and NAME.png (NAME is the data's) in --out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import gcdiff
from gcdiff import config as configs
from gcdiff.evaluation.ratios import RATE
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.grids import majority
from gcdiff.pictures import colorize, enlarge, sheet
from gcdiff.types import Pair
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle
from gcdiff.worlds.streets.scores import agreement

SMALL, SHOWN, SEED = ("pole", "sign", "person"), 6, 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="the run directory of the base")
    parser.add_argument("--stage", type=Path, required=True, help="the run directory of the super-resolution stage")
    parser.add_argument("--root", help="where the data are (default: where the stage found them)")
    parser.add_argument("--num", type=int, default=64, help="held-out examples (default: 64)")
    parser.add_argument("--levels", type=float, nargs="*", default=[], help="other levels of the noise on base samples")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    started, base = time.time(), gcdiff.load(arguments.base)
    stage = base.stage(arguments.stage)
    if arguments.root is not None:
        stage.config.data.root = arguments.root
    name = stage.config.data.name
    real, captions = held_out(stage, arguments.num)
    texts = None if base.specs.vocabulary is None else captions

    note("text -> pair, at both sizes")
    drawn = base.sample(texts, len(captions), seed=SEED)
    finer = stage.upsample(drawn, texts, seed=SEED)
    note("image -> layout")
    table: dict = {"examples": len(captions), **segmentations(base, stage, real)}
    if name == "streets":
        note("reading by the oracle")
        table |= agreements(drawn, finer, real)
        table |= given_the_truth(stage, real, texts)
        note("layout -> image")
        synthesized = base.synthesize(real.layout, texts, seed=SEED, upsample=stage)
        table["synthesis_agreement_miou"] = agreement(synthesized, real.layout)
        for level in arguments.levels:
            note(f"text -> pair, noise of level {level}")
            other = stage.sampling(lowres_level=level).upsample(drawn, texts, seed=SEED)
            table[f"at level {level:g}"] = {"pair_agreement_miou": agreement(*other), "small": recalls(*other)}
    table["seconds"] = round(time.time() - started, 1)

    arguments.out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(base, drawn, finer, real)).save(arguments.out / f"{name}.png")
    (arguments.out / f"{name}.json").write_text(json.dumps(plain(table), indent=1) + "\n")
    print(json.dumps(plain(table), indent=1))
    return 0


def held_out(stage, num: int) -> tuple[Pair, list[str]]:
    """Pairs of the stage's size, and captions: scenes that no training looked at."""
    if stage.config.data.name == "streets":
        world = Streets("heldout", num, seed=SEED, size=stage.size)
        scenes = [world[i] for i in range(num)]
        captions = [scene.captions[i % 2] for i, scene in enumerate(scenes)]  # both forms, half and half
        return Pair(np.stack([s.image for s in scenes]), np.stack([s.layout for s in scenes])), captions
    chosen = configs.examples(configs.splits(stage.config), num)
    return Pair(chosen.image, chosen.layout), list(chosen.captions)


def segmentations(base, stage, real: Pair) -> dict:
    """mIoU of one-call segmentation at the high resolution: the base's probabilities enlarged, and the stage's."""
    answers = {"base, enlarged": base.segment(real.image), "stage": base.segment(real.image, upsample=stage)}
    k = base.labels.num_classes
    return {
        "segmentation_miou": {
            name: score(np.stack([confusion(*pair, k) for pair in zip(real.layout, layouts, strict=True)]), mean_iou)
            for name, layouts in answers.items()
        }
    }


def agreements(drawn: Pair, finer: Pair, real: Pair) -> dict:
    """Does an image show what its layout says? Of the stage's pairs, of the base's, enlarged, and of real scenes."""
    factor = real.layout.shape[1] // drawn.layout.shape[1]
    enlarged = Pair(enlarge(drawn.image, factor), drawn.layout.repeat(factor, axis=1).repeat(factor, axis=2))
    pairs = {"base, enlarged": enlarged, "stage": finer, "real scenes": real}
    kept = zip(drawn.layout, majority(finer.layout, factor), strict=True)
    return {
        "pair_agreement_miou": {name: agreement(*pair) for name, pair in pairs.items()},
        "small_classes_shown": {name: recalls(*pair) for name, pair in pairs.items()},
        "reduced_to_the_base_miou": score(np.stack([confusion(*pair, 10) for pair in kept]), mean_iou),
    }


def given_the_truth(stage, real: Pair, texts) -> dict:
    """Real scenes reduced and drawn again: how much of the small classes stands where it stood, against enlarging."""
    low = Pair(stage.reduce_images(real.image), stage.reduce_layouts(real.layout))
    again = stage.upsample(low, texts, seed=SEED)
    enlarged = low.layout.repeat(stage.factor, axis=1).repeat(stage.factor, axis=2)
    predicted = {"enlarged": enlarged, "stage": again.layout, "stage's image": Oracle().labels(again.image)}
    return {"small_classes_of_real_scenes": {name: rates(layout, real.layout) for name, layout in predicted.items()}}


def recalls(images: np.ndarray, layouts: np.ndarray) -> dict:
    """Of the pixels that a layout gives to a small class, the share that the oracle reads as that class."""
    return rates(Oracle().labels(images), layouts)


def rates(predicted: np.ndarray, truth: np.ndarray) -> dict:
    """The share of the truth's pixels of each small class that are found, with intervals over scenes."""
    names = Streets.labels.names
    rows = {}
    for name in SMALL:
        there = truth == names.index(name)
        counts = np.stack([(there & (predicted == truth)).sum((1, 2)), there.sum((1, 2))], axis=1)
        rows[name] = score(counts, RATE)
    return rows


def picture(base, drawn: Pair, finer: Pair, real: Pair) -> np.ndarray:
    """Rows of the same examples: the base's pair enlarged, the stage's, real ones."""
    factor = real.layout.shape[1] // drawn.layout.shape[1]
    rows = []
    for title, pair, times in (
        ("base, enlarged", drawn, factor),
        ("stage", finer, 1),
        ("held-out examples", real, 1),
    ):
        pair = Pair(*(side[:SHOWN] for side in pair))
        for name, side in (("image", pair.image), ("layout", colorize(pair.layout, base.labels))):
            rows.append((list(enlarge(side, times)), f"{title}: {name}"))
    return sheet([row for row, _ in rows], [title for _, title in rows], factor=2)


def plain(value):
    """Scores as {value, low, high, examples}, floats with four digits, None where there was nothing to measure."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if not isinstance(value, float | np.floating):
        return value
    return None if np.isnan(value) else round(float(value), 4)


def note(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
