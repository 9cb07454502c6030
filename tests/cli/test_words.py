"""The words that a model has never seen are named once, in one line."""

from __future__ import annotations

import warnings

from gcdiff.api.model import UNSEEN_WORDS
from gcdiff.cli.words import name_unseen_words


class Knows:
    """A model that knows some words."""

    def __init__(self, *words):
        self.words = words

    def unseen_words(self, text):
        captions = [] if text is None else [text] if isinstance(text, str) else text
        return sorted({word for caption in captions for word in caption.split()} - set(self.words))


def test_unseen_words_are_named_in_one_line(capsys):
    with warnings.catch_warnings(record=True) as warned:
        for text in (None, "a car", ["a", "car"]):
            name_unseen_words(Knows("a", "car"), text)
        assert capsys.readouterr().err == ""
        name_unseen_words(Knows("a"), ["a car", "a bus"])
        assert capsys.readouterr().err == f"{UNSEEN_WORDS}: bus, car\n"
        name_unseen_words(Knows(), [f"w{i:02d}" for i in range(25)])
        assert capsys.readouterr().err.endswith(", w18, w19 and 5 more\n")
        warnings.warn(f"{UNSEEN_WORDS}: bus", stacklevel=1)  # as the model's own methods say it
    assert warned == []
