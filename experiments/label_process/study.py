"""Which noise for labels, and which loss: the same network and the same number of steps for each, on streets.

    python experiments/label_process/study.py --runs runs/label_process [--steps 900] [--seeds 0 1]

Processes: uniform, absorbing, analog bits, each with its own loss. Losses of the uniform process: cross-entropy with
the weights 'root' and 'one', the likelihood's weight 'elbo', the posterior divergence 'kl'. Trains each run that is not
there yet, measures each that is not measured, and writes results.json into --out (default: this folder) after each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import gcdiff
from gcdiff import cli
from gcdiff.evaluation.segmenter import segmentation
from gcdiff.types import Pair
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.scores import agreement, caption_scores

CONFIG = Path(__file__).parents[2] / "configs" / "streets_unet.py"
VARIANTS = {
    "uniform": {"process.layout": "uniform", "loss.layout_weight": "root"},
    "absorbing": {"process.layout": "absorbing", "loss.layout_weight": "root"},
    "bits": {"process.layout": "bits", "loss.layout_weight": "one"},
    "uniform, one": {"process.layout": "uniform", "loss.layout_weight": "one"},
    "uniform, elbo": {"process.layout": "uniform", "loss.layout_weight": "elbo"},
    "uniform, kl": {"process.layout": "uniform", "loss.layout_weight": "kl"},
}
SEGMENTED, DRAWN, MEASURED, CALLS, SEED = 256, 64, 64, (10, 25, 50), 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/label_process"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for seed in arguments.seeds:
        for variant in arguments.variants:
            name = f"{variant}, seed {seed}, {arguments.steps} steps"
            if name in results:
                continue
            workdir = arguments.runs / name.replace(", ", "-").replace(" ", "")
            print(f"== {name}", file=sys.stderr, flush=True)
            fields = {**VARIANTS[variant], "train.seed": seed, "train.steps": arguments.steps, "train.minutes": None}
            fields["train.evaluate_every"] = fields["train.sample_every"] = 10**6
            fields |= {"sample.layout_step": "ancestral", "sample.psi": 0.0}  # which all of the processes have
            overrides = [f"--config.{field}={value}" for field, value in fields.items()]
            status = cli.main(["train", "--config", str(CONFIG), "--workdir", str(workdir), *overrides])
            if status:
                return status
            results[name] = measure(gcdiff.load(workdir))
            file.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 0


def table(results: dict) -> str:
    """The results as a page shows them: a row for each variant, in a cell the seeds one after the other."""
    columns = {
        "mIoU": lambda r: f"{r['segmentation']['miou']['value']:.2f}",
        "nats a pixel": lambda r: f"{r['segmentation']['negative_log_likelihood']:.2f}",
        "calibration error, %": lambda r: f"{100 * r['segmentation']['calibration_error']:.1f}",
        **{
            f"agreement, {c} calls": lambda r, c=c: f"{r['calls'][str(c)]['pair_agreement']['value']:.2f}"
            for c in CALLS
        },
        **{f"F1, {c} calls": lambda r, c=c: f"{r['calls'][str(c)]['caption_f1']['value']:.2f}" for c in CALLS},
        "p(y)": lambda r: bits(r, "layout_only"),
        "p(y given x)": lambda r: bits(r, "layout_given_image"),
    }
    lines = ["| labels | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for variant in VARIANTS:
        runs = [r for name, r in results.items() if name.split(", seed ")[0] == variant]
        cells = [" / ".join(cell(r) for r in runs) for cell in columns.values()]
        lines += ["| " + " | ".join([variant, *cells]) + " |"] if runs else []
    return "\n".join(lines)


def bits(result: dict, leg: str) -> str:
    return f"{result['bits_per_pixel'][leg]['value']:.3f}" if "bits_per_pixel" in result else "none"


def measure(model) -> dict:
    """Segmentation in one call, pairs from text at several numbers of calls, and the layout's likelihood."""
    started = time.time()
    world = Streets("heldout", SEGMENTED, seed=SEED)
    scenes = [world[i] for i in range(SEGMENTED)]
    images, layouts = np.stack([s.image for s in scenes]), np.stack([s.layout for s in scenes])
    captions = [scenes[i].captions[i % 2] for i in range(DRAWN)]
    probabilities = model.segment(images, probabilities=True)
    numbers = segmentation(zip(probabilities, layouts, strict=True), model.labels)
    names = ("miou", "pixel_accuracy", "calibration_error", "top_label_calibration_error", "negative_log_likelihood")
    table: dict = {"segmentation": {name: plain(numbers[name]) for name in names}, "calls": {}}
    for calls in CALLS:
        drawn = model.sample(captions, DRAWN, steps=calls, seed=SEED)
        f1 = caption_scores(drawn.image, captions).f1
        table["calls"][str(calls)] = {
            "pair_agreement": plain(agreement(drawn.image, drawn.layout)), "caption_f1": plain(f1)
        }  # fmt: skip
    if model.built.process.layout.has_likelihood:
        some = slice(0, MEASURED)
        captions = [s.captions[0] for s in scenes[some]]
        report = model.likelihood(Pair(images[some], layouts[some]), captions, draws=8)
        legs = ("layout_only", "layout_given_image")
        table["bits_per_pixel"] = {leg: report.legs[leg].layout.total._asdict() for leg in legs}
    table["measuring_seconds"] = round(time.time() - started, 1)
    return table


def plain(value):
    """A score as {value, low, high}, a number with four digits."""
    if hasattr(value, "_asdict"):
        return {k: round(v, 4) for k, v in value._asdict().items()}
    return round(value, 4)


if __name__ == "__main__":
    sys.exit(main())
