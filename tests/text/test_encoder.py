"""The encoders equal transformers and PyTorch on committed outputs, and what users see of them."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff.text.encoder import load_encoder
from gcdiff.text.images import load_image_encoder
from gcdiff.text.t5 import bucket_numbers
from gcdiff.types import Text

FIXTURES = Path(__file__).parent / "fixtures"
T5, CLIP = ("t5_relu", "t5_gated"), ("clip_gelu", "clip_quick")
CAPTIONS = ["a red car", "a foggy street with two red cars", "a tree"]

load = functools.cache(lambda name: load_encoder(FIXTURES / name))


def expected(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / name / "expected.npz"))


def apply(encoder, ids, mask, **options):
    run = jax.jit(functools.partial(encoder.module.apply, **options))
    return jax.tree.map(np.asarray, run({"params": encoder.params}, ids, mask))


@pytest.mark.parametrize("name", T5)
def test_t5_equals_torch(name):
    wanted = expected(name)
    features = apply(load(name), wanted["ids"], wanted["mask"])
    np.testing.assert_allclose(features, wanted["features"], rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("name", CLIP)
def test_clip_equals_torch(name):
    """The ends of texts are those of the newer configurations in one fixture and of the older in the other."""
    wanted = expected(name)
    features, phrases = apply(load(name), wanted["ids"], wanted["mask"], method="both")
    np.testing.assert_allclose(features, wanted["features"], rtol=5e-5, atol=5e-5)
    np.testing.assert_allclose(phrases, wanted["phrases"], rtol=5e-5, atol=5e-5)
    images = load_image_encoder(FIXTURES / name)
    np.testing.assert_allclose(images.encode([wanted["photo"]]), wanted["images"], rtol=5e-5, atol=5e-5)
    np.testing.assert_allclose(images.scale, wanted["scale"], rtol=1e-6)


@pytest.mark.parametrize("name", ["t5_relu", "clip_gelu"])
def test_features_do_not_depend_on_padding_and_are_zero_there(name):
    encoder = load(name)
    ids, mask = encoder.tokens([*CAPTIONS, "a"], 40)
    mask[-1] = False
    features = apply(encoder, np.where(mask, ids, 7), mask)
    assert np.isfinite(features).all() and (features[~mask] == 0).all()
    np.testing.assert_allclose(features[:3, :32], encoder.encode(CAPTIONS).tokens, atol=1e-5)


@pytest.mark.parametrize("name", ["t5_relu", "clip_gelu"])
def test_captions_become_text_of_the_length_asked_for(name):
    encoder = load(name)
    text = encoder.encode(CAPTIONS)
    assert isinstance(text, Text)
    assert text.tokens.shape == (3, 32, encoder.features) and text.tokens.dtype == np.float32
    np.testing.assert_array_equal(text.mask.sum(1), encoder.lengths(CAPTIONS))
    count = int(text.mask.sum(1).max())
    short = encoder.encode(CAPTIONS, count)
    np.testing.assert_array_equal(short.tokens, text.tokens[:, :count])
    np.testing.assert_array_equal(encoder.encode(CAPTIONS[1:2]).tokens[0], text.tokens[1])
    assert encoder.encode([], 5).tokens.shape == (0, 5, encoder.features)
    many = encoder.encode(CAPTIONS * 5, count)
    np.testing.assert_array_equal(many.tokens, np.tile(short.tokens, (5, 1, 1)))


@pytest.mark.parametrize("name", ["t5_relu", "clip_gelu"])
def test_captions_are_never_cut(name):
    encoder = load(name)
    long = "a red car " * 60
    count, limit = encoder.lengths([long])[0], encoder.limit
    assert count > limit == {"t5_relu": 256, "clip_gelu": 77}[name]
    for call in (encoder.encode, encoder.tokens, encoder.phrases):
        with pytest.raises(ValueError, match=f"^caption has {count} tokens, the limit is {limit}: 'a red car a"):
            call(["a car", long])
    with pytest.raises(ValueError, match="tokens, the limit is 4: 'a foggy street"):
        encoder.encode(CAPTIONS[1:], 4)
    with pytest.raises(ValueError, match="captions are one text, 'a car', expected a list"):
        encoder.encode("a car")


def test_a_limit_may_be_asked_for_where_positions_allow():
    assert load_encoder(FIXTURES / "t5_relu", limit=600).limit == 600
    assert load_encoder(FIXTURES / "clip_gelu", limit=20).limit == 20
    with pytest.raises(ValueError, match="dtype is 'float16', expected float32 or bfloat16"):
        load_encoder(FIXTURES / "clip_gelu", dtype="float16")
    with pytest.raises(ValueError, match="limit is 78 tokens, expected at most 77"):
        load_encoder(FIXTURES / "clip_gelu", limit=78)


def test_a_phrase_is_one_vector():
    """The mean over a phrase's tokens for T5, and for CLIP the projection of the last state of the end token."""
    for name in ("t5_relu", "clip_gelu"):
        encoder = load(name)
        vectors, text = encoder.phrases(CAPTIONS), encoder.encode(CAPTIONS)
        assert vectors.shape == (3, encoder.phrase_features)
        if name == "t5_relu":
            wanted = [tokens[mask].mean(axis=0) for tokens, mask in zip(*text, strict=True)]
        else:
            ends = [tokens[mask][-1] for tokens, mask in zip(*text, strict=True)]
            wanted = np.stack(ends) @ encoder.params["project"]["kernel"]
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["t5_gated", "clip_quick"])
def test_bfloat16_is_near_and_its_output_float32(name):
    coarse = load_encoder(FIXTURES / name, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(coarse.params)} == {"bfloat16", "float32"}
    fine, rough = load(name).encode(CAPTIONS).tokens, coarse.encode(CAPTIONS).tokens
    assert rough.dtype == np.float32
    assert 1e-4 < np.abs(rough - fine).max() < 0.05 * np.abs(fine).max()


def test_distances_fall_into_buckets():
    """A bucket grows with the distance, is exact for small ones and of its own sign, the last holds all far ones."""
    numbers = bucket_numbers(300, 32, 128)
    before, after = numbers[-1, ::-1], numbers[0]
    np.testing.assert_array_equal(before[:8], range(8))
    np.testing.assert_array_equal(after[1:], before[1:] + 16)
    assert (np.diff(before) >= 0).all() and before[127] == before[299] == 15
    # The edges of coarse buckets: 8 * 16^(k / 8).
    np.testing.assert_array_equal(np.flatnonzero(np.diff(before)[8:]) + 9, [12, 16, 23, 32, 46, 64, 91])
