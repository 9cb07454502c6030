"""Findings of made-up models of small streets: functions in the place of a model, and what they are measured on."""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.evaluator import Material, Plan
from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.sides import Examples, Seen, Subject
from gcdiff.pictures import colorize
from gcdiff.types import Pair
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.reader import street_reader

LABELS = Streets.labels


def examples(split: str, num: int) -> Examples:
    data = Streets(split, num, seed=3, size=(16, 32))
    streets = [data[i] for i in range(num)]
    images, layouts = np.stack([e.image for e in streets]), np.stack([e.layout for e in streets])
    return Examples(images, layouts, tuple(e.captions[i % 2] for i, e in enumerate(streets)), np.arange(num))


def material(heldout: Examples, train: Examples, reader: Reader | None = None) -> Material:
    reader = street_reader() if reader is None else reader

    def extract(seen: Seen):
        e, convention = seen.examples, {"extractor": "parameters"}
        return reader.parameters(e.images, e.layouts, seen.reading)[:, [0, 1, 2, 3, -3, -2, -1]], convention

    known = None if reader.parameters is None else extract
    return Material(heldout, train, LABELS, reader, known, True, None, None, lambda x: x, lambda y: colorize(y, LABELS))


def subject(given: Examples, captioned: bool = True, **why: str) -> Subject:
    """A model that draws the first of some given examples, and segments by their layouts with probability 0.7."""
    layouts = {image.tobytes(): layout for image, layout in zip(given.images, given.layouts, strict=True)}

    def segment(images, first):
        return [0.7 * np.eye(10)[layouts[image.tobytes()]] + 0.03 for image in images]

    def sample(captions, num, seed, dials):
        return Pair(given.images[:num], given.layouts[:num])

    def synthesize(layouts, captions, seed):
        return given.images[: len(layouts)]

    asked = {"segment": segment, "sample": sample, "synthesize": synthesize, "likelihood": None}
    return Subject(**{name: None if name in why else f for name, f in asked.items()}, captioned=captioned, why=why)


def plan(*metrics: str, drawn: int = 12, **sweeps) -> Plan:
    return Plan(metrics, drawn, 4, 0, sweeps, 6)
