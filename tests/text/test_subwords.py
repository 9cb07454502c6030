"""The tokenizers of checkpoints: never cut, and never another encoder's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gcdiff.text.subwords import read_subwords

FIXTURES = Path(__file__).parent / "fixtures"
CAPTIONS = ["A foggy street with two red cars.", "  this  young man; he wears ", "", "red-car, ROADS", "zz é 12"]
KINDS = {"t5_relu": ("t5", 64, 1), "t5_gated": ("t5", 64, 1), "clip_quick": ("clip", 120, None)}
KINDS["clip_gelu"] = ("clip", 120, 119)


def read(name: str, place: Path | None = None):
    return read_subwords(place or FIXTURES / name, *KINDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_transformers(name):
    """The fixtures have every form of a vocabulary: a sentencepiece model, tokenizer.json, and byte pairs."""
    transformers = pytest.importorskip("transformers")
    wanted = transformers.AutoTokenizer.from_pretrained(FIXTURES / name)
    token_ids = read(name).ids(CAPTIONS)
    assert token_ids == wanted(CAPTIONS, truncation=False, padding=False).input_ids
    assert len({len(ids) for ids in token_ids}) > 3


def test_a_file_that_says_to_cut_and_to_pad_is_not_heeded():
    fields = json.loads((FIXTURES / "t5_gated" / "tokenizer.json").read_text())
    assert fields["truncation"]["max_length"] == 5 and fields["padding"]
    assert [len(ids) for ids in read("t5_gated").ids(["", "a red car " * 50])] == [1, 251]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("t5_relu", "spiece.model"),
        ("t5_gated", "tokenizer.json"),
        ("clip_quick", "vocab.json"),
        ("clip_quick", "merges.txt"),
    ],
)
def test_a_vocabulary_that_is_missing_or_damaged_is_named(name, file, tmp_path):
    place = Path(shutil.copytree(FIXTURES / name, tmp_path / name))
    (place / file).write_bytes(b"\x00 no such thing \xff")
    with pytest.raises(ValueError, match="damaged") as error:
        read(name, place)
    assert str(place) in str(error.value) and file in str(error.value) and "\n" not in str(error.value)
    (place / file).unlink()
    with pytest.raises(FileNotFoundError, match="no such file, expected the vocabulary as tokenizer.json or "):
        read(name, place)


def test_the_vocabulary_of_another_encoder_is_named():
    place = FIXTURES / "t5_gated"
    with pytest.raises(
        ValueError, match=r"tokenizer.json: a vocabulary of 60 tokens, but .* 32128 rows \(vocab_size\)"
    ):
        read_subwords(place, "t5", 32128, 1)
    with pytest.raises(ValueError, match="a vocabulary of 60 tokens, but .* 59 rows"):
        read_subwords(place, "t5", 59, 1)
    with pytest.raises(ValueError, match=r"the ids of 'a a' are \[.*, 1\], expected the end token, 2, at the end"):
        read_subwords(place, "t5", 64, 2)


def test_a_tokenizer_that_does_not_end_its_texts_is_named(tmp_path):
    fields = json.loads((FIXTURES / "clip_gelu" / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**fields, "post_processor": None}))
    for end in (119, None):
        with pytest.raises(ValueError, match="the ids of 'a a' are"):
            read_subwords(tmp_path, "clip", 120, end)
