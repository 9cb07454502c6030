"""A random sample of per-example values, bounded in size and independent of how a data set is split into shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.measure import checked_ids, hash_ids, same_convention

LIMIT = 50_000


class Bank(NamedTuple):
    """Values (N, ...) of examples (features, images or layouts) with their ids int64 (N,), of a data set or a share.

    `+` joins disjoint shares. Of more than `limit` examples it keeps those with the lowest hashed ids: a random sample,
    the same bit for bit for any shares in any order. `parts` may temporarily hold up to twice the limit; `rows` returns
    the sample itself, ordered by id. `seen` counts all examples that were added.
    """

    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    seen: int
    limit: int
    convention: Mapping[str, Any]

    def __add__(self, other: Bank) -> Bank:  # type: ignore[override]
        same_convention({**self.convention, "limit": self.limit}, {**other.convention, "limit": other.limit})
        joined = self._replace(parts=self.parts + other.parts, seen=self.seen + other.seen)
        size = sum(len(ids) for ids, _ in joined.parts)
        return joined._replace(parts=(joined.rows(),)) if size > 2 * self.limit else joined

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids int64 (N,), ascending, and their values (N, ...). Raises ValueError for a repeated id."""
        if len(self.parts) == 1 and len(self.parts[0][0]) <= self.limit and (np.diff(self.parts[0][0]) > 0).all():
            return self.parts[0]
        ids, values = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        checked_ids(ids, len(ids))
        kept = np.sort(np.argsort(hash_ids(ids))[: self.limit])
        kept = kept[np.argsort(ids[kept])]
        return ids[kept], values[kept]

    @property
    def ids(self) -> np.ndarray:
        return self.rows()[0]

    @property
    def values(self) -> np.ndarray:
        return self.rows()[1]


def make_bank(ids: np.ndarray, values: np.ndarray, convention: Mapping[str, Any], limit: int = LIMIT) -> Bank:
    """A bank of the values (N, ...) of examples, which keeps at most `limit` of them.

    Raises ValueError for values that are not finite, unless there is one id for each example and none twice, and for a
    limit below 2.

    >>> from gcdiff.evaluation.bank import make_bank
    >>> convention = {"extractor": "corners"}
    >>> bank = make_bank([0, 1], np.ones((2, 4)), convention) + make_bank([2], np.zeros((1, 4)), convention)
    >>> bank.ids.tolist(), bank.values.shape
    ([0, 1, 2], (3, 4))
    """
    ids, values = checked_ids(ids, len(values)), np.asarray(values)
    infinite = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if infinite.any():
        raise ValueError(f"the features of example {ids[infinite][0]} are not finite")
    if limit < 2:
        raise ValueError(f"the limit is {limit} examples, expected 2 or more")
    return Bank(((ids, values),), len(ids), limit, dict(convention))


def standardised(bank: Bank, reference: Bank) -> Bank:
    """The bank with each feature divided by its standard deviation in the reference, for features in different units.

    Raises ValueError for fewer than 2 reference examples and for a feature that does not vary there.
    """
    values = np.asarray(reference.values, np.float64)
    scale = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(1)
    if (scale == 0).any():
        raise ValueError(f"feature {int(np.argmin(scale))} of {len(values)} reference examples does not vary")
    parts = tuple((ids, part / scale) for ids, part in bank.parts)
    convention = {**bank.convention, "units": "the reference's standard deviations"}
    return bank._replace(parts=parts, convention=convention)
