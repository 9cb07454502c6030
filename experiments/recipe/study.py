"""Train a model by a changed recipe at a fixed cost, and measure what it draws.

    python experiments/recipe/study.py NAME [--world streets] [--pairs 256] [--config.FIELD=VALUE ...]
    python experiments/recipe/study.py NAME --run RUN [--worse RUN] [--sample "guidance=(2.0,4.0);autoguidance=1.5"]

The first trains configs/WORLD.py with the given changes in runs/recipe/NAME (a run that is there goes on), the second
takes a run or an export as it is. Either writes a row to runs/recipe/NAME.json, its first pairs to
runs/recipe/NAME.png, and its first 64 images beside the 64 real ones of their captions to runs/recipe/NAME_beside.png.
All rows draw the same captions of held-out scenes with the same seed.
Measures, each as [value, low, high] with its 95 % interval:

    agreement      mIoU of the oracle's labels of drawn images with the pairs' own layouts
    synthesis      the same for images drawn for given layouts
    segmentation   mIoU of one-call segmentation
    f1             micro F1 of what captions name
    frechet        Fréchet distance of the scenes' parameters that the oracle reads to those of 2,048 other scenes; that
                   of as many real scenes as were drawn stands in `frechet_real`
    classes        how many classes the drawn layouts have
    colors, weather   streets alone: the share of captions that name some of which all are as asked
    windows        streets alone: the share of houses' pixels that are windows, drawn and of the real scenes
    rare           faces alone: the recall of rare attributes
    by_attribute   faces and cells: the F1 of each attribute
"""

from __future__ import annotations

import argparse
import ast
import json
import time
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from PIL import Image

import gcdiff
from gcdiff import cli
from gcdiff.cli.files import cache_compilations
from gcdiff.evaluation.moments import GroupedMoments, frechet, grouped_moments
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.pictures import colorize, enlarge
from gcdiff.worlds.oracles import OracleFeatures, label_agreement, oracle_segmenter
from gcdiff.worlds.streets.appearance import SURFACE_ID, SURFACES
from gcdiff.worlds.streets.oracle import Oracle
from gcdiff.worlds.table import WORLDS

ROOT = Path(__file__).parents[2]
SEED, REFERENCE_SEED, REFERENCE, COLORED = 7, 8, 2048, 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--world", default="streets")
    parser.add_argument("--run", type=Path, help="measure this run or export instead of training one")
    parser.add_argument("--worse", type=Path, help="the worse model of autoguidance, if not the run's own")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--sample", default="", help="changes of config.sample: FIELD=VALUE;...")
    arguments, overrides = parser.parse_known_args()
    place = ROOT / "runs" / "recipe"
    place.mkdir(parents=True, exist_ok=True)
    workdir = arguments.run or place / arguments.name
    if arguments.run is None:
        file = ROOT / "configs" / f"{arguments.world}.py"
        status = cli.main(["train", "--config", str(file), "--workdir", str(workdir), *overrides])
        if status:
            return status
    cache_compilations(workdir)
    model = gcdiff.load(workdir)
    if arguments.worse is not None:
        model = model.against(arguments.worse)
    if arguments.sample:
        changes = dict(change.split("=") for change in arguments.sample.split(";"))
        model = model.sampling(**{name: ast.literal_eval(value) for name, value in changes.items()})
    row, sheet, beside = measure(model, arguments.world, arguments.pairs)
    if arguments.run is None:
        row["training"] = training(workdir)
    (place / f"{arguments.name}.json").write_text(json.dumps(row, indent=1) + "\n")
    Image.fromarray(sheet).save(place / f"{arguments.name}.png")
    Image.fromarray(beside).save(place / f"{arguments.name}_beside.png")
    short = {name: value[0] if isinstance(value, list) else value for name, value in row.items()}
    print(arguments.name, arguments.sample, json.dumps(short), flush=True)
    return 0


def training(workdir: Path) -> dict:
    """The last numbers of a run's log."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last: dict = {}
    for row in rows:
        last |= row
    return {k: v for k, v in last.items() if k in ("step", "seconds") or k.startswith("eval/") and np.isscalar(v)}


def measure(model, world_name: str, pairs: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """The row of a model, a sheet of its first pairs with their captions' own scenes below, and 64 of its images
    (left) beside these scenes'."""
    world, num = WORLDS[world_name].dataset(), max(pairs, 64)
    scenes = world("heldout", max(4 * num, 2048), seed=SEED)
    some = [scenes[i] for i in range(num)]
    images, layouts = np.stack([s.image for s in some]), np.stack([s.layout for s in some])
    captions = [s.captions[i % len(s.captions)] for i, s in enumerate(some)]
    oracle, features = oracle_segmenter(world_name), OracleFeatures(world_name)
    classes, started = model.labels.num_classes, time.time()
    drawn = model.sample(captions, num, seed=SEED)
    seconds = time.time() - started
    row: dict = {"pairs": num, "seconds_a_pair": round(seconds / num, 4)}
    row["agreement"] = numbers(label_agreement(oracle(drawn.image), drawn.layout, classes))
    few = slice(0, min(num, 128))
    synthesized = model.synthesize(layouts[few], captions[few], seed=SEED)
    row["synthesis"] = numbers(label_agreement(oracle(synthesized), layouts[few], classes))
    segmented = model.segment(images)
    matrices = np.stack([confusion(*pair, classes) for pair in zip(layouts, segmented, strict=True)])
    row["segmentation"] = numbers(score(matrices, mean_iou))
    groups, reference = np.arange(num), _reference(world_name, features)
    for name, pair in (("frechet", drawn), ("frechet_real", gcdiff.Pair(images, layouts))):
        row[name] = numbers(frechet(grouped_moments(groups, features(*pair), {}), reference, standardised=True))
    row["classes"] = len(np.unique(drawn.layout))
    asked = caption_scores(world_name)(drawn.image, captions)
    if world_name == "cells":
        row["f1"] = numbers(asked.all.f1)
        row["by_attribute"] = {name: round(one.f1.value, 4) for name, one in asked._asdict().items() if name != "all"}
    else:
        row["f1"] = numbers(asked.f1)
    if world_name == "faces":
        row["recall"], row["rare"] = numbers(asked.recall), numbers(asked.recall_rare)
        row["by_attribute"] = {name: round(value.value, 4) for name, value in asked.by_attribute.items()}
    if world_name == "streets":
        row["windows"] = [windows(drawn.image), windows(images)]
        row["weather"], row["recall"] = numbers(asked.weather), numbers(asked.recall)
        colored = [s.captions[1] for s in map(scenes.__getitem__, range(num, len(scenes)))]
        colored = [c for c in colored if any(f" {color} " in c for color in ("red", "blue", "white", "black"))]
        colored = colored[: min(COLORED, num)]
        cars = model.sample(colored, len(colored), seed=SEED + 1)
        row["colors"] = numbers(caption_scores(world_name)(cars.image, colored).car_color)
        row["cars"] = len(colored)
    count = slice(0, 16)
    rows = [drawn.image[count], colorize(drawn.layout[count], model.labels), synthesized[count], images[count]]
    lines = [np.concatenate([enlarge(p, 3) for p in r[i : i + 8]], axis=1) for i in (0, 8) for r in rows]
    gap = np.full((8 * 2 * images.shape[1], 16, 3), 255, np.uint8)
    return row, np.concatenate(lines), np.concatenate([eight(drawn.image), gap, eight(images)], axis=1)


def windows(images: np.ndarray) -> float:
    """The share of windows among the pixels of houses, by the oracle of streets."""
    surfaces = Oracle().read(images).surfaces
    house = np.isin(surfaces, [SURFACE_ID[surface.name] for surface in SURFACES if surface.label == "building"])
    return round(float((surfaces[house] == SURFACE_ID["window"]).mean()), 4)


def eight(images: np.ndarray) -> np.ndarray:
    """The first 64 images in eight rows, each pixel as 2 x 2."""
    lines = [np.concatenate([enlarge(p, 2) for p in images[i : i + 8]], axis=1) for i in range(0, 64, 8)]
    return np.concatenate(lines)


def caption_scores(world_name: str):
    """The function of a world that scores images against their captions."""
    return resolve_name(f"gcdiff.worlds.{world_name}.scores:caption_scores")


def _reference(world_name: str, features) -> GroupedMoments:
    """The moments of the parameters of REFERENCE real scenes, kept in runs/recipe once they are read."""
    file = ROOT / "runs" / "recipe" / f"{world_name}.npy"
    if not file.exists():
        others = [WORLDS[world_name].dataset()("heldout", REFERENCE, seed=REFERENCE_SEED)[i] for i in range(REFERENCE)]
        np.save(file, features(np.stack([s.image for s in others]), np.stack([s.layout for s in others])))
    return grouped_moments(np.arange(REFERENCE), np.load(file), {})


def numbers(value) -> list[float]:
    return [round(float(x), 4) for x in (value.value, value.low, value.high)]


if __name__ == "__main__":
    raise SystemExit(main())
