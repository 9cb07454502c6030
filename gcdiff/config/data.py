"""The data sets of a config, and their specs, which a run saves.

A new data set is entered in DATASETS, a new world in `gcdiff.worlds.table`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gcdiff.data.captions import ClassCaptions
from gcdiff.data.dataset import Dataset, Example
from gcdiff.data.embeddings import Embeddings, Encoder
from gcdiff.text.tokenizer import Vocabulary, words
from gcdiff.types import ImageSpec, LabelSpec
from gcdiff.worlds.table import WORLDS


class Splits(NamedTuple):
    """The training and held-out examples, and for each the function that brings an example to the network's size."""

    train: Dataset
    heldout: Dataset
    train_transform: Any
    heldout_transform: Any


class Specs(NamedTuple):
    """The description of a run's data that a trained model needs: channels, classes, text encoder, licence.

    `vocabulary` is that of a learned text encoder, `encoder` names a pretrained one. `examples` is how many there are
    to train on, None where that is not known.
    """

    image: ImageSpec
    labels: LabelSpec
    vocabulary: Vocabulary | None
    licence: str
    encoder: Encoder | None = None
    examples: int | None = None


def splits(config: ConfigDict) -> Splits:
    """The data sets of a config."""
    if not config.data.name:
        raise ValueError(
            f"config.data.name is empty: this model came without data, expected {', '.join(dataset_names())}"
        )
    return _world(config) if config.data.name in WORLDS else DATASETS[config.data.name](config)


def dataset_names() -> tuple[str, ...]:
    """The possible values of config.data.name: the worlds, and the data sets that are read from files."""
    return (*WORLDS, *DATASETS)


def build_specs(config: ConfigDict, train: Dataset) -> Specs:
    """The specs of a data set, with the words of its captions where config.text.encoder is learned.

    Raises ValueError for a caption that is longer than config.text.length.
    """
    return specs_of(config, train, captions_of(train) if config.text.encoder == "learned" else ())


def specs_of(config: ConfigDict, train: Dataset, captions: Sequence[str]) -> Specs:
    """The specs of a data set with these captions, as `build_specs` has them."""
    vocabulary = encoder = None
    if config.text.encoder == "pretrained":
        encoder = embeddings(config).encoder
    if config.text.encoder == "learned":
        try:
            vocabulary = Vocabulary.build(captions, config.text.length)
        except ValueError as error:
            raise ValueError(f"{train.name}: {error}, expected some, or config.text.encoder=none") from None
        try:
            vocabulary.encode(captions)  # one that is too long is an error now, not when a batch draws it
        except ValueError as error:
            longest = max(len(words(caption)) for caption in captions)
            way = f"; the longest needs config.text.length={longest}" if longest > config.text.length else ""
            raise ValueError(f"{train.name}: {error}{way}") from None
    return Specs(train.image, train.labels, vocabulary, train.licence, encoder, len(train))


def captions_of(train: Dataset) -> list[str]:
    """The distinct captions of a data set, sorted: of prepared data all, of others those of at most 2,000 examples,
    evenly spread."""
    return sorted(set(_captions(train)))


def _captions(train: Dataset) -> Iterator[str]:
    from gcdiff.data.prepared import Prepared

    if isinstance(train, Prepared):
        yield from train.captions()
    else:
        for i in np.unique(np.linspace(0, len(train) - 1, 2000).astype(int)):
            yield from train[int(i)].captions


def embeddings(config: ConfigDict) -> Embeddings | None:
    """The stored features of captions, None without. Raises ValueError where their size is not that of the config."""
    if not config.data.embeddings:
        return None
    stored = Embeddings(config.data.embeddings)
    if stored.encoder.features != config.text.features:
        raise ValueError(
            f"config.text.features is {config.text.features}, expected {stored.encoder.features}, those of "
            f"{stored.encoder.model} in {config.data.embeddings}"
        )
    if stored.longest > config.text.length:
        raise ValueError(
            f"config.text.length is {config.text.length} tokens, expected at least {stored.longest}, those of the "
            f"longest caption in {config.data.embeddings}"
        )
    return stored


def _world(config: ConfigDict) -> Splits:
    """The splits of an embedded world, drawn at the network's size."""
    world, size = WORLDS[config.data.name].dataset(), tuple(config.data.size)
    train = world("train", config.data.num, size=size)
    heldout = world("heldout", config.data.heldout, size=size)
    return Splits(train, heldout, _augment(config, train.labels), None)


def _camvid(config: ConfigDict) -> Splits:
    from gcdiff.data.builders.camvid import CAPTIONS, CamVid

    train = CamVid(config.data.root, ("train", "val"))
    heldout = CamVid(config.data.root, ("test",))
    return Splits(train, heldout, _augment(config, train.labels, _made_anew(config, CAPTIONS)), _full_frame(config))


def _prepared(config: ConfigDict) -> Splits:
    """The split train of a prepared directory, and its val, heldout or test; train again where nothing is held out."""
    from gcdiff.data.prepared import Prepared, heldout_split

    train = Prepared(config.data.root, "train")
    split = heldout_split(train.spec)
    if split == "train":
        said = f"{config.data.root} has no layouts that are held out: held-out numbers are of training examples"
        warnings.warn(said, stacklevel=2)
    counts = train.spec.splits["train"]
    without = counts.examples - counts.images, counts.examples - counts.layouts
    if any(without) and config.network.level_inputs == "image":
        said = f"{config.data.root}: {without[0]} training examples have no image and {without[1]} no layout"
        warnings.warn(f"{said}, which config.network.level_inputs=image cannot tell: expected both", stacklevel=2)
    augment = _augment(config, train.labels, _made_anew(config, train.class_captions))
    return Splits(train, Prepared(config.data.root, split), augment, _full_frame(config))


DATASETS = {"camvid": _camvid, "prepared": _prepared}
"""The data sets that are read from files, by their config.data.name."""


def _made_anew(config: ConfigDict, captions: ClassCaptions | None) -> ClassCaptions | None:
    """The maker of new captions after a crop: None where stored features are read, as new captions have none."""
    return None if config.data.embeddings else captions


def _full_frame(config: ConfigDict):
    from gcdiff.data import transforms

    size = tuple(config.data.size)
    return lambda example, rng: transforms.resize(example, size)


def _augment(config: ConfigDict, labels: LabelSpec, captions: ClassCaptions | None = None):
    """The random crops and flips of training; `captions` then makes a caption anew, as a crop may have lost classes."""
    from gcdiff.data import transforms

    size, scale = tuple(config.data.size), tuple(config.data.scale)

    def augment(example, rng):
        if scale != (1.0, 1.0) or config.data.aspect:
            example = transforms.random_crop_scale(example, rng, size, scale, config.data.aspect)
        else:
            example = transforms.resize(example, size)
        example = transforms.flip(example, rng, labels.swaps) if config.data.flip else example
        return example if captions is None else captions.recaption(example, rng)

    return augment


def examples(data: Splits, num: int):
    """At most `num` held-out examples side by side, evenly spread, without those that have no image.

    Images uint8 (N, h, w, C), layouts int32 (N, H, W), captions ("" for none).
    """
    chosen = gathered(data, "heldout", num)
    return Example(
        np.stack([e.image for e in chosen]),
        np.stack([e.layout for e in chosen]),
        tuple(e.captions[0] if e.captions else "" for e in chosen),
    )


def gathered(data: Splits, split: str, num: int) -> list[Example]:
    """At most `num` examples of a split, 'train' or 'heldout', evenly spread, uncropped and at the network's size.

    Those without an image are left out.
    """
    dataset, chosen = getattr(data, split), []
    for i in np.unique(np.linspace(0, len(dataset) - 1, min(num, len(dataset))).astype(int)):
        example = dataset[int(i)]
        if example.has_image:
            chosen.append(example if data.heldout_transform is None else data.heldout_transform(example, None))
    if not chosen:
        which = "held-out" if split == "heldout" else "training"
        raise ValueError(f"{dataset.name}: none of the {which} examples has an image, expected some that have")
    return chosen
