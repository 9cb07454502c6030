"""Shards of examples, each renamed to its final name when it is complete, and the log of the complete ones.

The first line of `shards.jsonl` is the header of the preparation; every other line is a complete shard with its sha256.
A preparation that resumes keeps the shards in the log and writes the others again.
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

LONGEST = 200
"""The most letters of two tables that a message shows whole."""
AHEAD = 16
"""The number of examples that are read ahead of the one that is written."""
TABLE = "labels.json"
"""The table of classes, which may be made here before anything is prepared."""
UNFINISHED = ".gcdiff-"
"""The prefix of the names of unfinished files and folders."""

T = TypeVar("T")
U = TypeVar("U")


class Entry(NamedTuple):
    """A complete shard: its file, sha256 and counts, and the examples left out of it as (name, fault)."""

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
        """Whether the file is unchanged and was made of `count` examples, none left out unless `skip_bad`."""
        path = folder / self.shard.file
        if self.shard.examples + len(self.faults) != count or (self.faults and not skip_bad):
            return False
        return path.is_file() and path.stat().st_size == self.shard.bytes and sha256(path) == self.sha256


def begin(folder: Path, header: Mapping[str, Any]) -> dict[str, Entry]:
    """The complete shards of a log, by file; {} for a folder that is empty or missing.

    Raises ValueError for a folder that holds something else, or that was begun with another header.
    """
    path = folder / LOG_FILE
    if not path.exists():
        if folder.exists() and not all(f.name.startswith(UNFINISHED) or f.name == TABLE for f in folder.iterdir()):
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
            break  # a line that a kill cut short
        entries[entry.shard.file] = entry
    return entries


def clear_unfinished(folder: Path) -> None:
    """Remove the unfinished files that a killed preparation left."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_log(folder: Path, header: Mapping[str, Any], entries: Iterable[Entry]) -> None:
    """Write the whole log, in one atomic step."""
    part = folder / f"{UNFINISHED}{LOG_FILE}"
    part.write_text(json.dumps(header) + "\n" + "".join(entry.to_line() for entry in entries), encoding="utf-8")
    part.replace(folder / LOG_FILE)


def append_to_log(folder: Path, entry: Entry) -> None:
    """Add the line of a complete shard."""
    with (folder / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(entry.to_line())


def write_shard(
    path: Path, results: Iterable[tuple[str, tuple[bytes, Tally] | str]], labels: LabelSpec, skip_bad: bool
) -> Entry:
    """Write one shard of (name, example or fault), and return its entry; where that fails no file is left.

    Raises ValueError for a fault, unless `skip_bad`, and OSError where the file cannot be written.
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
        for name in METADATA:  # the directory is incomplete until they are written again
            (path.parent / name).unlink(missing_ok=True)
        part.replace(path)
        return entry
    except RuntimeError as error:  # array_record raises it for a full disk and the like
        raise OSError(f"{part}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def in_order(pool: Executor, function: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, U]]:
    """(item, function(item)) in the order of the items, with AHEAD of them in progress."""
    pending: deque = deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) >= AHEAD:
            first, future = pending.popleft()
            yield first, future.result()
    for item, future in pending:
        yield item, future.result()


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(folder: Path, logged: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError for the first field that differs; the listing comes last, as options change it too."""
    differing = [field for field in {**now, **logged} if logged.get(field) != now.get(field)]
    for field in sorted(differing, key="listing".__eq__):
        before, after = logged.get(field), now.get(field)
        long = len(f"{before}{after}") > LONGEST
        if long and isinstance(before, dict) and isinstance(after, dict):  # the first entry that differs
            entry = next(name for name in {**after, **before} if before.get(name) != after.get(name))
            field, before, after = f"{field}: {entry}", before.get(entry), after.get(entry)
        message = f"{folder} was begun with {field} {before!r}, now it is {after!r}"
        if field == "listing":
            message = f"{folder} was begun when the source listed other examples"
        raise ValueError(f"{message}: expected the same, or another folder")
