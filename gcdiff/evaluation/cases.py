"""The galleries of best, median and worst examples in a report, and its table of numbers per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gcdiff.evaluation.numbers import Shared, agreement_sums, asked_sums
from gcdiff.evaluation.results import Case, ClassRow, Gallery
from gcdiff.evaluation.segmentation import class_ious, confusion, mean_iou
from gcdiff.evaluation.semantic import areas
from gcdiff.evaluation.sides import Examples, Side

PER_KIND = 2
"""How many examples of each kind a gallery shows."""
KINDS = ("best", "median", "worst")


def select_cases(scores: Sequence[float], each: int = PER_KIND) -> list[tuple[str, int]]:
    """Select up to `each` best, median and worst scores, as (kind, index); no index twice, nan left out."""
    order = [int(i) for i in np.argsort(-np.asarray(scores), kind="stable") if not np.isnan(scores[i])]
    each = min(each, -(-len(order) // 3))
    best, rest = order[:each], order[each:]
    worst, rest = rest[len(rest) - each :], rest[: max(len(rest) - each, 0)]
    start = max(len(rest) - each, 0) // 2
    parts = zip(KINDS, (best, rest[start : start + each], worst[::-1]), strict=True)
    return [(kind, i) for kind, part in parts for i in part]


def galleries(side: Side, shared: Shared, show: Callable, colors: Callable) -> tuple[Gallery, ...]:
    """The galleries of a model's segmentations, drawn pairs and synthesized images, sorted by mIoU.

    `show` makes pictures of images (h, w, C), `colors` of layouts (H, W).
    """
    k, entries = len(shared.names), []

    def add(name: str, title: str, score: str, examples: Examples, layouts, predictions, pictures) -> None:
        scores = [mean_iou(confusion(y, p, k)) for y, p in zip(layouts, predictions, strict=True)]
        cases = [
            Case(kind, int(examples.ids[i]), scores[i], examples.captions[i], tuple(pictures(i)))
            for kind, i in select_cases(scores)
        ]
        entries.append(Gallery(name, title, score, tuple(cases)))

    if (segmented := side.segmented) is not None:
        e, predictions = segmented.examples, segmented.predictions

        def segmentation_pictures(i: int):
            return [
                ("image", show(e.images[i])),
                ("true layout", colors(e.layouts[i])),
                ("segmented", colors(predictions[i])),
            ]

        plain = e._replace(captions=("",) * len(e.ids))  # segmentation reads no caption
        score = "mIoU with the true layout"
        add("segmentation", "Segmentations", score, plain, e.layouts, predictions, segmentation_pictures)
    titles = (
        ("pairs", "Pairs drawn from captions", "drawn layout"),
        ("synthesized", "Images drawn for layouts", "given layout"),
    )
    for field, title, layout in titles:
        if (drawn := getattr(side, field)) is None:
            continue

        def drawn_pictures(i: int, drawn=drawn, layout: str = layout):
            e = drawn.examples
            return [
                ("drawn image", show(e.images[i])),
                (layout, colors(e.layouts[i])),
                ("read in the image", colors(drawn.labels[i])),
            ]

        score = f"mIoU of the layout with what is seen in the image (reader: {shared.reader.name})"
        add(field, title, score, drawn.examples, drawn.examples.layouts, drawn.labels, drawn_pictures)
    return tuple(entries)


def class_rows(model: Side, real: Side, shared: Shared, palette) -> tuple[ClassRow, ...]:
    """The numbers of each class on both sides: IoUs, frequencies, recall and precision of what captions name."""
    sides = [_by_class(side, shared) for side in (model, real)]
    names = list(sides[0] | sides[1])
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
    """The numbers of a side by name, float (K,) each; nan for a class without one."""
    columns: dict[str, np.ndarray] = {}
    if side.segmented is not None:
        columns["segmentation IoU"] = class_ious(side.segmented.confusion.total)
    for field, name in (("pairs", "pair IoU"), ("synthesized", "synthesis IoU")):
        if (examples := getattr(side, field)) is not None:
            columns[name] = class_ious(agreement_sums(examples, shared).total)
    if side.pairs is None:
        return columns
    counts = areas(side.pairs.examples.layouts, len(shared.names))
    columns["share of pixels"] = counts.sum(0) / max(counts.sum(), 1)
    columns["share of layouts"] = (counts > 0).mean(0)
    if shared.captioned and shared.reader.classes.any():
        hits, false_alarms, misses = asked_sums(side.pairs, shared).total[6:].reshape(-1, 3).T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns["caption recall"] = hits / (hits + misses)
            columns["caption precision"] = hits / (hits + false_alarms)
    return columns
