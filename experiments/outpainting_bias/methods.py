"""The ways to condition that are compared, and what they cost."""

from __future__ import annotations

import dataclasses

DIRECTIONS = ("layout to image", "image to layout")
TRUTH = "truth"


@dataclasses.dataclass(frozen=True)
class Method:
    """RePaint with so many `resamples` of every step but the last, or levels (None); at `budget` calls or one more.

    The image's step is DDIM with noise `eta`: 1 is the ancestral step. The levels of the path are evenly spaced, to a
    `power`. `released` noises back as released code does.
    """

    name: str
    resamples: int | None
    budget: int
    eta: float = 1.0
    released: bool = False
    power: int = 1

    @property
    def steps(self) -> int:
        """The fewest steps that cost the budget."""
        return self.budget if self.resamples is None else -(-(self.budget - 1) // self.resamples) + 1

    @property
    def calls(self) -> int:
        """The calls of the network that the steps cost."""
        return self.steps if self.resamples is None else (self.steps - 1) * self.resamples + 1

    @property
    def exact_only(self) -> bool:
        """Whether it is tried in the exact worlds alone: no model of the library offers it."""
        return self.released or self.power != 1

    def answers(self, direction: str) -> bool:
        """Whether a direction is asked of it: where the image does not move, all image steps are one."""
        return self.eta == 1 or direction == DIRECTIONS[0]


def methods(calls: int) -> list[Method]:
    """All at `calls`, levels at a tenth of them too."""
    tenth = max(calls // 10, 1)
    return [
        Method("replacement (RePaint, n = 1)", 1, calls),
        Method("RePaint, n = 5", 5, calls),
        Method("RePaint, n = 10", 10, calls),
        Method("RePaint, n = 5, difference of stds", 5, calls, released=True),
        Method("levels", None, calls),
        Method("levels", None, tenth),
        Method("levels, DDIM", None, tenth, eta=0.0),
        Method("levels squared, DDIM", None, tenth, eta=0.0, power=2),
    ]
