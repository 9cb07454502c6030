"""Scores of generated micrographs of cells: does the image show what the caption says, does it agree with its layout?

What a caption asks for and an image shows are facts: FACTS lists them by attribute. Over the facts of all images,
precision, recall and F1 are micro-averaged. All scores read images with the world's oracle, which knows the true pixel
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.precision_recall import check_captions, derangement, f1, precision, recall
from gcdiff.evaluation.segmentation import Score, score
from gcdiff.worlds.cells.appearance import LABELS, STAINS
from gcdiff.worlds.cells.attributes import image_attributes, layout_attributes, read_twice
from gcdiff.worlds.cells.captions import ParsedCaption, parse_caption
from gcdiff.worlds.cells.scene import COUNTS, SIZES, Attributes
from gcdiff.worlds.oracles import label_agreement

FACTS = {"count": COUNTS, "size": SIZES, "stain": STAINS, "dividing": (True,)}
"""The values of every attribute that are facts; that no cell divides is the absence of one."""


class AttributeScores(NamedTuple):
    """How well images fit their captions in some facts; each with its 95 % interval over images.

    An image whose caption says nothing of an attribute is left out of that attribute. shuffled: F1 against other
    images' captions, which is what an image that ignores its caption gets.
    """

    precision: Score
    recall: Score
    f1: Score
    shuffled: Score


class CaptionScores(NamedTuple):
    """Scores of the facts of every attribute, and of all together. Of layouts stain is nan over 0 images."""

    count: AttributeScores
    size: AttributeScores
    stain: AttributeScores
    dividing: AttributeScores
    all: AttributeScores


def caption_scores(images: np.ndarray, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """Scores of images uint8 (N, H, W, 3) against the N captions they were made from, N at least 2.

    `shuffle_seed` draws whose caption is the other one (never an image's own).
    """
    _parsed(images, captions)
    return scores_of(image_attributes(images), captions, shuffle_seed)


def scores_of(shown: Sequence[ParsedCaption], captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """`caption_scores` of what images show, as `image_attributes` reads it."""
    return _scores(shown, _parsed(shown, captions), tuple(FACTS), shuffle_seed)


def layout_scores(layouts: np.ndarray, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """The same of layouts int (N, H, W), which have no stain."""
    wanted = _parsed(layouts, captions)
    return _scores(tuple(map(layout_attributes, layouts)), wanted, Attributes._fields, shuffle_seed)


def agreement(images: np.ndarray, layouts: np.ndarray) -> Score:
    """mIoU of the oracle's labels of images uint8 (N, H, W, 3) with layouts int (N, H, W); one confusion matrix.

    The labels are the most probable ones pixel by pixel; unsure is wrong.
    """
    return label_agreement(read_twice(images)[0].labels, layouts, LABELS.num_classes)


def _parsed(examples: Sequence[Any] | np.ndarray, captions: Sequence[str]) -> list[ParsedCaption]:
    check_captions(len(examples), len(captions))
    return [parse_caption(caption) for caption in captions]


def _scores(
    shown: Sequence[ParsedCaption | Attributes], wanted: Sequence[ParsedCaption], names: Sequence[str], seed: int
) -> CaptionScores:
    strange = [wanted[i] for i in derangement(len(wanted), seed)]
    own, other = ({name: _outcomes(name, shown, captions) for name in names} for captions in (wanted, strange))
    nothing = np.zeros((0, 3), int)
    scores = {n: _attribute(_stated(own.get(n, nothing)), _stated(other.get(n, nothing))) for n in FACTS}
    every, other_every = (np.sum([np.maximum(rows, 0) for rows in parts.values()], axis=0) for parts in (own, other))
    return CaptionScores(**scores, all=_attribute(every, other_every))


def _attribute(own: np.ndarray, other: np.ndarray) -> AttributeScores:
    return AttributeScores(score(own, precision), score(own, recall), score(own, f1), score(other, f1))


def _outcomes(name: str, shown: Sequence[ParsedCaption | Attributes], wanted: Sequence[ParsedCaption]) -> np.ndarray:
    """Facts of an attribute wanted and shown, shown only, wanted only: int (N, 3); -1 where a caption states none."""
    rows = np.full((len(wanted), 3), -1)
    for row, image, caption in zip(rows, shown, wanted, strict=True):
        value, wish = getattr(image, name), getattr(caption, name)
        if wish is not None:
            is_shown, is_wanted = value in FACTS[name], wish in FACTS[name]
            hit = is_shown and is_wanted and value == wish
            row[:] = hit, is_shown and not hit, is_wanted and not hit
    return rows


def _stated(rows: np.ndarray) -> np.ndarray:
    return rows[(rows >= 0).all(-1)]
