"""The captions of the world of cells: writing them, and parsing them back to what they say.

Two forms, both of which say all there is to say; a stain is named where there is something stained:

* a sentence: 'a darkly stained micrograph of many small cells of which one is dividing', 'a micrograph of no cells';
* a report: 'Staining: dark. Cells: many, small. Division: seen.', 'Cells: none. Division: not seen.'.

Words are split at blanks and punctuation and compared in lower case; the vocabulary is `VOCABULARY`.
"""

from __future__ import annotations

from typing import NamedTuple

from gcdiff.worlds.cells.appearance import STAINS
from gcdiff.worlds.cells.scene import COUNTS, SIZES, Attributes
from gcdiff.worlds.words import known_words

_COUNT_OF = {**dict(zip(COUNTS, COUNTS, strict=True)), "no": "none"}
_STAIN_OF = {**dict(zip(STAINS, STAINS, strict=True)), "brightly": "bright", "darkly": "dark"}
_OTHERS = ("a", "stained", "micrograph", "of", "cell", "cells", "that", "which", "is", "dividing")
_OTHERS += ("staining", "division", "seen", "not")

VOCABULARY = tuple(sorted({*_COUNT_OF, *_STAIN_OF, *SIZES, *_OTHERS}))


class ParsedCaption(NamedTuple):
    """The content of a caption: a count of COUNTS, a size of SIZES, a stain of STAINS, whether a cell divides.

    None where it does not say. A sentence with a number of cells that mentions no division denies it.
    """

    count: str | None
    size: str | None
    stain: str | None
    dividing: bool | None


def sentence(attributes: Attributes, stain: str) -> str:
    """The sentence for what a layout shows, under a stain."""
    count, size, dividing = attributes
    if size is None:
        return "a micrograph of no cells"
    start = f"a {stain}ly stained micrograph of {count} {size} "
    if count == "one":
        return start + ("cell that is dividing" if dividing else "cell")
    return start + ("cells of which one is dividing" if dividing else "cells")


def report(attributes: Attributes, stain: str) -> str:
    """The report for what a layout shows, under a stain."""
    count, size, dividing = attributes
    if size is None:
        return "Cells: none. Division: not seen."
    return f"Staining: {stain}. Cells: {count}, {size}. Division: {'seen' if dividing else 'not seen'}."


def parse_caption(caption: str) -> ParsedCaption:
    """Parse a caption of either form. Raises ValueError for no words and for unknown words."""
    words = known_words(caption, VOCABULARY, "caption of cells", "a micrograph of ...")
    # Of two numbers, as in 'many cells of which one is dividing', the first is that of the cells.
    count = next((_COUNT_OF[word] for word in words if word in _COUNT_OF), None)
    size = next((word for word in words if word in SIZES), None)
    stain = next((_STAIN_OF[word] for word in words if word in _STAIN_OF), None)
    divides = "dividing" in words or ("seen" in words and "not" not in words)
    mentions_division = divides or "division" in words or count is not None
    return ParsedCaption(count, size, stain, divides if mentions_division else None)
