"""Choose the reader of images and the feature extractor of a report from the arguments."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

SCALES = {"unit": ((0.0,) * 3, (1.0,) * 3), "bytes": ((0.0,) * 3, (1 / 255,) * 3)}
"""Means and deviations of what a TorchScript file takes: values in 0 to 1, or in 0 to 255."""
FORMS = "clip:DIR, torchscript:FILE,HEIGHTxWIDTH[,unit|bytes|imagenet], or a file of features of training examples"


def material_of(arguments, model, stage, name: str, nouns, heldout, train, subject):
    """The `Material` of an evaluation, from the arguments and the data.

    `nouns` are what the data set's captions call its classes. Raises ValueError, in one line, for malformed flags.
    """
    from gcdiff.evaluation.evaluator import Material
    from gcdiff.evaluation.features import load_features
    from gcdiff.evaluation.numbers import featured
    from gcdiff.pictures import colorize, display

    labels, image = model.labels, model.image
    reader = _reader(arguments, model, name, nouns)
    extractor, clip, file = None, None, None
    for words in arguments.features or ():
        kind, colon, rest = words.partition(":")
        if (file if not colon or Path(words).exists() else extractor) is not None:
            raise ValueError(f"--features {words}: one extractor and one file at most, expected no second of them")
        if kind == "clip" and colon:
            extractor, clip = _clip(rest)
        elif kind == "torchscript" and colon:
            extractor = _torchscript(words, rest)
        elif colon and not Path(words).exists():
            raise ValueError(f"--features is {words!r}, expected {FORMS}")
        else:
            file = load_features(Path(words))
    extract, units = None, False
    if extractor is not None:
        extract, units = partial(_network_features, extractor), extractor.standardised
    elif reader.parameters is not None:
        extract, units = partial(_world_features, reader), True
    elif file is not None:
        raise ValueError("--features is a file alone, expected an extractor beside it, for what the model draws")
    reference = None if file is None else featured(file.values, file.ids, file.convention, units)
    return Material(
        heldout,
        train,
        labels,
        reader,
        extract,
        units,
        reference,
        clip if subject.captioned else None,
        lambda x: display(x, image),
        lambda y: colorize(y, labels.labelled),
    )


def _network_features(extractor, seen) -> tuple[Any, Any]:
    from gcdiff.evaluation.features import convention

    e = seen.examples
    return extractor(e.images, e.layouts), convention(extractor, e.images)


def _world_features(reader, seen) -> tuple[Any, Any]:
    e = seen.examples
    convention = {"extractor": reader.parameters_name, "resolution": "{}x{}".format(*e.images.shape[1:3])}
    return reader.parameters(e.images, e.layouts, seen.reading), convention


def _reader(arguments, model, name: str, nouns):
    """The reader of images: the segmenter of --segmenter, else the world's oracle, else the model itself."""
    from gcdiff.evaluation.agreement import NamedSegmenter
    from gcdiff.evaluation.readers import plain_reader
    from gcdiff.worlds.table import WORLDS

    names = model.labels.names
    if arguments.segmenter is not None:
        from gcdiff.evaluation.pytorch import TransformersSegmenter

        return plain_reader(TransformersSegmenter(arguments.segmenter, model.labels.labelled.names), names, True, nouns)
    if name in WORLDS:
        return WORLDS[name].oracle()
    return plain_reader(NamedSegmenter("the model itself", model.segment), names, nouns=nouns)


def _clip(source: str):
    from gcdiff.evaluation.features import ClipFeatures
    from gcdiff.text.encoder import load_encoder
    from gcdiff.text.images import load_image_encoder

    encoder = load_image_encoder(source)
    return ClipFeatures(encoder), (encoder, load_encoder(source))


def _torchscript(words: str, rest: str):
    from gcdiff.evaluation.pytorch import IMAGENET, TorchFeatures

    scales = {**SCALES, "imagenet": IMAGENET}
    file, _, form = rest.partition(",")
    size, _, scale = form.partition(",")
    edges = size.split("x")
    if len(edges) != 2 or not all(edge.isdecimal() and int(edge) for edge in edges) or (scale or "unit") not in scales:
        raise ValueError(f"--features is {words!r}, expected {FORMS}")
    return TorchFeatures(Path(file), (int(edges[0]), int(edges[1])), *scales[scale or "unit"])
