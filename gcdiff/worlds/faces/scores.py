"""Scores of generated faces: does the image show what the caption says, does it agree with its layout?

All scores read the image with the face world's oracle, which knows the true pixel model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.precision_recall import check_captions, derangement, detection_counts, f1, precision, recall
from gcdiff.evaluation.segmentation import Score, score
from gcdiff.worlds.faces.appearance import ATTRIBUTES, IMAGE_ONLY, LABELS, RARE
from gcdiff.worlds.faces.captions import attribute_vector, parse_caption
from gcdiff.worlds.faces.oracle import Oracle
from gcdiff.worlds.oracles import label_agreement

_ONLY = np.isin(ATTRIBUTES, IMAGE_ONLY)
_RARE = np.isin(ATTRIBUTES, RARE)


class CaptionScores(NamedTuple):
    """How well images fit their captions; each with its 95 % interval over faces.

    An attribute is shown if the oracle reads it, and wanted if the caption names it: the world's captions name all
    that a face has. precision, recall, f1: micro-averaged over faces x attributes.
    f1_shuffled: F1 against other faces' captions: what an image that ignores its caption gets.
    f1_image_only, f1_layout: F1 of the attributes that change the image alone, and of those that the layout shows too.
    recall_rare: of the attributes in RARE that captions name, the share that is shown.
    by_attribute: F1 of every attribute that some caption names.
    """

    precision: Score
    recall: Score
    f1: Score
    f1_shuffled: Score
    f1_image_only: Score
    f1_layout: Score
    recall_rare: Score
    by_attribute: Mapping[str, Score]


def caption_scores(images: np.ndarray, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """Scores of images uint8 (N, H, W, 3) against the N captions they were made from, N at least 2.

    `shuffle_seed` draws whose caption is the other one (never a face's own). Raises ValueError for other numbers and
    for a caption that is none of this world's.
    """
    check_captions(len(images), len(captions))
    return scores_of(Oracle().attributes(images), captions, shuffle_seed)


def scores_of(shown: np.ndarray, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """`caption_scores` of the attributes bool (N, 13) that the oracle has read in N images."""
    check_captions(len(shown), len(captions))
    wanted = np.stack([attribute_vector(parse_caption(caption)) for caption in captions])
    all_of_them = detection_counts(wanted, shown)
    return CaptionScores(
        score(all_of_them, precision),
        score(all_of_them, recall),
        score(all_of_them, f1),
        score(detection_counts(wanted[derangement(len(captions), shuffle_seed)], shown), f1),
        score(detection_counts(wanted[:, _ONLY], shown[:, _ONLY]), f1),
        score(detection_counts(wanted[:, ~_ONLY], shown[:, ~_ONLY]), f1),
        score(detection_counts(wanted[:, _RARE], shown[:, _RARE]), recall),
        {
            name: score(detection_counts(wanted[:, [i]], shown[:, [i]]), f1)
            for i, name in enumerate(ATTRIBUTES)
            if wanted[:, i].any()
        },
    )


def agreement(images: np.ndarray, layouts: np.ndarray) -> Score:
    """mIoU of the oracle's labels of images uint8 (N, H, W, 3) with layouts int (N, H, W); one confusion matrix."""
    return label_agreement(Oracle().labels(images), layouts, LABELS.num_classes)
