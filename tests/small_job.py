"""A job of seven items without a model, and a process that does it and is killed at a moment.

Its arguments are a folder, a name of FORMS and a moment. A moment is a name of MOMENTS, with the
number of an item as in `half-a-file:4`; or `waits:4`, which says so and waits.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from gcdiff.jobs.folder import UNFINISHED
from gcdiff.jobs.resumable import Format, Job, JobFolder, run

KEYS = tuple("gfedcba")  # not in alphabetical order, in which a folder might be listed
FORMS = {
    "header-in-log": Format("small job", last=("sums.json",)),
    "header-beside": Format("small job", "items.jsonl", key="name", header="job.json", last=("sums.json",)),
}
MOMENTS = ("half-a-file", "between-files", "before-the-line", "half-a-line", "before-the-log", "within-the-end")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Small(Job):
    """Two files for each item, which depend on the other items of its batch, too."""

    batch, keys = 3, KEYS
    header = {"items": list(KEYS)}

    def __init__(self, form: str = "header-in-log", moment: str = ""):
        self.form, self.trace = FORMS[form], []
        self._moment, _, place = moment.partition(":")
        self._key = KEYS[int(place)] if place else None

    def read(self, key):
        return KEYS.index(key)

    def compute(self, items):
        self.trace.append(("compute", "".join(KEYS[i] for i in items)))
        return [100 * item + sum(items) for item in items]

    def write(self, folder, key, result):
        self.trace.append(("write", key))
        text = f"{key} {result}\n" * 50
        with folder.writing(f"{key}.txt") as part:
            part.write_text(text[:120])
            self._at("half-a-file", key)
            part.write_text(text)
        self._at("between-files", key)
        folder.write_text(f"half/{key}.txt", str(result / 2))
        self._at("before-the-line", key)
        self._at("waits", key)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"files": [f"{key}.txt", f"half/{key}.txt"], "result": result, "sha256": digest}

    def whole(self, folder, entry):
        content = (folder.path / entry["files"][0]).read_bytes() if super().whole(folder, entry) else b""
        return hashlib.sha256(content).hexdigest() == entry["sha256"]

    def finish(self, folder, entries):
        folder.write_text("names.txt", "".join(entry[self.form.key] for entry in entries))
        self._at("within-the-end", None)
        folder.write_text("sums.json", json.dumps(sum(entry["result"] for entry in entries)))

    def _at(self, moment: str, key) -> None:
        if moment == self._moment and key == self._key:
            if moment != "waits":
                die()
            print("waits", flush=True)
            sys.stdin.read()


def main(folder: Path, form: str, moment: str) -> None:
    add, place = JobFolder.add, moment.partition(":")[2]

    def half_a_line(self, key, fields):
        if key == KEYS[int(place)]:
            line = json.dumps({self._form.key: key, **fields})
            with (self.path / self._form.log).open("a") as log:
                log.write(line[: len(line) // 2])
            die()
        return add(self, key, fields)

    def before_the_log(self):
        (self.path / f"{UNFINISHED}{self._form.log}").write_text("half of")
        die()

    if moment.startswith("half-a-line"):
        JobFolder.add = half_a_line
    if moment == "before-the-log":
        JobFolder._write_log = before_the_log
    run(Small(form, moment), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
