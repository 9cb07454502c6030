"""Reading the fields of a checkpoint's configuration, each with a default and a check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a configuration that was read from the file `where`.

    A field that is missing or null has the default. Every method raises ValueError, in one line, for a wrong value.
    """

    values: Mapping[str, Any]
    where: str

    def _checked(self, name: str, default: Any, expected: str, valid: Callable[[Any], bool]) -> Any:
        value = self.values.get(name)
        value = default if value is None else value
        if not valid(value):
            raise ValueError(f"{self.where}: {name} is {value!r}, expected {expected}")
        return value

    def count(self, name: str, default: int, least: int = 1) -> int:
        """A whole number of at least `least`."""
        return self._checked(name, default, f"a whole number from {least}", lambda v: type(v) is int and v >= least)

    def number(self, name: str, default: float) -> float:
        """A number above 0."""
        return self._checked(name, default, "a number above 0", _number)

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """As many numbers above 0 as the default has."""
        valid = lambda v: isinstance(v, list | tuple) and len(v) == len(default) and all(map(_number, v))  # noqa: E731
        return tuple(self._checked(name, default, f"{len(default)} numbers above 0", valid))

    def choice(self, name: str, default: str, known: Iterable[str]) -> str:
        """One of the strings `known`."""
        known = list(known)
        return self._checked(name, default, " or ".join(known), lambda v: v in known)

    def part(self, name: str) -> Fields:
        """The fields of a nested object; none where it is missing."""
        values = self._checked(name, {}, "an object", lambda v: isinstance(v, dict))
        return Fields(values, f"{self.where}: {name}")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value > 0
