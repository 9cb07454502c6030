"""The street world keeps its promises: seeds, layouts, light, captions, and what its oracle can and cannot read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import norm

from gcdiff.worlds.pixels import OUTLIER, UNSURE
from gcdiff.worlds.streets.appearance import (
    LABELS,
    LIGHT_CONTRAST,
    LIGHT_WEATHER,
    MEANS,
    OPTIONAL,
    SURFACE_CLASS,
    SURFACE_COLOR,
    SURFACE_SHARE,
    TEXTURE,
    WEATHERS,
    layout_of,
    render,
)
from gcdiff.worlds.streets.captions import VOCABULARY, parse_caption
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import MIN_PIXELS, Oracle, _joint, one_pixel_bayes_accuracy, pieces


@pytest.fixture(scope="module")
def streets():
    data = Streets("heldout", 1500)
    return [data.truth(i) for i in range(len(data))]


@pytest.fixture(scope="module")
def batch(streets):
    few = streets[:256]
    return few, np.stack([s.example.image for s in few]), np.stack([s.example.layout for s in few])


def _weather(street):
    return WEATHERS[LIGHT_WEATHER[street.light]]


@pytest.mark.parametrize("size", [(8, 64)])
def test_a_size_that_cannot_be_drawn_is_named_in_one_line(size):
    with pytest.raises(ValueError, match="^size of .*, expected .*$"):
        Streets("train", 5, size=size)[0]


def test_other_sizes_show_the_same_kind_of_scene():
    example = Streets("train", 1, size=(64, 128))[0]
    assert example.image.shape == (64, 128, 3) and example.layout.shape == (64, 128)
    small = Streets("train", 1)[0].layout
    assert (example.layout[::2, ::2] == small).mean() > 0.9


def test_light_changes_the_image_and_not_the_layout(streets):
    surfaces = streets[0].scene.surfaces
    lights = [np.flatnonzero(w == LIGHT_WEATHER)[10] for w in range(3)]
    images = [render(surfaces, light, np.random.default_rng(0)).astype(float) for light in lights]
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(images[a] - images[b]).mean() > 10
    labels = Oracle().labels(np.stack(images).astype(np.uint8))
    for label in labels:
        assert (label == layout_of(surfaces)).mean() > 0.99


def test_class_shares(streets):
    surfaces = np.stack([s.scene.surfaces for s in streets])
    shares = np.bincount(SURFACE_CLASS[surfaces].ravel(), minlength=LABELS.num_classes) / surfaces.size
    assert (shares < 0.01).sum() >= 3 and (shares > 0).all()
    measured = np.bincount(surfaces.ravel(), minlength=len(SURFACE_SHARE)) / surfaces.size
    np.testing.assert_allclose(measured, SURFACE_SHARE, rtol=0.15)


def test_every_optional_class_is_in_15_to_60_percent_of_scenes(streets):
    for name in OPTIONAL:
        frequency = np.mean([(s.example.layout == LABELS.names.index(name)).any() for s in streets])
        assert 0.15 <= frequency <= 0.60, name


def test_every_thing_listed_can_be_seen_and_nothing_else(streets):
    for street in streets[:400]:
        counts = Counter(thing.label for thing in street.scene.things)
        for name in OPTIONAL:
            mask = street.example.layout == LABELS.names.index(name)
            things = pieces(mask)
            assert bool(things) == bool(counts[name]) == bool(mask.any())
            assert sum(piece.sum() for piece in things) == mask.sum()  # nothing smaller than MIN_PIXELS
        assert len(pieces(street.example.layout == LABELS.names.index("car"))) == counts["car"]
    assert MIN_PIXELS == 4


def test_captions_say_what_is_there_and_parsing_inverts_them(streets):
    for street in streets:
        present = {LABELS.names[i] for i in np.unique(street.example.layout)}
        paper, attributes = map(parse_caption, street.example.captions)
        assert street.example.captions[0].startswith("An image of an urban street view with ")
        assert paper == (present, None, None)
        assert attributes.classes == present & set(OPTIONAL)
        assert attributes.weather == _weather(street)
        assert attributes.car_colors == Counter(t.color for t in street.scene.things if t.color)


def test_caption_forms():
    parsed = parse_caption("a foggy street with two red cars and one person")
    assert parsed == ({"car", "person"}, "fog", {"red": 2})
    assert parse_caption("a nighttime street") == (frozenset(), "night", {})
    parsed = parse_caption("An image of an urban street view with Roads, People, Buses and Signs.")
    assert parsed == ({"road", "person", "bus", "sign"}, None, None)
    for wrong in ("", "a purple street", "a foggy street with red cars"):
        with pytest.raises(ValueError, match="street caption"):
            parse_caption(wrong)


def test_vocabulary_is_small():
    assert len(VOCABULARY) <= 64


def test_classes_are_far_apart_given_the_light():
    distance = np.linalg.norm(SURFACE_COLOR[:, None] - SURFACE_COLOR, axis=-1)
    other = SURFACE_CLASS[:, None] != SURFACE_CLASS
    assert distance[other].min() * LIGHT_CONTRAST.min() >= 8 * TEXTURE
    assert MEANS.min() >= 0 and MEANS.max() <= 1


def test_one_pixel_is_ambiguous(batch):
    _, images, layouts = batch
    assert one_pixel_bayes_accuracy(images[:160], layouts[:160]) <= 0.85


def test_oracle_reads_clean_renders(batch):
    few, images, layouts = batch
    reading = Oracle().read(images[:64])
    assert (reading.labels == layouts[:64]).mean() >= 0.99
    assert reading.weather == tuple(_weather(s) for s in few[:64])
    expected = [Counter(t.color for t in s.scene.things if t.color) for s in few[:16]]
    assert list(Oracle().car_colors(images[:16], reading.labels[:16])) == expected


def test_oracle_is_unsure_where_no_class_explains_a_pixel(batch):
    few, images, _ = batch
    image, means = images[0].copy(), MEANS[few[0].light]
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 3), -1).reshape(-1, 3)
    far = grid[np.linalg.norm(grid[:, None] - means, axis=-1).min(1).argmax()]
    image[4:8, 10:20] = np.rint(255 * far)
    labels, clean = Oracle().labels(np.stack([image, images[0]]))
    assert (labels[4:8, 10:20] == UNSURE).all()
    outside = np.ones(labels.shape, bool)
    outside[4:8, 10:20] = False
    np.testing.assert_array_equal(labels[outside], clean[outside])  # the light was not misled


def test_oracle_marginalises_the_light_as_it_says():
    """Two pixels, one of them clipped: labels and densities against sums written out in float64."""
    pixels = np.array([[0, 30, 51], [120, 110, 140]], np.uint8)
    low = np.where(pixels == 0, -np.inf, (pixels - 0.5) / 255)[:, None, None]
    high = np.where(pixels == 255, np.inf, (pixels + 0.5) / 255)[:, None, None]
    mass = norm.cdf(high, MEANS, TEXTURE) - norm.cdf(low, MEANS, TEXTURE)
    exact = SURFACE_SHARE * np.prod(mass * 255, -1)
    big = exact > 1e-3
    np.testing.assert_allclose(_joint(pixels)[big], exact[big], rtol=2e-2)
    pixel = (1 - OUTLIER) * exact.sum(-1) + OUTLIER
    light = pixel.prod(0) / pixel.prod(0).sum()
    surface = np.einsum("l,pls->ps", light, (1 - OUTLIER) * exact / pixel[..., None])
    by_class = np.stack([surface[:, k == SURFACE_CLASS].sum(1) for k in range(LABELS.num_classes)], -1)
    outlier = (light * OUTLIER / pixel).sum(-1)
    expected = np.where(outlier > by_class.max(-1), UNSURE, by_class.argmax(-1))
    np.testing.assert_array_equal(Oracle().labels(pixels[None, None])[0, 0], expected)
    probabilities = Oracle().probabilities(pixels[None, None])[0, 0]
    np.testing.assert_allclose(probabilities, np.concatenate([by_class, outlier[:, None]], -1), atol=0.02)


def test_probabilities_are_those_of_the_labels(batch):
    """Of noisy renders, where they are neither 0 nor 1, and where no class may explain a pixel."""
    noise = np.random.default_rng(0).normal(0, 20, (2, *batch[1].shape[1:]))
    images = np.rint(np.clip(batch[1][:2] + noise, 0, 255)).astype(np.uint8)
    p, labels = Oracle().probabilities(images), Oracle().labels(images)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-4)
    assert (labels == UNSURE).any() and ((p > 0.2) & (p < 0.8)).any()
    np.testing.assert_array_equal(np.where(labels == UNSURE, LABELS.num_classes, labels), p.argmax(-1))


def test_oracle_refuses_other_images():
    with pytest.raises(ValueError, match="uint8"):
        Oracle().labels(np.zeros((1, 32, 64, 3)))


def test_a_row_of_narrow_houses_ends_at_the_border():
    """Ten houses can be narrower than the picture: scene 35802 is the first whose row ends before it."""
    surfaces = Streets("train", 40_000).truth(35802).scene.surfaces
    column = surfaces[:, -1]
    assert column.min() >= 0 and len(np.unique(column)) > 1
