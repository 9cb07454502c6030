"""Choose the caption that each example is drawn from, by the seed and the example's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from gcdiff.data.captions import NAMED_FROM
from gcdiff.data.dataset import Dataset
from gcdiff.data.prepared import Prepared

POOL = 4096
"""The most training examples, evenly spread, from which the frequencies of the classes are computed."""
CAP = 50.0
"""The largest weight of a caption: classes in fewer than one of this many examples get no larger one."""
TRIES = 1000
"""How many training examples are tried until one has a caption."""


class Captions(Protocol):
    """The protocol that gives the caption of an example by its number; `said` describes in words how."""

    said: str

    def __call__(self, number: int) -> str: ...


class Pool(NamedTuple):
    """Training examples: which classes each of them shows, bool (N, K), and its captions."""

    shows: np.ndarray
    captions: list[tuple[str, ...]]


class Cycled:
    """The lines of a file in turn: example i takes line i, and the first follows the last."""

    def __init__(self, lines: Sequence[str]):
        self._lines = lines
        self.said = f"{len(lines)} lines in turn"

    def __call__(self, number: int) -> str:
        return self._lines[number % len(self._lines)]


class OfTraining:
    """The captions of training examples: an example is drawn uniformly, then one of its captions."""

    def __init__(self, train: Dataset, seed: int):
        self._train, self._seed = train, seed
        self.said = f"drawn from {len(train)} training examples"

    def __call__(self, number: int) -> str:
        rng = np.random.default_rng((self._seed, number))
        for _ in range(TRIES):
            index = int(rng.integers(len(self._train)))
            if captions := _captions(self._train, index):
                return captions[rng.integers(len(captions))]
        raise ValueError(f"{self._train.name}: none of {TRIES} training examples has a caption, expected --captions")


class Balanced:
    """Captions drawn with weights, so that rare classes appear more often: see `rare_weights`."""

    def __init__(self, shows: np.ndarray, captions: Sequence[tuple[str, ...]], seed: int):
        captioned = np.array([bool(c) for c in captions])
        if not (shows.any(axis=1) & captioned).any():
            raise ValueError("--balance rare: no caption with a known class, expected captions and layouts, or names")
        self._captions, self._seed = captions, seed
        self._ends = np.cumsum(rare_weights(shows) * captioned)
        self.said = f"{int(captioned.sum())} captions drawn by the rarest of their classes"

    def __call__(self, number: int) -> str:
        rng = np.random.default_rng((self._seed, number))
        captions = self._captions[int(np.searchsorted(self._ends, rng.random() * self._ends[-1], side="right"))]
        return captions[rng.integers(len(captions))]


def rare_weights(shows: np.ndarray) -> np.ndarray:
    """The weight float (N,) of each example by its rarest class, from the classes that each shows, bool (N, K).

    It is min(CAP, 1/f), where f is the share of the examples with that class. The examples whose rarest class is k then
    weigh as much together as those of another, or less where they show rarer ones too; an example with no class weighs
    1.
    """
    inverse = np.minimum(CAP, 1 / np.maximum(shows.mean(axis=0), 1e-9))
    return np.where(shows, inverse, 1.0).max(axis=1, initial=1.0)


def shown(layout: np.ndarray, num_classes: int) -> np.ndarray:
    """The classes 0 to K - 1 that have at least NAMED_FROM of the pixels of a layout int (H, W) with VOID: bool (K,).

    Classes K and above are void.
    """
    return present(np.bincount(layout.ravel() + 1, minlength=num_classes + 1)[1 : num_classes + 1], layout.size)


def present(areas: np.ndarray, pixels: int) -> np.ndarray:
    """The classes that are shown, as `shown` has them, from their areas int (..., K) among `pixels`."""
    return areas >= max(NAMED_FROM * pixels, 1)


def evenly(num: int, most: int) -> list[int]:
    """At most `most` indices of `num` examples, evenly spread; all of them where `most` is 0."""
    return np.unique(np.linspace(0, num - 1, min(most or num, num)).astype(int)).tolist()


def pool(train: Dataset, captions: bool) -> Pool:
    """Gather at most POOL training examples that have a layout, with their captions if `captions`. Void is no class."""
    shows, texts, num_classes = [], [], train.labels.labelled.num_classes
    for i in evenly(len(train), POOL):
        example = train[i]
        if (example.layout >= 0).any():
            shows.append(shown(example.layout, num_classes))
            texts.append(example.captions if captions else ())
    return Pool(np.array(shows, bool).reshape(-1, num_classes), texts)


def _captions(train: Dataset, index: int) -> tuple[str, ...]:
    return train.record(index).captions if isinstance(train, Prepared) else train[index].captions
