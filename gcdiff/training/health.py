"""Detection of steps whose loss or gradient is not finite, and of too many of them in a row."""

from __future__ import annotations

import math
from collections.abc import Mapping


class Diverged(FloatingPointError):
    """Training has diverged: loss or gradient stay not finite. `step` counts from 1."""

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class Health:
    """Counts the steps in a row that are not finite. `order` is that of the batches: 0, or 1 after going back."""

    def __init__(self, most: int, order: int = 0):
        self.most, self.order = most, order
        self.bad: list[tuple[int, str]] = []  # those in a row: the step and what it was

    def look_at(self, step: int, values: dict[str, float]) -> str | None:
        """Count a step; returns a line about one that is not finite, else None. Removes `skipped` from its metrics."""
        if not values.pop("skipped"):
            self.bad.clear()
            return None
        self.bad.append((step, _what(values)))
        return f"step {step}: {self.bad[-1][1]}, the step is skipped ({len(self.bad)} in a row)"

    @property
    def too_bad(self) -> bool:
        return len(self.bad) >= self.most

    def story(self) -> str:
        """A line about the steps in a row that were not finite."""
        (first, what), (last, _) = self.bad[0], self.bad[-1]
        return f"steps {first} to {last} were not finite ({what} at the first)"


def _what(values: Mapping[str, float]) -> str:
    return " and ".join(f"{n} is {values[n]}" for n in ("loss", "grad_norm") if not math.isfinite(values[n]))
