"""The captions of the street world: writing them, and parsing them back to what they say.

Two forms, both with the scene's optional classes complete:

* the form of Park et al. (Learning to Generate Semantic Layouts for Higher Text-Image Correspondence, 2023), which
  names all classes present, in random order: 'An image of an urban street view with Roads, Skies, Cars and Signs.'
* the attribute form, which names weather, counts and the cars' colours:
  'a foggy street with two red cars, one sign and one pole'.

Words are split at blanks and punctuation and compared in lower case; the vocabulary is `VOCABULARY`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.worlds.streets.appearance import CAR_COLORS, LABELS, WEATHERS
from gcdiff.worlds.streets.scene import Thing
from gcdiff.worlds.words import enumeration, known_words

_PAPER_PREFIX = "An image of an urban street view with "
_PLURALS = dict(
    zip(
        LABELS.names,
        ("Skies", "Buildings", "Roads", "Sidewalks", "Vegetations", "Cars", "People", "Poles", "Signs", "Buses"),
        strict=True,
    )
)
_NOUNS = {  # one, several
    "vegetation": ("tree", "trees"),
    "car": ("car", "cars"),
    "person": ("person", "people"),
    "pole": ("pole", "poles"),
    "sign": ("sign", "signs"),
    "bus": ("bus", "buses"),
}
_ADJECTIVES = dict(zip(WEATHERS, ("daytime", "nighttime", "foggy"), strict=True))
_NUMBERS = ("one", "two", "three")
_COUNT_OF = {"a": 1, "one": 1, "two": 2, "three": 3}

_CLASS_OF = {plural.lower(): label for label, plural in _PLURALS.items()}
_CLASS_OF |= {noun: label for label, nouns in _NOUNS.items() for noun in nouns}
_WEATHER_OF = {adjective: weather for weather, adjective in _ADJECTIVES.items()}

VOCABULARY = tuple(
    sorted({*_PAPER_PREFIX.lower().split(), "and", "a", *_CLASS_OF, *_WEATHER_OF, *_NUMBERS, *CAR_COLORS})
)


class ParsedCaption(NamedTuple):
    """The content of a caption: the classes it names, its weather, how many cars of which colour.

    The paper's form says nothing about weather and colours: both are None. The attribute form says both; a street
    without cars has no entry. It does not name the classes that every street has.
    """

    classes: frozenset[str]
    weather: str | None
    car_colors: Mapping[str, int] | None


def paper_caption(layout: np.ndarray, rng: np.random.Generator) -> str:
    """The paper's form for a layout int32 (H, W); the order of the classes is drawn from rng."""
    present = np.flatnonzero(np.bincount(layout.ravel(), minlength=LABELS.num_classes))
    return _PAPER_PREFIX + enumeration([_PLURALS[LABELS.names[i]] for i in rng.permutation(present)]) + "."


def attribute_caption(things: Sequence[Thing], weather: str, rng: np.random.Generator) -> str:
    """The attribute form for the things in a scene; their order is drawn from rng."""
    counts = list(Counter(things).items())
    phrases = []
    for i in rng.permutation(len(counts)):
        thing, count = counts[i]
        words = (_NUMBERS[count - 1], thing.color, _NOUNS[thing.label][count > 1])
        phrases.append(" ".join(word for word in words if word))
    start = f"a {_ADJECTIVES[weather]} street"
    return f"{start} with {enumeration(phrases)}" if phrases else start


def parse_caption(caption: str) -> ParsedCaption:
    """Parse a caption of either form. Raises ValueError for no words, unknown words, uncounted colours."""
    words = known_words(caption, VOCABULARY, "street caption", "a foggy street with ...")
    classes = frozenset(_CLASS_OF[word] for word in words if word in _CLASS_OF)
    weather = next((_WEATHER_OF[word] for word in words if word in _WEATHER_OF), None)
    if weather is None:
        return ParsedCaption(classes, None, None)
    numbers = {color: word for word, color in zip(words, words[1:], strict=False) if color in CAR_COLORS}
    uncounted = [color for color, number in numbers.items() if number not in _COUNT_OF]
    if uncounted:
        raise ValueError(f"street caption {caption!r} has no number before {uncounted}, expected 'two red cars'")
    return ParsedCaption(classes, weather, {color: _COUNT_OF[number] for color, number in numbers.items()})
