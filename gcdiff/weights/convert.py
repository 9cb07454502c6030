"""From the arrays of a checkpoint to the parameters of a module.

A table says for each parameter which arrays it is made of. Dense kernels turn from (out, in) to (in, out), and those
that are applied to the same input are put side by side; the kernel over a patch of an image turns from (out, channel,
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
    """`names` are read, each of the shape `stored(shape of the parameter)`, and brought to the parameter by `bring`."""

    names: tuple[str, ...]
    stored: Callable[[tuple[int, ...]], tuple[int, ...]]
    bring: Callable[[list[np.ndarray]], np.ndarray]
    also: tuple[str, ...] = ()  # other names of the same array


Table = dict[tuple[str, ...], Source]


def same(name: str, *also: str) -> Source:
    """An array as it is; `also` are other names that it may have."""
    return Source((name,), lambda shape: shape, lambda found: found[0], also)


def dense(*names: str) -> Source:
    """Dense kernels side by side."""
    return Source(
        names,
        lambda shape: (shape[1] // len(names), shape[0]),
        lambda found: np.concatenate([w.T for w in found], axis=1),
    )


def joined(*names: str) -> Source:
    """Biases side by side."""
    return Source(names, lambda shape: (shape[0] // len(names),), np.concatenate)


def patches(name: str, size: int) -> Source:
    """The kernel over patches of size x size pixels."""
    return Source(
        (name,),
        lambda shape: (shape[1], shape[0] // size**2, size, size),
        lambda found: found[0].transpose(2, 3, 1, 0).reshape(-1, found[0].shape[0]),
    )


class Plan(NamedTuple):
    """A module, examples of its inputs, and what its parameters are made of.

    Names that begin with one of `spare` belong to parts of the checkpoint that the module does not have. A text ends
    with the token `end` (None: with its highest id) and may have `most` tokens (None: any number).
    """

    module: Any
    inputs: tuple[Array, ...]
    table: Table
    spare: tuple[str, ...]
    end: int | None = None
    most: int | None = None


def convert(weights: Mapping[str, np.ndarray], plan: Plan, where: str) -> dict:
    """The parameters of the plan's module: kernels and token tables in its dtype, all else float32.

    `where` names the checkpoint. Raises ValueError, in one line, naming the array that is missing, too many, or of
    another shape or type.
    """
    module, table = plan.module, plan.table
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *plan.inputs))["params"]
    expected: Any = flatten_dict(shapes)
    sources = {path: _present(source, weights) for path, source in table.items()}
    names = {name for source in sources.values() for name in source.names}
    if missing := sorted(names - set(weights)):
        raise ValueError(f"{where}: the weights lack {_some(missing)}, which config.json asks for")
    known = names.union(*(source.names + source.also for source in table.values()))
    if extra := sorted(n for n in set(weights) - known if not n.startswith(plan.spare)):
        raise ValueError(f"{where}: the weights hold {_some(extra)}, which config.json does not ask for")
    flat = {}
    for path, source in sources.items():
        shape = source.stored(expected[path].shape)
        found = source.bring([_read(weights, name, shape, where) for name in source.names])
        flat[path] = jnp.asarray(found.astype(module.dtype if path[-1] in _CAST else np.float32))
    return unflatten_dict(flat)


def _present(source: Source, weights: Mapping[str, np.ndarray]) -> Source:
    """The source under the first of its names that is there."""
    if source.names[0] in weights:
        return source
    return source._replace(names=next(((n,) for n in source.also if n in weights), source.names))


def _read(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        found = weights[name]
    except Exception as error:  # a type that numpy has not, or a file cut short
        raise ValueError(f"{where}: {name} cannot be read ({str(error).splitlines()[0]})") from None
    if found.dtype.name not in FLOATS:
        raise ValueError(f"{where}: {name} is of {found.dtype}, expected {', '.join(FLOATS)}")
    if found.shape != shape:
        raise ValueError(f"{where}: {name} has shape {found.shape}, expected {shape} as config.json tells")
    return found


def _some(names: list[str], limit: int = 3) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
