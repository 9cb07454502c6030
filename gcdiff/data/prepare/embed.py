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
from gcdiff.data.prepare.shards import UNFINISHED, clear_unfinished, sha256
from gcdiff.types import Text

PER_SHARD = 1024
"""Captions in a shard: what is done again, at most, when writing goes on."""

Encode = Callable[[Sequence[str]], Text]
Progress = Callable[[int, int], None]


def write_embeddings(
    out: Path, captions: Iterable[str], encoder: Encoder, encode: Encode, progress: Progress = lambda done, total: None,
    products: str = "float32",
) -> dict:  # fmt: skip
    """Encode captions and write them, or go on with a directory begun for the same; returns what embeddings.json says.

    `encode` gives the `Text` of some captions, padded as it likes, by `products` of that dtype; each is encoded once.
    Raises ValueError for a directory that holds something else or was begun with another encoder, other products or
    other captions, and what `encode` raises.
    """
    ordered = sorted(set(captions))
    if not ordered:
        raise ValueError("there are no captions to encode")
    fingerprint = hashlib.sha256(json.dumps(ordered).encode()).hexdigest()
    header = {"version": VERSION, **encoder._asdict(), "per_shard": PER_SHARD, "captions": fingerprint}
    header["products"] = products
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


def _begin(out: Path, header: dict) -> dict[str, Shard]:
    """The shards that are finished, by file; a directory that is new gets its log."""
    log = out / LOG_FILE
    if not log.exists():
        if out.exists() and not all(f.name.startswith(UNFINISHED) for f in out.iterdir()):
            raise ValueError(f"{out} is not empty and was not written by gcdiff embed, expected an empty folder")
        out.mkdir(parents=True, exist_ok=True)
        _replace(log, (json.dumps(header) + "\n").encode())
        return {}
    clear_unfinished(out)
    try:
        first, *lines = log.read_text(encoding="utf-8").splitlines()
        begun = dict(json.loads(first))
    except (ValueError, TypeError):
        raise ValueError(f"{log}: damaged, expected what gcdiff embed has written; remove {out}") from None
    for name, value in begun.items():
        if header.get(name) != value:
            if name == "captions":
                raise ValueError(f"{out} was begun for other captions: expected the same, or another folder")
            said = f"{out} was begun with {name} {value!r}, now it is {header.get(name)!r}"
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
    return path.is_file() and shard.captions == captions and sha256(path) == shard.sha256


def _write_shard(path: Path, captions: Sequence[str], encode: Encode, features: int) -> Shard:
    from array_record.python.array_record_module import ArrayRecordWriter

    text, part = encode(captions), path.with_name(f"{UNFINISHED}{path.name}")
    lengths = np.asarray(text.mask).sum(axis=1)
    try:
        writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
        try:
            for caption, tokens, length in zip(captions, np.asarray(text.tokens), lengths, strict=True):
                writer.write(_encode(caption, tokens[:length]))
        finally:
            writer.close()
        shard = Shard(path.name, len(captions), part.stat().st_size, sha256(part), int(lengths.max()))
        part.replace(path)
        return shard
    except RuntimeError as error:  # array_record's, for a disk that is full and the like
        raise OSError(f"{part}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _finish(out: Path, header: dict, ordered: Sequence[str], shards: Sequence[Shard]) -> dict:
    index = np.array([(caption_hash(caption), place) for place, caption in enumerate(ordered)], INDEX)
    index.sort(order="hash")
    if np.any(index["hash"][1:] == index["hash"][:-1]):
        raise ValueError("two captions have one hash: leave one of them out")
    part = out / f"{UNFINISHED}{INDEX_FILE}"
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


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f"{UNFINISHED}{path.name}")
    part.write_bytes(content)
    part.replace(path)
