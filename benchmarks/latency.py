"""What one question of one picture costs, by the chunk it is answered in, and how soon a listener is called.

    python benchmarks/latency.py [--workdir RUN] [--repeats 5] [--json FILE]

The U-Net of streets (configs/streets_unet.py; random weights unless a run is named, which cost the same) answers three
questions of one example: its segmentation in one call, an image for a layout, and a labelled image from text, with the
run's recommended steps and guidance. Chunks take turns: 16, which is what one picture cost before small questions chose
their chunk; 4, which they choose now; and 1, which is chosen by `model.sampling(chunk=1)`. A number is the median over
the repeats, in seconds of all cores' time (CPU seconds), after a first answer that compiles. The longest wait is
the longest time between two calls of a `progress` callback within an answer, in seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import jax
import numpy as np

import gcdiff
from gcdiff import config as configs
from gcdiff.api import runner
from gcdiff.worlds.streets.data import Streets

CHUNKS = (16, 4, 1)
TEXT = "a foggy street with two red cars"
CONFIG = Path(__file__).parents[1] / "configs" / "streets_unet.py"


def untrained() -> gcdiff.Model:
    """The demo's model with random weights."""
    config = configs.load_file(str(CONFIG))
    specs = configs.build_specs(config, configs.splits(config).train)
    built, rng = configs.build(config, specs), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: configs.initial_params(built, config, specs))
    params = jax.tree.map(lambda p: (0.02 * rng.normal(size=p.shape)).astype(np.float32), shapes)
    return gcdiff.Model(config, specs, built, jax.device_put(params))


def waits(answer: Callable) -> float:
    """The longest time between two calls of the callback, up to the answer."""
    calls = [time.perf_counter()]
    answer(progress=lambda _: calls.append(time.perf_counter()))
    calls.append(time.perf_counter())
    return max(np.diff(calls[1:]))


def measure(model: gcdiff.Model, repeats: int) -> dict:
    scene = Streets("heldout", 1, seed=7)[0]
    image, layout = scene.image[None], scene.layout[None]
    seconds: dict[str, dict[int, list[float]]] = {}
    wait: dict[str, dict[int, list[float]]] = {}
    for repeat in range(repeats + 1):  # the first compiles
        for chunk in CHUNKS:
            small = model.sampling(chunk=chunk)
            questions = {
                "segment": lambda m=small, **how: m.segment(image, **how),
                "synthesize": lambda m=small, **how: m.synthesize(layout, TEXT, **how),
                "sample": lambda m=small, **how: m.sample(TEXT, **how),
            }
            with mock.patch.object(runner, "LEAST_CHUNK", chunk):
                for name, answer in questions.items():
                    start = time.process_time()
                    answer()
                    spent = time.process_time() - start
                    longest = waits(answer)
                    if repeat:
                        seconds.setdefault(name, {}).setdefault(chunk, []).append(spent)
                        wait.setdefault(name, {}).setdefault(chunk, []).append(longest)
    table = {}
    for name, by_chunk in seconds.items():
        spent = {chunk: median(values) for chunk, values in by_chunk.items()}
        table[name] = {
            "cpu_seconds": {str(chunk): round(value, 4) for chunk, value in spent.items()},
            "over_chunk_16": {str(chunk): round(spent[chunk] / spent[16], 3) for chunk in CHUNKS[1:]},
            "longest_wait_seconds": {str(chunk): round(median(values), 3) for chunk, values in wait[name].items()},
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, help="a run of configs/streets_unet.py (default: random weights)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "latency.json", metavar="FILE")
    options = parser.parse_args()
    model = untrained() if options.workdir is None else gcdiff.load(options.workdir)
    questions = measure(model, options.repeats)
    for name, row in questions.items():
        print(name)
        for measured, values in row.items():
            print(f"  {measured:22}" + "".join(f"  chunk {chunk}: {value}" for chunk, value in values.items()))
    table = {"cores": len(os.sched_getaffinity(0)), "steps": model.built.defaults.steps, **questions}
    options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
