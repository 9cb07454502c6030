"""The training loop, for any `Task` and source of batches: steps, evaluations, checkpoints, signals.

The order within a step is: evaluate, draw pictures, save, and only then take the next batch, so that a checkpoint at
step n has seen batches 0 to n-1 and `batches(n)` goes on exactly there. The loop never waits for the step it has just
started: metrics are read one step late, while the device works on the next one, whose batch is on its way to the device
by then.

Several processes run the same loop. What only one of them knows, that it is to stop and how late it is, travels with a
step and is read with its metrics: all decide alike, at the same step.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from gcdiff import parallel
from gcdiff.jobs.progress import Progress
from gcdiff.jobs.stop import Interrupted, Left, Paused, Stop, stop_on_signal
from gcdiff.training.checkpoint import Checkpointer
from gcdiff.training.health import Diverged, Health
from gcdiff.training.keep import Keep
from gcdiff.training.meter import Meter, compiled_line, device_line, peak_flops, step_flops
from gcdiff.training.profile import Profile
from gcdiff.training.program import GO, PAUSE, SIGNAL, update_program, votes_of
from gcdiff.training.settings import TrainConfig
from gcdiff.training.snapshots import MOST, Snapshots, disk_use
from gcdiff.training.state import TrainState, create_state
from gcdiff.training.task import Task, split_numbers
from gcdiff.training.window import Window
from gcdiff.training.writer import Writer, has_numbers, has_pictures, make_writable

__all__ = ["Diverged", "Interrupted", "TrainConfig", "train"]


def train(
    task: Task,
    batches: Callable[..., Iterator[Any]],
    workdir: str | Path,
    settings: TrainConfig,
    documents: Any = None,
    devices: Sequence[Any] | None = None,
    stop: Stop | None = None,
    name: str = "",
    profile: int = 0,
    keep_worse: Callable[[Any], None] | None = None,
) -> TrainState:
    """Train `task` in `workdir`, from its newest checkpoint if it has one, and return the last state.

    `batches(step)` yields the batches of steps `step`, `step + 1`, ... as pytrees of numpy arrays, batch first (of
    several processes each yields its share); the same step must always give the same batch, and an array must not be
    written to once it has been yielded. A resumed run then equals an uninterrupted one bit for bit (with `minutes`, as
    far as the clock allows). `batches(step, order=1)` is asked for other ones, once steps have been skipped too often.

    `documents` is what a checkpoint keeps as the run's config, in JSON. Trains on `devices`, all by default. `stop` is
    given where several runs share a process, `name` then tells them apart. `profile` steps are traced into `profile/`.
    `keep_worse` is called with the averaged parameters, on the host, after step `settings.worse_step`.

    Leaves `metrics.jsonl` (train/..., time/..., eval/...), `samples/`, `checkpoints/` and, with `optim.ema_profiles`, a
    snapshot of these averages in `snapshots/` with every checkpoint. Raises Diverged, Interrupted, Paused, and
    ValueError for a directory that cannot be written, a checkpoint of another configuration, or a bad batch size.
    """
    workdir = make_writable(workdir)
    mesh = parallel.device_mesh(settings.mesh.data, settings.mesh.fsdp, devices)
    keep = Keep(settings.keep, settings.keep_best, settings.keep_every)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal()) if stop is None else stop
        quiet, prefix = jax.process_index() > 0, f"{name}: " if name else ""
        progress = stack.enter_context(contextlib.closing(Progress(settings.steps, prefix=prefix, quiet=quiet)))
        trace = stack.enter_context(contextlib.closing(Profile(workdir, profile, progress.say)))
        checkpoints = stack.enter_context(contextlib.closing(Checkpointer(workdir / "checkpoints", keep)))
        run = _Run(task, batches, workdir, settings, documents, mesh, stop, progress, trace, checkpoints, keep_worse)
        stack.callback(lambda: run.writer and run.writer.close())
        return run.go()


class _Run:
    """A run in a directory. At the top of its loop `state` has seen `step` batches."""

    def __init__(
        self, task, batches, workdir, settings, documents, mesh, stop, progress, trace, checkpoints, keep_worse
    ):
        self.task, self.batches, self.workdir, self.settings = task, batches, workdir, settings
        self.documents, self.keep_worse = documents, keep_worse or (lambda params: None)
        self.mesh, self.stop, self.progress, self.trace, self.checkpoints = mesh, stop, progress, trace, checkpoints
        self.writer: Writer | None = None
        self.alone = jax.process_count() == 1
        self.seed = np.uint32(settings.seed)  # an argument: runs of other seeds need no other programs
        create = functools.partial(create_state, task, settings.optim)
        shapes = jax.eval_shape(create, self.seed)
        self.places = parallel.state_shardings(shapes, mesh)
        self.create = functools.partial(jax.jit(create, out_shardings=self.places), self.seed)
        self.target = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, self.places
        )
        self.unread: list[tuple[int, Mapping[str, jax.Array]]] = []
        self.agreed = 0.0, GO  # of the last step that was read: the share that is done, and whether to stop
        self.numbers: dict[int, dict[str, float]] = {}  # of the last evaluation, by its step

    def go(self) -> TrainState:
        """Train to the end."""
        settings, progress = self.settings, self.progress
        restored = self.checkpoints.restore(self.target)
        meta = restored[1]["meta"] if restored is not None else {"step": 0, "seconds": 0.0}
        done, owed = settings.share_done(meta["step"], meta["seconds"]), self.owed(meta)
        if done >= 1 and not owed:
            progress.say(f"{self.workdir}: finished at step {meta['step']}, nothing to do")
            return restored[0]
        self.clock, self.agreed = time.monotonic() - meta["seconds"], (done, GO)
        progress.say(device_line(self.mesh))
        self.take_up(restored)
        if self.snapshots is not None:
            most = f"at most {MOST} snapshots of averages, {disk_use(self.target.profiles) / 1e6:.3g} MB"
            progress.say(f"{self.snapshots.directory}: {most}")
        if restored is not None:
            progress.say(f"{self.workdir}: going on from step {self.step}")
        try:
            if owed:
                self.look(**owed)
            if done >= 1:
                return self.state
            self.compile()
            return self.loop()
        except Left:
            self.save()
            raise self.interrupted(SIGNAL) from None

    def owed(self, meta: Mapping[str, Any]) -> dict[str, bool]:
        """The arguments of `look` for what a signal prevented at the step of a checkpoint; {} if nothing is missing."""
        step = meta["step"]
        evaluate, sample, _ = self.settings.due(step, self.settings.share_done(step, meta["seconds"]) >= 1)
        owed = {
            "evaluate": evaluate and not has_numbers(self.workdir, step),
            "sample": sample and not has_pictures(self.workdir, step),
        }
        return owed if step > 0 and any(owed.values()) else {}

    def take_up(self, restored: tuple[TrainState, dict] | None, order: int = 0) -> None:
        """Set the state, the position in the data and the logs to those of a checkpoint, or of the start."""
        if restored is None:
            self.progress.note(0, "compiling")
            state, documents = self.create(), {"meta": {"step": 0, "window": {}}}
        else:
            state, documents = restored
        meta, order = documents["meta"], order or documents.get("data", {}).get("order", 0)
        self.state, self.step, self.start, self.ahead = state, meta["step"], meta["step"], None
        self.snapshots = Snapshots(self.workdir / "snapshots", self.step) if self.target.profiles else None
        self.health = Health(self.settings.max_skipped, order)
        if self.writer is not None:
            self.writer.close()
        self.writer = Writer(self.workdir, self.step, self.settings.tensorboard)
        self.window = Window(meta["window"])
        self.unread.clear()
        self.source = self.batches(self.step, order=order) if order else self.batches(self.step)

    def compile(self) -> None:
        """Compile the step for the first batch."""
        settings, mesh = self.settings, self.mesh
        self.progress.note(self.step, "compiling")
        self.ahead = self.fetch()
        examples = len(jax.tree.leaves(self.ahead)[0])
        parallel.check_divisible(examples, mesh, settings.accumulate)

        program = update_program(self.task, settings, mesh, self.places)
        start, votes = time.monotonic(), votes_of(mesh, 0.0, GO)
        self.update = self.wait_for(lambda: program.lower(self.target, self.ahead, votes, self.seed).compile())
        parts = settings.accumulate
        self.progress.say(compiled_line(self.update, time.monotonic() - start, parts))
        peak = peak_flops(mesh.devices.flat[0].device_kind, self.task.precision)
        self.meter = Meter(examples, step_flops(self.update, parts), peak)

    def wait_for(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a long call, which a signal abandons; with several processes it is waited for."""
        return self.stop.run(function, *arguments) if self.alone else function(*arguments)

    def loop(self) -> TrainState:
        """Run steps until the last one, and return the state."""
        settings = self.settings
        while True:
            seconds = time.monotonic() - self.clock
            own = settings.share_done(self.step, seconds), self.wish()
            share, stop = own if self.alone else self.agreed
            last, new = max(share, self.step / settings.steps) >= 1, self.step > self.start
            evaluate, sample, save = (new and due for due in settings.due(self.step, last))
            save |= stop > GO and new
            worse = new and self.step == settings.worse_step
            if (evaluate or sample or save or worse) and not self.read(keep=0):
                continue
            if last and self.window.count:
                self.log(self.step)
            with self.meter.paused():
                self.look(evaluate, sample)
                if worse:  # first: a run that has a later checkpoint also has its worse model
                    self.keep_worse(parallel.to_host(self.averaged()))
                if save:
                    self.save()
            if last:
                self.checkpoints.wait()
                return self.state
            if stop > GO:
                raise self.interrupted(stop)
            with self.meter.waiting():
                batch, self.ahead = self.fetch() if self.ahead is None else self.ahead, None
            self.step += 1
            self.trace.before(self.step)
            self.state, metrics = self.update(self.state, batch, votes_of(self.mesh, *own), self.seed)
            self.trace.after(self.step, metrics)
            self.meter.step()
            self.unread.append((self.step, metrics))
            if self.read(keep=1):
                self.progress.update(self.step, self.window.recent, settings.left(seconds))

    def fetch(self) -> Any:
        """Read the next batch, and start its copy to the devices."""
        batch = next(self.source, None)
        if batch is None:
            raise ValueError(f"the batches ended at step {self.step} of {self.settings.steps}")
        return parallel.shard_batch(batch, self.mesh)

    def wish(self) -> float:
        """What this process alone would do now: go on, pause (after a step at least), or stop on its signal."""
        over = self.step > self.start and self.settings.over(self.meter.total)
        return SIGNAL if self.stop else PAUSE if over else GO

    def read(self, keep: int) -> bool:
        """Fetch, check and log all but the newest `keep` metrics. Returns False where training went back."""
        while len(self.unread) > keep:
            number, metrics = self.unread.pop(0)
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            self.agreed = values.pop("share"), values.pop("stop")
            bad = self.health.look_at(number, values)
            if bad:
                self.progress.say(bad)
                self.window.skip()
                if self.health.too_bad:
                    self.go_back(number)
                    return False
            else:
                self.window.add(values)
            if number % self.settings.log_every == 0:
                self.log(number)
        return True

    def go_back(self, number: int) -> None:
        """Go on from the last good checkpoint, or from the start, with other batches; once."""
        self.checkpoints.wait()
        good = self.checkpoints.latest()
        where = "the start" if good is None else f"the checkpoint of step {good}"
        if self.health.order:
            raise Diverged(number, f"{self.health.story()}, also with other batches; the last good state is {where}")
        self.progress.say(f"{self.health.story()}: going back to {where}, with other batches from there")
        del self.state  # makes room
        self.take_up(self.checkpoints.restore(self.target), order=1)

    def log(self, number: int) -> None:
        means = {f"train/{name}": value for name, value in self.window.means().items()}
        seconds = round(time.monotonic() - self.clock, 2)
        self.writer.scalars(number, {**means, **self.meter.numbers(), "seconds": seconds})
        self.window.clear()

    def look(self, evaluate: bool, sample: bool) -> None:
        """Evaluate and draw pictures by the averaged parameters, and log both."""
        params = self.averaged() if evaluate or sample else None
        if evaluate:
            self.progress.note(self.step, "evaluating")
            numbers, distributions = split_numbers(self.wait_for(self.task.evaluate, params, self.step))
            self.numbers = {self.step: numbers}
            values = {f"eval/{name}": value for name, value in numbers.items()}
            self.writer.scalars(self.step, values)
            self.writer.histograms(self.step, {f"eval/{name}": value for name, value in distributions.items()})
            self.progress.say("  ".join([f"step {self.step}", *(f"{n} {value:.4g}" for n, value in values.items())]))
        if sample:
            self.progress.note(self.step, "drawing pictures")
            try:
                pictures = self.wait_for(self.task.sample, params, self.step)
            except (ValueError, TypeError, RuntimeError) as error:  # no reason to lose a training
                self.progress.say(f"step {self.step}: pictures could not be drawn ({' '.join(str(error).split())})")
            else:
                self.writer.pictures(self.step, pictures)

    def averaged(self) -> Any:
        """The averaged parameters, whole on every device."""
        params = self.state.averaged
        if self.mesh.shape["fsdp"] > 1:
            params = jax.jit(lambda p: p, out_shardings=NamedSharding(self.mesh, parallel.WHOLE))(params)
        return params

    def save(self) -> None:
        """Save, unless nothing has been done since the last time."""
        if self.step == self.start:
            return
        self.progress.note(self.step, "saving")
        if self.snapshots is not None:  # first: a run that has a checkpoint of a step also has its snapshot
            self.snapshots.save(self.step, self.state.profiles)
        meta = {"step": self.step, "seconds": time.monotonic() - self.clock, "window": self.window.sums}
        documents = {"meta": meta, "data": {"batch": self.step, "order": self.health.order}, "config": self.documents}
        self.checkpoints.save(self.step, self.state, documents, self.numbers.get(self.step, {}))

    def interrupted(self, why: float) -> Interrupted:
        self.checkpoints.wait()
        over = f" of {self.settings.steps}, after {self.settings.pause_minutes:g} minutes" if why < SIGNAL else ""
        message = f"stopped at step {self.step}{over}; the same command goes on from there"
        return (Interrupted if why == SIGNAL else Paused)(self.stop.signum, message, self.stop.left)
