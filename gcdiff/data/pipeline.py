"""Training batches in an order that depends on a seed alone, made in background threads.

Batch n is a pure function of (data set, transform, seed, n): a run that resumes at n gets the batches that an
uninterrupted run gets. The examples are shuffled anew in every epoch, and a batch may span two epochs. Each of several
processes reads its own rows of every batch; the rows of the whole batch do not depend on the number of processes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from gcdiff.data.dataset import Dataset, Example

DEPTH = 2
"""The number of batches that are made ahead."""

Transform = Callable[[Example, np.random.Generator], Example]


class Batch(NamedTuple):
    """Examples side by side: image uint8 (B, H, W, C), layout int32 (B, H, W), one caption for each ("" for none),
    has_image bool (B,)."""

    image: np.ndarray
    layout: np.ndarray
    captions: tuple[str, ...]
    has_image: np.ndarray


def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    transform: Transform | None = None,
    start: int = 0,
    share: tuple[int, int] = (0, 1),
    threads: int = 1,
    finish: Callable[[Batch], Any] = lambda batch: batch,
) -> Iterator[Any]:
    """Training batches number `start`, `start` + 1, ... without end, with one caption drawn for each example.

    seed: 0 to 2^32 - 1. `share` (i, n) selects the i-th of n equal parts of every batch, in the order of its rows.
    `threads` threads read examples in parallel. `finish` maps a batch to what is yielded. Errors of reading,
    transforming and finishing are raised to the caller. Closing or deleting the iterator ends its threads.
    Raises ValueError for a number out of range and for an empty data set.
    """
    checks = ("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0), ("threads", threads, 1)
    for name, value, least in checks:
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    part, parts = share
    if batch_size % parts:
        raise ValueError(f"batch_size is {batch_size}, expected a multiple of the {parts} processes that read it")
    if len(dataset) == 0:
        raise ValueError(f"the data set {dataset.name} is empty")
    from grain import MapDataset  # half a second that inference does not need

    def prepare(example: Example, rng: np.random.Generator) -> Example:
        example = example if transform is None else transform(example, rng)
        chosen = int(rng.integers(max(len(example.captions), 1)))
        return example._replace(captions=example.captions[chosen : chosen + 1])

    examples = MapDataset.source(dataset).seed(seed).shuffle().random_map(prepare).repeat()
    size = batch_size // parts

    def rows(n: int) -> range:
        first = n * batch_size + part * size
        return range(first, first + size)

    if threads == 1:
        return _ahead(lambda n: finish(_batch([examples[i] for i in rows(n)])), start)
    readers = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    stream = _ahead(lambda n: finish(_batch(list(readers.map(examples.__getitem__, rows(n))))), start)
    return _closing(readers, stream)


def whole(dataset: Dataset, indices: Sequence[int] | np.ndarray, transform: Transform | None = None) -> Batch:
    """The examples `indices` as one batch, each with its first caption; the same on every call.

    The random generator that `transform` gets depends on the index alone.
    """
    examples = [dataset[int(i)] for i in indices]
    if transform is not None:
        examples = [transform(e, np.random.default_rng(int(i))) for i, e in zip(indices, examples, strict=True)]
    return _batch(examples)


def _batch(examples: Sequence[Example]) -> Batch:
    captions = tuple(e.captions[0] if e.captions else "" for e in examples)
    image, layout = (np.stack([getattr(e, side) for e in examples]) for side in ("image", "layout"))
    return Batch(image, layout, captions, np.array([e.has_image for e in examples]))


def _closing(readers: ThreadPoolExecutor, stream: Iterator[Any]) -> Iterator[Any]:
    """Yield from the stream, and shut down its readers when it ends."""
    try:
        yield from stream
    finally:
        readers.shutdown(cancel_futures=True)


def _ahead(make: Callable[[int], Any], start: int) -> Iterator[Any]:
    """make(start), make(start + 1), ..., with DEPTH of them in progress in one thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        futures = deque(pool.submit(make, n) for n in range(start, start + DEPTH))
        for n in itertools.count(start + DEPTH):
            batch = futures.popleft().result()
            futures.append(pool.submit(make, n))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
