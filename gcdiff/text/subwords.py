"""The tokenizers of T5 and CLIP checkpoints: from captions to token ids with the end token, never truncated.

tokenizer.json                  both (tokenizers)
spiece.model                    T5 (sentencepiece)
vocab.json and merges.txt       CLIP (built by transformers)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VOCABULARIES = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}
"""The vocabulary files that a checkpoint may have in place of tokenizer.json, by kind of encoder."""


@dataclasses.dataclass(frozen=True)
class Subwords:
    """A tokenizer read from `file`. `ids(captions)` gives lists of token ids below `size`, with the end token."""

    ids: Callable[[Sequence[str]], list[list[int]]]
    size: int
    file: Path


def read_subwords(directory: Path, kind: str, vocabulary: int, end: int | None) -> Subwords:
    """The tokenizer in the directory of an encoder of this kind, 't5' or 'clip'.

    `vocabulary` is the number of rows of the encoder's embedding table and `end` the id of the end token, None for the
    highest id. Raises FileNotFoundError for a missing file and ValueError, in one line, for one that is damaged or
    belongs to another encoder.
    """
    subwords = _read(directory, kind, end)
    if not vocabulary // 2 <= subwords.size <= vocabulary:
        rows = f"the encoder's table has {vocabulary} rows (vocab_size)"
        raise ValueError(
            f"{subwords.file}: a vocabulary of {subwords.size} tokens, but {rows}: expected that of this encoder"
        )
    ids = subwords.ids(["a a"])[0]
    last = max(ids, default=None) if end is None else end
    if ids[-1:] != [last] or ids.count(last) != 1:
        raise ValueError(f"{subwords.file}: the ids of 'a a' are {ids}, expected the end token, {last}, at the end")
    return subwords


def _read(directory: Path, kind: str, end: int | None) -> Subwords:
    file = directory / "tokenizer.json"
    if file.is_file():
        return _from_json(file)
    alternatives = VOCABULARIES[kind]
    missing = [name for name in alternatives if not (directory / name).is_file()]
    if missing:
        expected = f"tokenizer.json or {' and '.join(alternatives)}"
        raise FileNotFoundError(f"{directory / missing[0]}: no such file, expected the vocabulary as {expected}")
    return _from_sentencepiece(directory / "spiece.model", end) if kind == "t5" else _from_merges(directory)


def _from_json(file: Path) -> Subwords:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # its reader raises plain Exceptions
        raise ValueError(f"{file}: damaged, expected a tokenizer ({str(error).splitlines()[0]})") from None
    return _wrapped(tokenizer, file)


def _wrapped(tokenizer: Any, file: Path) -> Subwords:
    # A file may turn on truncation and padding, and truncation would be silent.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    return Subwords(lambda captions: [e.ids for e in tokenizer.encode_batch(list(captions))], size, file)


def _from_sentencepiece(file: Path, end: int | None) -> Subwords:
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(file.read_bytes())
    except Exception as error:  # its reader raises RuntimeError
        raise ValueError(f"{file}: damaged, expected a sentencepiece model ({str(error).splitlines()[0]})") from None
    return Subwords(lambda captions: [[*ids, end] for ids in model.encode(list(captions))], model.vocab_size(), file)


def _from_merges(directory: Path) -> Subwords:
    from transformers import CLIPTokenizer

    file, merges = directory / "vocab.json", directory / "merges.txt"
    try:
        tokenizer = CLIPTokenizer(vocab=str(file), merges=str(merges))
    except Exception as error:  # from several readers
        raise ValueError(f"{file} and {merges.name}: damaged ({str(error).splitlines()[0]})") from None
    return _wrapped(tokenizer.backend_tokenizer, file)
