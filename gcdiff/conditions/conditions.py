"""All conditionings of a model together: they make a `Condition` of data or of a question.

Training, evaluation and the Python API know `Conditions` alone, never a part of it. A new conditioning is a module of
its own (`gcdiff.conditions.conditioning`) and one field here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.conditions.conditioning import Conditioning, TrainBatch
from gcdiff.conditions.lowres import LowResInput
from gcdiff.conditions.text import TextInput
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.processes.joint import JointProcess
from gcdiff.types import Condition, ImageSpec, LabelSpec, Pair


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditionings of a model by the names of their fields in `Condition`; None for those it was trained without.

    Random numbers of a conditioning depend on its place among the fields: a new one is entered last, and changes none
    of the others'.
    """

    text: TextInput | None = None
    lowres: LowResInput | None = None

    def parts(self) -> Iterator[tuple[int, str, Conditioning]]:
        """Iterate over (place, name, conditioning) of those that the model has."""
        for place, field in enumerate(dataclasses.fields(self)):
            if (part := getattr(self, field.name)) is not None:
                yield place, field.name, part

    @property
    def names(self) -> tuple[str, ...]:
        """The names of those that the model has."""
        return tuple(name for _, name, _ in self.parts())

    def init(self, key: Array, batch: TrainBatch) -> dict[str, Any]:
        """Initial parameters by name, of the conditionings that have some."""
        made = {name: part.init(_key(key, place), batch) for place, name, part in self.parts()}
        return {name: params for name, params in made.items() if params}

    def collate(self, batch: Any) -> dict[str, Any]:
        """The inputs of a `gcdiff.data.pipeline.Batch` of examples, by name."""
        made = {name: part.collate(batch) for _, name, part in self.parts()}
        return {name: inputs for name, inputs in made.items() if inputs is not None}

    def read(self, values: Mapping[str, Any], num: int) -> dict[str, Any]:
        """The inputs of `num` examples for the values of a question, by name, as numpy arrays.

        Raises ValueError, in one line, for what cannot be read or what the model was trained without.
        """
        for name, value in values.items():
            if value is not None and getattr(self, name) is None:
                raise ValueError(f"this model was trained without {name}")
        return {name: part.read(values.get(name), num) for _, name, part in self.parts()}

    def of_examples(self, batch: TrainBatch) -> dict[str, Any]:
        """The inputs of a batch of examples, by name."""
        return {name: part.of_examples(batch) for _, name, part in self.parts()}

    def draw(self, key: Array, batch: TrainBatch, known: Pair) -> dict[str, Any]:
        """Draw the random numbers of a training step, by name; `known` are the masks of the known pixels."""
        return {name: part.draw(_key(key, place), batch, known) for place, name, part in self.parts()}

    def fixed(self, key: Array, batch: TrainBatch) -> dict[str, Any]:
        """The draws of held-out numbers, by name: nothing is left out, noise has the level of sampling."""
        keys = {name: jax.random.split(_key(key, place), len(batch.layout)) for place, name, _ in self.parts()}
        return {name: part.noise(keys[name], part.of_examples(batch)) for _, name, part in self.parts()}

    def condition(self, params: Mapping[str, Any], draws: Mapping[str, Any]) -> Condition:
        """The `Condition` of draws by name. Pure and differentiable in `params`, all the model's."""
        condition = Condition()
        for _, name, part in self.parts():
            condition = part.write(params.get(name, {}), draws[name], condition)
        return condition

    def sampling(self, params: Mapping[str, Any], keys: Array, inputs: Mapping[str, Any], mesh: Mesh | None = None):
        """The `Condition` of a chunk of examples, or of one on every device of a mesh, compiled.

        It is made once for a call of a sampler, not once a step. `keys` (B,) are the examples' own, `inputs` those of
        `read` or `of_examples`.
        """
        own = {name: params[name] for _, name, _ in self.parts() if name in params}
        return _sampling(self, mesh, own, *parallel.place((keys, dict(inputs)), mesh, BATCH))

    def pictures(self, batch: TrainBatch, image: ImageSpec, labels: LabelSpec) -> dict[str, np.ndarray]:
        """Rows for the sheet of held-out pictures: uint8 (B, H, W, 3) by their titles."""
        return {title: row for _, _, part in self.parts() for title, row in part.pictures(batch, image, labels).items()}


def _key(key: Array, place: int) -> Array:
    return jax.random.fold_in(key, place) if place else key


@jax.jit(static_argnums=(0, 1))
def _sampling(conditions: Conditions, mesh: Mesh | None, params: Any, keys: Array, inputs: Any) -> Condition:
    def of_chunk(params: Any, keys: Array, inputs: Any) -> Condition:
        draws = {name: part.noise(keys, inputs[name]) for _, name, part in conditions.parts()}
        return conditions.condition(params, draws)

    return parallel.on_each_in_groups(mesh, of_chunk, (WHOLE, BATCH, BATCH), BATCH)(params, keys, inputs)


def init_params(process: JointProcess, network: Any, conditions: Conditions, key: Array, one: TrainBatch) -> Any:
    """Initial parameters of a network and its conditionings, for batches like `one`, a batch of a single example."""
    k_conditions, k_network = jax.random.split(key)
    params = conditions.init(k_conditions, one)
    level = jnp.zeros((1, 1, 1))
    state = jax.eval_shape(lambda: process.prior(key, Pair(one.image.shape, one.layout.shape)))
    noisy = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
    condition = conditions.condition(params, conditions.fixed(k_conditions, one))
    return {**params, "network": network.init(k_network, noisy, Pair(level, level), condition)["params"]}
