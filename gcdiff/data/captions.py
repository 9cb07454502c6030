"""Captions: reading them from files, making them from a layout's classes, finding the classes that they name.

Captions made from classes have the form of Park et al. (Learning to Generate Semantic Layouts for Higher Text-Image
Correspondence, 2023, section 4.1).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gcdiff.data.dataset import Dataset, Example
from gcdiff.types import VOID

NAMED_FROM = 1e-3
"""A caption names the classes that have at least this share of the pixels: 3 pixels of 48x64."""
IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "sheep": "sheep",
    "foot": "feet", "tooth": "teeth", "knife": "knives", "leaf": "leaves", "shelf": "shelves",
}  # fmt: skip
"""Irregular plurals."""


@dataclasses.dataclass(frozen=True)
class ClassCaptions:
    """Makes captions that name the classes of a layout: a noun for each class, None for a class that is never named."""

    nouns: tuple[str | None, ...]
    start: str = "An image of an urban street view"

    def caption(self, layout: np.ndarray, rng: np.random.Generator) -> str:
        """'An image of an urban street view with Buildings, Roads and Cars.': the classes of a layout int (H, W) that
        have at least NAMED_FROM of its pixels, in random order."""
        counts = np.bincount(layout.ravel() + 1, minlength=len(self.nouns) + 1)[1:]
        present = rng.permutation(np.flatnonzero(counts >= NAMED_FROM * layout.size))
        names = [noun for noun in (self.nouns[i] for i in present) if noun is not None]
        if not names:
            return f"{self.start}."
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{self.start} with {listed}."

    def recaption(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with a caption made anew from its layout, for use after a crop, which may have lost classes.

        An example without captions gets none; one whose layout is all VOID keeps its captions.
        """
        if not example.captions or (example.layout == VOID).all():
            return example
        return example._replace(captions=(self.caption(example.layout, rng),))


def nouns_of(data: Dataset) -> tuple[str | None, ...]:
    """The noun that a data set's captions use for each class (None: never named); () for captions not made from
    classes."""
    class_captions = getattr(data, "class_captions", None)
    return () if class_captions is None else class_captions.nouns


def named_classes(captions: Sequence[str], names: Sequence[str], nouns: Sequence[str | None] = ()) -> np.ndarray:
    """Which of the K classes `names` each caption names: bool (N, K).

    A class is named by its own name, and by its noun where `nouns` (K) has one, as whole words of any case, in the
    singular or the plural. Where several matches begin the longest counts: "traffic light" does not name "light".

    >>> from gcdiff.data.captions import named_classes
    >>> named_classes(["two cars on a road"], names=("car", "road", "sky")).tolist()
    [[True, True, False]]
    """
    class_of = {_spaced(name): k for k, name in enumerate(names)}
    for k, (name, noun) in enumerate(zip(names, nouns or [None] * len(names), strict=True)):
        class_of.setdefault(_spaced(noun or name), k)
    for word, k in list(class_of.items()):  # a listed word has precedence over an inflected form class_of another
        for form in _inflected(word):
            class_of.setdefault(form, k)
    longest = sorted(class_of, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)")
    named = np.zeros((len(captions), len(names)), bool)
    for row, caption in zip(named, captions, strict=True):
        row[[class_of[word] for word in pattern.findall(_spaced(caption))]] = True
    return named


def _spaced(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text).strip().lower()


def _inflected(word: str) -> set[str]:
    """The possible plurals and singulars of a lower-case word, or of a phrase by its last word."""
    start, space, last = word.rpartition(" ")
    plurals, singulars = {_plural(last)}, set()
    for singular, plural in IRREGULAR.items():
        plurals = {plural} if last == singular else plurals
        singulars |= {singular} if last == plural else set()
    if not singulars and last.endswith("s") and not last.endswith(("ss", "us", "is")):
        singulars = {stem for stem in (last[:-1], last[:-2], f"{last[:-3]}y") if _plural(stem) == last}
    return {f"{start}{space}{form}" for form in plurals | singulars}


def _plural(word: str) -> str:
    if re.search("(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return re.sub("(?<=[^aeiou])y$", "ie", word) + "s"


def read_jsonl(path: Path, fault: Callable[[str], None], wrong: set[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The captions of a file with one object a line, {"file_name": "3.jpg", "text": ["one", "another"]}, by file_name.

    A line that is wrong is skipped, and a message about it goes to `fault`, its file_name to `wrong`. Raises
    FileNotFoundError for a missing file and ValueError for one that is not UTF-8.
    """
    captions: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            name = None
            try:
                name, texts = _caption_line(line)
                if isinstance(texts, str):
                    raise ValueError(texts)
                if name in captions:
                    raise ValueError(f"file_name {name!r} for the second time")
                captions[name] = texts
            except ValueError as error:
                fault(f"{path}: line {number}: {error}")
                if wrong is not None and name is not None:
                    wrong.add(name)
    return captions


def read_lines(path: Path) -> tuple[str, ...]:
    """The captions of a text file, one per line; of a file that ends in .jsonl as `read_jsonl` has them, in its order.

    Raises ValueError for an empty file, for JSON in a file of another ending, and for a line of a .jsonl file that is
    wrong.
    """
    if path.suffix.lower() == ".jsonl":

        def refuse(message: str) -> None:
            raise ValueError(message)

        texts = tuple(text for texts in read_jsonl(path, refuse).values() for text in texts)
        if not texts:
            raise ValueError(f"{path}: empty, expected captions")
        return texts
    lines = tuple(line.strip() for line in _lines(path) if line.strip())
    if not lines:
        raise ValueError(f"{path}: empty, expected one caption per line")
    if lines[0].startswith(("{", "[")):
        raise ValueError(f"{path}: JSON, expected one caption per line, or a file with a name ending in .jsonl")
    return lines


def _caption_line(line: str) -> tuple[str, tuple[str, ...] | str]:
    """The file_name of a line with its captions, or with what is wrong about them."""
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("file_name"), str) or "text" not in fields:
        raise ValueError('expected {"file_name": "...", "text": ["...", ...]}')
    texts = fields["text"]
    if isinstance(texts, str):
        return fields["file_name"], f"text of {fields['file_name']} is a string, expected a list of strings"
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        return fields["file_name"], f"text of {fields['file_name']} is {texts!r}, expected a list of captions"
    return fields["file_name"], tuple(t.strip() for t in texts)


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, cut at newlines only (str.splitlines cuts at more); a byte order mark is dropped."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder, expected a' if path.is_dir() else 'no such'} file")
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (byte {error.start})") from None
