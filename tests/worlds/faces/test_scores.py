"""Scores of faces: near perfect on true renders, low where captions, layouts or colours do not belong."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.worlds.faces.appearance import RARE, SURFACE_ID, render
from gcdiff.worlds.faces.data import Faces
from gcdiff.worlds.faces.scores import agreement, caption_scores


@pytest.fixture(scope="module")
def portraits():
    data = Faces("heldout", 64, seed=1)
    return [data.truth(i) for i in range(64)]


@pytest.fixture(scope="module")
def images(portraits):
    return np.stack([p.example.image for p in portraits])


@pytest.fixture(scope="module")
def captions(portraits):
    return [p.example.captions[i % 2] for i, p in enumerate(portraits)]


def test_true_renders_score_near_one(images, captions, portraits):
    scores = caption_scores(images, captions)
    for part in (*scores[:3], scores.f1_image_only, scores.f1_layout, scores.recall_rare):
        assert part.value >= 0.98 and part.low <= part.value <= part.high and part.examples == 64
    assert scores.f1_shuffled.high < 0.7 < scores.f1.low
    assert set(scores.by_attribute) == {name for p in portraits for name in p.face.attributes} >= set(RARE)
    assert min(part.value for part in scores.by_attribute.values()) > 0.9


def test_hair_of_another_colour_is_noticed_in_the_image_alone(portraits):
    few = [p for p in portraits if "Black_Hair" in p.face.attributes]
    black, gray = SURFACE_ID["Black_Hair"], SURFACE_ID["Gray_Hair"]
    dyed = [render(np.where(p.surfaces == black, gray, p.surfaces), p.light, np.random.default_rng(0)) for p in few]
    scores = caption_scores(np.stack(dyed), [p.example.captions[0] for p in few])
    assert scores.by_attribute["Black_Hair"].value == 0 and scores.f1_layout.value >= 0.98
    assert scores.f1_image_only.value < 0.5 < scores.f1.value < 0.9
    assert scores.precision.value < 0.9 and scores.recall.value < 0.9


def test_agreement_of_pairs_and_of_strangers(portraits, images):
    layouts = np.stack([p.example.layout for p in portraits])
    assert agreement(images[:24], layouts[:24]).value >= 0.98
    strangers = agreement(images[:24], np.roll(layouts, 1, 0)[:24])
    assert strangers.value < 0.5 and strangers.low < strangers.value < strangers.high
    half_void = np.where(np.arange(32) < 16, layouts, -1)
    assert agreement(images[:24], half_void[:24]).value >= 0.98


def test_bad_input(images, captions):
    with pytest.raises(ValueError, match="captions"):
        caption_scores(images, captions[:-1])
    with pytest.raises(ValueError, match="face caption"):
        caption_scores(images[:2], ["a face by the sea", captions[0]])
