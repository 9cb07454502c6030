"""What a training run does beside its compiled step, and how much memory a fully sharded state takes on each device.

    python benchmarks/training.py [--steps 50] [--rounds 2] [--json FILE]

Time: the training loop on configs/streets_unet.py, held-out numbers and pictures apart, in stretches of so many steps
with and without saves, each between two stretches of the compiled step alone, which is given one batch again and again.
Machines are noisy: what is reported are ratios to the mean of the two neighbours, of the time that passes and of that
which the process spends on all cores, which other programs disturb less. The loop logs every 10 steps, twice
as often as it does by default. The cost of a save is the difference between the stretches with and without; the
overhead at the config's own distance between saves is made of it. In `shares`, `step` is the compiled step; `waiting`,
`saving` and `logging` are what the host spends in these calls, some of it while the device still computes; `rest` is
what they leave of the whole.

Memory: parameters, averages and optimiser state, cut by `gcdiff.parallel.state_shardings` over 8 simulated devices:
bytes on the first device as a share of all. Of the streets model the arrays are made and their shards added up; of the
paper's base network (697 million parameters) shapes alone are.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gcdiff import config as configs
from gcdiff import parallel
from gcdiff.jobs.progress import Progress
from gcdiff.training import loop
from gcdiff.training.checkpoint import Checkpointer
from gcdiff.training.state import create_state, train_step
from gcdiff.training.writer import Writer
from gcdiff.types import ImageSpec, LabelSpec

CONFIGS = Path(__file__).parents[1] / "configs"
LOG_EVERY = 10
WARM = LOG_EVERY  # steps of the loop that are not measured: the first compiles
DEVICES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50, help="of a stretch, a multiple of 10 from 20 on (default: 50)")
    parser.add_argument("--rounds", type=int, default=2, help="with and without saves (default: 2)")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "training.json")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps({"streets": streets_memory(), "gcdp_base_128": paper_memory()}))
        return
    if options.steps < 20 or options.steps % LOG_EVERY or options.rounds < 1:
        parser.error("expected --steps a multiple of 10 from 20 on, and --rounds at least 1")
    command = [sys.executable, __file__, "--memory"]
    memory = subprocess.run(
        command, env=os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/compiled")  # every stretch compiles the same step
        results = time_of_training(Path(folder), options.steps, options.rounds)
    results[f"memory_on_one_of_{DEVICES}_devices"] = json.loads(memory.stdout)
    print(json.dumps(results, indent=1))
    options.json.write_text(json.dumps(results, indent=1) + "\n")


class Stretch(NamedTuple):
    """Seconds a step of the loop took, those of all cores together, and those it spent a step in its parts."""

    step: float
    cores: float
    waiting: float
    saving: float
    logging: float


class TrainingAlone:
    """A task without held-out numbers and pictures."""

    def __init__(self, task: Any):
        self.init, self.draw, self.loss_of = task.init, task.draw, task.loss_of

    def evaluate(self, params: Any, step: int) -> dict:
        return {}

    def sample(self, params: Any, step: int) -> dict:
        return {}


def time_of_training(folder: Path, steps: int, rounds: int) -> dict:
    config = configs.load_file(str(CONFIGS / "streets_unet.py"))
    data = configs.splits(config)
    specs, training = configs.build_specs(config, data.train), configs.train_config(config)
    task, batches = configs.build_task(config, specs, data), configs.batches(config, specs, data)
    every = max(2 * LOG_EVERY, steps // 2 - steps // 2 % LOG_EVERY)
    common = {"minutes": None, "log_every": LOG_EVERY, "evaluate_every": 0, "sample_every": 0}
    plain = dataclasses.replace(training, steps=WARM + steps, checkpoint_every=0, **common)
    saving = dataclasses.replace(plain, checkpoint_every=every)
    saves = sum(WARM < step < WARM + steps for step in range(every, WARM + steps, every))
    bare = Bare(task, training.optim, next(batches(0)))

    alone, without, with_saves = [bare.seconds(steps)], [], []
    for number in range(rounds):
        for times, chosen in ((without, plain), (with_saves, saving)):
            times.append(
                stretch(TrainingAlone(task), batches, folder / f"{number}{len(times)}{chosen is saving}", chosen)
            )
            alone.append(bare.seconds(steps))
    around = [(before.step + after.step) / 2 for before, after in zip(alone, alone[1:], strict=False)]

    def ratio(stretches: list[Stretch], neighbours: list[float]) -> float:
        return float(np.mean([s.step / n for s, n in zip(stretches, neighbours, strict=True)]))

    unsaved, saved = ratio(without, around[::2]), ratio(with_saves, around[1::2])
    one_save = (saved - unsaved) * steps / saves  # in steps
    rarely = unsaved + one_save / training.checkpoint_every
    parts = Stretch(*np.mean([np.array(s) / s.step for s in with_saves], axis=0))._asdict() | {"step": 1 / saved}
    del parts["cores"]
    pairs = zip(alone[::2], alone[1::2], strict=False)  # around the stretches without saves
    on_cores = [2 * s.cores / (a.cores + b.cores) for s, (a, b) in zip(without, pairs, strict=True)]
    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "batch": config.train.batch_size,
        "steps": steps,
        "rounds": rounds,
        "ms_per_step_alone": [round(1e3 * bare.step, 1) for bare in alone],
        "overhead_percent": {
            "without saves": round(100 * (unsaved - 1), 2),
            "without saves, in seconds of the cores": round(100 * (float(np.mean(on_cores)) - 1), 2),
            f"{saves} saves in {steps} steps": round(100 * (saved - 1), 2),
            f"a save every {training.checkpoint_every} steps": round(100 * (rarely - 1), 2),
        },
        "a_save_in_steps": {
            "in all": round(one_save, 3),
            "in its call": round(parts["saving"] * saved * steps / saves, 3),
        },
        "a_step_in_parts_over_one": time_of_parts(task, training.optim, next(batches(0))),
        "shares": {name: round(share, 4) for name, share in (parts | {"rest": 1 - sum(parts.values())}).items()},
    }


def time_of_parts(task: Any, optim: Any, batch: Any) -> dict[str, float]:
    """How much longer a step takes whose batch goes through the network in parts: the best of several in turn."""
    steps = {parts: Bare(task, optim, batch, parts) for parts in (1, 2, 4)}
    best = {parts: min(steps[parts].seconds(3).step for _ in range(4)) for parts in steps}
    return {f"{parts} parts": round(best[parts] / best[1], 3) for parts in (2, 4)}


class Bare:
    """The compiled step alone, on a batch that is on the device, one step in flight as in the loop."""

    def __init__(self, task: Any, optim: Any, batch: Any, accumulate: int = 1):
        self.state = jax.jit(functools.partial(create_state, task, optim, 0))()
        self.batch = parallel.shard_batch(batch, parallel.device_mesh())
        update = functools.partial(train_step, task, optim, 0, accumulate=accumulate)
        self.step = jax.jit(update, donate_argnums=0)
        self.seconds(3)

    def seconds(self, steps: int) -> Stretch:
        """Seconds a step."""
        start, spent, before = time.perf_counter(), time.process_time(), None
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch, np.float32(0))
            jax.block_until_ready(before)
            before = metrics
        jax.block_until_ready(before)
        seconds, cores = time.perf_counter() - start, time.process_time() - spent
        return Stretch(seconds / steps, cores / steps, 0.0, 0.0, 0.0)


def stretch(task: Any, batches: Any, workdir: Path, config: loop.TrainConfig) -> Stretch:
    """The loop from its step WARM to its last one, by the seconds in its log: those at which a step was done."""
    timed, spent = {"waiting": [], "saving": [], "logging": []}, {}

    def source(first: int):
        stream, number = batches(first), first
        while True:
            spent[number] = time.process_time()
            if number == WARM:
                for seconds in timed.values():
                    seconds.clear()
            with clocked(timed["waiting"]):
                batch = next(stream)
            yield batch
            number += 1

    calls = ((Checkpointer, "save", "saving"), (Writer, "scalars", "logging"), (Progress, "update", "logging"))
    with contextlib.ExitStack() as undone:
        for cls, name, part in calls:
            undone.callback(setattr, cls, name, getattr(cls, name))
            setattr(cls, name, during(getattr(cls, name), timed[part]))
        loop.train(task, source, workdir, config)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    done = {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    steps = config.steps - WARM
    waiting = sum(timed["waiting"]) / steps
    if shares := [line["time/waiting"] for line in lines if "time/waiting" in line and line["step"] > WARM]:
        waiting = np.mean(shares) * (done[config.steps] - done[WARM]) / steps  # batches may be asked for ahead of time
    saving = sum(timed["saving"][:-1]) / steps  # the last one comes when all steps are done
    cores = (spent[config.steps - 1] - spent[WARM]) / (steps - 1)
    return Stretch((done[config.steps] - done[WARM]) / steps, cores, waiting, saving, sum(timed["logging"]) / steps)


def during(method: Any, seconds: list[float]) -> Any:
    """A method that notes how long it takes."""

    @functools.wraps(method)
    def call(*arguments, **named):
        with clocked(seconds):
            return method(*arguments, **named)

    return call


@contextlib.contextmanager
def clocked(seconds: list[float]):
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def streets_memory() -> dict:
    config = configs.load_file(str(CONFIGS / "streets_unet.py"))
    data = configs.splits(config)
    specs = configs.build_specs(config, data.train)
    task = configs.build_task(config, specs, data)
    shapes = jax.eval_shape(functools.partial(create_state, task, configs.train_config(config).optim, 0))
    mesh = parallel.device_mesh(fsdp=DEVICES)
    state = jax.tree.map(
        lambda leaf, place: jax.device_put(np.zeros(leaf.shape, leaf.dtype), place),
        shapes, parallel.state_shardings(shapes, mesh),
    )  # fmt: skip
    first = mesh.devices.flat[0]
    shards = [shard.data for a in jax.tree.leaves(state) for shard in a.addressable_shards if shard.device == first]
    return shares_of(sum(a.nbytes for a in shards), shapes)


def paper_memory() -> dict:
    config = configs.load_file(str(CONFIGS / "gcdp_base_128.py"))
    config.text.encoder = "given"  # captions come as features, wherever they are from
    labels = LabelSpec(tuple(map(str, range(19))), ((0, 0, 0),) * 19)
    specs = configs.Specs(ImageSpec(), labels, None, "")
    built = configs.build(config, specs)

    class Fresh:
        def init(self, key):
            return configs.initial_params(built, config, specs)

    shapes = jax.eval_shape(functools.partial(create_state, Fresh(), configs.train_config(config).optim, 0))
    places = parallel.state_shardings(shapes, parallel.device_mesh(fsdp=DEVICES))
    pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(places), strict=True)
    return shares_of(sum(size(place.shard_shape(leaf.shape), leaf.dtype) for leaf, place in pairs), shapes)


def size(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def shares_of(there: int, shapes: Any) -> dict:
    """The bytes of a device beside those of a whole state, of leaves with shapes and types."""
    whole = sum(size(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(shapes))
    mib = {"whole_mib": round(whole / 2**20, 1), "device_mib": round(there / 2**20, 1)}
    return {**mib, "share": round(there / whole, 5), "of_an_equal_share": round(DEVICES * there / whole, 4)}


if __name__ == "__main__":
    main()
