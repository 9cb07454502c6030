"""Caption features, computed once by a frozen text encoder, stored in files and read during training.

embeddings.json                                 the encoder (model, revision, features), the shards; written last
embeddings.array_record-00000-of-00004 ...      the captions and their features, for random access
index.npy                                       the hash of every caption, sorted, and the number of its record
shards.jsonl                                    the header of the job, and the shards that are finished

A record is a caption and the features bfloat16 (T, D) of its T tokens, without padding. Captions are looked up by their
text, so that a caption of many examples is encoded and stored once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gcdiff.types import Text

SPEC_FILE, LOG_FILE, INDEX_FILE = "embeddings.json", "shards.jsonl", "index.npy"
VERSION = 1
INDEX = np.dtype([("hash", "<u8"), ("place", "<i8")])


class Encoder(NamedTuple):
    """The text encoder: a directory or hub id, its commit or hash, and the number of features of a token."""

    model: str
    revision: str
    features: int


class Shard(NamedTuple):
    """A finished file of captions: its name, size, hash, and the number of tokens of its longest caption."""

    file: str
    captions: int
    bytes: int
    sha256: str
    longest: int


class Embeddings:
    """The features that `gcdiff.data.prepare.embed` wrote, by caption: `embeddings["a caption"]` is bfloat16 (T, D).

    Can be pickled, and read from several threads. Raises FileNotFoundError or ValueError, in one line, for a directory
    that is missing, unfinished or damaged.
    """

    def __init__(self, root: str | Path):
        self.root, path = Path(root), Path(root) / SPEC_FILE
        if not path.is_file():
            if (self.root / LOG_FILE).exists():
                raise ValueError(f"{root}: not all captions are encoded; run the same gcdiff embed again to go on")
            raise FileNotFoundError(f"{path}: no such file, expected a directory that gcdiff embed has written")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            self.encoder = Encoder(*(fields[name] for name in Encoder._fields))
            self.longest = int(fields["longest"])
            self._shards = [Shard(**shard) for shard in fields["shards"]]
            self._index = np.load(self.root / INDEX_FILE)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error.filename}: no such file") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.root}: damaged ({type(error).__name__}: {error})") from None
        for shard in self._shards:
            file = self.root / shard.file
            size = file.stat().st_size if file.is_file() else None
            if size != shard.bytes:
                raise ValueError(f"{file}: {'missing' if size is None else f'{size} bytes'}, expected {shard.bytes}")
        self._records: Any = None

    def __len__(self) -> int:
        return len(self._index)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_records": None}

    def __contains__(self, caption: str) -> bool:
        return self._place(caption) is not None

    def __getitem__(self, caption: str) -> np.ndarray:
        """The features of a caption. Raises ValueError for a caption that was not encoded."""
        place = self._place(caption)
        if place is None:
            raise ValueError(f"{self.root} has no features of the caption {caption!r}, expected one of those encoded")
        try:
            text, features = _decode(self._open()[place], self.encoder.features)
        except (RuntimeError, ValueError, struct.error) as error:
            raise ValueError(f"{self.root}: record {place} is damaged ({' '.join(str(error).split())})") from None
        if text != caption:
            raise ValueError(f"{self.root}: record {place} holds {text!r}, expected {caption!r}")
        return features

    def batch(self, captions: Sequence[str], length: int) -> Text:
        """Features bfloat16 (N, length, D), zero on padding, and mask bool (N, length); "" has no tokens.

        Raises ValueError for a caption that was not encoded or has more than `length` tokens.
        """
        tokens = np.zeros((len(captions), length, self.encoder.features), ml_dtypes.bfloat16)
        mask = np.zeros((len(captions), length), bool)
        for row, caption in enumerate(captions):
            if caption:
                features = self[caption]
                if len(features) > length:
                    raise ValueError(f"caption has {len(features)} tokens, the limit is {length}: {caption!r}")
                tokens[row, : len(features)], mask[row, : len(features)] = features, True
        return Text(tokens, mask)

    def _place(self, caption: str) -> int | None:
        """The number of a caption's record; None for a caption that was not encoded."""
        key = caption_hash(caption)
        row = int(np.searchsorted(self._index["hash"], key))
        return int(self._index["place"][row]) if row < len(self._index) and self._index["hash"][row] == key else None

    def _open(self) -> Any:
        if self._records is None:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            self._records = ArrayRecordDataSource([str(self.root / shard.file) for shard in self._shards])
        return self._records


def _decode(record: bytes, features: int) -> tuple[str, np.ndarray]:
    (length,) = struct.unpack_from("<I", record)
    values = np.frombuffer(record, ml_dtypes.bfloat16, offset=4 + length)
    return record[4 : 4 + length].decode(), values.reshape(-1, features)


def caption_hash(caption: str) -> np.uint64:
    """The first 8 bytes of BLAKE2b of the caption's UTF-8 text, little-endian: the key of `index.npy`."""
    return np.frombuffer(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "<u8")[0]
