"""The interface of a conditioning: one input of the network besides the noisy pair and its levels.

A text, a low-resolution pair, regions: each is a frozen, hashable dataclass with the methods of `Conditioning`, in a
module of its own. `gcdiff.conditions.conditions.Conditions` joins them. docs/extending.md adds one, step by step.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from gcdiff.types import Condition, ImageSpec, LabelSpec, Pair


class TrainBatch(NamedTuple):
    """A batch of examples, every array batch first.

    image float32 (B, h, w, C) in [-1, 1]; layout int32 (B, H, W) with VOID; inputs: for each conditioning by name what
    `Conditioning.collate` made of the examples; has_image bool (B,), or None where no image is missing.
    """

    image: Any
    layout: Any
    inputs: Mapping[str, Any] = {}
    has_image: Any = None

    @property
    def no_image(self) -> Any:
        """Which examples lack an image: bool (B, 1, 1), or False."""
        return False if self.has_image is None else ~self.has_image[:, None, None]


class Conditioning(abc.ABC):
    """One conditioning of a network, from data or a question to its field of `Condition`.

    *Inputs* are what is known of examples before any random number is drawn: arrays, batch first. *Draws* are inputs
    with all their random numbers: noise, and which examples do without. Both are pytrees of the conditioning's own
    choice.
    """

    @abc.abstractmethod
    def read(self, value: Any, num: int) -> Any:
        """The inputs of `num` examples for a question's `value`, as numpy arrays; None where the question gives none.

        Raises ValueError, in one line, for what cannot be read.
        """

    @abc.abstractmethod
    def of_examples(self, batch: TrainBatch) -> Any:
        """The inputs, in the form of `read`, of a batch of examples: those of held-out numbers and pictures."""

    @abc.abstractmethod
    def draw(self, key: Array, batch: TrainBatch, known: Pair) -> Any:
        """Draw the random numbers of a training step; `known` are masks of the known pixels. Pure; runs under jit."""

    @abc.abstractmethod
    def write(self, params: Any, draws: Any, condition: Condition) -> Condition:
        """The condition with this conditioning's field; `params` are those of `init`, trained. Pure, differentiable."""

    def noise(self, keys: Array, inputs: Any) -> Any:
        """The draws for sampling and for held-out numbers, with a key for each example (B,). Pure; runs under jit.

        They are the inputs themselves, unless noise is put on them.
        """
        return inputs

    def init(self, key: Array, batch: TrainBatch) -> Any:
        """Initial parameters of the conditioning, trained with the network's; {} for none."""
        return {}

    def collate(self, batch: Any) -> Any:
        """The inputs of a `gcdiff.data.pipeline.Batch` of examples, as numpy arrays.

        None where it needs nothing but image and layout.
        """
        return None

    def pictures(self, batch: TrainBatch, image: ImageSpec, labels: LabelSpec) -> Mapping[str, np.ndarray]:
        """Rows for the sheet of held-out pictures: uint8 (B, H, W, 3) by their titles; {} for none."""
        return {}
