"""What a generated data set is worth: pairs of a run, read back, compared by the street oracle, and trained on.

    python experiments/factory/study.py --workdir runs/demo --runs runs/factory [--num 2000] [--steps 800]

Rows: `plain`, all pairs that `gcdiff generate` draws (killed by SIGKILL once on the way, and gone on with);
`filtered`, as many with an agreement of at least the --quantile of the plain ones' (or --min-agreement);
`balanced`, captions drawn for rare classes; `audited`, with the gate against copies; `real`, as many scenes of the
world itself, the ceiling. Each is prepared by `gcdiff prepare folder` and its pixels are compared with the files;
its agreement is that of the oracle's labels of its images with its layouts. On those in --train the network of
configs/streets_unet.py is trained from nothing for --steps, on them alone, and measured on held-out scenes. What is
there goes on or is kept; results.json is written into --out (default: this folder) after each row.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import gcdiff
from gcdiff import cli
from gcdiff.data.prepared import Prepared
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.scores import agreement, caption_scores

CONFIG = Path(__file__).parents[2] / "configs" / "streets_unet.py"
ROWS = ("plain", "filtered", "balanced", "audited", "real")
HELDOUT, DRAWN, AGAIN, SEED = 256, 64, 8, 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="the run that draws")
    parser.add_argument("--runs", type=Path, default=Path("runs/factory"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--num", type=int, default=2000, help="pairs of each row")
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what is trained")
    parser.add_argument("--min-agreement", type=float, help="of the row filtered (default: by --quantile)")
    parser.add_argument("--quantile", type=float, default=0.5, help="of the plain pairs' agreement")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["plain", "filtered", "real"])
    parser.add_argument("--train", nargs="*", choices=ROWS, default=["plain", "filtered", "real"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.rows:
        entry = results.setdefault(name, {"num": arguments.num})
        if entry["num"] != arguments.num:
            raise SystemExit(f"{file} has {name} of {entry['num']} pairs: choose another --out and --runs")
        print(f"== {name}", file=sys.stderr, flush=True)
        if "readback" not in entry:
            entry |= row(name, arguments)
            file.write_text(json.dumps(results, indent=1) + "\n")
        if name in arguments.train and "trained" not in entry:
            entry["trained"] = trained(arguments.runs / name, arguments)
            file.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 0


def row(name: str, arguments) -> dict:
    """A data set, made and prepared, and the numbers of it."""
    place, numbers = arguments.runs / name, {}
    place.mkdir(parents=True, exist_ok=True)
    if name == "real":
        write_real(place / "pairs", arguments.num)
    else:
        numbers = made(name, arguments)
    prepare = ["prepare", "folder", "--source", place / "pairs", "--out", place / "data", "--heldout", "0.02"]
    if cli.main([str(word) for word in prepare]):
        raise SystemExit(1)
    return numbers | read_back(place)


def made(name: str, arguments) -> dict:
    """`gcdiff generate` in a process of its own: its report and seconds, and whether no number is double or missing."""
    out = arguments.runs / name / "pairs"
    extra = {"balanced": ["--balance", "rare"], "audited": ["--audit"]}.get(name, [])
    if name == "filtered":
        extra = ["--min-agreement", least(arguments)]
    words = ["generate", "--workdir", arguments.workdir, "--num", arguments.num, "--out", out, *extra]
    command = [sys.executable, "-m", "gcdiff", *(str(word) for word in words)]
    started, numbers = time.time(), {}
    if name == "plain" and not out.exists():
        numbers["killed_at"] = killed(command, out / "examples.jsonl", arguments.num // 3)
    if status := subprocess.run(command).returncode:
        raise SystemExit(status)
    log = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    kept = [line["number"] for line in log if line["verdict"] == "kept"]
    files = sorted(int(file.stem) for file in (out / "images").iterdir())
    numbers["no_double_no_gap"] = [line["number"] for line in log] == list(range(len(log))) and files == kept
    numbers["drawn_again_alike"] = same_again(arguments.workdir, out, log)
    report = json.loads((out / "report.json").read_text()) | {"run": str(arguments.workdir)}
    return numbers | {"seconds": round(time.time() - started, 1), "report": report}


def killed(command: list[str], log: Path, after: int) -> int:
    """Kill the command when its log has `after` lines; how many it had."""
    running = subprocess.Popen(command)
    while running.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < after):
        time.sleep(0.05)
    if running.poll() is None:
        os.kill(running.pid, signal.SIGKILL)
    running.wait()
    return log.read_bytes().count(b"\n") if log.exists() else 0


def same_again(workdir: Path, out: Path, log: list[dict]) -> bool:
    """Whether some pairs are drawn again bit for bit, each alone."""
    model, equal = gcdiff.load(workdir), True
    kept = [line for line in log if line["verdict"] == "kept"]
    for i in np.linspace(0, len(kept) - 1, AGAIN).astype(int):
        number, caption = kept[i]["number"], kept[i]["caption"]
        pair = model.sample(None if caption is None else [caption], first_id=number)
        for part, array in zip(("images", "layouts"), pair, strict=True):
            equal &= np.array_equal(np.asarray(Image.open(out / part / f"{number:06d}.png")), array[0])
    return bool(equal)


def least(arguments) -> float:
    """The agreement that the row filtered asks for."""
    if arguments.min_agreement is not None:
        return arguments.min_agreement
    log = arguments.runs / "plain" / "pairs" / "examples.jsonl"
    if not log.exists():
        raise SystemExit(f"{log}: not there, expected the row plain before filtered, or --min-agreement")
    values = [json.loads(line)["agreement"] for line in log.read_text().splitlines()]
    return round(float(np.quantile(values, arguments.quantile)), 3)


def write_real(root: Path, num: int) -> None:
    """Training scenes of the world as a folder, each with one of its captions."""
    world, lines = Streets("train", num, seed=SEED), []
    for part in ("images", "layouts"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for i in range(num):
        scene, name = world[i], f"{i:06d}.png"
        Image.fromarray(scene.image).save(root / "images" / name)
        Image.fromarray(scene.layout.astype(np.uint8)).save(root / "layouts" / name)
        lines.append(json.dumps({"file_name": name, "text": [scene.captions[i % 2]]}) + "\n")
    (root / "captions.jsonl").write_text("".join(lines))
    (root / "labels.json").write_text(json.dumps({"names": Streets.labels.names, "colors": Streets.labels.palette}))


def read_back(place: Path) -> dict:
    """Prepared examples against the files, and the oracle's view of them all."""
    images, layouts, captions, equal = [], [], [], True
    for split in ("train", "heldout"):
        data = Prepared(place / "data", split)
        for i in range(len(data)):
            name, example = data.record(i).key, data[i]
            for part, array in (("images", example.image), ("layouts", example.layout)):
                equal &= np.array_equal(np.asarray(Image.open(place / "pairs" / part / f"{name}.png")), array)
            images.append(example.image)
            layouts.append(example.layout)
            captions += example.captions
    asked = caption_scores(np.stack(images), captions)
    return {
        "readback": {"examples": len(images), "captions": len(captions), "same_pixels": bool(equal)},
        "oracle_agreement_miou": plain(agreement(np.stack(images), np.stack(layouts))),
        "caption_f1": plain(asked.f1),
    }


def trained(place: Path, arguments) -> dict:
    """A network trained on a prepared data set alone, on held-out scenes of the world."""
    fields = {"data.name": "prepared", "data.root": place / "data", "train.steps": arguments.steps}
    fields |= {"train.minutes": None, "train.evaluate_every": 0, "train.sample_every": 0}
    train = ["train", "--config", arguments.config, "--workdir", place / "run"]
    train += [f"--config.{field}={value}" for field, value in fields.items()]
    if cli.main([str(word) for word in train]):
        raise SystemExit(1)
    model, world = gcdiff.load(place / "run"), Streets("heldout", HELDOUT, seed=SEED, size=(32, 64))
    scenes = [world[i] for i in range(HELDOUT)]
    captions = [scene.captions[i % 2] for i, scene in enumerate(scenes[:DRAWN])]
    segmented = model.segment(np.stack([scene.image for scene in scenes]))
    pairs = zip((scene.layout for scene in scenes), segmented, strict=True)
    drawn = model.sample(captions, DRAWN, seed=SEED)
    return {
        "steps": arguments.steps,
        "segmentation_miou": plain(score(np.stack([confusion(*p, model.labels.num_classes) for p in pairs]), mean_iou)),
        "pair_agreement_miou": plain(agreement(*drawn)),
        "caption_f1": plain(caption_scores(drawn.image, captions).f1),
    }


def plain(score) -> dict:
    return {name: round(value, 4) for name, value in score._asdict().items()}


def table(results: dict) -> str:
    """The results as a page shows them."""
    names = ("pairs", "drawn", "oracle agreement", "own agreement", "steps", "held-out segmentation", "pairs drawn")
    lines = ["| data | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]

    def cell(scored: dict | None) -> str:
        return f"{scored['value']:.3f} ({scored['low']:.3f} – {scored['high']:.3f})" if scored else "-"

    for name, numbers in results.items():
        report, run = numbers.get("report", {}), numbers.get("trained", {})
        own = report["agreement"]["kept"] if report else None
        cells = [numbers["num"], report.get("drawn", "-"), cell(numbers.get("oracle_agreement_miou"))]
        cells += ["-" if own is None else f"{own:.3f}", run.get("steps", "-")]
        cells += [cell(run.get("segmentation_miou")), cell(run.get("pair_agreement_miou"))]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
