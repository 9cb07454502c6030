"""Captions' features, written once by an encoder that stays as it is, and read in training.

embeddings.json                                 whose they are: model, revision, limit, shards; written last of all
embeddings.array_record-00000-of-00004 ...      the captions and their features, for random access
index.npy                                       the hash of every caption's text, sorted, and its place
shards.jsonl                                    what the directory was begun for, and which shards are finished

A record is a caption and its features bfloat16 (T, D), of its tokens alone: no padding is stored. A caption is found by
its text, so that equal captions of many examples are encoded and stored once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gcdiff.types import Text

SPEC_FILE, LOG_FILE, INDEX_FILE = "embeddings.json", "shards.jsonl", "index.npy"
VERSION = 1
PER_SHARD = 1024
"""Captions in a shard: what is done again, at most, when writing goes on."""
_INDEX = np.dtype([("hash", "<u8"), ("place", "<i8")])
_UNFINISHED = ".gcdiff-"

Encode = Callable[[Sequence[str]], Text]
Progress = Callable[[int, int], None]


class Encoder(NamedTuple):
    """Which encoder it was: a directory or an id of the hub, its commit or hash, and how many features a token has."""

    model: str
    revision: str
    features: int


class Shard(NamedTuple):
    """A finished file of captions."""

    file: str
    captions: int
    bytes: int
    sha256: str
    longest: int


def write_embeddings(
    out: Path, captions: Iterable[str], encoder: Encoder, encode: Encode, progress: Progress = lambda done, total: None
) -> dict:
    """Encode captions and write them, or go on with a directory begun for the same; returns what embeddings.json says.

    `encode` gives the `Text` of some captions, padded as it likes; each is encoded once. Raises ValueError for a
    directory that holds something else or was begun with another encoder or other captions, and what `encode` raises.
    """
    ordered = sorted(set(captions))
    if not ordered:
        raise ValueError("there are no captions to encode")
    fingerprint = hashlib.sha256(json.dumps(ordered).encode()).hexdigest()
    header = {"version": VERSION, **encoder._asdict(), "per_shard": PER_SHARD, "captions": fingerprint}
    finished = _begin(out, header)
    count, done = -(-len(ordered) // PER_SHARD), 0
    shards: list[Shard] = []
    for i in range(count):
        file, part = f"embeddings.array_record-{i:05d}-of-{count:05d}", ordered[i * PER_SHARD : (i + 1) * PER_SHARD]
        known = finished.get(file)
        if known is None or not _holds(out / file, known, len(part)):
            known = _write_shard(out / file, part, encode, encoder.features)
            with (out / LOG_FILE).open("a", encoding="utf-8") as log:
                log.write(json.dumps(known._asdict()) + "\n")
        shards.append(known)
        done += len(part)
        progress(done, len(ordered))
    return _finish(out, header, ordered, shards)


class Embeddings:
    """What `write_embeddings` wrote, by caption: `embeddings["a caption"]` is bfloat16 (T, D).

    It may be pickled, and read from several threads. Raises FileNotFoundError or ValueError, in one line, for a
    directory that is not there, not whole or damaged.
    """

    def __init__(self, root: str | Path):
        self.root, path = Path(root), Path(root) / SPEC_FILE
        if not path.is_file():
            if (self.root / LOG_FILE).exists():
                raise ValueError(f"{root}: its captions were not all encoded; the same gcdiff embed goes on with it")
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
        """Raises ValueError for a caption that was not encoded."""
        place = self._place(caption)
        if place is None:
            raise ValueError(f"{self.root} has no features of the caption {caption!r}: gcdiff embed encodes them again")
        try:
            text, features = _decode(self._open()[place], self.encoder.features)
        except (RuntimeError, ValueError, struct.error) as error:
            raise ValueError(f"{self.root}: record {place} is damaged ({' '.join(str(error).split())})") from None
        if text != caption:
            raise ValueError(f"{self.root}: record {place} is of {text!r}, expected {caption!r}")
        return features

    def batch(self, captions: Sequence[str], length: int) -> Text:
        """Features bfloat16 (N, length, D), zero on padding, and mask bool (N, length); "" has no tokens.

        Raises ValueError for a caption that was not encoded or has more than `length` tokens.
        """
        tokens = np.zeros((len(captions), length, self.encoder.features), ml_dtypes.bfloat16)
        mask = np.zeros((len(captions), length), bool)
        for row, caption in enumerate(captions):
            if caption:
                found = self[caption]
                if len(found) > length:
                    raise ValueError(f"caption has {len(found)} tokens, the limit is {length}: {caption!r}")
                tokens[row, : len(found)], mask[row, : len(found)] = found, True
        return Text(tokens, mask)

    def _place(self, caption: str) -> int | None:
        wanted = _hash(caption)
        at = int(np.searchsorted(self._index["hash"], wanted))
        return int(self._index["place"][at]) if at < len(self._index) and self._index["hash"][at] == wanted else None

    def _open(self) -> Any:
        if self._records is None:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            self._records = ArrayRecordDataSource([str(self.root / shard.file) for shard in self._shards])
        return self._records


def _begin(out: Path, header: dict) -> dict[str, Shard]:
    """The shards that are finished, by file; a directory that is new gets its log."""
    log = out / LOG_FILE
    if not log.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} is not empty and was not written by gcdiff embed, expected an empty folder")
        out.mkdir(parents=True, exist_ok=True)
        log.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    for part in out.glob(f"{_UNFINISHED}*"):
        part.unlink()
    first, *lines = log.read_text(encoding="utf-8").splitlines()
    for name, value in json.loads(first).items():
        if header[name] != value:
            if name == "captions":
                raise ValueError(f"{out} was begun for other captions: expected the same, or another folder")
            said = f"{out} was begun with {name} {value!r}, now it is {header[name]!r}"
            raise ValueError(f"{said}: expected the same, or another folder")
    found = {}
    for line in lines:
        try:
            shard = Shard(**json.loads(line))
        except (ValueError, TypeError):
            break  # the line that was being written when it was stopped
        found[shard.file] = shard
    kept = "".join(json.dumps(shard._asdict()) + "\n" for shard in found.values())
    _replace(log, (first + "\n" + kept).encode())
    return found


def _holds(path: Path, shard: Shard, captions: int) -> bool:
    return path.is_file() and shard.captions == captions and _sha256(path) == shard.sha256


def _write_shard(path: Path, captions: Sequence[str], encode: Encode, features: int) -> Shard:
    from array_record.python.array_record_module import ArrayRecordWriter

    text, part = encode(captions), path.with_name(f"{_UNFINISHED}{path.name}")
    lengths = np.asarray(text.mask).sum(axis=1)
    try:
        writer = ArrayRecordWriter(str(part), "group_size:1")
        try:
            for caption, tokens, length in zip(captions, np.asarray(text.tokens), lengths, strict=True):
                writer.write(_encode(caption, tokens[:length]))
        finally:
            writer.close()
        shard = Shard(path.name, len(captions), part.stat().st_size, _sha256(part), int(lengths.max()))
        part.replace(path)
        return shard
    except RuntimeError as error:  # array_record's, for a disk that is full and the like
        raise OSError(f"{part}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _finish(out: Path, header: dict, ordered: Sequence[str], shards: Sequence[Shard]) -> dict:
    index = np.array([(_hash(caption), place) for place, caption in enumerate(ordered)], _INDEX)
    index.sort(order="hash")
    if np.any(index["hash"][1:] == index["hash"][:-1]):
        raise ValueError("two captions have one hash: leave one of them out")
    part = out / f"{_UNFINISHED}{INDEX_FILE}"
    with part.open("wb") as file:
        np.save(file, index)
    part.replace(out / INDEX_FILE)
    said = {
        **{name: header[name] for name in ("version", *Encoder._fields)},
        "dtype": "bfloat16",
        "captions": len(ordered),
        "longest": max(shard.longest for shard in shards),
        "shards": [shard._asdict() for shard in shards],
    }
    _replace(out / SPEC_FILE, (json.dumps(said, indent=1) + "\n").encode())
    return said


def _encode(caption: str, features: np.ndarray) -> bytes:
    text = caption.encode()
    return struct.pack("<I", len(text)) + text + np.ascontiguousarray(features, ml_dtypes.bfloat16).tobytes()


def _decode(record: bytes, features: int) -> tuple[str, np.ndarray]:
    (length,) = struct.unpack_from("<I", record)
    values = np.frombuffer(record, ml_dtypes.bfloat16, offset=4 + length)
    return record[4 : 4 + length].decode(), values.reshape(-1, features)


def _hash(caption: str) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "<u8")[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f"{_UNFINISHED}{path.name}")
    part.write_bytes(content)
    part.replace(path)
