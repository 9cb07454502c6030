"""Codecs: from 8-bit images to the state that a model diffuses, and back.

A codec is entered in CODECS and chosen by `config.data.codec`. Today there is one, `Pixels`: the state is the image
itself, scaled to [-1, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from gcdiff.types import ImageSpec


class Codec(Protocol):
    """A map between images uint8 (..., H, W, C) and states float32 (..., h, w, c). Frozen and hashable.

    bounded: clean states lie in [-1, 1], so that a sampler clips its estimates of them; std: the standard
    deviation of clean states, about, which the image process has as its own; likelihood: whether a likelihood of the
    state is one of the 8-bit image; weights: float32 (c,), one for each channel of the state in the loss.
    """

    @property
    def bounded(self) -> bool: ...

    @property
    def std(self) -> float: ...

    @property
    def likelihood(self) -> bool: ...

    @property
    def weights(self) -> np.ndarray: ...

    def shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape (h, w, c) of the state of an image of `size` (H, W)."""
        ...

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The states of images: uint8 (..., H, W, C) -> float32 (..., h, w, c)."""
        ...

    def decode(self, states: np.ndarray) -> np.ndarray:
        """The images of states, float32 (..., h, w, c) -> uint8 (..., H, W, C): the nearest for any other state."""
        ...


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The codec whose state is the image itself, its 256 values scaled to [-1, 1]."""

    image: ImageSpec = ImageSpec()

    bounded = True
    std = 0.5
    likelihood = True

    @property
    def weights(self) -> np.ndarray:
        """The loss weights of the image's channel groups."""
        return np.concatenate([np.full(g.channels, g.weight, np.float32) for g in self.image.groups])

    def shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return (*size, self.image.channels)

    def encode(self, images: np.ndarray) -> np.ndarray:
        return to_state(images)

    def decode(self, states: np.ndarray) -> np.ndarray:
        return to_uint8(states)


CODECS: Mapping[str, Callable[[ImageSpec], Codec]] = {"pixels": Pixels}
"""What makes a codec for the images of a data set, by its name in `config.data.codec`."""


def to_state(image: np.ndarray) -> np.ndarray:
    """Scale an image uint8 (..., C) to float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1.0


def to_uint8(state: np.ndarray) -> np.ndarray:
    """Scale a state float in [-1, 1] back to uint8, rounded to the nearest value."""
    return np.clip(np.rint((np.asarray(state) + 1.0) * 127.5), 0, 255).astype(np.uint8)
