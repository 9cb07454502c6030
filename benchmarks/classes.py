"""What many classes cost: memory and time of one training step at 19 to 182 classes, in one run.

    python benchmarks/classes.py [--classes 19 60 171 182] [--steps 3] [--json FILE]

The step is that of training: levels and noise drawn, forward, both losses, backward, AdamW and the moving average, on
random images and layouts without text, at 128x128, dim 64, mults (1, 2, 4), two blocks, batch 8, attention at 32x32
alone. Each number of classes is measured with a convolution to the logits and with tied logits. Memory is what XLA
allocates for the compiled step, the state it updates included. The programs take turns; the best time of each counts.
`vs first` compares with the first number of classes and the same kind of logits, `vs conv` with the convolution there.
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import jax
import numpy as np

from gcdiff.config import default
from gcdiff.config.data import Splits, build_specs
from gcdiff.config.tasks import build_task
from gcdiff.data.dataset import Example
from gcdiff.training.optim import Optim
from gcdiff.training.state import create_state, train_step
from gcdiff.types import ImageSpec, LabelSpec


class Noise:
    """Random images and layouts of blocks of 8x8 pixels."""

    def __init__(self, length: int, size: int, classes: int):
        self.name, self.licence, self.length, self.size = "noise", "", length, (size, size)
        self.image = ImageSpec()
        self.labels = LabelSpec(tuple(f"class {k}" for k in range(classes)), ((0, 0, 0),) * classes)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*self.size, self.image.channels), np.uint8)
        blocks = rng.integers(0, self.labels.num_classes, [side // 8 for side in self.size], np.int32)
        return Example(image, blocks.repeat(8, axis=0).repeat(8, axis=1), ("",))


def small(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Small positive numbers, which any part of a training state may hold: the networks' own need a compilation."""
    return jax.numpy.asarray(np.random.default_rng(0).uniform(0, 0.02, leaf.shape).astype(leaf.dtype))


class Program:
    """A compiled training step with its state."""

    def __init__(self, classes: int, tied: bool, size: int, dim: int, batch: int):
        config = default()
        config.data.update(size=(size, size), heldout=batch)
        config.text.encoder = "none"
        config.network.update(
            dim=dim, mults=(1, 2, 4), blocks=(2, 2, 2), attention=(False, False, True), cross_attention=(False,) * 3,
            stem=1, tied=tied,
        )  # fmt: skip
        data = Noise(batch, size, classes)
        task = build_task(config, build_specs(config, data), Splits(data, data, None, None))
        self.batch = task.heldout
        self.state = jax.tree.map(small, jax.eval_shape(functools.partial(create_state, task, Optim(), 0)))
        step = jax.jit(functools.partial(train_step, task, Optim(), 0), donate_argnums=0)
        self.program = step.lower(self.state, self.batch, np.float32(0)).compile()
        plan = self.program.memory_analysis()
        whole = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        self.memory = whole - plan.alias_size_in_bytes  # what is given and returned in the same place counts once
        self.seconds = float("inf")

    def step(self, counts: bool):
        start = time.perf_counter()
        self.state, metrics = jax.block_until_ready(self.program(self.state, self.batch, np.float32(0)))
        if counts:
            self.seconds = min(self.seconds, time.perf_counter() - start)
        if not np.isfinite(metrics["loss"]):
            raise FloatingPointError(f"the loss is {metrics['loss']}")


def measure(options) -> dict[str, dict[str, float]]:
    """The memory in bytes and the seconds of each program, and their ratios."""
    programs = {}
    for tied in (False, True):
        for classes in options.classes:
            name = f"K={classes} {'tied' if tied else 'conv'}"
            start = time.perf_counter()
            programs[tied, classes] = p = Program(classes, tied, options.size, options.dim, options.batch)
            print(f"compiled {name}: {p.memory / 2**20:.0f} MiB, {time.perf_counter() - start:.0f} s", flush=True)
    for turn in range(options.steps + 1):  # the first turn warms up
        start = time.perf_counter()
        for p in programs.values():
            p.step(counts=turn > 0)
        print(f"turn {turn} of {options.steps}: {time.perf_counter() - start:.0f} s", flush=True)
    first = options.classes[0]
    results = {}
    for (tied, classes), p in programs.items():
        same, conv = programs[tied, first], programs[False, first]
        results[f"K={classes} {'tied' if tied else 'conv'}"] = {
            "bytes": p.memory,
            "seconds": p.seconds,
            "memory_vs_first": p.memory / same.memory,
            "time_vs_first": p.seconds / same.seconds,
            "memory_vs_conv": p.memory / conv.memory,
            "time_vs_conv": p.seconds / conv.seconds,
        }
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 60, 171, 182])
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each program")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    results = measure(options)
    print(f"\n{'':16}{'MiB':>9}{'vs first':>10}{'vs conv':>9}{'seconds':>11}{'vs first':>10}{'vs conv':>9}")
    for name, row in results.items():
        print(
            f"{name:16}{row['bytes'] / 2**20:9.0f}{row['memory_vs_first']:10.2f}{row['memory_vs_conv']:9.2f}"
            f"{row['seconds']:11.2f}{row['time_vs_first']:10.2f}{row['time_vs_conv']:9.2f}"
        )
    if options.json:
        setting = {"size": options.size, "dim": options.dim, "batch": options.batch}
        with open(options.json, "w") as file:
            json.dump({**setting, "device": jax.devices()[0].device_kind, **results}, file, indent=2)


if __name__ == "__main__":
    main()
