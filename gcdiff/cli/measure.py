"""gcdiff evaluate --metrics NAMES: a report of a model compared with real examples."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gcdiff.cli.draw import load_model, load_stage
from gcdiff.cli.extract import material_of
from gcdiff.cli.files import beside, cache_compilations, leads, writable
from gcdiff.cli.rundata import data_of
from gcdiff.cli.subject import caption_input, subject_of
from gcdiff.cli.words import name_unseen_words

DRAWN, BOUNDED, SWEPT, REFERENCE, DRAWS = 128, 32, 64, 512, 4
"""How many pairs are drawn, have bounds, are drawn for each value of a sweep; how many training examples they are
compared with; how many random levels a bound has."""
DIALS = {"guidance": float, "steps": int}


def add_arguments(sub) -> None:
    """Add the arguments of a report to the parser."""
    names = "segmentation, pairs, synthesis, captions, clip, fidelity, layouts, diversity, memorisation, likelihood"
    metrics = f"a report of these metrics: {names}; or sets: quick, generative, full"
    sub.add_argument("--metrics", metavar="NAMES", help=metrics)
    sweep = "measure drawn pairs at values of guidance or of steps, as in guidance=1,2,4; several times for both"
    sub.add_argument("--sweep", action="append", metavar="DIAL=VALUES", help=sweep)
    pairs = f"how many pairs are drawn for a report (default: {DRAWN}; for each value of a sweep at most {SWEPT})"
    sub.add_argument("--pairs", type=int, default=DRAWN, metavar="N", help=pairs)
    segmenter = "a network of transformers that reads images (default: the world's oracle, or the model itself)"
    sub.add_argument("--segmenter", metavar="DIR", help=segmenter)
    extractor = "whose features are compared: clip:DIR or torchscript:FILE,HEIGHTxWIDTH[,unit|bytes|imagenet], and FILE"
    whose = f"{extractor}, those of training examples (default: the world's oracle's)"
    sub.add_argument("--features", action="append", metavar="WHAT", help=whose)


def measure(arguments) -> int:
    """Measure the chosen metrics and sweeps; returns the exit status.

    The process that leads prints them and writes report.json and report.html.
    """
    from gcdiff import config as configs
    from gcdiff.data.captions import nouns_of
    from gcdiff.evaluation.evaluator import evaluate
    from gcdiff.evaluation.page import page
    from gcdiff.evaluation.results import table, to_dict

    started = time.time()
    arguments.draws = DRAWS if arguments.draws is None else arguments.draws
    plan = _plan(arguments)
    out = arguments.out or beside(arguments.upsample or arguments.workdir, "report")
    writable(out)
    model = load_model(arguments)
    stage = load_stage(arguments, model)
    if model.built.conditions.lowres is not None:
        said = f"{arguments.workdir} is a super-resolution stage and answers behind a base alone"
        raise ValueError(f"{said}: expected the base's --workdir, with --upsample {arguments.workdir}")
    cache_compilations(arguments.workdir)
    config = (stage or model).config
    data = data_of(arguments, config, arguments.num)
    heldout = _examples(configs.gathered(data, "heldout", arguments.num))
    train = _examples(configs.gathered(data, "train", REFERENCE))
    captioned, text = caption_input(config, model, heldout)
    name_unseen_words(model, [caption for caption in heldout.captions if caption] if captioned else None)
    if captioned:
        heldout = _captioned_first(heldout)
    most = sum(map(bool, heldout.captions)) if captioned else len(heldout.ids)
    plan = plan._replace(**{n: min(getattr(plan, n), most) for n in ("drawn", "bounded", "swept")})
    if "guidance" in plan.sweeps and not captioned:
        raise ValueError("--sweep guidance: the model takes no captions, or the data have none")
    subject = subject_of(arguments, model, stage, captioned, text)
    material = material_of(arguments, model, stage, config.data.name, nouns_of(data.train), heldout, train, subject)
    made = _made(arguments, model, stage, data, plan, heldout)
    findings = evaluate(subject, material, plan, made, _say)
    findings = findings._replace(made={**findings.made, "seconds": round(time.time() - started)})
    if leads():
        print(table(findings.rows))
        for name, why in findings.left_out.items():
            print(f"left out: {name}: {why}")
        for one in findings.sweeps:
            for point in one.points:
                print(f"\n{one.dial} {point.value:g}, {one.examples} pairs\n{table(point.rows)}")
        _write(out / "report.json", json.dumps(to_dict(findings), indent=1, allow_nan=False) + "\n")
        _write(out / "report.html", page(findings, model.labels.labelled))
        print(f"written to {out}: look at {out / 'report.html'}")
    return 0


def _plan(arguments):
    """The plan of the evaluation from the arguments, checked before anything is loaded."""
    from gcdiff.evaluation.evaluator import Plan
    from gcdiff.evaluation.metrics import GENERATIVE, METRICS, named

    metrics = named(arguments.metrics) if arguments.metrics is not None else GENERATIVE
    if arguments.likelihood:
        metrics = tuple(name for name in METRICS if name in (*metrics, "likelihood"))
    for flag in ("num", "draws", "pairs"):
        if getattr(arguments, flag) < 1:
            raise ValueError(f"--{flag} is {getattr(arguments, flag)}, expected at least 1")
    if arguments.out is not None and arguments.out.is_file():
        raise ValueError(f"--out is {arguments.out}, a file; a report is written to a folder")
    sweeps: dict[str, list[float]] = {}
    for words in arguments.sweep or ():
        dial, _, values = words.partition("=")
        if dial not in DIALS or dial in sweeps:
            raise ValueError(f"--sweep is {words!r}, expected guidance=VALUES or steps=VALUES, each once")
        try:
            sweeps[dial] = [DIALS[dial](value) for value in values.split(",")]
        except ValueError:
            raise ValueError(f"--sweep is {words!r}, expected numbers such as {dial}=1,2,4") from None
        if not all((1 if dial == "steps" else 0) <= value < np.inf for value in sweeps[dial]):
            raise ValueError(f"--sweep is {words!r}, expected {'1 step or more' if dial == 'steps' else '0 or more'}")
    if sweeps and not set(metrics) & set(GENERATIVE):
        raise ValueError(f"--sweep is of {', '.join(GENERATIVE)}, expected one of them in --metrics")
    return Plan(metrics, arguments.pairs, BOUNDED, arguments.seed, sweeps, min(SWEPT, arguments.pairs))


def _examples(examples: list):
    """The `Examples` of a list of examples, shuffled, with one caption each.

    Of several captions the first example takes its first, the next its second, and so on. The order is random, since
    files of one town or film lie beside each other and the examples that pairs are drawn from must be like the others;
    it is the same in every evaluation.
    """
    from gcdiff.evaluation.sides import Examples

    order = np.random.default_rng(0).permutation(len(examples))
    captions = [e.captions[i % len(e.captions)] if e.captions else "" for i, e in enumerate(examples)]
    images, layouts = (np.stack([getattr(examples[i], side) for i in order]) for side in ("image", "layout"))
    return Examples(images, layouts, tuple(captions[i] for i in order), order)


def _captioned_first(examples):
    """Move the examples with a caption to the front: pairs are drawn from the first ones."""
    order = np.argsort([not caption for caption in examples.captions], kind="stable")
    images, layouts, captions, ids = examples
    return type(examples)(images[order], layouts[order], tuple(captions[i] for i in order), ids[order])


def _made(arguments, model, stage, data, plan, heldout) -> dict[str, Any]:
    """How the report was made, by name: run, data, seed, sampler, command, versions, device."""
    from importlib.metadata import version

    import jax

    import gcdiff

    size = (stage or model).size
    words = getattr(arguments, "words", None) or ["evaluate"]
    sample = model.config.sample
    return {
        "run": str(arguments.workdir),
        "step": _step(arguments.workdir),
        "data set": data.heldout.name,
        "size": f"{size[1]}x{size[0]}",
        "held-out examples": len(heldout.ids),
        "training examples compared with": f"{min(REFERENCE, len(data.train))} of {len(data.train)}, evenly spread",
        "pairs drawn": plan.drawn,
        "seed": arguments.seed,
        "sampler": f"{sample.path}, {sample.steps} steps, spacing {sample.spacing:g}, "
        f"guidance {tuple(sample.guidance)}, {sample.image_step} and {sample.layout_step}",
        "average of the weights": "the run's" if arguments.ema is None else arguments.ema,
        "metrics": ", ".join(plan.metrics),
        "command": shlex.join(["gcdiff", *words]),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "versions": f"gcdiff {gcdiff.__version__}, jax {jax.__version__}, jaxlib {version('jaxlib')}, numpy "
        f"{np.__version__}, Python {platform.python_version()}",
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def _step(workdir: Path) -> int | None:
    """The step of a run's newest checkpoint; None for an export."""
    folder = workdir / "checkpoints"
    return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=None) if folder.is_dir() else None


def _say(said: str) -> None:
    if leads():
        print(f"measuring: {said}", file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
