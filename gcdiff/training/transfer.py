"""Initial parameters from another run: classes and words are matched by name, the rest by path and shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from gcdiff.text.tokenizer import Vocabulary
from gcdiff.types import LabelSpec


class Names(NamedTuple):
    """The names of the rows of those parameters that have a row for each class, or for each word."""

    labels: LabelSpec
    vocabulary: Vocabulary | None


BY_CLASS = {("labels", "embedding"): 0, ("head_layout", "kernel"): -1, ("head_layout", "bias"): 0}
BY_CLASS |= {("head_classes", "bias"): 0, ("lowres_labels", "embedding"): 0}
BY_WORD = {("words", "embedding"): 0}


def transfer(fresh: Any, old: Any, fresh_names: Names, old_names: Names) -> tuple[Any, str]:
    """Take the parameters of `old` that fit into `fresh`: (the parameters, a report in a few lines)."""
    old_leaves = {_path(p): np.asarray(v) for p, v in jax.tree_util.tree_leaves_with_path(old)}
    classes = _matches(fresh_names.labels.names, old_names.labels.names)
    words = {}
    if fresh_names.vocabulary is not None and old_names.vocabulary is not None:
        by_name = _matches(fresh_names.vocabulary.words, old_names.vocabulary.words)
        words = {0: 0, 1: 1, **{i + 2: j + 2 for i, j in by_name.items()}}
    labels = len(fresh_names.labels.names), len(old_names.labels.names)
    taken, left = 0, []

    def pick(path, leaf):
        nonlocal taken
        name = _path(path)
        source = old_leaves.get(name)
        for table, match in ((BY_CLASS, classes), (BY_WORD, words)):
            axis = table.get(name[-2:])
            if axis is not None and source is not None:
                rows = _rows(np.asarray(leaf), source, axis, match, labels if table is BY_CLASS else None)
                if rows is not None:
                    taken += 1
                    return rows
        if source is None or source.shape != leaf.shape or name[-2:] in BY_CLASS or name[-2:] in BY_WORD:
            left.append("/".join(name))
            return leaf
        taken += 1
        return source

    params = jax.tree_util.tree_map_with_path(pick, fresh)
    new = [n for i, n in enumerate(fresh_names.labels.names) if i not in classes]
    report = [f"taken: {taken} of {taken + len(left)} parameter arrays; {len(classes)} classes matched by name"]
    if new:
        report.append(f"new classes, drawn afresh: {', '.join(new)}")
    if left:
        report.append(f"not taken: {', '.join(left)}")
    return params, "\n".join(report)


def _path(path) -> tuple[str, ...]:
    return tuple(str(getattr(p, "key", p)) for p in path)


def _matches(fresh, old) -> dict[int, int]:
    index = {name: i for i, name in enumerate(old)}
    return {i: index[name] for i, name in enumerate(fresh) if name in index}


def _rows(
    fresh: np.ndarray, old: np.ndarray, axis: int, match: dict[int, int], names: tuple[int, int] | None
) -> np.ndarray | None:
    """Take the matched rows along `axis` of `old` into `fresh`; None where the other axes differ.

    `names` are the numbers of classes of both: one row more is the mask's; fewer rows are bits, which mean
    the same only for the same classes.
    """
    fresh, old = np.moveaxis(fresh, axis, 0).copy(), np.moveaxis(old, axis, 0)
    if fresh.shape[1:] != old.shape[1:]:
        return None
    if names is not None and (len(fresh) < names[0] or len(old) < names[1]):
        same = names[0] == names[1] == len(match) and all(i == j for i, j in match.items())
        return np.moveaxis(old, 0, axis) if same and len(fresh) == len(old) else None
    if names is not None and len(fresh) > names[0] and len(old) > names[1]:
        match = {**match, names[0]: names[1]}
    for i, j in match.items():
        fresh[i] = old[j]
    return np.moveaxis(fresh, 0, axis)
