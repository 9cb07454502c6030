"""The training loop. It knows a `Task` and a source of batches, nothing of what is trained.

The order within a step is: evaluate, draw pictures, save, and only then take the next batch, so that a checkpoint at
step n has seen batches 0 to n-1 and `batches(n)` goes on exactly there. The loop never waits for the step it has just
started: metrics are read one step late, while the device works on the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from gcdiff import parallel
from gcdiff.training.checkpoint import Checkpointer
from gcdiff.training.keep import Keep
from gcdiff.training.optim import Optim
from gcdiff.training.snapshots import MOST, Snapshots, disk_use
from gcdiff.training.state import TrainState, create_state, train_step
from gcdiff.training.task import Task
from gcdiff.training.writer import Progress, Writer, make_writable


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train and how often to look. Periods are in steps; 0 means at the end alone.

    Training ends after `steps`, or after `minutes` if that comes first. The minutes count from the first step on, with
    compilation, evaluations, pictures and saves, and go on counting when a run is resumed; the last evaluation, picture
    and save come on top. With `accumulate` a batch goes through the network in so many parts, with the same gradient
    and less memory; features that are dropped are others.

    Of the checkpoints stay the newest `keep`, the best by the held-out number `keep_best` (the highest, or the lowest
    where a '-' stands before its name) of those that are both evaluated and saved, and every step that `keep_every`
    divides.
    """

    steps: int = 1000
    minutes: float | None = None
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 500
    sample_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    keep_best: str = ""
    keep_every: int = 0
    accumulate: int = 1
    optim: Optim = Optim()

    def __post_init__(self):
        for name in ("steps", "keep", "log_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("evaluate_every", "sample_every", "checkpoint_every", "keep_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes is {self.minutes}, expected more than 0 or None")

    def share_done(self, step: int, seconds: float) -> float:
        """The share of training that is done after `step` steps and `seconds`; 1 or more at the end."""
        return max(step / self.steps, seconds / (60 * self.minutes) if self.minutes else 0.0)


class Diverged(FloatingPointError):
    """The loss or its gradient is not finite. `step` counts from 1."""

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class Interrupted(KeyboardInterrupt):
    """Training stopped on `signum` (SIGINT or SIGTERM) after saving a checkpoint."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


def train(
    task: Task,
    batches: Callable[[int], Iterator[Any]],
    workdir: str | Path,
    config: TrainConfig,
) -> TrainState:
    """Train `task` in `workdir`, from its newest checkpoint if it has one, and return the last state.

    `batches(step)` yields the batches of steps `step`, `step + 1`, ... as pytrees of numpy arrays, batch first; the
    same step must always give the same batch, and an array must not be written to once it has been yielded. A resumed
    run then equals an uninterrupted one bit for bit (with `minutes`, as far as the clock allows).

    Leaves `metrics.jsonl` (train/..., eval/...), `samples/`, `checkpoints/` and, with `optim.ema_profiles`, a snapshot
    of these averages in `snapshots/` with every checkpoint. Raises Diverged, Interrupted, and ValueError for a
    directory that cannot be written, a checkpoint of another configuration, or a bad batch size.
    """
    workdir = make_writable(workdir)
    mesh = parallel.device_mesh()
    everywhere = NamedSharding(mesh, parallel.WHOLE)

    # The state: restored, or created under jit.
    create = functools.partial(create_state, task, config.optim, config.seed)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), jax.eval_shape(create))
    checkpoints = Checkpointer(workdir / "checkpoints", Keep(config.keep, config.keep_best, config.keep_every))
    state, documents = checkpoints.restore(target) or (None, {"meta": {"step": 0, "seconds": 0.0, "window": {}}})
    meta = documents["meta"]
    start = meta["step"]
    progress = Progress(config.steps)
    if state is not None and config.share_done(start, meta["seconds"]) >= 1:
        progress.say(f"{workdir}: finished at step {start}, nothing to do")
        return state
    snapshots = Snapshots(workdir / "snapshots", start) if target.profiles else None
    if snapshots is not None:
        size = disk_use(target.profiles) / 1e6
        progress.say(f"{snapshots.directory}: at most {MOST} snapshots of averages, {size:.3g} MB")
    if state is None:
        progress.note(0, "compiling")
        state = jax.jit(create, out_shardings=everywhere)()
    else:
        progress.say(f"{workdir}: going on from step {start}")

    # The step.
    update = functools.partial(train_step, task, config.optim, config.seed, accumulate=config.accumulate)
    step_fn = jax.jit(update, donate_argnums=0, out_shardings=everywhere)
    writer = Writer(workdir, start)
    window = Window(meta["window"])
    unread: list[tuple[int, Mapping[str, jax.Array]]] = []

    def read(keep: int) -> None:
        """Bring all but the newest `keep` metrics to the host, check them, log them."""
        while len(unread) > keep:
            number, metrics = unread.pop(0)
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            for name in ("loss", "grad_norm"):
                if not math.isfinite(values[name]):
                    checkpoints.wait()
                    good = checkpoints.latest()
                    rest = "there is no checkpoint" if good is None else f"the last good checkpoint is step {good}"
                    raise Diverged(number, f"step {number}: {name} is {values[name]}, training stopped; {rest}")
            window.add(values)
            if number % config.log_every == 0:
                log(number)

    def log(number: int) -> None:
        means = {f"train/{name}": value for name, value in window.means().items()}
        writer.scalars(number, means | {"seconds": round(time.monotonic() - clock, 2)})
        window.clear()

    # The loop. At its top `state` has seen `step` batches.
    clock = time.monotonic() - meta["seconds"]
    with contextlib.closing(checkpoints), contextlib.closing(progress), stop_on_signal() as stop:
        source = batches(start)
        progress.note(start, "compiling")
        step = start
        while True:
            seconds = time.monotonic() - clock
            share = config.share_done(step, seconds)
            last = share >= 1
            evaluate, sample, save = (
                step > start and (last or (every > 0 and step % every == 0))
                for every in (config.evaluate_every, config.sample_every, config.checkpoint_every)
            )
            save |= bool(stop) and step > start
            if evaluate or sample or save:
                read(keep=0)
            if last and window.count:
                log(step)
            numbers: Mapping[str, float] = {}
            if evaluate:
                progress.note(step, "evaluating")
                numbers = task.evaluate(state.ema, step)
                values = {f"eval/{name}": value for name, value in numbers.items()}
                writer.scalars(step, values)
                progress.say("  ".join([f"step {step}"] + [f"{name} {value:.4g}" for name, value in values.items()]))
            if sample:
                progress.note(step, "drawing pictures")
                writer.pictures(step, task.sample(state.ema, step))
            if save:
                progress.note(step, "saving")
                if snapshots is not None:  # first: a run that has a checkpoint of a step also has its snapshot
                    snapshots.save(step, state.profiles)
                meta = {"step": step, "seconds": seconds, "window": window.sums}
                checkpoints.save(step, state, {"meta": meta}, numbers)
            if last or stop:
                checkpoints.wait()
            if last:
                return state
            if stop:
                raise Interrupted(stop[0], f"stopped at step {step}; the same command goes on from there")

            batch = next(source, None)
            if batch is None:
                raise ValueError(f"the batches ended at step {step} of {config.steps}")
            state, metrics = step_fn(state, parallel.shard_batch(batch, mesh), np.float32(share))
            step += 1
            unread.append((step, metrics))
            read(keep=1)
            limit = 60 * config.minutes - seconds if config.minutes else math.inf
            progress.update(step, window.recent, limit)


UNSEEN = ("grad_norm", "learning_rate")  # logged, but left out of the progress line


class Window:
    """Sums of metrics since the last line of the log. It is saved with a checkpoint, so that a resumed run logs the
    same means."""

    def __init__(self, sums: Mapping[str, list]):
        self.sums = {name: list(pair) for name, pair in sums.items()}  # name -> [count, sum]
        self.recent: dict[str, float] = {}  # what a person sees: the means, also just after `clear`

    @property
    def count(self) -> int:
        return max((count for count, _ in self.sums.values()), default=0)

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            count, total = self.sums.get(name, (0, 0.0))
            self.sums[name] = [count + 1, total + value]
        self.recent = {name: value for name, value in self.means().items() if name not in UNSEEN}

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (count, total) in self.sums.items()}

    def clear(self) -> None:
        self.sums = {}


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them; a second signal does what it always does."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # python delivers signals to the main thread alone
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: Any) -> None:
        received.append(number)
        restore()
        os.write(2, b"\nstopping after this step; again to stop at once\n")

    for number in previous:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()
