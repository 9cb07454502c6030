"""Parameter groups: learning rates and gradient clipping by group, and frozen parameters.

A group is (pattern, rate, clip group). A parameter belongs to the first group whose pattern matches the whole of its
'/'-joined name, as in network/head_layout/bias; `*` stands for any characters, '/' among them, `?` for one, `[ab]` for
one of those (`fnmatch`). Parameters that no pattern matches are trained at rate 1, in the clip group all.

A tree of parameters is held in two parts, the trained and the frozen one. Each has the form of the whole tree, with
None where the other has an array, so that a map over the trained part meets nothing of the frozen one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import optax

from gcdiff.training import manifest


class Group(NamedTuple):
    """The parameters whose name `pattern` matches, unless a group before it matches them.

    `rate` is a factor on the learning rate, 0 for frozen parameters; the gradients of all groups with the same `clip`
    are clipped by their common norm.
    """

    pattern: str = "*"
    rate: float = 1.0
    clip: str = "all"


EXAMPLE = ("text/*", 0.0, "all")


def read_groups(values: Sequence[Any]) -> tuple[Group, ...]:
    """Make groups of sequences (pattern, rate, clip group).

    Raises ValueError for any other form, and for a rate that is below 0 or not finite.
    """
    groups = []
    for value in values:
        form: Any = value if isinstance(value, list | tuple) and len(value) == 3 else (None,) * 3
        pattern, rate, clip = form
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not (isinstance(pattern, str) and number and isinstance(clip, str)):
            raise ValueError(f"optim.groups holds {value!r}, expected (pattern, rate, clip group), as in {EXAMPLE}")
        if not (rate >= 0 and math.isfinite(rate)):
            raise ValueError(f"optim.groups has the rate {rate} for {pattern!r}, expected 0 (frozen) or more")
        groups.append(Group(pattern, float(rate), clip))
    return tuple(groups)


def groups_of(groups: Sequence[Group], params: Any) -> list[Group]:
    """The group of every array of a parameter tree, in the order of its leaves."""
    rest = Group()
    return [next((g for g in groups if fnmatchcase(name, g.pattern)), rest) for name in manifest.named(params)]


def check_groups(groups: Sequence[Group], params: Any) -> None:
    """Raise ValueError, naming the pattern, unless every group has a parameter of the whole tree `params` and one
    parameter at least is trained."""
    names, chosen = list(manifest.named(params)), groups_of(groups, params)
    for group in groups:
        if not any(fnmatchcase(name, group.pattern) for name in names):
            near = difflib.get_close_matches(group.pattern, names, n=4, cutoff=0.0)
            said = f"optim.groups: no parameter has a name like {group.pattern!r}"
            raise ValueError(f"{said}; names near it: {', '.join(near)}")
        if all(g is not group for g in chosen):
            first = next(g for name, g in zip(names, chosen, strict=True) if fnmatchcase(name, group.pattern))
            said = f"optim.groups: all that {group.pattern!r} matches is in groups before it, as {first.pattern!r}"
            raise ValueError(f"{said}: the first that matches counts, expected the narrower pattern first")
    if all(group.rate == 0 for group in chosen):
        raise ValueError(f"optim.groups freezes every parameter: {', '.join(repr(g.pattern) for g in groups)}")


def frozen_names(groups: Sequence[Group], params: Any) -> set[str]:
    """The names of the parameters of rate 0."""
    return {name for name, g in zip(manifest.named(params), groups_of(groups, params), strict=True) if g.rate == 0}


def split(params: Any, names: Collection[str]) -> tuple[Any, Any]:
    """Split a tree into (the part without the parameters of these names, the part of them alone or None)."""
    if not names:
        return params, None
    leaves, structure = jax.tree.flatten(params)
    taken = [name in names for name in manifest.named(params)]
    parts = ([None if t == out else leaf for t, leaf in zip(taken, leaves, strict=True)] for out in (True, False))
    without, within = map(structure.unflatten, parts)
    return without, within


def join(part: Any, other: Any) -> Any:
    """Join the two parts that `split` returned into the whole tree."""
    if other is None:
        return part
    return jax.tree.map(lambda a, b: b if a is None else a, part, other, is_leaf=lambda x: x is None)


def clip_by_group(clip: float, groups: Sequence[Group]) -> optax.GradientTransformation:
    """The transformation that scales the gradients of every clip group down to the norm `clip` if it is larger."""
    one = optax.clip_by_global_norm(clip)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(grads)
        names = [group.clip for group in groups_of(groups, grads)]
        for wanted in dict.fromkeys(names):
            places = [place for place, name in enumerate(names) if name == wanted]
            clipped, _ = one.update([leaves[place] for place in places], state)
            for place, leaf in zip(places, clipped, strict=True):
                leaves[place] = leaf
        return structure.unflatten(leaves), state

    return optax.GradientTransformation(one.init, update)
