"""What incomplete examples are worth: streets of which layouts, or layouts and captions, are missing at random.

    python experiments/missing_labels/study.py --runs runs/missing_labels [--scenes 600] [--steps 600]

Writes scenes as a folder, prepares it by `gcdiff prepare folder` with all, half or a quarter of the layouts (all images
kept), with half of the layouts and half of the captions, and with half or a quarter of the examples (the incomplete
ones dropped), trains the same network for the same number of steps on each, and measures it on held-out scenes. Runs
that are there go on or are kept; results.json is written into --out (default: this folder) after each.
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
from gcdiff import cli
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.scores import agreement, caption_scores

CONFIG = Path(__file__).parents[2] / "configs" / "streets_unet.py"
ROWS = {  # name: (folder, per cent, of what)
    "all": ("whole", 100, "examples"),
    "half of the layouts": ("whole", 50, "layouts"),
    "a quarter of the layouts": ("whole", 25, "layouts"),
    "half of the layouts, half of the captions": ("half-captioned", 50, "layouts"),
    "half of the examples": ("whole", 50, "examples"),
    "a quarter of the examples": ("whole", 25, "examples"),
}
SEGMENTED, DRAWN, SEED = 256, 128, 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/missing_labels"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    file = arguments.out / "results.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.rows:
        if name in results:
            continue
        print(f"== {name}", file=sys.stderr, flush=True)
        place = arguments.runs / name.replace(", ", "-").replace(" ", "_")
        folder, percent, of = ROWS[name]
        source = write_folder(arguments.runs / folder, arguments.scenes, half_captioned=folder == "half-captioned")
        prepare = ["prepare", "folder", "--source", source, "--out", place / "data"]
        fields = {"data.name": "prepared", "data.root": place / "data", "train.steps": arguments.steps}
        fields |= {"train.minutes": None, "train.evaluate_every": 0, "train.checkpoint_every": 0}
        train = ["train", "--config", CONFIG, "--workdir", place / "run"]
        train += [f"--config.{field}={value}" for field, value in fields.items()]
        for command in ([*prepare, "--subset", percent, "--subset-of", of], train):
            if status := cli.main([str(word) for word in command]):
                return status
        results[name] = counts(place / "data") | measure(gcdiff.load(place / "run"))
        file.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 0


def write_folder(root: Path, scenes: int, half_captioned: bool) -> Path:
    """Scenes as a folder for gcdiff prepare, and 64 others held out."""
    train, heldout = Streets("train", scenes, seed=SEED), Streets("heldout", 64, seed=SEED + 1)
    captioned = set(np.random.default_rng(SEED).permutation(scenes)[: scenes // 2]) if half_captioned else range(scenes)
    captions, names = [], {"train": [], "val": []}
    for part in ("images", "layouts"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for split, world in (("train", train), ("val", heldout)):
        for i in range(len(world)):
            example, name = world[i], f"{split}{i:05d}"
            names[split].append(name)
            Image.fromarray(example.image).save(root / "images" / f"{name}.png")
            Image.fromarray(example.layout.astype(np.uint8)).save(root / "layouts" / f"{name}.png")
            if split == "val" or i in captioned:
                captions.append({"file_name": f"{name}.png", "text": list(example.captions)})
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in captions))
    (root / "splits.json").write_text(json.dumps(names))
    labels = Streets.labels
    (root / "labels.json").write_text(json.dumps({"names": labels.names, "colors": labels.palette}))
    return root


def counts(data: Path) -> dict:
    """How many training examples there are, and how many have which side."""
    split = json.loads((data / "prepared.json").read_text())["splits"]["train"]
    return {"train": {name: split[name] for name in ("examples", "layouts", "captioned")}}


def measure(model) -> dict:
    """Segmentation in one call, and pairs from text: agreement, and how much of the captions is shown."""
    started = time.time()
    world = Streets("heldout", SEGMENTED, seed=SEED)
    scenes = [world[i] for i in range(SEGMENTED)]
    captions = [scenes[i].captions[i % 2] for i in range(DRAWN)]
    segmented = model.segment(np.stack([s.image for s in scenes]))
    pairs = zip((s.layout for s in scenes), segmented, strict=True)
    drawn = model.sample(captions, DRAWN, seed=SEED)
    asked = caption_scores(drawn.image, captions)
    scores = {
        "segmentation_miou": score(np.stack([confusion(*p, model.labels.num_classes) for p in pairs]), mean_iou),
        "pair_agreement_miou": agreement(*drawn),
        "caption_recall": asked.recall,
        "caption_f1": asked.f1,
        "caption_f1_shuffled": asked.f1_shuffled,
    }
    rounded = {name: {k: round(v, 4) for k, v in s._asdict().items()} for name, s in scores.items()}
    return rounded | {"measuring_seconds": round(time.time() - started, 1)}


def table(results: dict) -> str:
    """The results as a page shows them."""
    columns = ("segmentation_miou", "pair_agreement_miou", "caption_recall", "caption_f1", "caption_f1_shuffled")
    names = ("segmentation mIoU", "pair agreement", "caption recall", "caption F1", "F1 of other captions")
    lines = ["| trained on | images | layouts | captions | " + " | ".join(names) + " |", "|---" * 9 + "|"]
    for name, result in results.items():
        there = [str(result["train"][side]) for side in ("examples", "layouts", "captioned")]
        cells = [f"{s['value']:.2f} ({s['low']:.2f} – {s['high']:.2f})" for s in (result[c] for c in columns)]
        lines.append("| " + " | ".join([name, *there, *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
