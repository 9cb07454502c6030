"""Progress lines: units done of how many, units per second, time left."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping


class Progress:
    """The progress line of a long work of `total` units.

    On a terminal it is rewritten in place, elsewhere a new one is printed every `every` seconds. The rate is a moving
    average of units per second. The time that a `note` stands for (compiling, evaluating) is left out of it. Every line
    begins with `prefix`, which tells several works of one process apart. With `quiet` nothing is printed.
    """

    def __init__(
        self, total: int, unit: str = "step", every: float = 10.0, file=None, prefix: str = "", quiet: bool = False
    ):
        self._total, self._unit, self._file = total, unit, file or sys.stderr
        self._prefix, self._quiet = prefix, quiet
        self._terminal = self._file.isatty()
        self._every = 0.1 if self._terminal else every
        self._printed = -math.inf
        self._previous: tuple[int, float] | None = None  # the last step and when it was done; None after a note
        self._count = self._seconds = 0.0

    def note(self, step: int, text: str) -> None:
        """Show what is being done between two steps, after `step` of them."""
        self._previous = None
        if self._terminal or time.monotonic() - self._printed >= self._every:
            self._show(f"{self._unit} {step}/{self._total}  {text}")

    def update(self, step: int, values: Mapping[str, float], limit: float = math.inf) -> None:
        """Show that `step` units are done, with `values` by name, the rate and the time left.

        The time left is at most `limit` seconds: the work ends then anyway.
        """
        now = time.monotonic()
        if self._previous is not None:
            before, then = self._previous
            self._count, self._seconds = 0.98 * self._count + step - before, 0.98 * self._seconds + now - then
        self._previous = step, now
        if now - self._printed < self._every and step < self._total:
            return
        parts = [f"{self._unit} {step}/{self._total}"]
        if self._count > 0 and self._seconds > 0:
            rate = self._count / self._seconds
            left = min((self._total - step) / rate, max(limit, 0.0))
            parts += [f"{rate:.3g} {self._unit}s/s", f"{_clock(left)} left"]
        self._show("  ".join(parts + [f"{name} {value:.4g}" for name, value in values.items()]))

    def say(self, text: str) -> None:
        """Print a line that stays."""
        line = f"{self._prefix}{text}\n"
        self._write(f"\r\x1b[K{line}" if self._terminal else line)

    def close(self) -> None:
        if self._terminal and self._printed > -math.inf:
            self._write("\n")

    def _show(self, line: str) -> None:
        self._printed = time.monotonic()
        width, line = shutil.get_terminal_size().columns - 1, self._prefix + line
        self._write(f"\r{line[:width]}\x1b[K" if self._terminal else line + "\n")

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._file.write(text)
            self._file.flush()


@contextlib.contextmanager
def progress_bar(total: int, unit: str = "step", prefix: str = "") -> Iterator[Callable[[int], None]]:
    """A context with the progress line of a work that shows no values.

    It gives a function to call with the number of units done since the last call.
    """
    progress, done = Progress(total, unit, prefix=prefix), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done, {})

    progress.note(0, "compiling")
    with contextlib.closing(progress):
        yield advance


@contextlib.contextmanager
def job_progress(
    unit: str, start: str = "compiling", values: Callable[[int], Mapping[str, float]] = lambda items: {},
    quiet: bool = False,
) -> Iterator[Callable[[int, int, int], None]]:  # fmt: skip
    """A context with the progress line of a job of `gcdiff.jobs.resumable`, as its `progress`.

    The first call, before anything new is made, shows `start`. `values(items)` are shown beside the count.
    """
    progress = None
    with contextlib.ExitStack() as stack:

        def show(done: int, total: int, items: int) -> None:
            nonlocal progress
            if progress is None:
                progress = stack.enter_context(contextlib.closing(Progress(total, unit, quiet=quiet)))
                if done < total:
                    return progress.note(done, start)
            progress.update(done, values(items))

        yield show


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
