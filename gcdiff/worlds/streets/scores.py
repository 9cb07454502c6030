"""Scores of generated street scenes: does the image show what the caption says, does it agree with its layout?

All scores read the image with the street world's oracle, which knows the true pixel model.

For Fréchet distances and KID a scene, an image with its layout, is 24 numbers that the oracle reads (`PARAMETERS`):

    10  the share of each class among the layout's pixels
     6  how many pieces of each optional class the image shows, 4 connected pixels of the oracle's labels or more
     2  whether the oracle reads night, and fog (day is neither)
     6  the mean colour, R, G and B in [0, 1], of the image over the layout's sky and over its road; the whole image's
        where the layout has none. A light shifts all colours together: more of them would count it more often

They have several units: distances between them are `standardised`. A finite set of scenes is at a distance from the
world it is drawn from, of the order of one over their number: a distance is to be read beside that of as many real
scenes, and compared at one number of scenes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.precision_recall import check_captions, derangement, detection_counts, f1, recall
from gcdiff.evaluation.ratios import RATE
from gcdiff.evaluation.segmentation import Score, score
from gcdiff.worlds.oracles import label_agreement
from gcdiff.worlds.streets.appearance import LABELS, OPTIONAL, WEATHERS
from gcdiff.worlds.streets.captions import ParsedCaption, parse_caption
from gcdiff.worlds.streets.oracle import Oracle, Reading, count_car_colors, pieces


class CaptionScores(NamedTuple):
    """How well images fit their captions; each with its 95 % interval over scenes.

    f1: micro-averaged F1 of the optional classes, over scenes x classes. A class is shown if the oracle's labels hold
        a piece of it of 4 connected pixels or more, and wanted if the caption names it.
    f1_shuffled: the same against other scenes' captions: what an image that ignores its caption gets.
    car_color: the share of captions with car colours (attribute form, at least one car) for which the set of colours
        of the cars shown is that of the caption.
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

    `shuffle_seed` draws whose caption is the other one (never a scene's own).
    """
    check_captions(len(images), len(captions))
    return scores_of(Oracle().read(images), captions, shuffle_seed)


def scores_of(reading: Reading, captions: Sequence[str], shuffle_seed: int = 0) -> CaptionScores:
    """`caption_scores` of what the oracle has read in N images."""
    check_captions(len(reading.labels), len(captions))
    parsed = [parse_caption(caption) for caption in captions]
    wanted = np.array([[name in caption.classes for name in OPTIONAL] for caption in parsed])
    shown = np.array([[_shows(labels, name) for name in OPTIONAL] for labels in reading.labels])
    return CaptionScores(
        score(detection_counts(wanted, shown), f1),
        score(detection_counts(wanted[derangement(len(captions), shuffle_seed)], shown), f1),
        score(_car_color_outcomes(parsed, reading), RATE),
        score(_weather_outcomes(parsed, reading), RATE),
        score(detection_counts(wanted, shown), recall),
    )


def agreement(images: np.ndarray, layouts: np.ndarray) -> Score:
    """mIoU of the oracle's labels of images uint8 (N, H, W, 3) with layouts int (N, H, W); one confusion matrix."""
    return label_agreement(Oracle().labels(images), layouts, LABELS.num_classes)


def _shows(labels: np.ndarray, name: str) -> bool:
    return bool(pieces(labels == LABELS.names.index(name)))


def _car_color_outcomes(captions: Sequence[ParsedCaption], reading: Reading) -> np.ndarray:
    """(right, 1) of every scene whose caption gives car colours."""
    rows = [
        (set(count_car_colors(labels, surfaces)) == set(caption.car_colors), 1)
        for caption, labels, surfaces in zip(captions, reading.labels, reading.surfaces, strict=True)
        if caption.car_colors
    ]
    return np.array(rows, int).reshape(-1, 2)


def _weather_outcomes(captions: Sequence[ParsedCaption], reading: Reading) -> np.ndarray:
    """(right, 1) of every scene whose caption gives a weather."""
    pairs = [(c.weather == seen, 1) for c, seen in zip(captions, reading.weather, strict=True) if c.weather]
    return np.array(pairs, int).reshape(-1, 2)


COLORED = ("sky", "road")
"""The classes whose colour is read: the two that nearly every scene holds in one colour."""


PARAMETERS = (
    *(f"share of {name}" for name in LABELS.names),
    *(f"pieces of {name}" for name in OPTIONAL),
    *WEATHERS[1:],
    *(f"{channel} of {name}" for name in COLORED for channel in ("red", "green", "blue")),
)
"""What the numbers of a scene are, in their order."""


def scene_parameters(images: np.ndarray, layouts: np.ndarray, reading: Reading) -> np.ndarray:
    """The `PARAMETERS` of scenes, float64 (N, 24): images uint8 (N, H, W, 3), layouts int (N, H, W) without void, and
    what the oracle reads in the images. Raises ValueError for different numbers or sizes of them."""
    if not images.shape[:3] == layouts.shape == reading.labels.shape:
        shapes = f"{images.shape}, {layouts.shape} and {reading.labels.shape}"
        raise ValueError(f"images, layouts and readings have shapes {shapes}, expected the same scenes and pixels")
    rows = zip(images, layouts, reading.labels, reading.weather, strict=True)
    return np.array([_parameters(*row) for row in rows]).reshape(-1, len(PARAMETERS))


def _parameters(image: np.ndarray, layout: np.ndarray, seen: np.ndarray, weather: str) -> list[float]:
    names = LABELS.names
    shares = np.bincount(layout.ravel(), minlength=len(names)) / layout.size
    things = [len(pieces(seen == names.index(name))) for name in OPTIONAL]
    places = [layout == names.index(name) for name in COLORED]
    colors = [image[place if place.any() else ...].reshape(-1, 3).mean(0) / 255 for place in places]
    return [*shares, *things, *(weather == name for name in WEATHERS[1:]), *np.concatenate(colors)]
