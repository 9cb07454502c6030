"""A stand-in for the text encoder in models whose text features are computed outside the network."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from gcdiff.types import Text


@dataclasses.dataclass(frozen=True)
class GivenText:
    """The identity as a text encoder: takes precomputed `Text` of up to `length` tokens with `features` features each.

    It has the methods of a Flax module, and no parameters.
    """

    features: int
    length: int

    def init(self, key: Any, text: Text) -> dict:
        """Empty parameters."""
        return {"params": {}}

    def apply(self, variables: Any, text: Text) -> Text:
        """The text itself, its features as float32."""
        return Text(jnp.asarray(text.tokens, jnp.float32), jnp.asarray(text.mask))

    def prepare(self, text: Text | None, num: int) -> Text:
        """Pad `text` to features float32 (num, length, features) and a mask bool (num, length); None gives padding
        alone.

        Raises ValueError, in one line, for another type or other shapes, and for text longer than `length`.
        """
        tokens = np.zeros((num, self.length, self.features), np.float32)
        mask = np.zeros((num, self.length), bool)
        if text is None:
            return Text(tokens, mask)
        expected = f"gcdiff.Text of features ({num}, T, {self.features}) and a mask ({num}, T) with T <= {self.length}"
        if not isinstance(text, Text):
            raise ValueError(
                f"this model takes encoded captions: expected {expected}, or no text, or their encoder by "
                "encoder= (--encoder)"
            )
        text_tokens, text_mask = np.asarray(text.tokens), np.asarray(text.mask)
        rows, features = text_tokens.shape[:1] + text_mask.shape[:1], text_tokens.shape[2:]
        fits = rows == (num, num) and features == (self.features,) and text_mask.ndim == 2
        if not fits or text_tokens.shape[:2] != text_mask.shape:
            raise ValueError(f"text has shapes {text_tokens.shape} and {text_mask.shape}, expected {expected}")
        count = text_mask.shape[1]
        if count > self.length:
            raise ValueError(f"text has {count} tokens, expected {expected}")
        tokens[:, :count], mask[:, :count] = text_tokens, text_mask
        return Text(tokens, mask)
