"""The metrics of an evaluation by name, and named sets of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from gcdiff.evaluation import numbers
from gcdiff.evaluation.numbers import Numbers, Shared
from gcdiff.evaluation.sides import Side
from gcdiff.likelihood.report import LAWS


class Metric(NamedTuple):
    """A metric of the report: how its numbers are computed, and how they are shown.

    needs: the field of a side that it reads. numbers: computes them from a side. missing: why it cannot be computed, or
    ''. goals: the title and the goal of each number, by its name. beside: what the real number is of.
    """

    title: str
    needs: str
    numbers: Callable[[Side, Shared], Numbers]
    missing: Callable[[Shared], str]
    goals: Mapping[str, tuple[str, str]]
    beside: str


def _nothing(shared: Shared) -> str:
    return ""


def _no_captions(shared: Shared) -> str:
    if not shared.captioned:
        return "the model takes no captions, or the data have none"
    unread = shared.reader.scores is None and not shared.reader.classes.any()
    return "nobody reads what its captions say" if unread else ""


def _no_features(shared: Shared) -> str:
    wanted = "this data set has no oracle whose scene parameters could be compared: expected --features"
    return "" if shared.features is not None else wanted


def _no_rest(shared: Shared) -> str:
    few = f"{len(shared.rest.ids)} held-out examples are left to compare with, expected {numbers.LEFT}: a larger --num"
    return few if len(shared.rest.ids) < numbers.LEFT else ""


def _no_clip(shared: Shared) -> str:
    if not shared.captioned:
        return _no_captions(shared)
    return "" if shared.clip is not None else "no CLIP: expected --features clip:DIR"


SHOWS = "held-out pairs, read the same way"
_SIDES = {"image": "bits per value of x", "layout": "bits per pixel of y"}
_PATHS = ("diagonal", "layout_first", "image_first")

METRICS: Mapping[str, Metric] = {
    "segmentation": Metric(
        "Segmentation in one call",
        "segmented",
        numbers.segmentation,
        _nothing,
        {
            "miou": ("mIoU", "higher"),
            "accuracy": ("pixel accuracy", "higher"),
            "expected": ("calibration error", "lower"),
            "top_label": ("calibration error, mean of predicted classes", "lower"),
            "negative_log_likelihood": ("nats per pixel", "lower"),
        },
        "the oracle or segmenter on the same images; without one, the model on training examples",
    ),
    "pairs": Metric(
        "Drawn pairs: layout and image agree",
        "pairs",
        partial(numbers.agreement_of, "pairs"),
        _nothing,
        {"miou": ("mIoU", "higher"), "accuracy": ("pixel accuracy", "higher")},
        SHOWS,
    ),
    "synthesis": Metric(
        "Images for layouts: they show them",
        "synthesized",
        partial(numbers.agreement_of, "synthesized"),
        _nothing,
        {"miou": ("mIoU", "higher"), "accuracy": ("pixel accuracy", "higher")},
        "the layouts' own images, read the same way",
    ),
    "captions": Metric(
        "Drawn pairs: they show their captions",
        "pairs",
        numbers.captions,
        _no_captions,
        {
            "f1": ("F1 of what captions ask for", "higher"),
            "f1_shuffled": ("the same against others' captions", "real"),
            "precision": ("precision", "higher"),
            "recall": ("recall", "higher"),
            "car_color": ("colours of cars right", "higher"),
            "weather": ("weather right", "higher"),
            "f1_image_only": ("F1, attributes of the image alone", "higher"),
            "f1_layout": ("F1, attributes of the layout", "higher"),
            "recall_rare": ("recall, rare attributes", "higher"),
            "count": ("F1, how many", "higher"),
            "size": ("F1, how large", "higher"),
            "stain": ("F1, stain", "higher"),
            "dividing": ("F1, dividing", "higher"),
            "class_recall": ("semantic recall", "higher"),
            "class_precision": ("semantic precision", "higher"),
            "class_f1": ("semantic F1", "higher"),
            "class_recall_any": ("semantic recall, from one pixel on", "higher"),
        },
        "held-out images and their own captions",
    ),
    "clip": Metric(
        "CLIP score",
        "pairs",
        numbers.clip,
        _no_clip,
        {"cosine": ("mean cosine of image and caption", "higher")},
        "held-out images and their own captions",
    ),
    "fidelity": Metric(
        "Drawn images are like real ones",
        "pairs",
        numbers.fidelity,
        _no_features,
        {
            "frechet": ("Fréchet distance", "lower"),
            "kid": ("KID", "lower"),
            "precision": ("precision of the manifold", "higher"),
            "recall": ("recall of the manifold", "higher"),
            "density": ("density", "real"),
            "coverage": ("coverage", "higher"),
        },
        "as many held-out examples, against the same training examples",
    ),
    "layouts": Metric(
        "Drawn layouts are like real ones",
        "pairs",
        numbers.layouts,
        _nothing,
        {"fsd": ("FSD, of class areas in shares", "lower")},
        "as many held-out layouts, against the same training layouts",
    ),
    "diversity": Metric(
        "Two draws of one caption differ",
        "again",
        numbers.diversity,
        _nothing,
        {"layouts": ("layouts, 1 - mIoU", ""), "images": ("images, root mean square", "")},
        "two held-out examples, of any captions",
    ),
    "memorisation": Metric(
        "Copies of the training examples compared with",
        "pairs",
        numbers.memorisation,
        _no_rest,
        {
            "images_copied": ("images called copies (1 % by chance)", "real"),
            "images_ratio": ("images: training / held-out distance", "real"),
            "layouts_copied": ("layouts called copies (1 % by chance)", "real"),
            "layouts_ratio": ("layouts: training / held-out distance", "real"),
        },
        "held-out examples in the samples' place",
    ),
    "likelihood": Metric(
        "Bounds on -log p",
        "likelihood",
        numbers.likelihood,
        _nothing,
        {f"{leg}_{side}": (f"{law}, {unit}", "lower") for leg, law in LAWS.items() for side, unit in _SIDES.items()}
        | {f"path_{path}": (f"p(x, y), {path.replace('_', ' ')}, bits", "lower") for path in _PATHS}
        | {f"gap_{path}": (f"gap of {path.replace('_', ' ')}, bits", "") for path in _PATHS},
        "the same bounds of as many training examples",
    ),
}

GENERATIVE = ("pairs", "captions", "fidelity", "layouts")
SETS: Mapping[str, tuple[str, ...]] = {
    "quick": ("segmentation",),
    "generative": (*GENERATIVE, "synthesis", "diversity"),
    "full": tuple(METRICS),
}


def named(words: str) -> tuple[str, ...]:
    """The metrics of a list such as 'quick,pairs', in the order of METRICS. Raises ValueError for an unknown name."""
    wanted: set[str] = set()
    for word in filter(None, (word.strip() for word in words.split(","))):
        if word not in METRICS and word not in SETS:
            choices = f"{', '.join(METRICS)}, or a set: {', '.join(SETS)}"
            raise ValueError(f"unknown metric {word!r}, expected some of {choices}")
        wanted |= set(SETS.get(word, (word,)))
    if not wanted:
        raise ValueError(f"no metric is named, expected some of {', '.join((*METRICS, *SETS))}")
    return tuple(name for name in METRICS if name in wanted)
