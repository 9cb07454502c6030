"""Running a model over any number of examples, in rounds: a chunk of one size on every device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gcdiff import config as configs
from gcdiff import parallel
from gcdiff.api.question import Question, finite, two
from gcdiff.guidance import Guidance
from gcdiff.samplers.sample import Beside, Given, Sampler, Settings, capped, example_keys
from gcdiff.types import Condition, Pair, pair_map

STAGE = 2**31 + 1
"""Folded into an example's key where a stage draws: its numbers are not those of the base. No step has this number."""
LEAST_CHUNK = 4
"""The smallest chunk that is chosen for a small question: on CPUs its multiples draw the same, bit for bit."""


class Round(NamedTuple):
    """Examples that are answered side by side, on the devices: what is given, the condition, the number of the first
    one, and how many of them count (the others are padding)."""

    given: Given
    condition: Condition | Beside
    first: int
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class Runner:
    """The parts of a model that a round needs. `conditions` are values of further conditionings by name, for all
    questions; `worse` those of a worse model that guides it, where it is to."""

    built: configs.Built
    params: Any
    conditions: Mapping[str, Any]
    worse: Runner | None = None

    def __call__(self, function: Callable[[Round], Any], question: Question) -> Any:
        """The results of `function` on all rounds, side by side as numpy arrays, without the padding. A question whose
        watch stops ends with the round that was being answered."""
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *self.parts(function, question))

    def parts(self, function: Callable[[Round], Any], question: Question) -> Iterator[Any]:
        """The same, round by round."""
        for part in self.rounds(question):
            answer = parallel.to_host(function(part))
            yield jax.tree.map(lambda a, count=part.count: a[:count], answer)

    def rounds(self, question: Question) -> Iterator[Round]:
        """Rounds one after the other; the last one is padded with copies. The progress callback is called for the first
        time once all arguments are checked."""
        q, num, mesh = question, len(question), self.built.sampler.mesh
        size = round_size(chunk_for(num, self.built.defaults.chunk, mesh), mesh)
        inputs = self._inputs(q, num)
        theirs = None if self.worse is None else self.worse._inputs(q, num)
        q.watch.begin()
        for first in range(0, num, size):
            if q.watch.stopped and first:
                return
            rows = np.minimum(np.arange(first, first + size), num - 1)
            values, caps = (pair_map(lambda a, rows=rows: a[rows], pair) for pair in (q.values, q.caps))
            # Padding has ids of its own: what it draws is cut off.
            ids = np.concatenate([q.ids[first : first + size], q.ids[-1] + 1 + np.arange(size)])
            keys = example_keys(q.seed, ids[:size])
            if q.lowres is not None:
                keys = jax.vmap(lambda k: jax.random.fold_in(k, np.uint32(STAGE)))(keys)
            given = capped(keys, Pair(self.built.codec.encode(values.image), values.layout), caps, q.fed)
            condition = self._condition(inputs, rows, keys)
            if self.worse is not None:
                condition = Beside(condition, self.worse._condition(theirs, rows, keys))
            yield Round(given.placed(mesh), condition, first, min(size, num - first))

    def _inputs(self, question: Question, num: int) -> dict[str, Any]:
        """The inputs of all conditionings, of all examples."""
        values = {"text": question.text, "lowres": question.lowres, **self.conditions}
        return self.built.conditions.read(values, num)

    def _condition(self, inputs: Any, rows: np.ndarray, keys: Any) -> Condition:
        """The condition of some rows of the inputs, with their keys."""
        part = jax.tree.map(lambda a: a[rows], inputs)
        return self.built.conditions.sampling(self.params, keys, part, self.built.sampler.mesh)

    @property
    def network(self) -> Any:
        """The network's parameters, as the sampler takes them."""
        own = self.params["network"]
        return own if self.worse is None else Beside(own, self.worse.params["network"])

    def sampler(self, guidance: Guidance) -> tuple[Sampler, Settings]:
        """The run's sampler with the branches that `guidance` needs, and its settings."""
        image = self.built.process.image
        if guidance.image != 1.0 and image is not None and image.kind == "eps":
            raise ValueError("image guidance needs an image head that knows level 1: not process.output=eps")
        if self.built.levels.joint == 1.0 and (guidance.layout, guidance.image) != (1.0, 1.0):
            raise ValueError(
                "guidance by the layout or the image needs levels per modality; "
                "this model was trained on the diagonal only"
            )
        worse = None if self.worse is None else self.worse.built.sampler
        sampler = dataclasses.replace(self.built.sampler, branches=guidance.branches(), worse=worse)
        return sampler, self.built.settings._replace(guidance=guidance)

    def guidance(self, question: Question) -> Guidance:
        """The scales that a question means; without a text its scales are 1."""
        scales, guidance = question.guidance, self.built.settings.guidance
        if isinstance(scales, Guidance):
            low, high = two("guidance.interval", scales.interval)
            text_scales = Pair(*two("guidance.text", scales.text))
            guidance = Guidance(
                text_scales,
                finite("guidance.layout", scales.layout),
                finite("guidance.image", scales.image),
                (low, high),
                finite("guidance.auto", scales.auto),
            )
        elif scales is not None:
            guidance = guidance._replace(text=Pair(*two("guidance", scales)))
        return guidance if question.text is not None else guidance._replace(text=Pair(1.0, 1.0))


def chunk_for(num: int, largest: int, mesh: Mesh | None) -> int:
    """The chunk in which `num` examples are answered: the smallest of 4, 8, 16, ... and `largest` that holds the share
    of one device, so that one picture does not cost a whole large chunk. A `largest` below 4 is taken as it is."""
    share, chunk = -(-num // (1 if mesh is None else mesh.size)), LEAST_CHUNK
    while chunk < share:
        chunk *= 2
    return min(chunk, largest)


def round_size(chunk: int, mesh: Mesh | None) -> int:
    """The number of examples that devices work on side by side, `chunk` on each."""
    return chunk if mesh is None else chunk * mesh.size
