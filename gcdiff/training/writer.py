"""Logs of a run: numbers as JSON lines, pictures as PNG files, and events for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from gcdiff.training.events import Events


def make_writable(directory: str | Path) -> Path:
    """Create `directory` if need be and make sure that files can be written there. Raises ValueError if not."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"{directory}: cannot be written to ({error.strerror})") from None
    return directory


class Writer:
    """Writes `metrics.jsonl` and `samples/` in `workdir`, and with `tensorboard` events in `tensorboard/`.

    Lines of steps after `step` are dropped first, so that a resumed run logs nothing twice. The events hold the same
    numbers and pictures, and histograms. Of several processes the first one alone writes.

    Raises ValueError where tensorboardX is not installed, and OSError, in one line, for what cannot be written.
    """

    def __init__(self, workdir: Path, step: int = 0, tensorboard: bool = False):
        self._samples = workdir / "samples"
        self._metrics = workdir / "metrics.jsonl"
        self._events: Events | None = None
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        if tensorboard:
            self._events = Events(workdir / "tensorboard", step)
        if self._metrics.exists():
            kept = [line for line in self._metrics.read_text().splitlines() if _step_of(line) <= step]
            partial = self._metrics.with_suffix(".partial")
            partial.write_text("".join(line + "\n" for line in kept))
            os.replace(partial, self._metrics)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line: the step and `values`; numbers that are not finite become null, and no event."""
        if not self._writes:
            return
        numbers = {name: float(value) for name, value in values.items()}
        line = {"step": step} | {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        with _named(self._metrics), self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._events is not None:
            with _named(self._events.directory):
                self._events.scalars(step, {name: x for name, x in numbers.items() if math.isfinite(x)})

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write histograms of the finite values of arrays of any shape, as events alone: metrics.jsonl has none."""
        if self._events is not None:
            with _named(self._events.directory):
                self._events.histograms(step, values)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write uint8 (H, W, 3) pictures as samples/<step>_<name>.png."""
        if not self._writes:
            return
        with _named(self._samples):
            self._samples.mkdir(exist_ok=True)
            for name, picture in pictures.items():
                partial = self._samples / f"{step:07d}_{name}.partial"
                Image.fromarray(np.asarray(picture)).save(partial, format="PNG")
                os.replace(partial, partial.with_suffix(".png"))
        if self._events is not None:
            with _named(self._events.directory):
                self._events.pictures(step, {f"samples/{name}": picture for name, picture in pictures.items()})

    def close(self) -> None:
        """Finish what is being written."""
        if self._events is not None:
            self._events.close()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A context whose OSErrors name the file: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written to ({error.strerror or error})") from None


def has_numbers(workdir: Path, step: int) -> bool:
    """Whether a run has written its held-out numbers at a step."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return any('"eval/' in line and _step_of(line) == step for line in lines)


def has_pictures(workdir: Path, step: int) -> bool:
    """Whether a run has drawn pictures at a step."""
    return any((workdir / "samples").glob(f"{step:07d}_*.png"))


def _step_of(line: str) -> float:
    """The step of a metrics line; infinite for a line cut short when the run was killed."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
