"""Helpers for the worlds' captions: enumerations, and checks of a caption's words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence


def enumeration(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'; '' for no words."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def words_of(caption: str) -> list[str]:
    """The words of a caption in lower case, split at blanks and punctuation."""
    return re.findall(r"[a-z]+", caption.lower())


def known_words(caption: str, vocabulary: Collection[str], kind: str, example: str) -> list[str]:
    """The words of a caption. Raises ValueError for no words and for words that are not in the vocabulary; its message
    calls the caption by its `kind` and shows an `example` of it."""
    words = words_of(caption)
    check_words(caption, words, [word for word in words if word not in vocabulary], kind, example)
    return words


def check_words(caption: str, words: Collection[str], unknown: Sequence[str], kind: str, example: str) -> None:
    """Raise the ValueError of `known_words` for no words, and for some that are unknown."""
    if unknown or not words:
        raise ValueError(f"{kind} {caption!r} has unknown words {list(unknown)}, expected {example!r}")
