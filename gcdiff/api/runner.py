"""Running a model over any number of examples, in rounds: a chunk of one fixed size on every device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gcdiff import config as configs
from gcdiff import parallel
from gcdiff.api.question import Progress, Question, Scales, Texts, _each, two
from gcdiff.codecs import to_state
from gcdiff.conditions.conditions import encode
from gcdiff.guidance import Guidance
from gcdiff.samplers.sample import Given, Sampler, Settings, capped, example_keys
from gcdiff.text.given import GivenText
from gcdiff.types import Condition, Pair, Text, pair_map

STAGE = 2**31 + 1
"""Folded into an example's key where a stage draws: its numbers are not those of the base. No step has this number."""


@dataclasses.dataclass(frozen=True, eq=False)
class Runner:
    """The parts of a model that a round needs; `encode` makes features of captions where an encoder beside it does."""

    built: configs.Built
    params: Any
    vocabulary: Any
    chunk: int
    encode: Callable[[list[str]], Text] | None = None

    @property
    def size(self) -> int:
        """The number of examples of a round."""
        return round_size(self.chunk, self.built.sampler.mesh)

    def __call__(self, function: Callable, question: Question, progress: Progress = None) -> Iterator:
        """The results of `function(given, condition)` on rounds, one after the other, without the padding, as numpy
        arrays on every process."""
        for given, condition, count in self.rounds(question, progress):
            found = parallel.to_host(function(given, condition))
            yield jax.tree.map(lambda a, count=count: a[:count], found)

    def rounds(self, question: Question, progress: Progress = None) -> Iterator[tuple[Given, Condition, int]]:
        """What is given, the condition, and how many examples count, of rounds one after the other, on the devices; the
        last round is padded with copies. `progress` is told 0 once everything is checked."""
        q, num, size = question, len(question), self.size
        low, mesh = self.built.lowres, self.built.sampler.mesh
        if low is not None and q.lowres is None:
            said = "expected a base asked with upsample= (or --upsample), or Model.upsample with low-resolution pairs"
            raise ValueError(f"this model is a super-resolution stage and cannot draw alone: {said}")
        tokens, drop = self._tokens(q.text, num)
        if progress is not None:
            progress(0)
        for first in range(0, num, size):
            rows = np.minimum(np.arange(first, first + size), num - 1)
            values, caps = (pair_map(lambda a, rows=rows: a[rows], pair) for pair in (q.values, q.caps))
            # Padding has ids of its own: what it draws is cut off.
            ids = np.concatenate([q.ids[first : first + size], q.ids[-1] + 1 + np.arange(size)])
            keys = example_keys(q.seed, ids[:size])
            if low is not None:
                keys = jax.vmap(lambda k: jax.random.fold_in(k, np.uint32(STAGE)))(keys)
            given = capped(keys, Pair(to_state(values.image), values.layout), caps, q.fed)
            condition = self._condition(jax.tree.map(lambda a, rows=rows: a[rows], tokens), drop)
            if low is not None:
                small = Pair(to_state(q.lowres.image[rows]), q.lowres.layout[rows])
                condition = dataclasses.replace(condition, lowres=low.told(self.built.process, keys, small, mesh))
            yield given.placed(mesh), condition, min(size, num - first)

    def sampler(self, guidance: Guidance) -> tuple[Sampler, Settings]:
        """The run's sampler with the branches that `guidance` needs, and its settings."""
        image = self.built.process.image
        if guidance.image != 1.0 and image is not None and image.kind == "eps":
            raise ValueError("image guidance needs an image head that knows level 1: not process.output=eps")
        sampler = dataclasses.replace(self.built.sampler, branches=guidance.branches())
        return sampler, self.built.settings._replace(guidance=guidance)

    def guidance(self, scales: Scales, text: Texts) -> Guidance:
        """The scales that a user means: None for the run's own, one or two numbers for the text's."""
        guidance = self.built.settings.guidance
        if isinstance(scales, Guidance):
            low, high = two("guidance.interval", scales.interval)
            text_scales = Pair(*two("guidance.text", scales.text))
            guidance = Guidance(text_scales, float(scales.layout), float(scales.image), (low, high))
        elif scales is not None:
            guidance = guidance._replace(text=Pair(*two("guidance", scales)))
        return guidance if text is not None else guidance._replace(text=Pair(1.0, 1.0))

    def _tokens(self, text: Texts, num: int) -> tuple[Any, bool]:
        """What the text encoder reads, for `num` examples, and whether the text is dropped because there is none."""
        if isinstance(self.built.text_encoder, GivenText):
            if self.encode is not None and text is not None and not isinstance(text, Text):
                text = _encoded(self.encode, _each(text, num))
            return self.built.text_encoder.prepare(text, num), text is None
        if isinstance(text, Text):
            raise ValueError("this model encodes captions itself: expected them as strings")
        if self.vocabulary is None:
            if text is not None:
                raise ValueError("this model was trained without text")
            return None, True
        if text is None:
            return np.zeros((num, self.vocabulary.length), np.int32), True
        return self.vocabulary.encode(_each(text, num)), False

    def _condition(self, tokens, drop: bool) -> Condition:
        if tokens is None:
            return Condition()
        mesh = self.built.sampler.mesh
        tokens, drops = parallel.place((tokens, np.full(self.size, drop)), mesh, parallel.BATCH)
        return encode(self.built.text_encoder, self.params, tokens, drops, mesh)


def round_size(chunk: int, mesh: Mesh | None) -> int:
    """The number of examples that devices work on side by side, `chunk` on each."""
    return chunk if mesh is None else chunk * mesh.size


def _encoded(encode: Callable[[list[str]], Text], texts: list[str]) -> Text:
    """The features of captions, each distinct one encoded once."""
    if "" in texts:
        raise ValueError("empty caption '': expected at least one word, or no text")
    distinct = list(dict.fromkeys(texts))
    found, rows = encode(distinct), [distinct.index(t) for t in texts]
    return Text(found.tokens[rows], found.mask[rows])
