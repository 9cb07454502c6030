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
    """Images uint8 (..., H, W, C) <-> states float32 (..., h, w, c). Frozen and hashable.

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
        """(h, w, c) of the state of images of `size` (H, W)."""
        ...

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The states of images."""
        ...

    def decode(self, states: np.ndarray) -> np.ndarray:
        """The images of states; those that are no state of an image go to the nearest."""
        ...


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The image itself, its 256 values from -1 to 1."""

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
    """uint8 (..., C) -> float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1.0


def to_uint8(state: np.ndarray) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded to the nearest value."""
    return np.clip(np.rint((np.asarray(state) + 1.0) * 127.5), 0, 255).astype(np.uint8)
