"""Writing captions' features: every distinct caption once, in shards, so that what was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from gcdiff.data.embeddings import INDEX, INDEX_FILE, LOG_FILE, SPEC_FILE, VERSION, Encoder, Shard, caption_hash
from gcdiff.data.prepare.shards import sha256
from gcdiff.jobs.resumable import Entry, Format, Job, JobFolder, Report, run_together
from gcdiff.types import Text

PER_SHARD = 1024
"""Captions in a shard: what is done again, at most, when writing goes on."""

Encode = Callable[[Sequence[str]], Text]


def write_embeddings(
    out: Path, captions: Iterable[str], encoder: Encoder, encode: Encode,
    progress: Report = lambda done, total, shards: None, products: str = "float32",
) -> None:  # fmt: skip
    """Encode captions and write them, or go on with a directory begun for the same. All processes encode, and the first
    one alone writes.

    `encode` gives the `Text` of some captions, padded as it likes, by `products` of that dtype; each is encoded once.
    `progress` is called with the captions that are done, their total, and the shards. Raises ValueError for a directory
    that holds something else or was begun with another encoder, other products or other captions, and what `encode`
    raises.
    """
    ordered = sorted(set(captions))
    if not ordered:
        raise ValueError("there are no captions to encode")
    run_together(_Shards(ordered, encoder, encode, products), out, progress)


class _Shards(Job):
    """The shards of some captions in alphabetical order, an item each."""

    form = Format("gcdiff embed", LOG_FILE, key="file", digests={"captions": "for other captions"})

    def __init__(self, captions: Sequence[str], encoder: Encoder, encode: Encode, products: str):
        self.captions, self.encoder, self.encode = captions, encoder, encode
        digest = hashlib.sha256(json.dumps(captions).encode()).hexdigest()
        self.header = {"version": VERSION, **encoder._asdict(), "per_shard": PER_SHARD, "captions": digest}
        self.header["products"] = products
        parts = [captions[i : i + PER_SHARD] for i in range(0, len(captions), PER_SHARD)]
        self.parts = {f"embeddings.array_record-{i:05d}-of-{len(parts):05d}": part for i, part in enumerate(parts)}
        self.keys = list(self.parts)

    @property
    def total(self) -> int:
        return len(self.captions)

    def count(self, entry: Entry) -> int:
        return entry["captions"]

    def read(self, key: str) -> Sequence[str]:
        return self.parts[key]

    def compute(self, items: Sequence[Sequence[str]]) -> list[Text]:
        return [self.encode(captions) for captions in items]

    def write(self, folder: JobFolder, key: str, result: Text) -> dict:
        with folder.writing(key) as part:
            longest = _write_shard(part, self.parts[key], result)
            return Shard(key, len(self.parts[key]), part.stat().st_size, sha256(part), longest)._asdict()

    def whole(self, folder: JobFolder, entry: Entry) -> bool:
        shard = Shard(**entry)
        path = folder.path / shard.file
        return path.is_file() and shard.captions == len(self.parts[shard.file]) and sha256(path) == shard.sha256

    def finish(self, folder: JobFolder, entries: Sequence[Entry]) -> None:
        index = np.array([(caption_hash(caption), place) for place, caption in enumerate(self.captions)], INDEX)
        index.sort(order="hash")
        if np.any(index["hash"][1:] == index["hash"][:-1]):
            raise ValueError("two captions have one hash: leave one of them out")
        with folder.writing(INDEX_FILE) as part:
            np.save(part, index)
        spec = {
            **{name: self.header[name] for name in ("version", *Encoder._fields)},
            "dtype": "bfloat16",
            "captions": len(self.captions),
            "longest": max(entry["longest"] for entry in entries),
            "shards": entries,
        }
        folder.write_text(SPEC_FILE, json.dumps(spec, indent=1) + "\n")


def _write_shard(path: Path, captions: Sequence[str], text: Text) -> int:
    """Write captions with their features; returns the most tokens that one of them has."""
    from array_record.python.array_record_module import ArrayRecordWriter

    lengths = np.asarray(text.mask).sum(axis=1)
    try:
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        try:
            for caption, tokens, length in zip(captions, np.asarray(text.tokens), lengths, strict=True):
                writer.write(_encode(caption, tokens[:length]))
        finally:
            writer.close()
    except RuntimeError as error:  # array_record's, for a disk that is full and the like
        raise OSError(str(error)) from error
    return int(lengths.max())


def _encode(caption: str, features: np.ndarray) -> bytes:
    text = caption.encode()
    return struct.pack("<I", len(text)) + text + np.ascontiguousarray(features, ml_dtypes.bfloat16).tobytes()
