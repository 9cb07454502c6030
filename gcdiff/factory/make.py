"""Drawing, judging and writing pairs, round by round, until as many are kept as were asked for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gcdiff.api.model import Model
from gcdiff.factory.captions import Captions
from gcdiff.factory.judge import KEPT, Judge
from gcdiff.factory.place import Place, opened

Tell = Callable[[int, int], None]
"""Called with how many pairs are kept and how many were drawn, at the start and after every round."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is made: `num` pairs kept of at most `most` drawn. Example i depends on the seed and i alone.

    captions: of an example, None for none; texts: what the model takes for some captions; segments: whether the model
    can segment in one call, by which pairs are judged.
    """

    num: int
    most: int
    seed: int
    steps: int | None
    guidance: float | None
    captions: Captions | None
    texts: Callable[[list[str]], Any]
    segments: bool


def make(
    model: Model, request: Request, judge: Judge, folder: Path, header: Mapping[str, Any], tell: Tell,
    end: Callable[[Place], object],
) -> None:  # fmt: skip
    """Fill a folder, or go on with it; then `end(place)`. All processes draw and judge alike, and the first one alone
    has the folder.

    Raises ValueError where `opened` does, and when `most` pairs are drawn and too few of them kept; the folder then
    stays, and goes on where more may be drawn.
    """
    if jax.process_index() > 0:
        _rounds(model, request, judge, None, *_told(None), tell)
        return
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(opened(folder, header, model.labels, model.image))
        except BaseException:
            _told((-1, -1))
            raise
        state = _told((len(place.rows), sum(row.verdict == KEPT for row in place.rows)))
        _rounds(model, request, judge, place, *state, tell)
        end(place)


def _told(state: tuple[int, int] | None) -> tuple[int, int]:
    """The next number, and how many pairs are kept, as the first process knows; (-1, -1) says that it could not begin,
    which ends the others, too."""
    if jax.process_count() > 1:
        told = multihost_utils.broadcast_one_to_all(np.array((0, 0) if state is None else state))
        state = int(told[0]), int(told[1])
        if state[0] < 0 and jax.process_index() > 0:
            raise ValueError("the first process could not begin, and has said why")
    return state or (0, 0)


def _rounds(
    model: Model, request: Request, judge: Judge, place: Place | None, drawn: int, kept: int, tell: Tell
) -> None:
    tell(kept, drawn)
    while kept < request.num:
        if drawn >= request.most:
            raise ValueError(
                f"{kept} of {request.num} pairs kept when {drawn} were drawn: expected a larger --max-tries to go on, "
                "or another folder with a lower --min-agreement or --audit-quantile"
            )
        size = model.round_size
        captions = None if request.captions is None else [request.captions(drawn + i) for i in range(size)]
        text = None if captions is None else request.texts(captions)
        pair = model.sample(text, size, request.steps, request.guidance, request.seed, first_id=drawn)
        maps = None
        if request.segments:
            maps = np.asarray(model.segment(pair.image, probabilities=True, seed=request.seed, first_id=drawn))
        for i, judged in enumerate(judge(pair, maps)):
            if kept == request.num or drawn == request.most:
                break
            if place is not None:
                caption = None if captions is None else captions[i]
                place.add(drawn, caption, pair.image[i], pair.layout[i], judged)
            drawn, kept = drawn + 1, kept + (judged.verdict == KEPT)
        tell(kept, drawn)
