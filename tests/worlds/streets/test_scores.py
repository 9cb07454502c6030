"""Scores of street scenes: near perfect on true renders, low where captions, layouts or colours do not belong."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.evaluation.precision_recall import derangement
from gcdiff.worlds.streets.appearance import SURFACE_ID, render
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.scores import agreement, caption_scores


@pytest.fixture(scope="module")
def streets():
    data = Streets("heldout", 64, seed=1)
    return [data.truth(i) for i in range(64)]


@pytest.fixture(scope="module")
def images(streets):
    return np.stack([s.example.image for s in streets])


@pytest.fixture(scope="module")
def captions(streets):
    return [s.example.captions[i % 2] for i, s in enumerate(streets)]


def test_true_renders_score_near_one(images, captions):
    scores = caption_scores(images, captions)
    for part in (scores.f1, scores.recall, scores.car_color, scores.weather):
        assert part.value >= 0.98 and part.low <= part.value <= part.high
    assert scores.f1_shuffled.high < 0.7 < scores.f1.low
    assert caption_scores(np.roll(images, 1, axis=0), captions).recall.high < scores.recall.low
    assert scores.f1.examples == 64 and scores.weather.examples == 32
    assert 0 < scores.car_color.examples < 32


def test_captions_of_the_papers_form_assert_no_weather_and_no_colour(streets, images):
    scores = caption_scores(images, [s.example.captions[0] for s in streets])
    assert scores.f1.value >= 0.98
    assert scores.car_color.examples == scores.weather.examples == 0 and np.isnan(scores.weather.value)


def test_wrong_car_colours_are_noticed(streets):
    few = [s for s in streets if any(t.color == "red" for t in s.scene.things)]
    repainted = []
    for s in few:
        surfaces = np.where(s.scene.surfaces == SURFACE_ID["red"], SURFACE_ID["white"], s.scene.surfaces)
        repainted.append(render(surfaces, s.light, np.random.default_rng(0)))
    scores = caption_scores(np.stack(repainted), [s.example.captions[1] for s in few])
    assert scores.car_color.value == 0 and scores.f1.value >= 0.98 and scores.weather.value == 1


def test_agreement_of_pairs_and_of_strangers(streets, images):
    layouts = np.stack([s.example.layout for s in streets])
    assert agreement(images[:24], layouts[:24]).value >= 0.98
    strangers = agreement(images[:24], np.roll(layouts, 1, 0)[:24])
    assert strangers.value < 0.5 and strangers.low < strangers.value < strangers.high
    half_void = np.where(np.arange(64) < 32, layouts, -1)
    assert agreement(images[:24], half_void[:24]).value >= 0.98


def test_shuffling_gives_every_scene_another_ones_caption():
    for num in (2, 3, 64):
        drawn = derangement(num, seed=num)
        assert sorted(drawn) == list(range(num)) and (drawn != np.arange(num)).all()


def test_bad_input(images, captions):
    with pytest.raises(ValueError, match="captions"):
        caption_scores(images, captions[:-1])
    with pytest.raises(ValueError, match="street caption"):
        caption_scores(images[:2], ["a street by the sea", captions[0]])
