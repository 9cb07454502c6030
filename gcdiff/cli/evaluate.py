"""gcdiff evaluate: a model's numbers on the held-out examples of its data set."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

import gcdiff
from gcdiff.cli.files import cache_compilations, writable


def evaluate(arguments) -> int:
    """Segmentation in one call with its calibration, and with --likelihood the bounds; printed, and written as JSON."""
    from gcdiff import config as configs
    from gcdiff.evaluation.report import segmentation
    from gcdiff.training.writer import progress_bar
    from gcdiff.types import Pair

    if arguments.num < 1 or arguments.draws < 1:
        raise ValueError(f"--num is {arguments.num} and --draws is {arguments.draws}, expected at least 1")
    out = arguments.out or arguments.workdir / "evaluation.json"
    writable(out.parent)
    model = gcdiff.load(arguments.workdir)
    cache_compilations(arguments.workdir)
    config = model.config
    config.data.heldout = arguments.num
    if arguments.root is not None:
        config.data.root = arguments.root
    data = configs.splits(config)
    batch = configs.examples(data, arguments.num)
    found: dict = {"examples": len(batch.image)}

    probabilities = model.segment(batch.image, probabilities=True, seed=arguments.seed)
    found["segmentation"] = segmentation(zip(probabilities, batch.layout, strict=True), model.labels.names)
    print(_lines(found["segmentation"]))
    if arguments.likelihood:
        chunks, legs = -(-len(batch.image) // config.sample.chunk), model.likelihood_legs
        with progress_bar(chunks * arguments.draws * len(legs)) as advance:
            report = model.likelihood(
                Pair(batch.image, batch.layout), None if model.specs.vocabulary is None else batch.captions,
                arguments.draws, arguments.seed, lambda n: advance(n) if n else None,
                log_snr_max=arguments.log_snr_max,
            )  # fmt: skip
        found["likelihood"] = report.to_dict()
        print(report.table())
    _write(out, found)
    print(f"written to {out}")
    return 0


def _lines(found: dict) -> str:
    width = max(map(len, found))
    return "\n".join(
        f"{name:{width}}  {value.value:.4f}  ({value.low:.4f} - {value.high:.4f})"
        if hasattr(value, "low")
        else f"{name:{width}}  {value:.4f}"
        for name, value in found.items()
        if not isinstance(value, dict)
    )


def _write(path: Path, found: dict) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(_plain(found), indent=1) + "\n")
    part.replace(path)


def _plain(value):
    """Scores as dictionaries, numbers that are not finite as null, as JSON has them."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value
