"""The interface of what is trained, for `gcdiff train`, the loop, and evaluation while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array


class Task(Protocol):
    """What the loop trains: parameters, a loss, pictures and held-out numbers. Parameters and batches are any pytrees.

    precision: the name of the type that it computes in, as 'float32'; heldout: a batch of held-out examples, arrays of
    the shapes of training batches but for the number of rows.
    """

    @property
    def precision(self) -> str: ...

    @property
    def heldout(self) -> Any: ...

    def init(self, key: Array) -> Any:
        """The parameters at the start of training. Pure; runs under jit."""
        ...

    def draw(self, batch: Any, key: Array) -> Any:
        """Draw all random numbers of a step for a batch: a pytree of arrays, batch first. Pure; runs under jit."""
        ...

    def loss_of(self, params: Any, drawn: Any) -> tuple[Array, Mapping[str, Array]]:
        """The scalar float32 loss of what was drawn and its metrics, float32 scalars by name, each a mean over
        examples. Pure; runs under jit."""
        ...

    def sample(self, params: Any, step: int) -> Mapping[str, np.ndarray]:
        """Pictures uint8 (H, W, 3) by name, drawn during training. `params` are the averaged ones."""
        ...

    def evaluate(self, params: Any, step: int) -> Mapping[str, float | np.ndarray]:
        """Numbers on held-out data by name; an array is a distribution, shown as a histogram.

        `params` are the averaged ones.
        """
        ...


def split_numbers(values: Mapping[str, float | np.ndarray]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Split the values of `Task.evaluate` into numbers and distributions. An array without axes is a number."""
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim}
    return {name: float(value) for name, value in values.items() if name not in arrays}, arrays
