"""Shards, each written under another name and renamed when it is whole, and the log that says which of them are.

`shards.jsonl` begins with what the directory was begun for; every other line is a shard that is finished, with its
sha256. What a log names is kept when a preparation goes on, what it does not name is written again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gcdiff.data.prepare.tally import Tally
from gcdiff.data.prepared import LOG_FILE, METADATA, Shard
from gcdiff.types import LabelSpec

AHEAD = 16
"""How many examples are read ahead of the one that is written."""
UNFINISHED = ".gcdiff-"
"""How the names of files and folders begin that are not finished."""

T = TypeVar("T")
U = TypeVar("U")


class Entry(NamedTuple):
    """A finished shard: what it is, its sha256, what it holds, and what was left out of it, (name, fault) each."""

    shard: Shard
    sha256: str
    tally: Tally
    faults: list[tuple[str, str]]

    def to_line(self) -> str:
        fields = {**self.shard._asdict(), "sha256": self.sha256, "tally": self.tally.to_dict(), "faults": self.faults}
        return json.dumps(fields) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Entry:
        fields = json.loads(line)
        faults = [(str(key), str(fault)) for key, fault in fields["faults"]]
        tally = Tally.from_dict(fields["tally"])
        return cls(Shard(*(fields[f] for f in Shard._fields)), fields["sha256"], tally, faults)

    def holds(self, folder: Path, count: int, skip_bad: bool) -> bool:
        """Whether the file is what it was, made of `count` examples, none left out unless that is allowed."""
        path = folder / self.shard.file
        if self.shard.examples + len(self.faults) != count or (self.faults and not skip_bad):
            return False
        return path.is_file() and path.stat().st_size == self.shard.bytes and sha256(path) == self.sha256


def begin(folder: Path, header: Mapping[str, Any]) -> dict[str, Entry]:
    """The shards that a log names, by file; none for a folder that is empty or not there.

    Raises ValueError for a folder that holds something else, or was begun with another header.
    """
    path = folder / LOG_FILE
    if not path.exists():
        if folder.exists() and not all(f.name.startswith(UNFINISHED) for f in folder.iterdir()):
            raise ValueError(f"{folder} is not empty and was not written by gcdiff prepare, expected an empty folder")
        return {}
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        begun = json.loads(first)
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"{path}: damaged, expected what gcdiff prepare has written; remove {folder}") from None
    _compare(folder, begun, json.loads(json.dumps(header)))
    entries = {}
    for line in lines:
        try:
            entry = Entry.from_line(line)
        except (ValueError, KeyError, TypeError):
            break  # the line that was being written when it was stopped
        entries[entry.shard.file] = entry
    return entries


def clear_unfinished(folder: Path) -> None:
    """Remove what a preparation that was killed has left."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_log(folder: Path, header: Mapping[str, Any], entries: Iterable[Entry]) -> None:
    """The whole log, in one step."""
    part = folder / f"{UNFINISHED}{LOG_FILE}"
    part.write_text(json.dumps(header) + "\n" + "".join(entry.to_line() for entry in entries), encoding="utf-8")
    part.replace(folder / LOG_FILE)


def append_to_log(folder: Path, entry: Entry) -> None:
    with (folder / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(entry.to_line())


def write_shard(
    path: Path, results: Iterable[tuple[str, tuple[bytes, Tally] | str]], labels: LabelSpec, skip_bad: bool
) -> Entry:
    """Write one shard of (name, example or fault), and say what it is; nothing is left where that fails.

    Raises ValueError for a fault, unless `skip_bad`.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    part = path.with_name(f"{UNFINISHED}{path.name}")
    tally, faults, writer = Tally.empty(labels), [], ArrayRecordWriter(str(part), "group_size:1,uncompressed")
    try:
        try:
            for key, result in results:
                if isinstance(result, str):
                    if not skip_bad:
                        raise ValueError(result)
                    faults.append((key, result))
                else:
                    writer.write(result[0])
                    tally.add(result[1])
        finally:
            writer.close()
        shard = Shard(path.name, tally.counts["examples"], part.stat().st_size)
        entry = Entry(shard, sha256(part), tally, faults)
        for name in METADATA:  # what stood here is not whole any more
            (path.parent / name).unlink(missing_ok=True)
        part.replace(path)
        return entry
    except RuntimeError as error:  # array_record's, for a disk that is full and the like
        raise OSError(f"{part}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def in_order(pool: Executor, function: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, U]]:
    """(item, function(item)) in the order of the items, AHEAD of them under way at a time."""
    under_way: deque = deque()
    for item in items:
        under_way.append((item, pool.submit(function, item)))
        if len(under_way) >= AHEAD:
            first, future = under_way.popleft()
            yield first, future.result()
    for item, future in under_way:
        yield item, future.result()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError for the first field that differs; for the listing, which options change too, last of all."""
    others = [field for field in {**now, **begun} if begun.get(field) != now.get(field)]
    for field in sorted(others, key="listing".__eq__):
        said = f"{folder} was begun with {field} {begun.get(field)!r}, now it is {now.get(field)!r}"
        if field == "listing":
            said = f"{folder} was begun when the source listed other examples"
        raise ValueError(f"{said}: expected the same, or another folder")
