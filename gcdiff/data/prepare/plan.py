"""Which examples are prepared, and with which sides: limits and seeded subsets."""

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
    """What is made of a source.

    size: (H, W) that all are brought to, images by `resize`, layouts by `layout`; None leaves them as they are.
    limit: at most so many examples of each split, the first ones.
    subset: per cent of the training examples that are kept; or that keep their captions or layouts (`subset_of`).
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
    """An example to prepare, and which sides it keeps."""

    item: Item
    keep_layout: bool = True
    keep_captions: bool = True


class Plan(NamedTuple):
    """The examples of each split, and the names of the subset of the training examples (None: there is none)."""

    splits: dict[str, list[Job]]
    subset: list[str] | None

    def fingerprint(self) -> str:
        """Of what is to be prepared, names, sides and captions: equal for equal lists."""
        digest = hashlib.sha256()
        for split, jobs in self.splits.items():
            for (key, image, layout, captions), *kept in jobs:
                line = [split, key, image is not None, len(layout), captions, *kept]
                digest.update(json.dumps(line).encode())
        return digest.hexdigest()


def make_plan(source: Source, listed: Mapping[str, Sequence[Item]], options: Options) -> Plan:
    """What is prepared of the examples that a source lists. Raises ValueError where nothing is left."""
    splits = {name: [Job(item) for item in items[: options.limit]] for name, items in listed.items()}
    chosen = None
    if options.subset < 100:
        if "train" not in splits:
            raise ValueError(f"{source.name} has no split train here, expected one to take a subset of")
        drawn = set(draw(_with_side(source, splits["train"], options.subset_of), options.subset, options.seed))
        chosen = [job.item.key for job in splits["train"] if job.item.key in drawn]
        splits["train"] = [kept for job in splits["train"] if (kept := _reduced(job, drawn, options.subset_of))]
    splits = {name: jobs for name, jobs in splits.items() if jobs}
    if not splits:
        raise ValueError(f"{source.name}: no examples to prepare")
    return Plan(splits, chosen)


def draw(keys: Sequence[str], percent: int, seed: int) -> list[str]:
    """A share of some names, drawn by the seed: what is drawn at 25 per cent is drawn at 50, too.

    Raises ValueError where the share is less than one of them.
    """
    count = round(len(keys) * percent / 100)
    if not count:
        raise ValueError(f"{percent} per cent of {len(keys)} examples is none, expected a larger subset")
    ordered = sorted(keys)
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))[:count]]


def _with_side(source: Source, jobs: Sequence[Job], side: str) -> list[str]:
    """The names of the examples that have what the subset is of."""
    made = source.class_captions is not None
    has = {
        "examples": lambda item: True,
        "layouts": lambda item: bool(item.layout),
        "captions": lambda item: bool(item.captions) or (made and bool(item.layout)),
    }[side]
    return [job.item.key for job in jobs if has(job.item)]


def _reduced(job: Job, drawn: set[str], of: str) -> Job | None:
    """The example without the side that the subset takes from it; None where it goes, or keeps but its captions."""
    if job.item.key in drawn:
        return job
    if of == "captions":
        return job._replace(keep_captions=False)
    if of == "layouts" and job.item.image is not None:
        return job._replace(keep_layout=False)
    return None
