"""Profiling: a trace of a few training steps on the devices and the host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

SKIPPED = 3
"""So many steps of a start are not traced: the first compiles, and those after it fill the caches."""


class Profile:
    """Traces `steps` training steps of a start of the run, after its first `SKIPPED`, into workdir/profile.

    Process 0 alone traces, each start into a folder of its own; with `steps` 0 nothing is traced.

    The loop calls `before` and `after` around each step, and `close` at its end, which ends a trace that is going on.
    """

    def __init__(self, workdir: Path, steps: int, say: Callable[[str], None] = print):
        self._directory, self._say = workdir / "profile", say
        self._first, self._last = SKIPPED + 1, SKIPPED + steps
        self._done = steps == 0 or jax.process_index() != 0
        self._count, self._result = 0, None
        self._step = contextlib.ExitStack()
        self._tracing = False

    def before(self, step: int) -> None:
        """To be called before step `step` starts."""
        if self._done:
            return
        self._count += 1
        if self._count == self._first:
            jax.profiler.start_trace(str(self._directory))
            self._tracing = True
        if self._tracing:
            self._step.enter_context(jax.profiler.StepTraceAnnotation("train", step_num=step))

    def after(self, step: int, result: Any) -> None:
        """To be called after step `step` was started, with `result`: arrays of it that no later step overwrites.

        They are waited for before a trace starts and before it ends, so that a trace holds whole steps.
        """
        if self._done:
            return
        self._step.close()
        self._result = result
        if self._count == self._first - 1:
            jax.block_until_ready(result)
        elif self._count == self._last:
            self.close()

    def close(self) -> None:
        """End a trace that is going on, and say where it is."""
        self._done = True
        if not self._tracing:
            return
        self._tracing = False
        self._step.close()
        jax.block_until_ready(self._result)
        jax.profiler.stop_trace()
        steps = self._count - self._first + 1
        self._say(
            f"{self._directory}: {steps} steps traced; xprof --logdir {self._directory} shows them (pip install "
            "xprof), or open the newest *.trace.json.gz below it in ui.perfetto.dev"
        )
