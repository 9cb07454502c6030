"""Fitting a config to the captions of its data, where a learned text encoder could not be trained as it stands."""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from gcdiff.config.data import Specs, captions_of, specs_of
from gcdiff.config.fields import FIELDS
from gcdiff.data.dataset import Dataset
from gcdiff.text.tokenizer import words

LONGEST = 256
"""The most words of a caption to which text.length is raised; of a longer one the user has to say it."""
MULTIPLE = 8
"""What text.length is raised to is a multiple of so many words."""


def fitted(
    config: ConfigDict, train: Dataset, say: Callable[[str], None] = lambda line: None
) -> tuple[ConfigDict, Specs]:
    """The config with which a run is trained on a data set, and the specs of this; `say` is called with a line on what
    differs from `config`.

    Where text.encoder is learned and no caption has a word, there is no text: text.encoder is none, without guidance by
    it. Where a caption has more than text.length words, up to LONGEST, and text.length is the default, it becomes that
    of the longest. Raises ValueError for longer ones, and what `build_specs` raises.
    """
    if config.text.encoder != "learned":
        return config, specs_of(config, train, ())
    captions, config = captions_of(train), config.copy_and_resolve_references()
    longest = max((len(words(caption)) for caption in captions), default=0)
    if not longest:
        without_text(config)
        say(f"{train.name}: no captions, so it is trained without text (config.text.encoder=none)")
    elif longest <= config.text.length or config.text.length != FIELDS["text.length"]:
        pass  # one that is too long for what was asked for is an error of the vocabulary
    elif longest > LONGEST:
        said = f"{train.name}: a caption has {longest} words and config.text.length is {config.text.length}"
        raise ValueError(f"{said}: expected shorter captions, or --config.text.length={longest}")
    else:
        config.text.length = -(-longest // MULTIPLE) * MULTIPLE
        say(f"{train.name}: captions have up to {longest} words, so config.text.length is {config.text.length}")
    return config, specs_of(config, train, captions)


def without_text(config: ConfigDict) -> None:
    """Set the fields of a config to those of a model without text, which has no guidance by it either."""
    config.text.encoder, config.sample.guidance = "none", (1.0, 1.0)
