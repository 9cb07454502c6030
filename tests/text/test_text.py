"""The vocabulary and the learned text encoder."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gcdiff.text.learned import LearnedTextEncoder
from gcdiff.text.tokenizer import UNKNOWN, Vocabulary, words

CAPTIONS = ["A foggy street with two red cars.", "An image of Roads, Cars and Signs"]
VOCABULARY = Vocabulary.build(CAPTIONS, 8)


def test_words_get_ids_from_two_on_in_sorted_order():
    ids = VOCABULARY.encode(CAPTIONS)
    assert ids.shape == (2, 8) and ids.dtype == np.int32
    assert ids[0, -1] == 0 and ids[ids > 0].min() >= 2 and ids.max() == len(VOCABULARY) - 1
    assert list(VOCABULARY.words) == sorted(set(VOCABULARY.words))
    assert VOCABULARY.encode(["CARS"])[0, 0] == VOCABULARY.encode(["cars,"])[0, 0]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Ein M\u00e4dchen, na\u0308her 2_3!", ["ein", "m\u00e4dchen", "n\u00e4her", "2", "3"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e", None),  # Hindi: vowels are marks
        ("\u0645\u06cc\u200c\u0631\u0648\u0645", ["\u0645\u06cc\u0631\u0648\u0645"]),  # Persian with a joiner
        ("\ube68\uac04 \ucc28", None),  # Korean has spaces
        ("3\u53ea\u72d7\u5728\u8349\u5730\u4e0aABC\uff0c", ["3", *"\u53ea\u72d7\u5728\u8349\u5730\u4e0a", "abc"]),
        ("\u732b\u3068\u30b1\u30fc\u30ad", [*"\u732b\u3068\u30b1\u30fc\u30ad"]),  # Japanese
        ("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48", ["\u0e17\u0e35\u0e48", "\u0e19\u0e35\u0e48"]),  # Thai, with its marks
    ],
)
def test_words_of_any_script_are_whole_and_signs_without_spaces_are_words(caption, expected):
    assert words(caption) == (caption.split() if expected is None else expected)


def test_captions_without_spaces_share_words():
    vocabulary = Vocabulary.build(
        ["\u4e00\u53ea\u72d7\u5728\u8349\u5730\u4e0a", "\u4e24\u53ea\u732b\u5728\u5730\u4e0a"], 8
    )
    assert vocabulary.unknown(["\u4e00\u53ea\u732b\u5728\u8349\u4e0a"]) == []
    assert vocabulary.unknown(["\u4e00\u53ea\u9e1f"]) == ["\u9e1f"]


def test_a_vocabulary_survives_a_file():
    assert Vocabulary.from_dict(VOCABULARY.to_dict()) == VOCABULARY


def test_unknown_words_are_named():
    assert VOCABULARY.encode(["red elephants"])[0, 1] == UNKNOWN
    assert VOCABULARY.unknown(["red elephants, zebras"]) == ["elephants", "zebras"]


def test_captions_are_never_cut_or_empty_in_silence():
    with pytest.raises(ValueError, match="caption has 9 words, the limit is 8"):
        VOCABULARY.encode(["a " * 9])
    with pytest.raises(ValueError, match="empty caption ' ,'"):
        VOCABULARY.encode([" ,"])
    with pytest.raises(ValueError, match="no captions"):
        Vocabulary.build([""], 8)


def test_features_do_not_depend_on_padding_and_depend_on_order():
    encoder = LearnedTextEncoder(len(VOCABULARY), features=16, layers=1, heads=2)
    ids = VOCABULARY.encode(["two red cars", "red two cars"])
    params = encoder.init(jax.random.key(0), ids)
    whole = encoder.apply(params, ids)
    short = encoder.apply({"params": {**params["params"], "positions": params["params"]["positions"][:4]}}, ids[:, :4])
    np.testing.assert_allclose(whole.tokens[:, :3], short.tokens[:, :3], atol=1e-5)
    assert np.abs(whole.tokens[0, 2] - whole.tokens[1, 2]).max() > 1e-3
    np.testing.assert_array_equal(whole.mask.sum(1), [3, 3])
