"""A copy of the package with all that docs/extending.md adds, made by following the page to the letter.

A block of the page is a new file (```python after "New file `PATH`:") or a change of one (```diff after "In `PATH`",
and further ```diff blocks of the same file). The lines of a change that begin with a space or "-" stand in the file,
once, in this order; they become those that begin with a space or "+".
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(
    r"(?:^(New file|In) `([^`]+)`[^\n]*(?:\n[^\n`]+)*\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def extend(place: Path) -> Path:
    """Make the copy in `place`, which is then what PYTHONPATH takes. Raises AssertionError where the page is wrong."""
    shutil.copytree(ROOT / "gcdiff", place / "gcdiff", ignore=shutil.ignore_patterns("__pycache__"))
    file, done = "", set()
    for verb, path, language, text in BLOCK.findall(PAGE.read_text()):
        file = path or file
        target = place / file
        if language == "python":
            assert verb == "New file" and not target.exists(), f"{file}: expected a new file"
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        elif language == "diff":
            lines = text.splitlines()
            assert all(line[:1] in (" ", "-", "+", "") for line in lines), f"{file}: {text}"
            before, after = (
                "\n".join(line[1:] for line in lines if line[:1] in marks) for marks in (("", " ", "-"), ("", " ", "+"))
            )
            source = target.read_text()
            assert source.count(before) == 1, f"{file} holds {source.count(before)} times:\n{before}"
            target.write_text(source.replace(before, after))
        else:
            continue
        done.add(file)
    assert len(done) > 15, done
    return place
