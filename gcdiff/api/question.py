"""The arguments of a model's methods as one frozen type, `Question`, and the progress of an answer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from gcdiff.guidance import Guidance
from gcdiff.types import Pair, Text

Texts = str | Sequence[str] | Text | None
"""One caption for all examples, one for each, encoded captions, or no text."""

Scales = float | tuple[float, float] | Guidance | None
"""One scale of the text, two of them for the image's and the layout's output, all scales, or the run's own (None)."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far an answer is. A `progress` callback is called with one at the start, then after every few steps.

    done, total: calls of the network so far and in the whole answer, those of a stage, of windows and of all rounds
    among them; first: the number of the first example of the round that is being drawn; preview: gives the clean pair
    of this round as it stands, (uint8 (n, H, W, C), int32 (n, H, W)), at the price of one call of the network, and
    changes nothing of what is drawn. Bounds of a likelihood have no preview: it gives Pair(None, None).

    A callback that returns False stops the answer at the next piece, within a second or so; None goes on.

    >>> calls = []
    >>> def follow(progress):
    ...     calls.append((progress.done, progress.total))
    >>> pair = model.sample("a street", steps=4, progress=follow)
    >>> calls[0], calls[-1]
    ((0, 4), (4, 4))
    >>> unfinished = model.sample("a street", steps=4, progress=lambda progress: progress.done < 1)
    """

    done: int
    total: int
    first: int = 0
    preview: Callable[[], Pair] = Pair


Listener = Callable[[Progress], bool | None] | None


class Watch:
    """Calls a listener with the progress of one answer, over all the runs that it takes. Their steps are entered by
    `expect` before the first run begins; `stopped` is whether the listener has returned False."""

    def __init__(self, listener: Listener = None):
        self.listener, self.total, self.done = listener, 0, 0
        self.begun = self.stopped = False

    def expect(self, steps: int) -> None:
        """Add `steps` to the total."""
        self.total += steps

    def begin(self) -> None:
        """Call the listener with 0 steps done: all arguments are checked and the work begins. Done once."""
        if not self.begun:
            self.begun = True
            self._call(0, Pair)

    def step(self, count: int, preview: Callable[[], Pair] = Pair, first: int = 0) -> bool:
        """Add `count` steps to those done and call the listener. Returns whether to go on."""
        self.done += count
        self._call(first, preview)
        return not self.stopped

    def _call(self, first: int, preview: Callable[[], Pair]) -> None:
        if self.listener is not None and not self.stopped:
            self.stopped = self.listener(Progress(self.done, self.total, first, preview)) is False


@dataclasses.dataclass(frozen=True)
class Question:
    """The arguments of one call to a model, and the N examples it is about.

    Arguments: texts; the number of steps and the scales of guidance, None for those that the run recommends; seed; the
    watch of its progress. Examples: values uint8 (N, h, w, C) and int32 (N, H, W); caps, the highest level of each of
    their pixels; ids (N,), the examples' own numbers; fed, whether a layout is a noisy observation; for a
    super-resolution stage also low-resolution pairs, uint8 (N, h, w, C) and int32 (N, h, w) or shares float32
    (N, h, w, K).
    """

    text: Texts = None
    steps: int | None = None
    guidance: Scales = None
    seed: int = 0
    watch: Watch = dataclasses.field(default_factory=Watch)
    values: Pair = Pair()
    caps: Pair = Pair()
    ids: Any = None
    fed: bool = False
    lowres: Pair | None = None

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 to {2**32 - 1}")
        if self.steps is not None and not 1 <= self.steps < math.inf:
            raise ValueError(f"steps is {self.steps}, expected at least 1")

    @classmethod
    def of(cls, text: Texts, steps: int | None, guidance: Scales, seed: int, progress: Listener) -> Self:
        """A question without examples yet, from the arguments that the methods of a model share."""
        return cls(text, steps, guidance, seed, Watch(progress))

    def __len__(self) -> int:
        return len(self.values.image)

    def about(self, values: Pair, image: Any, layout: Any, ids: Any = None, **what: Any) -> Self:
        """The same question about these values. `image` and `layout` are their caps, one level for all pixels or maps;
        ids are 0, 1, ... unless given. Raises ValueError where there is no example."""
        if len(values.image) < 1:
            raise ValueError("nothing to do: expected at least one example")
        shapes = Pair(values.image.shape[:3], values.layout.shape)
        caps = Pair(*(np.broadcast_to(np.float32(c), s) for c, s in zip((image, layout), shapes, strict=True)))
        ids = np.arange(len(values.image)) if ids is None else np.asarray(ids)
        return self.but(values=values, caps=caps, ids=ids, **what)

    def but(self, **fields: Any) -> Self:
        """The same question with other fields."""
        return dataclasses.replace(self, **fields)

    def texts(self, rows: np.ndarray) -> Texts:
        """The texts of examples by their numbers, int (n,)."""
        if self.text is None or isinstance(self.text, str):
            return self.text
        if isinstance(self.text, Text):
            return Text(np.asarray(self.text.tokens)[rows], np.asarray(self.text.mask)[rows])
        texts: list[str] = list(self.text)
        return [texts[i] for i in rows]

    def above(self, floor: float) -> Self:
        """The same question with no layout below the level `floor`."""
        return self.but(caps=self.caps._replace(layout=np.maximum(self.caps.layout, np.float32(floor))))


def two(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers, of the image and of the layout (or low and high), from one or two."""
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} is {value}, expected one number or two")
    return finite(name, pair[0]), finite(name, pair[1])


def finite(name: str, value: Any) -> float:
    """A number as float. Raises ValueError where it is not finite in float32."""
    if not abs(float(value)) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{name} is {value}, expected a finite number")
    return float(value)
