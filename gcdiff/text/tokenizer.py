"""A word-level tokenizer whose vocabulary is built from the captions of a data set."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

PAD, UNKNOWN = 0, 1
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),  # iteration mark, closing mark and zero of Han
    (0x3021, 0x312F),  # numerals, kana, bopomofo
    (0x31A0, 0x31FF),  # more bopomofo, strokes, more katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # katakana of half width
    (0x1AFF0, 0x1B16F),  # more kana
    (0x20000, 0x3FFFF),  # more Han
)
"""The first and last code points of the scripts that are written without spaces between words."""
JOINERS = "\u200c\u200d"
"""Characters of no width that join others: they end no word, and are no part of one."""
_WORD = re.compile(r"[^\W_]+")


def words(caption: str) -> list[str]:
    """The words of a caption in lower case: runs of letters and digits with their marks, of any script.

    In a script without spaces (Chinese, Japanese, Thai and others) every character is a word: which of them form one
    takes a dictionary, and a run of them is a whole sentence that no other caption repeats.
    """
    text = unicodedata.normalize("NFC", caption.lower())
    if text.isascii():
        return _WORD.findall(text)
    pieces, last = [], ""  # last: the kind of the character before, a mark's being that of what it stands on
    for character in text:
        kind = _kind(character)
        if kind == "mark" and last or kind == "letter" and last == kind:
            pieces[-1] += character
        elif kind in ("letter", "word"):
            pieces.append(character)
        last = last if kind in ("mark", "joiner") else kind
    return pieces


@functools.cache
def _kind(character: str) -> str:
    """Whether a character is a "letter" (or digit), a "word" by itself, a "mark", a "joiner" or none of them ("")."""
    category = unicodedata.category(character)[0]
    if character in JOINERS:
        return "joiner"
    if category in "LN":
        return "word" if any(first <= ord(character) <= last for first, last in UNSPACED) else "letter"
    return "mark" if category == "M" else ""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words in a fixed order; their ids start at 2 (0 is padding, 1 an unknown word). A caption has up to `length`
    words."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def build(cls, captions: Iterable[str], length: int, minimum: int = 1) -> Vocabulary:
        """The vocabulary of all words that occur at least `minimum` times, sorted. Raises ValueError if there are
        none."""
        counts = collections.Counter(w for c in captions for w in words(c))
        if not counts:
            raise ValueError("no captions with words to build a vocabulary from")
        return cls(tuple(sorted(w for w, n in counts.items() if n >= minimum)), length)

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """Captions -> word ids int32 (B, length), padded with 0.

        Raises ValueError for a caption without a word and for one of more than `length` words: nothing is truncated.
        """
        ids = {w: i for i, w in enumerate(self.words, start=2)}
        out = np.full((len(captions), self.length), PAD, np.int32)
        for row, caption in zip(out, captions, strict=True):
            tokens = words(caption)
            if not tokens:
                raise ValueError(f"empty caption {caption!r}: expected at least one word")
            if len(tokens) > self.length:
                raise ValueError(f"caption has {len(tokens)} words, the limit is {self.length}: {caption!r}")
            row[: len(tokens)] = [ids.get(w, UNKNOWN) for w in tokens]
        return out

    def unknown(self, captions: Sequence[str]) -> list[str]:
        """The words of `captions` that are not in the vocabulary, sorted."""
        known = set(self.words)
        return sorted({w for c in captions for w in words(c)} - known)

    def to_dict(self) -> dict:
        return {"words": list(self.words), "length": self.length}

    @classmethod
    def from_dict(cls, fields: dict) -> Vocabulary:
        return cls(tuple(fields["words"]), fields["length"])
