"""The captions of the face world: writing them, and parsing them back to attributes.

Two forms, both with all attributes of a face, in an order that is drawn:

* the attribute form: 'a smiling pale person with blond hair and bangs, wearing glasses and earrings'
* the sentence form, in other words: 'this face wears earrings and eyeglasses, smiles and has a fringe and golden hair'

Words are split at blanks and punctuation and compared in lower case; the vocabulary is `VOCABULARY`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from gcdiff.worlds.faces.appearance import ATTRIBUTES
from gcdiff.worlds.words import check_words, enumeration, words_of

_ADJECTIVES = {"Bald": "bald", "Pale_Skin": "pale", "Smiling": "smiling"}
_FEATURES = {
    "Bangs": "bangs",
    "Black_Hair": "black hair",
    "Blond_Hair": "blond hair",
    "Brown_Hair": "brown hair",
    "Bushy_Eyebrows": "bushy eyebrows",
    "Goatee": "a goatee",
    "Gray_Hair": "gray hair",
}
_WORN = {"Eyeglasses": "glasses", "Wearing_Earrings": "earrings", "Wearing_Hat": "a hat"}

_HAS = {
    "Bald": "no hair",
    "Bangs": "a fringe",
    "Black_Hair": "raven hair",
    "Blond_Hair": "golden hair",
    "Brown_Hair": "brown hair",
    "Bushy_Eyebrows": "thick brows",
    "Goatee": "a chin beard",
    "Gray_Hair": "silver hair",
    "Pale_Skin": "light skin",
}
_WEARS = {"Eyeglasses": "eyeglasses", "Wearing_Earrings": "earrings", "Wearing_Hat": "a cap"}

_OPENING, _SENTENCE = "person", "this face"
_GLUE = ("a", "and", "with", "wearing", "has", "wears", *_OPENING.split(), *_SENTENCE.split())
_ATTRIBUTE_OF = {"smiles": "Smiling"} | {
    phrase.removeprefix("a "): attribute
    for phrases in (_ADJECTIVES, _FEATURES, _WORN, _HAS, _WEARS)
    for attribute, phrase in phrases.items()
}
_PHRASE = re.compile(rf"\b({'|'.join(sorted(_ATTRIBUTE_OF, key=len, reverse=True))})\b")

VOCABULARY = tuple(sorted({*_GLUE, *(word for phrase in _ATTRIBUTE_OF for word in phrase.split())}))


def attribute_caption(attributes: Collection[str], rng: np.random.Generator) -> str:
    """The attribute form of some of ATTRIBUTES; the order of adjectives, features and things worn is drawn from rng."""
    adjectives, features, worn = (_drawn(group, attributes, rng) for group in (_ADJECTIVES, _FEATURES, _WORN))
    with_features = f" with {enumeration(features)}" if features else ""
    wearing = f", wearing {enumeration(worn)}" if worn else ""
    return " ".join(["a", *adjectives, _OPENING]) + with_features + wearing


def sentence_caption(attributes: Collection[str], rng: np.random.Generator) -> str:
    """The sentence form of some of ATTRIBUTES; the order of clauses and within them is drawn from rng."""
    clauses = [
        f"{verb} {enumeration(phrases)}"
        for verb, group in (("has", _HAS), ("wears", _WEARS))
        if (phrases := _drawn(group, attributes, rng))
    ]
    clauses += ["smiles"] * ("Smiling" in attributes)
    return f"{_SENTENCE} {enumeration([clauses[i] for i in rng.permutation(len(clauses))])}".rstrip()


def parse_caption(caption: str) -> frozenset[str]:
    """The attributes that a caption of either form names. Raises ValueError for no words and for unknown ones."""
    words = " ".join(words_of(caption))
    unknown = [word for word in _PHRASE.sub(" ", words).split() if word not in _GLUE]
    check_words(caption, words, unknown, "face caption", "a smiling person with ...")
    return frozenset(_ATTRIBUTE_OF[phrase] for phrase in _PHRASE.findall(words))


def attribute_vector(attributes: Collection[str]) -> np.ndarray:
    """Which of ATTRIBUTES are among some names: bool (13,)."""
    return np.array([name in attributes for name in ATTRIBUTES])


def _drawn(phrases: dict[str, str], attributes: Collection[str], rng: np.random.Generator) -> list[str]:
    """The phrases of the attributes that there are, in an order drawn from rng."""
    present = [phrase for name, phrase in phrases.items() if name in attributes]
    return [present[i] for i in rng.permutation(len(present))]
