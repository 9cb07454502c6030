"""Conversion of the arrays of a PyTorch checkpoint to the parameters of a Flax module.

A table names the arrays that each parameter is made of. Dense kernels are transposed from (out, in) to (in, out), and
those that are applied to the same input are concatenated; the kernel over image patches is reshaped from (out, channel,
row, column) to (row x column x channel, out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

FLOATS = ("float32", "bfloat16", "float16")
_CAST = ("kernel", "tokens")


class Source(NamedTuple):
    """The origin of a parameter: the arrays `names`, each of shape `stored(shape of the parameter)`; `convert` makes
    the parameter from them."""

    names: tuple[str, ...]
    stored: Callable[[tuple[int, ...]], tuple[int, ...]]
    convert: Callable[[list[np.ndarray]], np.ndarray]
    aliases: tuple[str, ...] = ()  # other names that the array may have


Table = dict[tuple[str, ...], Source]
"""The source of each parameter by its path."""


def same(name: str, *aliases: str) -> Source:
    """An array unchanged; `aliases` are other names that it may have."""
    return Source((name,), lambda shape: shape, lambda arrays: arrays[0], aliases)


def dense(*names: str) -> Source:
    """Dense kernels, transposed and concatenated along the outputs."""
    return Source(
        names,
        lambda shape: (shape[1] // len(names), shape[0]),
        lambda arrays: np.concatenate([w.T for w in arrays], axis=1),
    )


def joined(*names: str) -> Source:
    """Biases, concatenated."""
    return Source(names, lambda shape: (shape[0] // len(names),), np.concatenate)


def patches(name: str, size: int) -> Source:
    """The kernel over patches of size x size pixels."""
    return Source(
        (name,),
        lambda shape: (shape[1], shape[0] // size**2, size, size),
        lambda arrays: arrays[0].transpose(2, 3, 1, 0).reshape(-1, arrays[0].shape[0]),
    )


class Plan(NamedTuple):
    """A module, example inputs for its initialisation, and the sources of its parameters.

    Arrays whose names begin with one of `spare` belong to parts of the checkpoint that the module does not have. For a
    text encoder `end` is the id of the end token (None: the highest id of a text) and `most` the largest number of
    tokens (None: any).
    """

    module: Any
    inputs: tuple[Array, ...]
    table: Table
    spare: tuple[str, ...]
    end: int | None = None
    most: int | None = None


def convert(weights: Mapping[str, np.ndarray], plan: Plan, where: str) -> dict:
    """The parameters of the plan's module: kernels and token tables in its dtype, all others float32.

    `where` names the checkpoint in messages. Raises ValueError, in one line, naming an array that is missing,
    unexpected, unreadable, or of another shape or type.
    """
    module, table = plan.module, plan.table
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *plan.inputs))["params"]
    expected: Any = flatten_dict(shapes)
    sources = {path: _present(source, weights) for path, source in table.items()}
    names = {name for source in sources.values() for name in source.names}
    if missing := sorted(names - set(weights)):
        raise ValueError(f"{where}: the weights lack {_some(missing)}, which config.json requires")
    known = names.union(*(source.names + source.aliases for source in table.values()))
    if extra := sorted(n for n in set(weights) - known if not n.startswith(plan.spare)):
        raise ValueError(f"{where}: the weights hold {_some(extra)}, which do not belong to the model of config.json")
    flat = {}
    for path, source in sources.items():
        shape = source.stored(expected[path].shape)
        array = source.convert([_read(weights, name, shape, where) for name in source.names])
        flat[path] = jnp.asarray(array.astype(module.dtype if path[-1] in _CAST else np.float32))
    return unflatten_dict(flat)


def _present(source: Source, weights: Mapping[str, np.ndarray]) -> Source:
    """The source, under the first of its aliases that the checkpoint has if it lacks the name."""
    if source.names[0] in weights:
        return source
    return source._replace(names=next(((n,) for n in source.aliases if n in weights), source.names))


def _read(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        array = weights[name]
    except Exception as error:  # a type that NumPy lacks, or a truncated file
        raise ValueError(f"{where}: {name} cannot be read ({str(error).splitlines()[0]})") from None
    if array.dtype.name not in FLOATS:
        raise ValueError(f"{where}: {name} is of {array.dtype}, expected {', '.join(FLOATS)}")
    if array.shape != shape:
        raise ValueError(f"{where}: {name} has shape {array.shape}, expected {shape} by config.json")
    return array


def _some(names: list[str], limit: int = 3) -> str:
    """The first few names, and the number of the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
