"""The lock of a run directory: one process at a time writes to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """A context that holds the lock of a run directory until the block ends, or the process, however it dies.

    Raises ValueError, in one line, if another process holds it.
    """
    with (workdir / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"{workdir}: in use by process {file.read().strip()}; two runs cannot share a directory"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
