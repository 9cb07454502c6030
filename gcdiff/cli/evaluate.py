"""gcdiff evaluate: measure a model on the held-out examples of its data set."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from gcdiff.cli.bars import bar
from gcdiff.cli.draw import load_model, load_stage
from gcdiff.cli.files import beside, cache_compilations, leads, writable
from gcdiff.cli.measure import measure
from gcdiff.cli.rundata import data_of, stored_features
from gcdiff.cli.subject import takes_captions
from gcdiff.cli.words import name_unseen_words

DRAWS = 8
"""Random levels per example and bound."""


def evaluate(arguments) -> int:
    """Measure segmentation in one call with its calibration, and with --likelihood the bounds; returns the exit status.

    The process that leads prints the numbers and writes them as JSON. With --metrics or --sweep the result is a report
    of what they name.
    """
    if arguments.metrics is not None or arguments.sweep:
        return measure(arguments)
    for flag in ("segmenter", "features"):
        if getattr(arguments, flag) is not None:
            raise ValueError(f"--{flag} is of a report, expected --metrics beside it")
    from gcdiff import config as configs
    from gcdiff.evaluation.segmenter import segmentation

    arguments.draws = DRAWS if arguments.draws is None else arguments.draws
    if arguments.num < 1 or arguments.draws < 1:
        raise ValueError(f"--num is {arguments.num} and --draws is {arguments.draws}, expected at least 1")
    if arguments.grid is not None and not arguments.likelihood:
        raise ValueError(f"--grid is {arguments.grid}, expected --likelihood beside it")
    out = arguments.out or beside(arguments.upsample or arguments.workdir, "evaluation.json")
    writable(out.parent)
    model = load_model(arguments)
    stage = load_stage(arguments, model)
    if stage is not None and arguments.likelihood:
        raise ValueError("--likelihood is of one run, expected no --upsample beside it")
    if model.built.conditions.lowres is not None and not arguments.likelihood:
        said = f"{arguments.workdir} is a super-resolution stage and answers behind a base alone"
        raise ValueError(f"{said}: expected the base's --workdir, with --upsample {arguments.workdir}")
    if arguments.likelihood:
        model.check_likelihood(arguments.log_snr_max, arguments.grid)
    cache_compilations(arguments.workdir)
    say = print if leads() else lambda text: None
    config = (stage or model).config
    batch = configs.examples(data_of(arguments, config, arguments.num), arguments.num)
    results: dict = {"examples": len(batch.image)} | ({} if arguments.ema is None else {"ema": arguments.ema})
    if model.built.levels.layout_given_image > 0 and model.built.levels.one_call > 0:
        probabilities = model.segment(batch.image, probabilities=True, seed=arguments.seed, upsample=stage)
        results["segmentation"] = segmentation(zip(probabilities, batch.layout, strict=True), model.labels)
        say(_lines(results["segmentation"]))
    elif not arguments.likelihood:
        raise ValueError(f"{arguments.workdir} was not trained to segment in one call: expected --likelihood")
    if arguments.likelihood:
        pair, text = _captioned(config, model, batch)
        with bar() as progress:
            report = model.likelihood(
                pair,
                text,
                arguments.draws,
                arguments.seed,
                progress,
                log_snr_max=arguments.log_snr_max,
                grid=arguments.grid,
            )
        results["likelihood"] = report.to_dict()
        say(report.table())
    if leads():
        _write(out, results)
    say(f"written to {out}")
    return 0


def _captioned(config, model, batch):
    """The pairs that have a caption, and the captions as the model's input; all pairs, and None, if none has."""
    from gcdiff.types import Pair

    captioned = [i for i, caption in enumerate(batch.captions) if caption]
    if not captioned or not takes_captions(model):
        return Pair(batch.image, batch.layout), None
    captions = [batch.captions[i] for i in captioned]
    name_unseen_words(model, captions)
    stored = stored_features(config, model)
    text = captions if stored is None else stored.batch(captions, config.text.length)
    return Pair(batch.image[captioned], batch.layout[captioned]), text


def _lines(results: dict) -> str:
    width = max(map(len, results))
    return "\n".join(
        f"{name:{width}}  {value.value:.4f}  ({value.low:.4f} - {value.high:.4f})"
        if math.isfinite(getattr(value, "low", math.nan))
        else f"{name:{width}}  {getattr(value, 'value', value):.4f}"
        for name, value in results.items()
        if not isinstance(value, dict)
    )


def _write(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(_plain(results), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _plain(value):
    """Convert to values for JSON: scores to dictionaries, numbers that are not finite to None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value
