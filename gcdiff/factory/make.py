"""Draw, judge and write pairs, round by round, until enough are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.api.model import Model
from gcdiff.factory.captions import Captions
from gcdiff.factory.judge import KEPT, Judge, Judged
from gcdiff.factory.place import FORMAT, Place, Row
from gcdiff.jobs.resumable import Entry, Job, JobFolder

End = Callable[[Place, list[Row]], object]
"""Called with the folder and all its examples, kept and refused, when enough are kept."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The pairs to make: `num` kept of at most `most` drawn. Example i depends on the seed and i alone.

    captions: give the caption of an example, None without text; texts: turns captions into the model's input; segments:
    whether pairs are judged by the model's segmentation in one call.
    """

    num: int
    most: int
    seed: int
    steps: int | None
    guidance: float | None
    captions: Captions | None
    texts: Callable[[list[str]], Any]
    segments: bool


class Drawn(NamedTuple):
    """A drawn and judged pair: image uint8 (H, W, C) and layout int32 (H, W)."""

    caption: str | None
    image: np.ndarray
    layout: np.ndarray
    judged: Judged


class Pairs(Job):
    """The job that draws and judges pairs by their numbers, in rounds of as many as the devices take at once.

    It ends with a ValueError when `most` pairs are drawn and too few of them kept; the folder then stays, and goes on
    where more may be drawn.
    """

    form = FORMAT

    def __init__(self, model: Model, request: Request, judge: Judge, header: Mapping[str, Any], end: End):
        self.model, self.request, self.judge, self.header, self.end = model, request, judge, header, end
        self.keys, self.batch = range(request.most), model.round_size

    @property
    def total(self) -> int:
        return self.request.num

    def count(self, entry: Entry) -> int:
        return entry["verdict"] == KEPT

    def compute(self, items: Sequence[int]) -> list[Drawn]:
        """Draw and judge a round of pairs.

        A whole round is drawn even where fewer pairs are needed: every round takes the same compiled program.
        """
        request, first, size = self.request, items[0], self.batch
        captions = None if request.captions is None else [request.captions(first + i) for i in range(size)]
        text = None if captions is None else request.texts(captions)
        pair = self.model.sample(text, size, request.steps, request.guidance, request.seed, first_id=first)
        maps = None
        if request.segments:
            maps = np.asarray(self.model.segment(pair.image, probabilities=True, seed=request.seed, first_id=first))
        rows = zip(captions or [None] * size, pair.image, pair.layout, self.judge(pair, maps), strict=True)
        return [Drawn(*row) for row in rows][: len(items)]

    def write(self, folder: JobFolder, key: int, result: Drawn) -> dict:
        return self._place(folder).add(key, *result)._asdict()

    def whole(self, folder: JobFolder, entry: Entry) -> bool:
        return all((folder.path / file).is_file() for file in Row.of(entry).files())

    def finish(self, folder: JobFolder, entries: Sequence[Entry]) -> None:
        rows = [Row.of(entry) for entry in entries]
        kept = sum(row.verdict == KEPT for row in rows)
        if kept < self.request.num:
            raise ValueError(
                f"{kept} of {self.request.num} pairs kept when {len(rows)} were drawn: expected a larger --max-tries "
                "to go on, or another folder with a lower --min-agreement or --audit-quantile"
            )
        self.end(self._place(folder), rows)

    def _place(self, folder: JobFolder) -> Place:
        return Place.of(folder, self.model.labels, self.model.image)
