"""Leave void out of an evaluation where it is the last class of a model.

Where `LabelSpec.void` is "class", the class K - 1 becomes VOID in the truths, in what is drawn, in what a reader reads
and in predictions, and metrics know the other classes alone. Class probabilities stay those of all K: where a pixel is
labelled, void is a wrong answer, and has its confidence. The model itself is asked with void as its class.
"""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.sides import Examples, Subject
from gcdiff.pictures import void_left_out
from gcdiff.types import VOID, LabelSpec


def put_back(layouts: np.ndarray, labels: LabelSpec) -> np.ndarray:
    """Undo `void_left_out` on layouts (N, H, W). One that is VOID all over is missing, and stays."""
    if labels.void == "missing":
        return layouts
    there = (layouts != VOID).any(axis=(1, 2), keepdims=True)
    return np.where((layouts == VOID) & there, labels.num_classes - 1, layouts)


def of_examples(examples: Examples, labels: LabelSpec) -> Examples:
    """Examples whose void pixels are VOID instead of a class."""
    return examples._replace(layouts=void_left_out(examples.layouts, labels))


def of_reader(reader: Reader, labels: LabelSpec) -> Reader:
    """A reader of all classes but void."""
    num = labels.labelled.num_classes
    return reader._replace(
        labels=lambda reading: void_left_out(reader.labels(reading), labels),
        asked=lambda captions: reader.asked(captions)[:, :num],
        classes=reader.classes[:num],
    )


def of_subject(subject: Subject, labels: LabelSpec) -> Subject:
    """A model whose layouts have VOID in place of the class void; its class probabilities are those of all classes."""
    changed = subject
    if (sample := subject.sample) is not None:

        def drawn(*asked):
            pair = sample(*asked)
            return pair._replace(layout=void_left_out(pair.layout, labels))

        changed = changed._replace(sample=drawn)
    if (synthesize := subject.synthesize) is not None:
        changed = changed._replace(synthesize=lambda layouts, *asked: synthesize(put_back(layouts, labels), *asked))
    if (likelihood := subject.likelihood) is not None:
        changed = changed._replace(
            likelihood=lambda some: likelihood(some._replace(layouts=put_back(some.layouts, labels)))
        )
    return changed
