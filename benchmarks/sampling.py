"""Sampling on eight simulated devices beside one, in one run: what it costs to cut the work over devices.

    python benchmarks/sampling.py [--num 256] [--steps 10] [--repeats 3] [--json FILE]

A small model with random weights draws the same pairs, a chunk of 16 at a time on one device and eight chunks side by
side on eight. All devices are threads of this machine's processor, so that nothing is gained where one device keeps it
busy: the ratio of the times says what cutting costs there, or what idle cores it fills. The two take turns; the best
time of each counts. The pairs are compared bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

DEVICES = 8
os.environ.update(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(DEVICES))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from gcdiff import config as configs  # noqa: E402
from gcdiff import parallel  # noqa: E402
from gcdiff.api import Model  # noqa: E402
from gcdiff.types import ImageSpec  # noqa: E402
from gcdiff.worlds.streets.appearance import LABELS  # noqa: E402


def models(steps: int) -> dict[int, Model]:
    """The same model on one device and on all, by their number."""
    config = configs.default()
    config.data.size = (16, 32)
    config.network.update(dim=32, stem=2, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=16, final_dim=32)
    config.text.encoder = "none"
    config.sample.update(steps=steps, chunk=16)
    specs = configs.Specs(ImageSpec(), LABELS, None, "")
    built, rng = configs.build(config, specs), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: configs.initial_params(built, config, specs))
    params = jax.tree.map(lambda p: (0.1 * rng.normal(size=p.shape)).astype(np.float32), shapes)
    models = {}
    for count, mesh in ((1, None), (DEVICES, parallel.device_mesh())):
        parts = built._replace(sampler=dataclasses.replace(built.sampler, mesh=mesh))
        placed = jax.device_put(params) if mesh is None else parallel.place(params, mesh, parallel.WHOLE)
        models[count] = Model(config, specs, parts, placed)
    return models


def measure(num: int, steps: int, repeats: int) -> dict:
    asked, best, drawn = models(steps), {}, {}
    for repeat in range(repeats + 1):  # the first compiles
        for count, model in asked.items():
            start = time.perf_counter()
            drawn[count] = model.sample(num=num)
            seconds = time.perf_counter() - start
            if repeat:
                best[count] = min(best.get(count, seconds), seconds)
    same = all(np.array_equal(a, b) for a, b in zip(*drawn.values(), strict=True))
    return {
        "examples": num, "steps": steps, "chunk": asked[1].config.sample.chunk, "devices": DEVICES,
        "cores": len(os.sched_getaffinity(0)), "seconds_on_one": best[1], "seconds_on_all": best[DEVICES],
        "all_over_one": best[DEVICES] / best[1], "bit_identical": same,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).parent / "results" / "sampling.json", metavar="FILE"
    )
    options = parser.parse_args()
    results = measure(options.num, options.steps, options.repeats)
    for name, value in results.items():
        print(f"{name:16} {value:.3f}" if isinstance(value, float) else f"{name:16} {value}")
    options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
