"""The demo: the shipped model in every direction, then one trained from nothing on this machine, and measured.

    python experiments/streets/demo.py --workdir runs/demo [--times F] [--pause-minutes M] [--pairs N]
                                       [--config.FIELD=VALUE ...]

Trains for the steps of configs/streets.py, `--times` as many; a slow machine takes longer and ends at the same numbers.
After `--pause-minutes` of its steps the training pauses: what is there is drawn and measured, and the same command goes
on. Leaves in the run directory first.png (the shipped model, where there is one), demo.png (what this machine learned),
curve.png (held-out numbers while it did), demo.json (the numbers), and everything a run consists of.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from history import curve, rows, training_seconds
from measure import SEGMENTED, SHOWN, SYNTHESIZED, Answers, Scenes, ask, heldout, measure, note
from PIL import Image
from sheet import MEANINGS, Head, Row, between, kept, sheet

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.cli.files import cache_compilations, writable
from gcdiff.evaluation.results import shown
from gcdiff.pictures import colorize, overlay
from gcdiff.training.manifest import finished

CONFIG = Path(__file__).parents[2] / "configs" / "streets.py"
SHIPPED = "streets"
LOOKS = 8
"""How often the held-out numbers are computed in a training."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--times", type=float, default=1.0, help="train for so many times the config's steps")
    parser.add_argument("--pause-minutes", type=float, default=30.0, help="pause after so many minutes of training")
    parser.add_argument("--pairs", type=int, default=96, help=f"measure so many drawn pairs, {SHOWN} to {SEGMENTED}")
    arguments, overrides = parser.parse_known_args(words)
    for name, low, high in (("times", 0, math.inf), ("pause_minutes", 0, math.inf), ("pairs", SHOWN - 1, SEGMENTED)):
        value = getattr(arguments, name)
        if not low < value <= high or value == math.inf:
            parser.error(f"--{name.replace('_', '-')} is {value:g}, expected more than {low:g} and at most {high:g}")
    workdir = arguments.workdir
    try:
        fields = [word.removeprefix("--config.").partition("=")[::2] for word in overrides]
        config = configs.load_file(str(CONFIG), fields)
        writable(workdir)
    except ValueError as error:
        parser.error(str(error))
    workdir.mkdir(parents=True, exist_ok=True)
    cache_compilations(workdir)
    first(workdir)

    steps = max(1, round(config.train.steps * arguments.times))
    limits = {"minutes": None, "evaluate_every": math.ceil(steps / LOOKS), "pause_minutes": arguments.pause_minutes}
    asked = [f"--config.train.{name}={value}" for name, value in limits.items()]
    note(f"\nTraining from nothing: {steps} steps of {config.train.batch_size} scenes, in {workdir}, after compiling.")
    note(f"After {arguments.pause_minutes:g} minutes of training it pauses, and the same command goes on.")
    words = ["train", "--config", str(CONFIG), "--workdir", str(workdir), *asked, *overrides]
    if status := cli.main([*words, f"--config.train.steps={steps}"]):
        return status
    learned(workdir, steps, arguments.pairs)
    return 0


def first(workdir: Path) -> None:
    """Draw the shipped model's first.png, unless it is there."""
    file, began = workdir / "first.png", time.monotonic()
    if file.exists():
        return note(f"picture of the shipped model: {file} (from before)")
    model = shipped_model()
    if model is None:
        return None
    card = shipped_card()
    note(f"The shipped model: every direction, {SHOWN} examples each. The picture will be {file}")
    scenes = heldout(SHOWN)
    about = ["Trained before and part of the package; every direction is a question to this one network."]
    about += [f"{name.capitalize()}: {card[name]}." for name in ("time", "cost") if card.get(name)]
    about.append(f"The commands that trained it: gcdiff checkpoint list {SHIPPED}.")
    about.append("No training has looked at the scenes that are shown or given.")
    head, numbers = Head("The shipped model", " ".join(about)), kept(card.get("numbers", {}))
    picture(head, model, scenes, ask(model, scenes, SHOWN, SHOWN, together=True), numbers, "recorded").save(file)
    note(f"\npicture of the shipped model: {file}, after {time.monotonic() - began:.0f} s")
    show(numbers, "recorded")
    return None


def shipped_model() -> gcdiff.Model | None:
    """The model that is part of the package; None, with a line, where there is none."""
    try:
        return gcdiff.load(SHIPPED)
    except (FileNotFoundError, ValueError) as error:
        return note(f"No shipped model, the demo begins with the training ({error})")


def shipped_card() -> dict[str, Any]:
    """The shipped model's card: `numbers` as [value, low, high] by the names of `sheet.MEANINGS`, and what it says of
    the training."""
    try:
        from gcdiff import shipped
    except ImportError:
        return {}
    return shipped.card(shipped.find(SHIPPED))


def learned(workdir: Path, steps: int, pairs: int) -> None:
    """Draw and measure what a run has learned so far: demo.png, curve.png, demo.json."""
    began, done, log = time.monotonic(), max(finished(workdir / "checkpoints")), rows(workdir)
    model, scenes, seconds = gcdiff.load(workdir), heldout(SEGMENTED), training_seconds(log)
    note(f"\nAsking and measuring what this machine learned in {done} steps, {clock(seconds)} minutes of training")
    answers = ask(model, scenes, pairs, min(pairs, SYNTHESIZED))
    numbers, examples = measure(model, scenes, answers)
    whole = done >= steps
    title = "What this machine learned from nothing" if whole else f"What this machine has learned by step {done}"
    about = f"{done} of {steps} steps, {clock(seconds)} minutes of training on {os.cpu_count()} CPU cores. "
    about += "Every direction is a question to this one network. No training has looked at the scenes that are given."
    chart = curve(log)
    files = [workdir / "demo.png", workdir / "demo.json", workdir / "curve.png"]
    picture(Head(title, about), model, scenes, answers, numbers, "measured on this machine", chart).save(files[0])
    table = {**numbers, "examples": examples, "step": done, "steps": steps, "training_seconds": round(seconds, 1)}
    table["measuring_seconds"] = round(time.monotonic() - began, 1)
    table["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    files[1].write_text(json.dumps(table, indent=1) + "\n")
    if chart is not None:
        chart.save(files[2])
    show(numbers, f"measured after {done} steps", examples)
    spent = f"{clock(seconds)} minutes of training, {clock(table['measuring_seconds'])} of drawing and measuring"
    note(f"{spent}, {table['peak_memory_mb']} MB of memory at the peak")
    for name, file in zip(("picture", "numbers", "held-out curve"), files, strict=True):
        if file.exists():
            note(f"{name + ':':16}{file}")
    if not whole:
        note(f"The training paused at step {done} of {steps}: the same command goes on from there, and finishes.")


def picture(
    head: Head, model: gcdiff.Model, scenes: Scenes, answers: Answers, numbers: dict, called: str, chart=None
) -> Image.Image:
    """All directions on one sheet, SHOWN examples each."""
    few, segmented, drawn = scenes.first(SHOWN), answers.segmented[:SHOWN], answers.drawn

    def colors(layouts: np.ndarray) -> np.ndarray:
        return colorize(layouts[:SHOWN], model.labels)

    given = np.where(answers.known[..., None], few.images, 255).astype(np.uint8)
    laid = overlay(few.images, segmented, model.labels)
    rest = answers.outpainted
    half = {"image, left half given": given, "image": rest.image, "layout": colors(rest.layout)}
    sides = {"image, drawn": drawn.image[:SHOWN], "layout, drawn": colors(drawn.layout)}
    layouts = {"layout, given": colors(few.layouts), "image, drawn": answers.synthesized[:SHOWN]}
    images = {"image, given": few.images, "layout, read off": colors(segmented), "layout over image": laid}
    directions = [
        Row("text to image and layout", sides, few.captions),
        Row("layout (with the caption above) to image", layouts),
        Row("image to layout, in one call of the network", images),
        Row("left half of both (with the caption above) to the rest", half),
    ]
    return sheet(head, directions, model.labels, numbers, called, chart)


def show(numbers: dict, called: str, examples: dict | None = None) -> None:
    """The numbers, for a person."""
    numbers = kept(numbers)
    if not numbers:
        return
    wide = max(map(len, MEANINGS.values())) + 2
    note(f"\n{called:{wide}}{'value':>8}   95 % interval" + ("    scenes" if examples else ""))
    for name, (value, *ends) in numbers.items():
        counted = f"{examples[name]:6d}" if examples else ""
        note(f"{MEANINGS[name]:{wide}}{shown(value):>8}   {between(ends):16}{counted}".rstrip())


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
