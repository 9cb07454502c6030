"""Captions' features are written once, go on where they stopped, and are found by caption."""

from __future__ import annotations

import json
import pickle

import ml_dtypes
import numpy as np
import pytest

from gcdiff.data.embeddings import Embeddings, Encoder
from gcdiff.data.prepare import embed
from gcdiff.data.prepare.embed import write_embeddings
from gcdiff.types import Text

ENCODER = Encoder("some/encoder", "abc", 3)
CAPTIONS = [f"a street with {i} cars" + " and more" * (i % 3) for i in range(10)]


def features(caption):
    """One row of three numbers that bfloat16 holds for each word."""
    return np.array([[len(word), i, 0.5] for i, word in enumerate(caption.split())], np.float32)


def encode(captions):
    rows = [features(caption) for caption in captions]
    mask = np.arange(16) < np.array([len(row) for row in rows])[:, None]
    return Text(np.stack([np.pad(row, ((0, 16 - len(row)), (0, 0))) for row in rows]), mask)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(embed, "PER_SHARD", 4)


@pytest.fixture
def written(tmp_path):
    write_embeddings(tmp_path / "e", CAPTIONS + CAPTIONS[:3], ENCODER, encode)
    return tmp_path / "e"


def bytes_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_caption_has_its_features(written):
    stored = Embeddings(written)
    assert len(stored) == 10 and stored.encoder == ENCODER and stored.longest == 9
    for caption in CAPTIONS:
        assert stored[caption].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(stored[caption].astype(np.float32), features(caption))
    assert CAPTIONS[0] in stored and "another" not in stored
    text = pickle.loads(pickle.dumps(stored)).batch([CAPTIONS[4], "", CAPTIONS[0]], 9)
    np.testing.assert_array_equal(text.mask.sum(axis=1), [7, 0, 5])
    np.testing.assert_array_equal(text.tokens[0, :7], stored[CAPTIONS[4]])
    assert not np.any(text.tokens[1]) and not np.any(text.tokens[2, 5:])


def test_what_was_stopped_goes_on_and_ends_with_the_same_bytes(written, tmp_path):
    calls = []

    def stopping(captions):
        calls.append(captions)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(captions)

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(tmp_path / "b", CAPTIONS, ENCODER, stopping)
    with pytest.raises(ValueError, match="not all captions are encoded"):
        Embeddings(tmp_path / "b")
    steps = []
    write_embeddings(tmp_path / "b", CAPTIONS[::-1], ENCODER, stopping, lambda *step: steps.append(step))
    assert calls[2] == calls[1] and len(calls) == 4 and steps == [(4, 10, 1), (8, 10, 2), (10, 10, 3)]
    assert bytes_of(tmp_path / "b") == bytes_of(written)


def test_a_shard_that_was_damaged_is_written_again(written):
    whole, file = bytes_of(written), next(written.glob("*00001-of*"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    write_embeddings(written, CAPTIONS, ENCODER, encode)
    assert bytes_of(written) == whole


def test_what_does_not_fit_is_said_in_one_line(written, tmp_path):
    stored = Embeddings(written)
    with pytest.raises(ValueError, match="no features of the caption 'a tree'"):
        stored["a tree"]
    with pytest.raises(ValueError, match="caption has 9 tokens, the limit is 8"):
        stored.batch([CAPTIONS[2]], 8)
    with pytest.raises(ValueError, match="begun with model 'some/encoder', now it is 'other'"):
        write_embeddings(written, CAPTIONS, ENCODER._replace(model="other"), encode)
    with pytest.raises(ValueError, match="begun with products 'float32', now it is 'bfloat16'"):
        write_embeddings(written, CAPTIONS, ENCODER, encode, products="bfloat16")
    with pytest.raises(ValueError, match="begun for other captions"):
        write_embeddings(written, CAPTIONS[1:], ENCODER, encode)
    with pytest.raises(ValueError, match="no captions"):
        write_embeddings(tmp_path / "none", [], ENCODER, encode)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.png").touch()
    with pytest.raises(ValueError, match="not empty"):
        write_embeddings(tmp_path / "full", CAPTIONS, ENCODER, encode)
    (tmp_path / "full" / "photo.png").rename(tmp_path / "full" / ".gcdiff-shards.jsonl")  # it was killed at once
    write_embeddings(tmp_path / "full", CAPTIONS, ENCODER, encode)
    assert len(Embeddings(tmp_path / "full")) == len(set(CAPTIONS))
    assert not list((tmp_path / "full").glob(".gcdiff-*"))
    (tmp_path / "full" / "shards.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"shards.jsonl: damaged, .* remove"):
        write_embeddings(tmp_path / "full", CAPTIONS, ENCODER, encode)
    with pytest.raises(FileNotFoundError, match="expected a directory that gcdiff embed has written"):
        Embeddings(tmp_path)
    shard = json.loads((written / "embeddings.json").read_text())["shards"][0]
    (written / shard["file"]).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"00000-of-00003: 0 bytes, expected {shard['bytes']}"):
        Embeddings(written)
