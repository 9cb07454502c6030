"""Events for TensorBoard: scalars, pictures and histograms, in a file of their own for each start.

tensorboardX makes them. They are written at once, by the caller: its own writer hands them to a thread, which dies
silently of a full disk, and the run hangs when the thread's queue is full.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

BINS = 30


class Events:
    """Writes TensorBoard events into `directory`; the first one hides older events of steps after `step`.

    Raises ValueError where tensorboardX is not installed.
    """

    def __init__(self, directory: Path, step: int):
        try:
            library = importlib.import_module("tensorboardX")
        except ImportError:
            raise ValueError(
                "events for TensorBoard are written by tensorboardX, which is not installed: pip install tensorboardX, "
                "or gcdiff[tensorboard]"
            ) from None
        self._summary, self._proto = library.summary, library.proto.event_pb2
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a run in the order of their names.
        self._file = library.RecordWriter(
            str(directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}")
        )
        self._write(file_version="brain.Event:2")
        kind = self._proto.SessionLog
        self._write(step=step + 1, session_log=kind(status=kind.START))
        self._file.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers, all finite."""
        for name, value in values.items():
            self._write(step=step, summary=self._summary.scalar(name, value))
        self._file.flush()

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write histograms of the finite values of arrays of any shape."""
        for name, array in values.items():
            finite = np.asarray(array)[np.isfinite(array)]
            if finite.size:
                self._write(step=step, summary=self._summary.histogram(name, finite, bins=BINS))
        self._file.flush()

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write pictures uint8 (H, W, 3)."""
        for name, picture in pictures.items():
            self._write(step=step, summary=self._summary.image(name, np.asarray(picture), dataformats="HWC"))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(self._proto.Event(wall_time=time.time(), **fields).SerializeToString())
