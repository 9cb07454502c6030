"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gcdiff.guidance import Guidance
from gcdiff.types import Pair, Text

Texts = str | Sequence[str] | Text | None


Scales = float | tuple[float, float] | Guidance | None


Progress = Callable[[int], None] | None
"""Called with the number of steps done since the last call: 0 once at the start, then as a round goes on."""


def begun_once(progress: Progress) -> Progress:
    """A progress that is told 0 once, for a question that is answered in several runs."""
    if progress is None:
        return None
    begun = False

    def told(count: int) -> None:
        nonlocal begun
        if count or not begun:
            progress(count)
        begun = True

    return told


class Question:
    """What is asked of every example: values uint8 (N, h, w, C) and int32 (N, H, W), the highest level of each of their
    pixels, texts, seed, and the ids of the examples (None: 0, 1, ...). A stage is given low-resolution pairs too, uint8
    (N, h, w, C) and int32 (N, h, w) or shares float32 (N, h, w, K)."""

    def __init__(
        self, values: Pair, caps: Pair, text: Texts = None, seed: int = 0, ids=None, fed: bool = False,
        lowres: Pair | None = None,
    ):  # fmt: skip
        if len(values.image) < 1:
            raise ValueError("nothing to do: expected at least one example")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}, expected 0 to {2**32 - 1}")
        self.values, self.caps, self.text, self.seed, self.fed, self.lowres = values, caps, text, seed, fed, lowres
        self.ids = np.arange(len(values.image)) if ids is None else np.asarray(ids)

    def __len__(self) -> int:
        return len(self.values.image)

    def above(self, floor: float) -> Question:
        """The same with no layout below the level `floor`."""
        caps = self.caps._replace(layout=np.maximum(self.caps.layout, np.float32(floor)))
        return Question(self.values, caps, self.text, self.seed, self.ids, self.fed, self.lowres)


def _each(text: str | Sequence[str], num: int) -> list[str]:
    """One caption for each of `num` examples."""
    texts = [text] * num if isinstance(text, str) else list(text)
    if len(texts) != num:
        raise ValueError(f"{len(texts)} captions for {num} examples: expected one, or one for each")
    return texts


def two(name: str, value: Any) -> tuple[float, float]:
    """Two numbers, of the image and of the layout (or low and high), from one or two."""
    pair = (value, value) if np.isscalar(value) else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} is {value}, expected one number or two")
    return float(pair[0]), float(pair[1])
