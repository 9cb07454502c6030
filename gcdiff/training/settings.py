"""The settings of the training loop: duration, how often to evaluate and save, devices."""

from __future__ import annotations

import dataclasses
import math

from gcdiff.training.optim import Optim


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """The sizes of the mesh's axes; one of 0 follows from the other. A copy of the state is cut over `fsdp` devices."""

    data: int = 0
    fsdp: int = 1

    def __post_init__(self):
        for name in ("data", "fsdp"):
            if getattr(self, name) < 0:
                raise ValueError(f"mesh.{name} is {getattr(self, name)}, expected 0 (what the other leaves) or more")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, and how often to log, evaluate and save. Periods are in steps; 0 means at the end
    alone, and -1, for evaluations and pictures, never.

    Training ends after `steps`, or after `minutes` if that comes first. The minutes count from the first step on, with
    compilation, evaluations, pictures and saves, and go on counting when a run is resumed; the last evaluation, picture
    and save come on top.

    `pause_minutes` bounds a start of the run, not the training: after so many minutes of its steps alone, without
    compilation, evaluations, pictures and saves, it saves and stops as on a signal, and the same command goes on for as
    many minutes again. The learning rate knows nothing of it: the end is the one that an undisturbed run comes to.

    With `accumulate` a batch goes through the network in so many parts, with the same gradient
    and less memory; features that are dropped are others. After `max_skipped` steps in a row whose loss or gradient is
    not finite, training goes back to its last checkpoint, once. With `tensorboard` numbers, pictures and distributions
    of held-out losses are written as events too.

    Of the checkpoints stay the newest `keep`, the best by the held-out number `keep_best` (the highest, or the lowest
    where a '-' stands before its name) of those that are both evaluated and saved, and every step that `keep_every`
    divides.

    After the part `worse` of the steps the averaged parameters are kept beside the run's files, as an export in the
    folder `worse`: the worse model of autoguidance. 0 keeps none.
    """

    steps: int = 1000
    minutes: float | None = None
    pause_minutes: float | None = None
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 500
    sample_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    keep_best: str = ""
    keep_every: int = 0
    worse: float = 0.0
    accumulate: int = 1
    max_skipped: int = 5
    tensorboard: bool = False
    optim: Optim = Optim()
    mesh: MeshSizes = MeshSizes()

    def __post_init__(self):
        for name in ("steps", "keep", "log_every", "accumulate", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name, least in (("evaluate_every", -1), ("sample_every", -1), ("checkpoint_every", 0), ("keep_every", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if not 0 <= self.worse < 1:
            raise ValueError(f"worse is {self.worse}, expected a part of the steps, 0 (none) to below 1")
        for name in ("minutes", "pause_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, expected more than 0 or None")

    def due(self, step: int, last: bool) -> tuple[bool, bool, bool]:
        """Whether to evaluate, to draw pictures and to save after `step` steps; `last` is whether it is the last."""
        evaluate, sample, save = (
            every >= 0 and (last or (every > 0 and step % every == 0))
            for every in (self.evaluate_every, self.sample_every, self.checkpoint_every)
        )
        return evaluate, sample, save

    @property
    def worse_step(self) -> int:
        """The step after which the worse model is kept; 0 for none."""
        return round(self.worse * self.steps)

    def share_done(self, step: int, seconds: float) -> float:
        """The share of training that is done after `step` steps and `seconds`; 1 or more at the end."""
        return max(step / self.steps, seconds / (60 * self.minutes) if self.minutes else 0.0)

    def left(self, seconds: float) -> float:
        """The seconds that `minutes` leave after `seconds`; infinite without."""
        return 60 * self.minutes - seconds if self.minutes else math.inf

    def over(self, seconds: float) -> bool:
        """Whether a start of the run whose steps have taken `seconds` is to stop."""
        return self.pause_minutes is not None and seconds >= 60 * self.pause_minutes
