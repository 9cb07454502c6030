"""Resumable jobs on many items, each written once: stopped or killed at any moment, the same call goes on.

A job has keys, one for each item, and does three things with them: `read` an item, `compute` the results of a batch of
items, `write` the files of one result. `run` does that for all keys in their order, and keeps a log of what is
finished (`gcdiff.jobs.folder`). It promises:

* no item is made twice, none is left out, and the files are the same bytes as if the job had not been stopped;
* files are written and logged in the order of the keys, by one process;
* a batch holds the same keys whatever was finished before: where one item of it is missing the whole batch is computed
  again, and only what is missing is written. A result may depend on its neighbours in the batch, by rounding say;
* a folder that was begun for something else is refused, and so is one that another process works in.

As an example, a job that notes the mean brightness of every picture of a folder:

    >>> import json, tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from gcdiff.jobs.resumable import Format, Job, run
    >>> class Brightness(Job):
    ...     form = Format("gcdiff brightness", log="brightness.jsonl", key="name")
    ...     batch = 2
    ...
    ...     def __init__(self, images: Path):
    ...         self.images, self.keys = images, sorted(path.name for path in images.glob("*.png"))
    ...         self.header = {"images": self.keys}  # what decides the result: another header is another folder
    ...
    ...     def read(self, name):  # in threads, one batch ahead of the one that is computed
    ...         return np.asarray(Image.open(self.images / name))
    ...
    ...     def compute(self, images):  # one result for each, in their order; here a network would be called
    ...         return [float(image.mean()) for image in images]
    ...
    ...     def write(self, folder, name, brightness):  # the files first; what is returned stands in the log
    ...         file = f"{name}.json"
    ...         folder.write_text(file, json.dumps({"brightness": brightness}))
    ...         return {"files": [file]}
    ...
    ...     def finish(self, folder, entries):  # at the end, once: tables, a report
    ...         folder.write_text("count.txt", str(len(entries)))
    >>> place = Path(tempfile.mkdtemp())
    >>> for i in range(3):
    ...     Image.new("L", (4, 4), 100 + i).save(place / f"{i}.png")
    >>> run(Brightness(place), place / "out", progress=lambda done, total, items: print(done, "of", total))
    0 of 3
    2 of 3
    3 of 3
    True
    >>> (place / "out" / "1.png.json").unlink()
    >>> run(Brightness(place), place / "out")  # makes what is missing, and nothing else
    True
    >>> json.loads((place / "out" / "1.png.json").read_text())
    {'brightness': 101.0}

With devices in several processes use `run_together`: all of them call it with the same job, all read and compute, so
that `compute` may use the devices of all, and the first one alone writes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from gcdiff.jobs.folder import Entry, Format, JobFolder, opened

__all__ = ["Entry", "Format", "Job", "JobFolder", "Report", "in_place", "run", "run_together"]

Report: TypeAlias = Callable[[int, int, int], Any]
"""Called with how much is done, of how much in all (`Job.count`), and how many items are in the log: at the start, and
after every batch. If it returns False the job ends there, and may be gone on with."""


class Job:
    """A job, item by item. Subclasses set `form`, `header` and `keys`, and define `compute` and `write`.

    form: the names of the files and fields of the folder.
    header: what decides the result, as JSON can say it: a folder is gone on with by a job of the same header alone.
    keys: a name (str) or number for each item, all different, in the order in which they are written.
    batch: how many items are computed at once; the last batch holds what remains.
    readers: how many threads read.
    """

    form: Format
    header: Mapping[str, Any]
    keys: Sequence[Any]
    batch: int = 1
    readers: int = 4

    def read(self, key: Any) -> Any:
        """Read an item. It is called in several threads at once."""
        return key

    def compute(self, items: Sequence[Any]) -> Sequence[Any]:
        """Compute the results of a batch's items, one for each, in their order. They must depend on the items alone."""
        raise NotImplementedError

    def write(self, folder: JobFolder, key: Any, result: Any) -> Mapping[str, Any]:
        """Write the files of one item by `folder.writing` or `folder.write_text`.

        Returns the fields of its line of the log beside the key, as JSON holds them; "files" are those that must be
        there for it to be finished.
        """
        raise NotImplementedError

    def whole(self, folder: JobFolder, entry: Entry) -> bool:
        """Whether the files of a line of the log are there. Items without them are made again."""
        return all((folder.path / file).is_file() for file in entry.get("files", ()))

    def count(self, entry: Entry) -> int:
        """How many units an item counts: 0 for one that was refused, say, or the number of examples of a shard."""
        return 1

    @property
    def total(self) -> int:
        """How many units are to be done. The job ends where the counts of its items reach it, or after its last key."""
        return len(self.keys)

    def finish(self, folder: JobFolder, entries: Sequence[Entry]) -> None:
        """Write the files that are not of one item, such as tables, from the items' lines in the order of the keys."""

    def keys_of(self, number: int) -> Sequence[Any]:
        """The keys of a batch; none beyond the last one."""
        return self.keys[number * self.batch : (number + 1) * self.batch]


Results: TypeAlias = Generator[Sequence[Any], None, None]
Engine: TypeAlias = Callable[[Job, Iterable[int]], Results]
"""How batches are computed: takes a job and the numbers of batches, and gives their results in this order, each
`job.compute([job.read(key) for key in job.keys_of(number)])`. `in_place` does it in this process; one that sends the
batches to other machines has the same form, and leads to the same bytes."""


def in_place(job: Job, numbers: Iterable[int]) -> Results:
    """Compute the results of batches in this process, while threads read the items of the next batch."""
    pool = ThreadPoolExecutor(job.readers, thread_name_prefix="read")
    try:
        reads = ([pool.submit(job.read, key) for key in job.keys_of(number)] for number in numbers)
        batch = next(reads, None)
        while batch is not None:
            following = next(reads, None)
            yield job.compute([item.result() for item in batch])
            batch = following
    finally:
        pool.shutdown(cancel_futures=True)


def run(job: Job, path: Path, progress: Report = lambda done, total, items: None, engine: Engine = in_place) -> bool:
    """Run a job in the folder `path`, or go on with it. Returns whether it is finished: False if `progress` ended it.

    Raises ValueError, in one line, for a folder that holds something else, that was begun with another header, or in
    which another process works; OSError, naming the file, for what cannot be written; and what the job raises. Whatever
    ends it, the items that are in the log stay.
    """
    if not isinstance(job.keys, range) and len(set(job.keys)) < len(job.keys):
        double = next(key for i, key in enumerate(job.keys) if key in job.keys[:i])
        raise ValueError(f"{job.form.command}: two items are called {double!r}, expected a name of its own for each")
    with contextlib.suppress(_Stopped), opened(path, job.form, job.header, job.whole) as folder:
        entries = _make(job, folder, progress, engine)
        folder.sort(job.keys)
        job.finish(folder, entries)
        return True
    return False


def run_together(job: Job, path: Path, progress: Report = lambda done, total, items: None) -> bool:
    """Run a job on all processes of JAX, each of which calls this with the same job.

    All read and compute every batch at the same time; the first one alone has the folder, counts, and decides when the
    job ends.

    Raises ValueError on the others, too, where the first one fails.
    """
    import jax

    if jax.process_count() == 1:
        return run(job, path, progress)
    if jax.process_index() > 0:
        return _follow(job)
    message = _FAILED
    try:
        finished = run(job, path, progress, _lead)
        message = _FINISHED if finished else _ENDED
        return finished
    finally:
        _broadcast(message)


class _Stopped(Exception):
    """Raised where `progress` ends the job before it is finished."""


_EXHAUSTED, _FINISHED, _ENDED, _FAILED = -1, -2, -3, -4
"""The messages of the first process beside the numbers of batches: there is no other batch; how the job ended."""


def _make(job: Job, folder: JobFolder, progress: Report, engine: Engine) -> list[Entry]:
    """Make the missing items; returns the entries of all items up to `total`, in order."""
    numbers = lambda: itertools.takewhile(job.keys_of, itertools.count())  # noqa: E731
    missing = lambda keys: any(key not in folder.entries for key in keys)  # noqa: E731

    def report() -> None:
        if progress(done, job.total, len(folder.entries)) is False:
            raise _Stopped

    entries: list[Entry] = []
    done, reached = sum(map(job.count, folder.entries.values())), 0
    report()
    with contextlib.closing(engine(job, (n for n in numbers() if missing(job.keys_of(n))))) as computed:
        for number in numbers():
            keys = job.keys_of(number)
            fresh = missing(keys)
            results = dict(zip(keys, next(computed), strict=True)) if fresh else {}
            for key in keys:
                if reached >= job.total:
                    break
                if key not in folder.entries:
                    done += job.count(folder.add(key, job.write(folder, key, results[key])))
                entries.append(folder.entries[key])
                reached += job.count(entries[-1])
            if fresh:
                report()
            if reached >= job.total:
                break
    return entries


def _lead(job: Job, numbers: Iterable[int]) -> Results:
    """`in_place` on the first process, which announces every batch to the others as soon as it is read."""

    def announced() -> Iterator[int]:
        for number in numbers:
            _broadcast(number)
            yield number
        _broadcast(_EXHAUSTED)

    return in_place(job, announced())


def _follow(job: Job) -> bool:
    """Read and compute every announced batch, until the first process has ended."""
    message = _EXHAUSTED

    def announced() -> Iterator[int]:
        nonlocal message
        while (message := _broadcast()) >= 0:
            yield message
        if message != _EXHAUSTED:
            raise _Stopped

    try:
        for _ in in_place(job, announced()):
            pass
        message = _broadcast()
    except _Stopped:
        pass
    except Exception:
        _broadcast()  # the first process has failed in the same way, and says so
        raise
    if message == _FAILED:
        raise ValueError("the first process could not go on, and has said why")
    return message == _FINISHED


def _broadcast(message: int = 0) -> int:
    """Send a number from the first process; returns it on every process."""
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(message)))
