"""Scores of generated street scenes: does the image show what the caption says, does it agree with its layout?

All scores read the image with the street world's oracle, which knows the true pixel model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.data.synthetic.streets_appearance import LABELS, OPTIONAL
from gcdiff.data.synthetic.streets_captions import ParsedCaption, parse_caption
from gcdiff.data.synthetic.streets_oracle import Oracle, Reading, count_car_colors, pieces
from gcdiff.evaluation.outcomes import check_captions, f1, others, outcomes, recall
from gcdiff.evaluation.segmentation import Score, confusion, mean_iou, score


class CaptionScores(NamedTuple):
    """How well images fit their captions; each with its 95 % interval over scenes.

    f1: micro-averaged F1 of the optional classes, over scenes x classes. A class is shown if the oracle's labels hold
        a piece of it of 4 connected pixels or more, and asked for if the caption names it.
    f1_shuffled: the same against other scenes' captions: what an image that ignores its caption gets.
    car_color: the share of captions with car colours (attribute form, at least one car) for which the set of colours
        of the cars shown is the set asked for.
    weather: the share of captions with a weather (attribute form) for which the oracle reads that weather.
    recall: of the optional classes that captions name, the share that is shown.
    """

    f1: Score
    f1_shuffled: Score
    car_color: Score
    weather: Score
    recall: Score


def caption_scores(images: np.ndarray, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """Scores of images uint8 (N, H, W, 3) against the N captions they were made from, N at least 2.

    `shuffle_seed` draws whose caption is the other one (never a scene's own) and the bootstrap's samples.
    """
    check_captions(len(images), len(captions))
    return scores_of(Oracle().read(images), captions, shuffle_seed)


def scores_of(reading: Reading, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """`caption_scores` of what the oracle has read in N images."""
    check_captions(len(reading.labels), len(captions))
    asked = [parse_caption(caption) for caption in captions]
    wanted = np.array([[name in caption.classes for name in OPTIONAL] for caption in asked])
    shown = np.array([[_shows(labels, name) for name in OPTIONAL] for labels in reading.labels])
    return CaptionScores(
        score(outcomes(wanted, shown), f1, shuffle_seed),
        score(outcomes(wanted[others(len(captions), shuffle_seed)], shown), f1, shuffle_seed),
        score(_car_color_outcomes(asked, reading), _rate, shuffle_seed),
        score(_weather_outcomes(asked, reading), _rate, shuffle_seed),
        score(outcomes(wanted, shown), recall, shuffle_seed),
    )


def agreement(images: np.ndarray, layouts: np.ndarray, seed: int = 0) -> Score:
    """mIoU of the oracle's labels of images uint8 (N, H, W, 3) with layouts int (N, H, W); one confusion matrix."""
    pairs = zip(layouts, Oracle().labels(images), strict=True)
    return score(np.stack([confusion(*pair, LABELS.num_classes) for pair in pairs]), mean_iou, seed)


def _shows(labels: np.ndarray, name: str) -> bool:
    return bool(pieces(labels == LABELS.names.index(name)))


def _rate(counts: np.ndarray) -> float:
    return counts[0] / counts[1]


def _car_color_outcomes(asked: Sequence[ParsedCaption], reading: Reading) -> np.ndarray:
    """(right, 1) of every scene whose caption gives car colours."""
    rows = [
        (set(count_car_colors(labels, surfaces)) == set(caption.car_colors), 1)
        for caption, labels, surfaces in zip(asked, reading.labels, reading.surfaces, strict=True)
        if caption.car_colors
    ]
    return np.array(rows, int).reshape(-1, 2)


def _weather_outcomes(asked: Sequence[ParsedCaption], reading: Reading) -> np.ndarray:
    """(right, 1) of every scene whose caption gives a weather."""
    pairs = [(c.weather == seen, 1) for c, seen in zip(asked, reading.weather, strict=True) if c.weather]
    return np.array(pairs, int).reshape(-1, 2)
