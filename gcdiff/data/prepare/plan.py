"""The selection of the examples to prepare and of their sides: limits and seeded subsets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.data.source import Item, Source
from gcdiff.data.transforms import IMAGE_METHODS, LAYOUT_METHODS

SUBSETS_OF = ("examples", "captions", "layouts")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a source is prepared. Raises ValueError for a value out of range.

    size: (H, W) that all are resized to, images by `resize`, layouts by `layout`; None keeps their sizes.
    limit: the number of examples of each split, the first ones, at most.
    subset: the percentage of the training examples that are kept, or that keep their captions or layouts (`subset_of`).
    seed: of the draw of the subset.
    """

    size: tuple[int, int] | None = None
    resize: str = "area"
    layout: str = "majority"
    limit: int | None = None
    subset: int = 100
    subset_of: str = "examples"
    seed: int = 0

    def __post_init__(self):
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size is {self.size[0]} {self.size[1]}, expected a height and a width from 1 on")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}, expected at least 1")
        if not 1 <= self.subset <= 100:
            raise ValueError(f"subset is {self.subset}, expected 1 to 100 per cent")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected at least 0")
        fields = ("resize", IMAGE_METHODS), ("layout", LAYOUT_METHODS), ("subset_of", SUBSETS_OF)
        for field, allowed in fields:
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}, expected {', '.join(allowed)}")


class Job(NamedTuple):
    """An example to prepare, and whether it keeps its layout and its captions."""

    item: Item
    keep_layout: bool = True
    keep_captions: bool = True


class Plan(NamedTuple):
    """The examples of each split, and the names of the training examples in the subset (None: no subset was drawn)."""

    splits: dict[str, list[Job]]
    subset: list[str] | None

    def fingerprint(self) -> str:
        """The sha256 of the examples' names, sides and captions: equal for equal lists."""
        digest = hashlib.sha256()
        for split, jobs in self.splits.items():
            for (key, image, layout, captions), *kept in jobs:
                line = [split, key, image is not None, len(layout), captions, *kept]
                digest.update(json.dumps(line).encode())
        return digest.hexdigest()


def make_plan(source: Source, listed: Mapping[str, Sequence[Item]], options: Options) -> Plan:
    """Select from the examples that a source lists. Raises ValueError where no example is left."""
    splits = {name: [Job(item) for item in items[: options.limit]] for name, items in listed.items()}
    chosen = None
    if options.subset < 100:
        if "train" not in splits:
            raise ValueError(f"{source.name} has no split train, expected one to draw a subset from")
        drawn = set(draw(_with_side(source, splits["train"], options.subset_of), options.subset, options.seed))
        chosen = [job.item.key for job in splits["train"] if job.item.key in drawn]
        splits["train"] = [kept for job in splits["train"] if (kept := _reduced(job, drawn, options.subset_of))]
    splits = {name: jobs for name, jobs in splits.items() if jobs}
    if not splits:
        raise ValueError(f"{source.name}: no examples to prepare")
    return Plan(splits, chosen)


def draw(keys: Sequence[str], percent: int, seed: int) -> list[str]:
    """Draw a percentage of some names by a seed; a larger percentage contains a smaller one of the same seed.

    Raises ValueError where that is less than one name.
    """
    count = round(len(keys) * percent / 100)
    if not count:
        raise ValueError(f"{percent} per cent of {len(keys)} examples is none, expected a larger subset")
    ordered = sorted(keys)
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))[:count]]


def _with_side(source: Source, jobs: Sequence[Job], side: str) -> list[str]:
    """The names of the examples that have the side that the subset is drawn from."""
    has_class_captions = source.class_captions is not None
    has = {
        "examples": lambda item: True,
        "layouts": lambda item: bool(item.layout),
        "captions": lambda item: bool(item.captions) or (has_class_captions and bool(item.layout)),
    }[side]
    return [job.item.key for job in jobs if has(job.item)]


def _reduced(job: Job, drawn: set[str], of: str) -> Job | None:
    """The example without the side `of` unless it is drawn; None where nothing but captions would be left."""
    if job.item.key in drawn:
        return job
    if of == "captions":
        return job._replace(keep_captions=False)
    if of == "layouts" and job.item.image is not None:
        return job._replace(keep_layout=False)
    return None
