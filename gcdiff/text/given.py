"""Text that comes encoded: features of an encoder that runs elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from gcdiff.types import Text


@dataclasses.dataclass(frozen=True)
class GivenText:
    """In the place of an encoder: passes on `Text` of `length` tokens with `features` features each.

    It has no parameters.
    """

    features: int
    length: int

    def init(self, key: Any, text: Text) -> dict:
        """No parameters."""
        return {"params": {}}

    def apply(self, variables: Any, text: Text) -> Text:
        """The text itself, its features float32."""
        return Text(jnp.asarray(text.tokens, jnp.float32), jnp.asarray(text.mask))

    def prepare(self, text: Text | None, num: int) -> Text:
        """Features float32 (num, length, features) and mask bool (num, length) of `text`; nothing but padding for None.

        Raises ValueError, in one line, for a text of another form and for one that is longer.
        """
        tokens = np.zeros((num, self.length, self.features), np.float32)
        mask = np.zeros((num, self.length), bool)
        if text is None:
            return Text(tokens, mask)
        wanted = f"gcdiff.Text of features ({num}, T, {self.features}) and a mask ({num}, T) with T <= {self.length}"
        if not isinstance(text, Text):
            expected = f"{wanted}, or no text, or its encoder by encoder= (--encoder)"
            raise ValueError(f"this model's captions are encoded elsewhere: expected {expected}")
        found, told = np.asarray(text.tokens), np.asarray(text.mask)
        rows, features = found.shape[:1] + told.shape[:1], found.shape[2:]
        if rows != (num, num) or features != (self.features,) or found.shape[:2] != told.shape or told.ndim != 2:
            raise ValueError(f"text has shapes {found.shape} and {told.shape}, expected {wanted}")
        if told.shape[1] > self.length:
            raise ValueError(f"text has {told.shape[1]} tokens, expected {wanted}")
        tokens[:, : told.shape[1]], mask[:, : told.shape[1]] = found, told
        return Text(tokens, mask)
