"""What the worlds' captions share."""

from __future__ import annotations

import pytest

from gcdiff.worlds.words import enumeration, known_words


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_an_enumeration(words, text):
    assert enumeration(words) == text


def test_words_of_a_vocabulary():
    assert known_words("Two, red CARS.", ("two", "red", "cars"), "caption", "two cars") == ["two", "red", "cars"]
    for caption in ("two blue cars", "", "12"):
        with pytest.raises(ValueError, match=r"^toy caption .* has unknown words \[('blue')?\], expected 'two cars'$"):
            known_words(caption, ("two", "cars"), "toy caption", "two cars")
