"""The tokenizers of T5 and CLIP checkpoints: captions to lists of token ids, the end token included, never cut.

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
"""By kind of encoder, the files that stand in for tokenizer.json."""


@dataclasses.dataclass(frozen=True)
class Subwords:
    """`ids(captions)` are lists of token ids with the end token; the ids are below `size`; read from `file`."""

    ids: Callable[[Sequence[str]], list[list[int]]]
    size: int
    file: Path


def read_subwords(directory: Path, kind: str, vocabulary: int, end: int | None) -> Subwords:
    """The tokenizer in the directory of an encoder of this kind, 't5' or 'clip'.

    `vocabulary` is the number of rows of the encoder's table and `end` the id of the token that ends every text, None
    for the highest. Raises FileNotFoundError for a file that is missing and ValueError for one that is damaged or of
    another encoder, in one line.
    """
    found = _read(directory, kind, end)
    if not vocabulary // 2 <= found.size <= vocabulary:
        rows = f"the encoder's table has {vocabulary} rows (vocab_size)"
        raise ValueError(
            f"{found.file}: a vocabulary of {found.size} tokens, but {rows}: expected that of this encoder"
        )
    ids = found.ids(["a a"])[0]
    last = max(ids, default=None) if end is None else end
    if ids[-1:] != [last] or ids.count(last) != 1:
        raise ValueError(f"{found.file}: the text 'a a' gets the ids {ids}, expected the end token, {last}, at the end")
    return found


def _read(directory: Path, kind: str, end: int | None) -> Subwords:
    file = directory / "tokenizer.json"
    if file.is_file():
        return _from_json(file)
    other = VOCABULARIES[kind]
    missing = [name for name in other if not (directory / name).is_file()]
    if missing:
        expected = f"tokenizer.json or {' and '.join(other)}"
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
    # A file may say to cut and to pad: what is cut would go unseen.
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
