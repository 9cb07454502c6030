"""Stopping on SIGINT and SIGTERM: a signal is remembered, and long calls are abandoned as soon as one arrives."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

POLL = 0.2
"""Seconds between two looks at the signals while something long goes on."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on `signum` (SIGINT or SIGTERM) after saving a checkpoint.

    `left` is whether a long call that cannot be interrupted still runs in a thread: a program that ends then should
    not wait for it.
    """

    def __init__(self, signum: int, message: str, left: bool = False):
        super().__init__(message)
        self.signum, self.left = signum, left


class Paused(Interrupted):
    """Training has saved a checkpoint and stopped because the time of this start is over; `signum` is 0."""


class Left(Exception):
    """A long call was abandoned because of a signal."""


class Stop:
    """The signal to stop: its number in `signum`, 0 as long as there is none. Runs in threads of a process share it."""

    def __init__(self):
        self.signum = 0
        self.left = False

    def __bool__(self) -> bool:
        return self.signum != 0

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a long call (compiling, evaluating); raise Left as soon as there is a signal.

        The call then goes on in a thread of its own, with nobody to wait for it.
        """
        done: concurrent.futures.Future = concurrent.futures.Future()

        def call() -> None:
            try:
                done.set_result(function(*arguments))
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        while not self:
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return done.result(POLL)
        self.left |= not done.done()
        raise Left


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """A context that collects SIGINT and SIGTERM in a `Stop`; a second signal has its usual effect."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # python delivers signals to the main thread alone
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: Any) -> None:
        stop.signum = number
        restore()
        if sys.stderr.isatty():
            os.write(2, b"\nsaving; again to stop at once\n")

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
