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
from gcdiff.api.question import Progress, Question, Scales, Texts, two
from gcdiff.guidance import Guidance
from gcdiff.samplers.sample import Given, Sampler, Settings, capped, example_keys
from gcdiff.types import Condition, Pair, pair_map

STAGE = 2**31 + 1
"""Folded into an example's key where a stage draws: its numbers are not those of the base. No step has this number."""


@dataclasses.dataclass(frozen=True, eq=False)
class Runner:
    """The parts of a model that a round needs."""

    built: configs.Built
    params: Any
    chunk: int

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
        conditions, mesh = self.built.conditions, self.built.sampler.mesh
        inputs = conditions.read({"text": q.text, "lowres": q.lowres}, num)
        if progress is not None:
            progress(0)
        for first in range(0, num, size):
            rows = np.minimum(np.arange(first, first + size), num - 1)
            values, caps = (pair_map(lambda a, rows=rows: a[rows], pair) for pair in (q.values, q.caps))
            # Padding has ids of its own: what it draws is cut off.
            ids = np.concatenate([q.ids[first : first + size], q.ids[-1] + 1 + np.arange(size)])
            keys = example_keys(q.seed, ids[:size])
            if q.lowres is not None:
                keys = jax.vmap(lambda k: jax.random.fold_in(k, np.uint32(STAGE)))(keys)
            given = capped(keys, Pair(self.built.codec.encode(values.image), values.layout), caps, q.fed)
            part = jax.tree.map(lambda a, rows=rows: a[rows], inputs)
            condition = conditions.sampling(self.params, keys, part, mesh)
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


def round_size(chunk: int, mesh: Mesh | None) -> int:
    """The number of examples that devices work on side by side, `chunk` on each."""
    return chunk if mesh is None else chunk * mesh.size
