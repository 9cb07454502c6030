"""The folder of a job: its header, which says what is being made, and the log of its finished items.

The log has one line of JSON for every finished item, written after the files of that item. What no line names is made.
An item whose files are gone or damaged is made again; until then its line stays, and then the new one stands in its
place. The header, which says what is being made, is the first line of the log, or a file of
its own. Every file is written under another name, which begins with `.gcdiff-`, and renamed when it is whole. A kill
at any moment therefore leaves whole files, at most one torn line at the end of the log, and leftovers whose names tell
them apart; the next command removes both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gcdiff.jobs.lock import hold

UNFINISHED = ".gcdiff-"
"""The prefix of the names of unfinished files and folders."""

Entry = dict[str, Any]
"""A line of the log, as JSON gives it back: the key of the item, and what the job says of it."""


@dataclasses.dataclass(frozen=True)
class Format:
    """The names of the files and fields in the folder of a command.

    command: who writes it, for messages.
    log: the file with one line for every finished item.
    key: the field of a line that says which item it is.
    header: the file that says what is being made; None: the first line of the log does.
    may_differ: fields of the header that are recorded and not compared.
    digests: fields of the header whose values mean nothing to a person, and what is said when one differs: how the
        sentence "DIR was begun ..." goes on. They are compared last, since other fields often explain them.
    last: files whose presence says that the folder is whole. They go as soon as another file is replaced.
    """

    command: str
    log: str = "log.jsonl"
    key: str = "key"
    header: str | None = None
    may_differ: tuple[str, ...] = ()
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    last: tuple[str, ...] = ()


class JobFolder:
    """The folder of a job while this process holds it. `entries` are the finished items, by key."""

    def __init__(self, path: Path, form: Format):
        self.path, self.entries = path, {}
        self._form, self._head, self._made, self._whole = form, "", set(), True
        self._lines = {}

    entries: dict[Any, Entry]
    _lines: dict[Any, str]
    """The lines of the log below the header, by key: those of the entries, and of items that are to be made again."""

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Where to write the file `name`, which may lie in subfolders: a path beside its place, renamed when the block
        ends. Where the block fails nothing is left of it. Raises OSError, naming the file, if it cannot be written."""
        place, part = self.path / name, self.path / f"{UNFINISHED}{name.replace('/', '-')}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(name.split("/")[0])
            yield part
            if self._whole and name not in self._form.last:
                self._whole = False
                for last in self._form.last:
                    (self.path / last).unlink(missing_ok=True)
            part.replace(place)
        except OSError as error:
            raise OSError(f"{place}: cannot be written ({error.strerror or error})") from None
        finally:
            part.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        with self.writing(name) as part:
            part.write_text(text, encoding="utf-8")

    def add(self, key: Any, fields: Mapping[str, Any]) -> Entry:
        """Write an item to the log as finished. Its files must be in their places."""
        line = json.dumps({self._form.key: key, **fields}) + "\n"
        again, self._lines[key] = key in self._lines, line
        try:
            if again:
                self._write_log()
            else:
                with (self.path / self._form.log).open("a", encoding="utf-8") as log:
                    log.write(line)
        except OSError as error:
            raise OSError(f"{self.path / self._form.log}: cannot be written ({error.strerror or error})") from None
        self.entries[key] = json.loads(line)
        return self.entries[key]

    def sort(self, keys: Sequence[Any]) -> None:
        """Bring the lines of the log into the order of the keys."""
        ordered = {key: self._lines[key] for key in keys if key in self._lines}
        if list(self._lines)[: len(ordered)] != list(ordered):
            self._lines = ordered | self._lines
            self._write_log()

    def _head_and_lines(self) -> str:
        return (self._head if self._form.header is None else "") + "".join(self._lines.values())

    def _write_log(self) -> None:
        part = self.path / f"{UNFINISHED}{self._form.log}"
        part.write_text(self._head_and_lines(), encoding="utf-8")
        part.replace(self.path / self._form.log)

    def _begin(self, header: Mapping[str, Any]) -> None:
        """Write the header and an empty log."""
        self._head = json.dumps(header) + "\n"
        if self._form.header is not None:
            self.write_text(self._form.header, json.dumps(header, indent=1) + "\n")
        self._write_log()

    def _go_on(self, header: Mapping[str, Any], whole: Callable[[JobFolder, Entry], bool]) -> None:
        """Read the log, and which of its entries are whole, after the header was compared."""
        log, form = self.path / self._form.log, self._form
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        lines = text.splitlines(keepends=True)
        if form.header is None:
            self._head, lines = "".join(lines[:1]), lines[1:]
            self._compare(log, self._head, header)
        else:
            path = self.path / form.header
            self._compare(path, path.read_text(encoding="utf-8", errors="replace"), header)
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the line that was being written, above all
                entry = json.loads(line)
                self._lines[entry[form.key]] = json.dumps(entry) + "\n"
        for key, line in self._lines.items():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # which means no
                entry = json.loads(line)
                if whole(self, entry):
                    self.entries[key] = entry
        if not log.exists() or self._head_and_lines() != text:
            self._write_log()

    def _compare(self, file: Path, text: str, header: Mapping[str, Any]) -> None:
        """Raise ValueError, naming the first field that differs, unless the header is that of the folder."""
        form, now = self._form, json.loads(json.dumps(header))
        try:
            begun = dict(json.loads(text))
        except (ValueError, TypeError):
            raise ValueError(f"{file}: damaged, expected what {form.command} has written; remove {self.path}") from None
        fields = sorted({**now, **begun}, key=form.digests.__contains__)
        for field in fields:
            if begun.get(field) != now.get(field) and field not in form.may_differ:
                difference = f"with {field} {begun.get(field)!r}, now it is {now.get(field)!r}"
                raise ValueError(
                    f"{self.path} was begun {form.digests.get(field, difference)}: expected the same, or another folder"
                )

    def _clear_unfinished(self) -> None:
        """Remove the unfinished files of a process that was killed."""
        for path in self.path.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _clear(self) -> None:
        """Remove all that was made here. What else may be in the folder stays."""
        for name in (*self._made, self._form.log, ".lock"):  # the lock last: without it another process may begin
            path = self.path / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(
    path: Path, form: Format, header: Mapping[str, Any], whole: Callable[[JobFolder, Entry], bool]
) -> Iterator[JobFolder]:
    """A context that begins a folder, or goes on with one, and holds it until the block ends.

    `entries` are those that the log names and `whole(folder, entry)` accepts; a KeyError, TypeError or ValueError that
    it raises means no. Where the block fails before any item is finished, nothing of a folder that was begun is left.

    Raises ValueError for a folder that holds something else, that was begun for something else, naming the first field
    that differs, that is damaged, and for one that another process holds.
    """
    created = not path.exists()
    _is_new(path, form)
    path.mkdir(parents=True, exist_ok=True)
    with hold(path):
        new = _is_new(path, form)  # asked again: another process may have begun it and ended in between
        folder = JobFolder(path, form)
        try:
            folder._begin(header) if new else folder._go_on(header, whole)
            folder._clear_unfinished()
            yield folder
        except BaseException:
            if new and not folder.entries:
                folder._clear()
                if created:
                    with contextlib.suppress(OSError):  # somebody else has put a file there
                        path.rmdir()
            raise


def _is_new(path: Path, form: Format) -> bool:
    """Whether nothing has been written to a folder. Raises ValueError for one that holds something else."""
    if not path.exists() or all(file.name.startswith(".") for file in path.iterdir()):
        return True
    if not (path / (form.header or form.log)).is_file():
        raise ValueError(f"{path} is not empty and was not written by {form.command}, expected an empty folder")
    return False
