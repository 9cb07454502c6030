"""The demo: train a joint model of street scenes, use it in every direction, measure it on held-out scenes.

    python experiments/streets/demo.py --workdir runs/demo [--minutes M] [--config.FIELD=VALUE ...]

Leaves in the run directory: demo.png (all directions), demo.json (the table), and everything a run consists of.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import gcdiff
from gcdiff import cli
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.pictures import colorize, enlarge, overlay
from gcdiff.types import Pair
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.scores import agreement, caption_scores

SEGMENTED, DRAWN, SEED = 256, 64, 7
CONFIG = Path(__file__).parents[2] / "configs" / "streets.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--minutes", type=float, help="training time (default: the config's)")
    arguments, overrides = parser.parse_known_args()
    if arguments.minutes is not None:
        overrides.append(f"--config.train.minutes={arguments.minutes}")
        overrides.append(f"--config.train.steps={10**6}")
    status = cli.main(["train", "--config", str(CONFIG), "--workdir", str(arguments.workdir), *overrides])
    if status:
        return status
    started = time.time()
    model = gcdiff.load(arguments.workdir)
    table, pictures = measure(model)
    table["seconds"] = round(training_seconds(arguments.workdir) + time.time() - started, 1)
    table["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    Image.fromarray(pictures).save(arguments.workdir / "demo.png")
    (arguments.workdir / "demo.json").write_text(json.dumps(table, indent=1) + "\n")
    show(table)
    print(f"\npicture: {arguments.workdir / 'demo.png'}\ntable:   {arguments.workdir / 'demo.json'}")
    return 0


def training_seconds(workdir: Path) -> float:
    """How long the run was trained, over all resumptions: the last line of the log that says so."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return max(row["seconds"] for row in rows if "seconds" in row)


def measure(model: gcdiff.api.Model) -> tuple[dict, np.ndarray]:
    """The table (value, low and high of each score) and the picture, on held-out scenes never looked at before."""
    world = Streets("heldout", SEGMENTED, seed=SEED)
    scenes = [world[i] for i in range(SEGMENTED)]
    images, layouts = np.stack([s.image for s in scenes]), np.stack([s.layout for s in scenes])
    few = slice(0, DRAWN)
    captions = [scenes[i].captions[i % 2] for i in range(DRAWN)]  # both forms, half and half

    note("segmentation")
    segmented = model.segment(images)
    pairs = zip(layouts, segmented, strict=True)
    segmentation = score(np.stack([confusion(*pair, model.labels.num_classes) for pair in pairs]), mean_iou)
    note("text -> pair")
    drawn = model.sample(captions, DRAWN, seed=SEED)
    note("layout -> image")
    synthesized = model.synthesize(layouts[few], captions, seed=SEED)
    note("outpainting")
    left = np.zeros(layouts[:8].shape, bool)
    left[:, :, : left.shape[2] // 2] = True
    outpainted = model.outpaint(Pair(images[:8], layouts[:8]), Pair(left, left), captions[:8], seed=SEED)

    asked = caption_scores(drawn.image, captions)
    scores = {
        "segmentation_miou": segmentation,
        "pair_agreement_miou": agreement(drawn.image, drawn.layout),
        "synthesis_agreement_miou": agreement(synthesized, layouts[few]),
        "caption_f1": asked.f1,
        "caption_f1_shuffled": asked.f1_shuffled,
        "car_color_accuracy": asked.car_color,
        "weather_accuracy": asked.weather,
    }
    table: dict = {name: number(s.value) for name, s in scores.items()}
    table["intervals_95"] = {name: [number(s.low), number(s.high)] for name, s in scores.items()}
    table["examples"] = {name: s.examples for name, s in scores.items()}
    return table, picture(model, captions, drawn, layouts, synthesized, images, segmented, outpainted, left)


def number(value: float) -> float | None:
    """Four digits; None where there was nothing to measure."""
    return None if np.isnan(value) else round(value, 4)


def picture(model, captions, drawn, layouts, synthesized, images, segmented, outpainted, left) -> np.ndarray:
    """All directions on one sheet, eight examples each."""

    def colors(layout):
        return colorize(layout[:8], model.labels)

    def halves(shown):
        return np.where(left[..., None], shown, 255).astype(np.uint8)

    rows = [
        ("text -> image and layout", captions[:8], [drawn.image[:8], colors(drawn.layout)]),
        ("layout -> image", None, [colors(layouts), synthesized[:8]]),
        ("image -> layout", None, [images[:8], colors(segmented), overlay(images[:8], segmented[:8], model.labels)]),
        ("left half -> the rest", None, [halves(images[:8]), outpainted.image, colors(outpainted.layout)]),
    ]
    factor, gap, line = 3, 4, 13
    height, width = layouts.shape[1] * factor, layouts.shape[2] * factor
    tall = sum(line + 6 + (4 * line if notes else 0) + len(cells) * (height + gap) for _, notes, cells in rows)
    canvas = Image.new("RGB", (8 * (width + gap) + gap, tall + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for title, notes, cells in rows:
        draw.text((gap, top), title, fill="black")
        top += line + 2
        if notes:
            for i, note in enumerate(notes):
                wrapped = "\n".join(textwrap.wrap(note, 31)[:4])
                draw.multiline_text((gap + i * (width + gap), top), wrapped, fill=(90, 90, 90), spacing=1)
            top += 4 * line
        for cell in cells:
            for i, image in enumerate(cell):
                canvas.paste(Image.fromarray(enlarge(image, factor)), (gap + i * (width + gap), top))
            top += height + gap
        top += 4
    return np.asarray(canvas)


def show(table: dict) -> None:
    """The table, for a person."""
    print(f"\n{'on held-out scenes':28}{'value':>8}   95 % interval   scenes")
    for name, (low, high) in table["intervals_95"].items():
        if table[name] is not None:
            print(f"{name:28}{table[name]:8.3f}   {low:.3f} - {high:.3f}   {table['examples'][name]:6d}")
    print(f"{table['seconds']:.0f} s of training and measuring, peak memory {table['peak_memory_mb']} MB")


def note(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
