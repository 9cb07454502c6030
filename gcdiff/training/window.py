"""Means of the training metrics between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping

UNSEEN = ("grad_norm", "learning_rate")
"""Logged, but left out of the progress line."""


class Window:
    """Sums of metrics since the last line of the log; they are saved, so that a resumed run logs the same means."""

    def __init__(self, sums: Mapping[str, list]):
        self.sums = {name: list(pair) for name, pair in sums.items()}  # name -> [count, sum]
        self.recent: dict[str, float] = {}  # what a person sees: the means, also just after `clear`

    @property
    def count(self) -> int:
        return max((count for count, _ in self.sums.values()), default=0)

    def add(self, values: Mapping[str, float]) -> None:
        """Add the metrics of a step."""
        for name, value in values.items():
            count, total = self.sums.get(name, (0, 0.0))
            self.sums[name] = [count + 1, total + value]
        self.recent = {name: value for name, value in self.means().items() if name not in UNSEEN}

    def skip(self) -> None:
        """Count a step that was skipped."""
        self.sums["skipped"] = [1, self.sums.get("skipped", (1, 0.0))[1] + 1.0]

    def means(self) -> dict[str, float]:
        """The mean of each metric, and how many steps were skipped, if any."""
        return {name: total / count for name, (count, total) in self.sums.items()}

    def clear(self) -> None:
        self.sums = {}
