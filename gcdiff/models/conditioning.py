"""Text becomes context in one place: tokens for attention and one vector for the global embedding."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.attention import Context
from gcdiff.types import Condition


class TextContext(nn.Module):
    """`condition` -> (Context of projected tokens (B, T, D), pooled text (B, D)).

    Where `drop_text` is set, no token is visible (attention has its own null key) and the pooled vector is a learned
    null. All tokens have region -1 (they speak of the whole picture). Without text: (None, None).
    """

    features: int

    @nn.compact
    def __call__(self, condition: Condition) -> tuple[Context | None, Array | None]:
        text = condition.text
        if text is None:
            return None, None
        mask = text.mask
        if condition.drop_text is not None:
            mask = mask & ~condition.drop_text[:, None]
        tokens = nn.Dense(self.features, name="project")(text.tokens)
        shares = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        pooled = nn.LayerNorm(name="norm")(jnp.einsum("bt,btd->bd", shares, tokens))
        null = self.param("null", nn.initializers.normal(0.02), (self.features,))
        pooled = jnp.where(mask.any(axis=1, keepdims=True), pooled, null)
        return Context(tokens, mask, jnp.full(mask.shape, -1)), nn.Dense(self.features, name="pooled")(pooled)
