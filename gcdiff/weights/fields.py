"""The fields of a checkpoint's configuration, read with a check each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a configuration that was read from `where`, each with a default and a check.

    Every fault is a ValueError in one line.
    """

    values: Mapping[str, Any]
    where: str

    def _checked(self, name: str, default: Any, expected: str, right: Callable[[Any], bool]) -> Any:
        value = self.values.get(name)
        value = default if value is None else value
        if not right(value):
            raise ValueError(f"{self.where}: {name} is {value!r}, expected {expected}")
        return value

    def count(self, name: str, default: int, least: int = 1) -> int:
        return self._checked(name, default, f"a whole number from {least}", lambda v: type(v) is int and v >= least)

    def number(self, name: str, default: float) -> float:
        return self._checked(name, default, "a number above 0", _number)

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        right = lambda v: isinstance(v, list | tuple) and len(v) == len(default) and all(map(_number, v))  # noqa: E731
        return tuple(self._checked(name, default, f"{len(default)} numbers above 0", right))

    def choice(self, name: str, default: str, known: Iterable[str]) -> str:
        known = list(known)
        return self._checked(name, default, " or ".join(known), lambda v: v in known)

    def part(self, name: str) -> Fields:
        found = self._checked(name, {}, "an object", lambda v: isinstance(v, dict))
        return Fields(found, f"{self.where}: {name}")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value > 0
