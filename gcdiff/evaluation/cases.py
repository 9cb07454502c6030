"""Best, median and worst examples of a direction, and the per-class table of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gcdiff.evaluation.numbers import Shared, agreement_sums, asked_sums
from gcdiff.evaluation.results import Case, ClassRow, Gallery
from gcdiff.evaluation.segmentation import class_ious, confusion, mean_iou
from gcdiff.evaluation.semantic import areas
from gcdiff.evaluation.sides import Examples, Side

EACH = 2
KINDS = ("best", "median", "worst")


def chosen(scores: Sequence[float], each: int = EACH) -> list[tuple[str, int]]:
    """(kind, index) of the best, the middle and the worst scores, none twice, those that are no number left out."""
    order = [int(i) for i in np.argsort(-np.asarray(scores), kind="stable") if not np.isnan(scores[i])]
    each = min(each, -(-len(order) // 3))
    best, rest = order[:each], order[each:]
    worst, rest = rest[len(rest) - each :], rest[: max(len(rest) - each, 0)]
    start = max(len(rest) - each, 0) // 2
    parts = zip(KINDS, (best, rest[start : start + each], worst[::-1]), strict=True)
    return [(kind, i) for kind, part in parts for i in part]


def galleries(side: Side, shared: Shared, show: Callable, colors: Callable) -> tuple[Gallery, ...]:
    """The cases of a model's side. `show` turns images (h, w, C), `colors` layouts (H, W) into pictures."""
    k, found = len(shared.names), []

    def gallery(name: str, title: str, score: str, examples: Examples, given, predicted, pictures) -> None:
        scores = [mean_iou(confusion(y, p, k)) for y, p in zip(given, predicted, strict=True)]
        cases = [
            Case(kind, int(examples.ids[i]), scores[i], examples.captions[i], tuple(pictures(i)))
            for kind, i in chosen(scores)
        ]
        found.append(Gallery(name, title, score, tuple(cases)))

    if (s := side.segmented) is not None:
        e, answers = s.examples, s.predictions

        def triple(i: int):
            return [
                ("image", show(e.images[i])),
                ("true layout", colors(e.layouts[i])),
                ("segmented", colors(answers[i])),
            ]

        untold = e._replace(captions=("",) * len(e.ids))
        gallery("segmentation", "Segmentations", "mIoU with the true layout", untold, e.layouts, answers, triple)
    titles = (
        ("pairs", "Pairs drawn from captions", "drawn layout"),
        ("synthesized", "Images drawn for layouts", "given layout"),
    )
    for field, title, layout in titles:
        if (seen := getattr(side, field)) is None:
            continue

        def both(i: int, seen=seen, layout: str = layout):
            e = seen.examples
            return [
                ("drawn image", show(e.images[i])),
                (layout, colors(e.layouts[i])),
                ("read in the image", colors(seen.labels[i])),
            ]

        score = f"mIoU of the layout with what is seen in the image (reader: {shared.reader.name})"
        gallery(field, title, score, seen.examples, seen.examples.layouts, seen.labels, both)
    return tuple(found)


def class_rows(model: Side, real: Side, shared: Shared, palette) -> tuple[ClassRow, ...]:
    """Numbers of every class, each of both sides: IoUs, how frequent it is, how well captions' wishes are shown."""
    sides = [_by_class(side, shared) for side in (model, real)]
    names = [name for name in (sides[0] | sides[1])]
    missing = np.full(len(shared.names), np.nan)
    return tuple(
        ClassRow(
            name,
            tuple(palette[k]),
            {n: (float(sides[0].get(n, missing)[k]), float(sides[1].get(n, missing)[k])) for n in names},
        )
        for k, name in enumerate(shared.names)
    )


def _by_class(side: Side, shared: Shared) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if side.segmented is not None:
        found["segmentation IoU"] = class_ious(side.segmented.confusion.total)
    for field, name in (("pairs", "pair IoU"), ("synthesized", "synthesis IoU")):
        if (seen := getattr(side, field)) is not None:
            found[name] = class_ious(agreement_sums(seen, shared).total)
    if side.pairs is None:
        return found
    counts = areas(side.pairs.examples.layouts, len(shared.names))
    found["share of pixels"] = counts.sum(0) / max(counts.sum(), 1)
    found["share of layouts"] = (counts > 0).mean(0)
    if shared.told and shared.reader.classes.any():
        hits, extra, missed = asked_sums(side.pairs, shared).total[6:].reshape(-1, 3).T
        with np.errstate(invalid="ignore", divide="ignore"):
            found["caption recall"] = hits / (hits + missed)
            found["caption precision"] = hits / (hits + extra)
    return found
