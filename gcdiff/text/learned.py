"""A small transformer over the words of a caption, trained together with the diffusion network."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.text.tokenizer import PAD
from gcdiff.types import Text


class LearnedTextEncoder(nn.Module):
    """Token ids int32 (B, T), 0 = padding -> Text(features f32 (B, T, features), mask bool (B, T)).

    The features of a caption do not depend on the amount of padding.
    """

    vocabulary: int
    features: int = 128
    layers: int = 2
    heads: int = 4

    @nn.compact
    def __call__(self, ids: Array) -> Text:
        mask = ids != PAD
        init = nn.initializers.normal(0.5)
        x = nn.Embed(self.vocabulary, self.features, embedding_init=init, name="words")(ids)
        x = x + self.param("positions", nn.initializers.normal(0.02), (ids.shape[1], self.features))
        for i in range(self.layers):
            h = nn.LayerNorm(name=f"norm{i}a")(x)
            q, k, v = jnp.split(nn.Dense(3 * self.features, use_bias=False, name=f"qkv{i}")(h), 3, axis=-1)
            q, k, v = (a.reshape(*a.shape[:-1], self.heads, -1) for a in (q, k, v))
            h = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :]).reshape(x.shape)
            x = x + nn.Dense(self.features, use_bias=False, name=f"out{i}")(h)
            h = nn.Dense(2 * self.features, name=f"up{i}")(nn.LayerNorm(name=f"norm{i}b")(x))
            x = x + nn.Dense(self.features, name=f"down{i}")(nn.gelu(h))
        return Text(nn.LayerNorm(name="norm")(x), mask)
