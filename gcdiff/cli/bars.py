"""Progress bars for the answers of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gcdiff.cli.files import leads


@contextlib.contextmanager
def bar(prefix: str = "", total: int | None = None, begin: Callable[[], object] | None = None) -> Iterator[Any]:
    """A context with a `progress` callback, for the methods of a model, that shows a progress bar.

    The bar counts the steps of one answer, or of several with `total` steps. It appears when the model begins, with
    everything checked; `begin` is called before. The callback is None on processes that do not lead.
    """
    from gcdiff.jobs.progress import progress_bar

    if not leads():
        yield None
        return
    with contextlib.ExitStack() as stack:
        advance, before = None, 0

        def show(progress) -> None:
            nonlocal advance, before
            if advance is None:
                if begin is not None:
                    begin()
                advance = stack.enter_context(progress_bar(progress.total if total is None else total, prefix=prefix))
            if progress.done > before:
                advance(progress.done - before)
            before = progress.done

        yield show
