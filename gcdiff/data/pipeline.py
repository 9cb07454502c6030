"""Batches in an order that depends on a seed alone, made in the background.

Batch n is a pure function of (data set, transform, seed, n): a run that starts again at n sees what an uninterrupted
run sees. The examples are shuffled anew in every epoch; epochs follow one another without a gap.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from gcdiff.data.dataset import Dataset, Example

DEPTH = 2
"""How many batches are made ahead."""

Transform = Callable[[Example, np.random.Generator], Example]


class Batch(NamedTuple):
    """Examples side by side: image float32 (B, H, W, C) in [-1, 1], layout int32 (B, H, W), one caption for each.

    The caption of an example that has none is "".
    """

    image: np.ndarray
    layout: np.ndarray
    captions: tuple[str, ...]


def batches(
    dataset: Dataset, batch_size: int, seed: int, transform: Transform | None = None, start: int = 0
) -> Iterator[Batch]:
    """Training batches number `start`, `start` + 1, ... without end; a caption is drawn from each example's.

    seed: 0 to 2^32 - 1. What reading or transforming an example raises is raised here. Closing the iterator (or
    letting go of it) ends its thread.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if len(dataset) == 0:
        raise ValueError(f"the data set {dataset.name} is empty")
    from grain import MapDataset  # half a second that inference does not need

    def prepare(example: Example, rng: np.random.Generator) -> Example:
        example = example if transform is None else transform(example, rng)
        chosen = rng.integers(len(example.captions)) if example.captions else 0
        return example._replace(captions=example.captions[chosen : chosen + 1])

    examples = MapDataset.source(dataset).seed(seed).shuffle().random_map(prepare).repeat()
    stream = examples.batch(batch_size, batch_fn=_batch)
    return _ahead(lambda n: stream[n], start)


def whole(dataset: Dataset, indices: Sequence[int] | np.ndarray, transform: Transform | None = None) -> Batch:
    """The examples `indices` as one batch, each with its first caption; the same on every call.

    The generator that a transform is given depends on the index alone.
    """
    examples = [dataset[int(i)] for i in indices]
    if transform is not None:
        examples = [transform(e, np.random.default_rng(int(i))) for i, e in zip(indices, examples, strict=True)]
    return _batch(examples)


def _batch(examples: Sequence[Example]) -> Batch:
    image = np.stack([e.image for e in examples]).astype(np.float32) / 127.5 - 1.0
    captions = tuple(e.captions[0] if e.captions else "" for e in examples)
    return Batch(image, np.stack([e.layout for e in examples]), captions)


def _ahead(make: Callable[[int], Batch], start: int) -> Iterator[Batch]:
    """make(start), make(start + 1), ..., with DEPTH of them under way in one thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        under_way = deque(pool.submit(make, n) for n in range(start, start + DEPTH))
        for n in itertools.count(start + DEPTH):
            batch = under_way.popleft().result()
            under_way.append(pool.submit(make, n))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
