"""A word-level tokenizer whose vocabulary is built from the captions of a data set."""

from __future__ import annotations

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

PAD, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+")


def words(caption: str) -> list[str]:
    """The words of a caption in lower case: runs of letters and digits of any script."""
    return _WORD.findall(unicodedata.normalize("NFC", caption.lower()))


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
