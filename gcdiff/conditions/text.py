"""The conditioning on text: captions, encoded to the features that the network reads.

In training some examples do without their text (classifier-free guidance, Ho and Salimans 2022), more often where the
whole image is given: questions about an image are mostly asked without a caption. An example without a caption is one
without a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff.conditions.conditioning import Conditioning, TrainBatch
from gcdiff.text.given import GivenText
from gcdiff.text.learned import LearnedTextEncoder
from gcdiff.text.tokenizer import PAD, Vocabulary
from gcdiff.types import Condition, Pair, Text

Captions = Callable[[Sequence[str]], Any]
"""From captions to what a text encoder reads: token ids int32 (N, T), or `Text`."""


@dataclasses.dataclass(frozen=True)
class TextInput(Conditioning):
    """The text encoder and its inputs; `drop` and `drop_given_image` are probabilities of no text in training.

    A learned encoder reads token ids of its `vocabulary`. `GivenText` passes on features that are there already:
    `captions` makes them, from what a data set has stored or by a pretrained encoder; None where nothing here can.
    """

    encoder: LearnedTextEncoder | GivenText
    drop: float = 0.1
    drop_given_image: float = 0.1
    vocabulary: Vocabulary | None = dataclasses.field(default=None, compare=False)
    captions: Captions | None = dataclasses.field(default=None, compare=False)

    def init(self, key: Array, batch: TrainBatch) -> Any:
        return self.encoder.init(key, batch.inputs["text"])["params"]

    def collate(self, batch: Any) -> Any:
        if self.vocabulary is None:
            assert self.captions is not None, "config.training sets what reads the captions of a data set"
            return self.captions(batch.captions)
        ids = np.full((len(batch.captions), self.vocabulary.length), PAD, np.int32)
        ids[[caption != "" for caption in batch.captions]] = self.vocabulary.encode([c for c in batch.captions if c])
        return ids

    def read(self, value: Any, num: int) -> Any:
        if isinstance(self.encoder, GivenText):
            if self.captions is not None and value is not None and not isinstance(value, Text):
                value = self._encoded(one_each(value, num))
            return self.encoder.prepare(value, num)
        if isinstance(value, Text):
            raise ValueError("this model encodes captions itself: expected them as strings")
        assert self.vocabulary is not None, "a learned encoder has a vocabulary"
        if value is None:
            return np.full((num, self.vocabulary.length), PAD, np.int32)
        return self.vocabulary.encode(one_each(value, num))

    def of_examples(self, batch: TrainBatch) -> Any:
        return batch.inputs["text"]

    def draw(self, key: Array, batch: TrainBatch, known: Pair) -> Any:
        image_given = known.image.all(axis=(1, 2))
        dropped = jax.random.bernoulli(key, jnp.where(image_given, self.drop_given_image, self.drop))
        return batch.inputs["text"], dropped

    def noise(self, keys: Array, inputs: Any) -> Any:
        return inputs, None

    def write(self, params: Any, draws: Any, condition: Condition) -> Condition:
        inputs, dropped = draws
        text: Any = self.encoder.apply({"params": params}, jax.tree.map(jnp.asarray, inputs))
        return dataclasses.replace(condition, text=text if dropped is None else text.without(dropped))

    def _encoded(self, captions: Sequence[str]) -> Text:
        """The features of captions, of which each distinct one is encoded once."""
        if "" in captions:
            raise ValueError("empty caption '': expected at least one word, or no text")
        assert self.captions is not None
        distinct = list(dict.fromkeys(captions))
        features, rows = self.captions(distinct), [distinct.index(caption) for caption in captions]
        return Text(features.tokens[rows], features.mask[rows])


def one_each(text: str | Sequence[str], num: int) -> list[str]:
    """Expand one caption to `num` examples, or check that there are as many. Raises ValueError for another number."""
    captions = [text] * num if isinstance(text, str) else list(text)
    if len(captions) != num:
        raise ValueError(f"{len(captions)} captions for {num} examples: expected one, or one for each")
    return captions
