"""What the sampler's steps are worth: quality of generated street scenes against rows through the network.

    python benchmarks/steps.py [--workdir runs/demo-long] [--scenes 256] [--calls 4 10 25 50 250] [--quick]

Captions of held-out scenes become pairs of image and layout, with the run's guidance and chunk. Every row of the table
has the same captions, example ids and seed. Its measures, with 95 % intervals over scenes:

    agreement   mIoU of the oracle's labels of the image with the pair's own layout
    f1          micro F1 of the caption's optional classes against those the image shows
    frechet     Fréchet distance of the scenes' parameters (`gcdiff.worlds.streets.scores.PARAMETERS`) to those of other
                held-out scenes, the same for all rows; `real` is the captions' own scenes, the floor at this number of
                scenes

A pair of steps is written IMAGE[:ETA]/LAYOUT[:RATE][+decide][+correct:RATE]: steps of `gcdiff.samplers.steps`, DDIM's
noise, the rate of `psi`, whether the last label is the most probable one instead of a draw, the rate of the corrector.
A step with a corrector is two calls. A call sends one row per example through the network, and one more for each
branch of guidance; seconds are those of the sampling alone, compilation apart.

All of 12 pairs are measured at 10 and 25 calls. The run's ancestral pair and two more (--pairs; else those with the
smallest sum of ranks over the three measures at 25 calls) go over all numbers of calls, and over the path layout_first
at 25. Results are written after every row into --json and, at the end, a picture beside it; a row that is there
is not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

import gcdiff
from gcdiff.cli.files import cache_compilations
from gcdiff.evaluation.chart import Panel, Series, chart
from gcdiff.evaluation.moments import GroupedMoments, frechet, grouped_moments
from gcdiff.evaluation.segmentation import confusion, mean_iou, score
from gcdiff.jobs.progress import Progress
from gcdiff.samplers.steps import IMAGE_STEPS, LAYOUT_STEPS, Dials
from gcdiff.worlds.streets.appearance import LABELS
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle, Reading
from gcdiff.worlds.streets.scores import caption_scores, scene_parameters

RUN = "ancestral/ancestral"
LAYOUTS = ("ancestral", "psi:4", "psi:16", "ancestral+decide")
GRID = tuple(map("/".join, product(("ddim", "ancestral", "dpm++"), LAYOUTS)))
QUICK = (RUN, "dpm++/psi:4")
GRID_CALLS, FEW = (10, 25), 25
MEASURES = {"agreement": 1, "f1": 1, "frechet": -1}  # 1: more is better
SEED, REFERENCE_SEED, REFERENCE = 7, 8, 2048
NUMBER = r"(\d*\.?\d+)"
WRITTEN = re.compile(rf"([^:/]+)(?::{NUMBER})?/([a-z]+)(?::{NUMBER})?(\+decide)?(?:\+correct:{NUMBER})?")
DOTS = (160, 160, 160)
COLORS = ((31, 97, 180), (214, 60, 40), (40, 140, 60), (150, 90, 190), (200, 140, 20))


class Key(NamedTuple):
    """What a row is about."""

    pair: str
    path: str
    calls: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo-long"), help="a run on streets")
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 10, 25, 50, 250])
    parser.add_argument("--pairs", nargs="+", help=f"the pairs that go over all calls, beside {RUN}")
    parser.add_argument("--json", type=Path, help="results (default: benchmarks/results/steps.json)")
    parser.add_argument("--quick", action="store_true", help="16 scenes, 4 and 10 calls, two pairs, into the run")
    options = parser.parse_args()
    file = options.json or Path(__file__).parent / "results" / "steps.json"
    if options.quick:
        options.scenes, options.calls, options.pairs = 16, [4, 10], list(QUICK)
        file = options.json or options.workdir / "steps-quick.json"
    try:
        measure_all(options, file)
    except (ValueError, OSError) as error:
        parser.exit(2, f"steps.py: {error}\n")


def measure_all(options, file: Path) -> None:
    """Every row that is not in the file yet."""
    for pair in options.pairs or ():
        parse(pair)
    if options.scenes < 2 or not 2 <= min(options.calls) <= FEW:
        given = f"{options.scenes} scenes, at least {min(options.calls)} calls"
        raise ValueError(f"{given}: expected 2 scenes or more and a number of calls from 2 to {FEW}")
    model = gcdiff.load(options.workdir)
    if model.labels != LABELS:
        raise ValueError(f"{options.workdir}: classes are {', '.join(model.labels.names)}, expected those of streets")
    cache_compilations(options.workdir)
    results = Results(file, settings(model, options))
    grid = QUICK if options.quick else GRID
    progress = Progress(0, "call")
    progress.say("reading real scenes")
    bench = Bench(model, options.scenes, REFERENCE // 8 if options.quick else REFERENCE)
    results.real = bench.measures(bench.images, bench.layouts)
    rounds = -(-options.scenes // model.round_size)
    progress, done = None, 0
    while todo := [key for key in plan(results.rows, grid, options) if key not in results.rows]:
        if progress is None:
            progress = Progress(rounds * sum(key.calls for key in todo), "call")
        results.add(todo[0], bench.row(todo[0], progress, done))
        done += rounds * todo[0].calls
        progress.say(line(todo[0], results.rows[todo[0]]))
    report(results, options)


def settings(model, options) -> dict:
    """What rows of one file have in common."""
    steps = [int(p.name) for p in (options.workdir / "checkpoints").iterdir() if p.name.isdigit()]
    return {
        "run": model.config.name, "trained_steps": max(steps), "scenes": options.scenes, "seed": SEED,
        "guidance": list(model.config.sample.guidance), "chunk": model.config.sample.chunk,
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip


class Results:
    """The rows of a file, and what they have in common."""

    def __init__(self, file: Path, settings: dict):
        self.file, self.settings, self.rows, self.real = file, settings, {}, {}
        if file.exists():
            stored = json.loads(file.read_text())
            for name, value in settings.items():
                if stored["settings"][name] != value:
                    old = stored["settings"][name]
                    raise ValueError(f"{file}: {name} is {old}, not {value}: name another file with --json")
            self.rows = {Key(*(row.pop(f) for f in Key._fields)): row for row in stored["rows"]}

    def add(self, key: Key, row: dict) -> None:
        self.rows[key] = row
        rows = [key._asdict() | row for key, row in self.rows.items()]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"settings": self.settings, "real": self.real, "rows": rows}, indent=1) + "\n")
        part.replace(self.file)


def plan(rows: dict, grid, options) -> list[Key]:
    """All rows: the grid of pairs, then the pairs that go over all calls."""
    keys = [Key(pair, "joint", calls) for pair, calls in product(grid, GRID_CALLS) if calls in options.calls]
    over = chosen(rows, options)
    keys += [Key(pair, "joint", calls) for calls, pair in product(sorted(options.calls), over)]
    keys += [Key(pair, "layout_first", FEW) for pair in over if FEW in options.calls]
    return list(dict.fromkeys(keys))


def chosen(rows: dict, options) -> list[str]:
    """The pairs that go over all calls; while the grid is incomplete, any three stand for them."""
    others = [pair for pair in GRID if pair != RUN]
    if options.pairs:
        others = options.pairs
    elif all(Key(pair, "joint", FEW) in rows for pair in others):
        values = [[s * rows[Key(pair, "joint", FEW)][m][0] for pair in others] for m, s in MEASURES.items()]
        ranks = sum(np.argsort(np.argsort(-np.array(v), kind="stable")) for v in values)
        others = [others[i] for i in np.argsort(ranks, kind="stable")[:2]]
    else:
        others = others[:2]
    return list(dict.fromkeys([RUN, *others]))


def parse(pair: str) -> dict:
    """The fields of a sampler and its dials, from a pair as it is written."""
    match = WRITTEN.fullmatch(pair)
    image, eta, layout, psi, decides, corrector = match.groups() if match else [None] * 6
    fits = image in IMAGE_STEPS and layout in LAYOUT_STEPS
    if not fits or (eta and image != "ddim") or (psi is None) == (layout == "psi"):
        form = "IMAGE[:ETA]/LAYOUT[:RATE][+decide][+correct:RATE] with ETA for ddim and RATE for psi"
        raise ValueError(f"pair {pair!r}: expected {form}, of {', '.join(IMAGE_STEPS)} / {', '.join(LAYOUT_STEPS)}")
    fields = {"image_step": image, "layout_step": layout, "decides": bool(decides), "corrects": bool(corrector)}
    return {**fields, "dials": Dials(float(eta or 0), float(psi or 0), float(corrector or 0))}


class Bench:
    """The scenes and the model."""

    def __init__(self, model, scenes: int, reference: int):
        self.model, self.compiled = model, set()
        world = Streets("heldout", scenes, SEED, model.size)
        real = [world[i] for i in range(scenes)]
        self.images, self.layouts = (np.stack([getattr(s, side) for s in real]) for side in ("image", "layout"))
        self.captions = [s.captions[i % 2] for i, s in enumerate(real)]
        others = Streets("heldout", reference, REFERENCE_SEED, model.size)
        pairs = [others[i] for i in range(reference)]
        images, layouts = np.stack([s.image for s in pairs]), np.stack([s.layout for s in pairs])
        self.reference = self.moments(images, layouts, Oracle().read(images))

    def measures(self, images: np.ndarray, layouts: np.ndarray) -> dict:
        """[value, low, high] of every measure."""
        reading = Oracle().read(images)
        matrices = [confusion(*pair, LABELS.num_classes) for pair in zip(layouts, reading.labels, strict=True)]
        scores = {
            "agreement": score(np.stack(matrices), mean_iou),
            "f1": caption_scores(images, self.captions).f1,
            "frechet": frechet(self.moments(images, layouts, reading), self.reference, standardised=True),
        }
        return {name: [round(number, 4) for number in s[:3]] for name, s in scores.items()}

    @staticmethod
    def moments(images: np.ndarray, layouts: np.ndarray, reading: Reading) -> GroupedMoments:
        return grouped_moments(np.arange(len(images)), scene_parameters(images, layouts, reading), {})

    def row(self, key: Key, progress: Progress, done: int) -> dict:
        fields = parse(key.pair)
        built, dials = self.model.built, fields.pop("dials")
        sampler = dataclasses.replace(built.sampler, **fields)
        built = built._replace(sampler=sampler, settings=built.settings._replace(dials=dials))
        model, each = dataclasses.replace(self.model, built=built), 1 + sampler.corrects
        if sampler not in self.compiled:
            progress.note(done, f"compiling {key.pair}")
            model.sample(self.captions[:1], 1, steps=2, seed=SEED)
            self.compiled.add(sampler)

        def show(answer) -> None:
            progress.update(done + each * answer.done, {})

        start = time.perf_counter()
        num, steps = len(self.captions), key.calls // each
        pairs = model.sample(self.captions, num, steps, seed=SEED, path=key.path, progress=show)
        seconds = time.perf_counter() - start
        progress.note(done + key.calls, f"measuring {key.pair}")
        return {"rows": steps * sampler.rows_per_step, **self.measures(*pairs), "seconds": round(seconds, 1)}


def line(key: Key, row: dict) -> str:
    cells = "".join(f"{row[m][0]:8.3f} ({row[m][1]:.3f} - {row[m][2]:.3f})" for m in MEASURES)
    return f"{key.pair:30}{key.path:13}{key.calls:>6}{row['rows']:>6}{cells}{row['seconds']:9.1f}"


def report(results: Results, options) -> None:
    """The table, the picture and the verdict."""
    rows = results.rows
    print(f"{'pair':30}{'path':13}{'calls':>6}{'rows':>6}{''.join(f'{m:>24}' for m in MEASURES)}{'s':>9}")
    real = Key("real", "", 0)
    for key, row in [(real, {"rows": 0, **results.real, "seconds": 0}), *sorted(rows.items())]:
        print(line(key, row))
    shown = chosen(rows, options)
    picture(rows, results.real, shown).save(results.file.with_suffix(".png"))
    print(f"results: {results.file}\npicture: {results.file.with_suffix('.png')}")
    print(verdict(rows, Key(RUN, "joint", max(options.calls))))


def verdict(rows: dict, target: Key) -> str:
    """Which setting of few calls comes within 5 % of the target or into its interval, in all measures."""
    goal, by_pair = rows[target], {}
    for key, row in rows.items():
        if key.calls <= FEW and key != target:
            gaps = {m: s * (1 - row[m][0] / goal[m][0]) for m, s in MEASURES.items()}
            inside = {m: s * row[m][0] >= s * goal[m][1 if s > 0 else 2] for m, s in MEASURES.items()}
            misses = {m: gap for m, gap in gaps.items() if gap > 0.05 and not inside[m]}
            by_pair[key] = len(misses) > 0, max(misses.values(), default=0), row["rows"], max(gaps.values()), gaps
    key = min(by_pair, key=lambda key: by_pair[key][:4])
    gaps = ", ".join(f"{m} {'worse' if gap > 0 else 'better'} by {abs(gap):.1%}" for m, gap in by_pair[key][4].items())
    what, goal = f"{key.pair}, {key.path}, {key.calls} calls", f"{target.calls} calls of {target.pair}"
    if by_pair[key][0]:
        return f"no setting of at most {FEW} calls reaches {goal}; nearest is {what}: {gaps}"
    reaching = sum(not missed for missed, *_ in by_pair.values())
    return f"{what} reaches {goal}, with the fewest rows of {reaching} settings that do: {gaps}"


def picture(rows: dict, real: dict, over: list[str]) -> Image.Image:
    """One panel for each measure: lines for the pairs over all calls, squares for their layout_first, dots for the
    other pairs."""
    panels = []
    for measure, sign in MEASURES.items():

        def points(wanted, measure=measure) -> list:
            # An interval may begin at a distance of 0, which a logarithmic axis does not hold.
            shown = [(row["rows"], *np.maximum(row[measure], 0.01)) for key, row in rows.items() if wanted(key)]
            return sorted(shown)

        series = [Series("other pairs", DOTS, points(lambda key: key.pair not in over), "dot")]
        for i, pair in enumerate(over):
            color = COLORS[i % len(COLORS)]
            series.append(Series(pair, color, points(lambda key, p=pair: key[:2] == (p, "joint"))))
            series.append(Series("", color, points(lambda key, p=pair: key[:2] == (p, "layout_first")), "square"))
        title = f"{measure} ({'more' if sign > 0 else 'less'} is better)"
        panels.append(Panel(title, series, real[measure][0], "real scenes", log=measure == "frechet"))
    return chart(panels, "rows per example (squares: layout first)")


if __name__ == "__main__":
    main()
