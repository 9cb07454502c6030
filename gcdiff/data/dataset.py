"""The one interface of all data: a `Dataset` is a random-access sequence of `Example`s plus its specs."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from gcdiff.types import ImageSpec, LabelSpec


class Example(NamedTuple):
    """One labelled image: image uint8 (H, W, C), layout int32 (H, W) with VOID = -1, captions to choose from.

    A side may be missing: then the image is all zeros and `has_image` is False, the layout is all VOID, the captions
    are ().
    """

    image: np.ndarray
    layout: np.ndarray
    captions: tuple[str, ...]
    has_image: bool = True


class Dataset(Protocol):
    """Examples by index. Index i always gives the same example; all have the size (H, W), or differ where it is None.

    Examples of differing sizes are brought to one by a transform before they are put side by side.
    """

    name: str
    size: tuple[int, int] | None
    image: ImageSpec
    labels: LabelSpec
    licence: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
