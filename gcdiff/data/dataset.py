"""The interface of all data: a `Dataset` is a random-access sequence of `Example`s, with its specs."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from gcdiff.types import ImageSpec, LabelSpec


class Example(NamedTuple):
    """One labelled image: image uint8 (H, W, C), layout int32 (H, W) with VOID = -1, and its captions.

    A missing image is all zeros, with `has_image` False; a missing layout is all VOID; missing captions are ().
    """

    image: np.ndarray
    layout: np.ndarray
    captions: tuple[str, ...]
    has_image: bool = True


class Dataset(Protocol):
    """Examples by index; an index always gives the same example. `size` is the (H, W) of all, None where sizes differ:
    then a transform has to resize them before they are batched.
    """

    name: str
    size: tuple[int, int] | None
    image: ImageSpec
    labels: LabelSpec
    licence: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
