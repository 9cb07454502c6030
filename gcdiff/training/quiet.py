"""Of a save that fails Orbax tells in stack traces from each of its threads; the run tells of it in one line."""

from __future__ import annotations

import functools
import logging
import os
import sys


@functools.cache
def hush_orbax() -> None:
    """Leave out what Orbax logs of errors that it also raises, and what its unfinished writes say after them."""
    orbax = f"{os.sep}orbax{os.sep}"
    logging.getLogger("absl").addFilter(lambda r: r.levelno < logging.ERROR or orbax not in r.pathname)
    logging.getLogger("asyncio").addFilter(lambda r: "exception was never retrieved" not in r.getMessage())
    previous = sys.unraisablehook

    def hook(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook
