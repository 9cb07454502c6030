"""The rule for which checkpoints are kept: the newest, the best by a held-out number, every k-th step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints are kept: the newest `latest`, the best by `best`, and steps that `every` divides (0: none).

    `best` is the name of a held-out number of which the highest is best, or the lowest where a '-' stands before the
    name; '' is none.
    """

    latest: int = 2
    best: str = ""
    every: int = 0

    def __post_init__(self):
        if self.latest < 1:
            raise ValueError(f"keep is {self.latest}, expected at least 1")
        if self.every < 0:
            raise ValueError(f"keep_every is {self.every}, expected 0 or more")


def dropped(numbers: Mapping[int, Mapping[str, float]], keep: Keep) -> list[int]:
    """The steps to drop, ascending, of `numbers`, the held-out numbers by step. The newest step is never dropped.

    Steps without the number `keep.best`, or where it is not finite, are no candidates; of several best the newest is.
    """
    steps = sorted(numbers)
    staying = set(steps[-keep.latest :])
    if keep.every:
        staying |= {step for step in steps if step % keep.every == 0}
    name, sign = keep.best.removeprefix("-"), -1 if keep.best.startswith("-") else 1
    measured = [step for step in steps if math.isfinite(numbers[step].get(name, math.nan))]
    if measured:
        staying.add(max(measured, key=lambda step: (sign * numbers[step][name], step)))
    return [step for step in steps if step not in staying]


def check_best(numbers: Mapping[str, float], keep: Keep) -> None:
    """Raise ValueError, naming the choices, unless `keep.best` is among the held-out numbers of a step."""
    if keep.best and keep.best.removeprefix("-") not in numbers:
        raise ValueError(
            f"keep_best is {keep.best!r}, expected a held-out number ({', '.join(sorted(numbers))}), "
            "after a '-' where the lowest is best"
        )
