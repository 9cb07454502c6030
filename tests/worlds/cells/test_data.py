"""The world of cells keeps its promises: seeds, layouts, light, captions, and what its oracle can and cannot read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import norm

from gcdiff.worlds.cells.appearance import (
    BACKGROUND,
    BIAS_RANGE,
    BIAS_SPREAD,
    CLASS_SHARE,
    LABELS,
    MEANS,
    NOISE,
    NUCLEUS,
    STAINS,
    bias_basis,
    render,
)
from gcdiff.worlds.cells.attributes import image_attributes, layout_attributes, smooth_labels
from gcdiff.worlds.cells.captions import VOCABULARY, parse_caption, report, sentence
from gcdiff.worlds.cells.data import Cells
from gcdiff.worlds.cells.oracle import read
from gcdiff.worlds.cells.scene import COUNTS, SIZES, Attributes, draw_scene
from gcdiff.worlds.pixels import OUTLIER, UNSURE


@pytest.fixture(scope="module")
def micrographs():
    data = Cells("heldout", 700)
    return [data.truth(i) for i in range(len(data))]


@pytest.fixture(scope="module")
def images(micrographs):
    return np.stack([m.example.image for m in micrographs[:300]])


@pytest.fixture(scope="module")
def reading(images):
    return read(images[:100])


@pytest.mark.parametrize("size", [(8, 32)])
def test_a_size_that_cannot_be_drawn_is_named_in_one_line(size):
    with pytest.raises(ValueError, match="^size of .*, expected .*$"):
        Cells("train", 5, size=size)[0]


@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_other_sizes_show_cells_that_are_read_alike(size):
    data = Cells("train", 60, size=size)
    for i in range(60):
        micrograph = data.truth(i)
        assert micrograph.example.image.shape == (*size, 3) and micrograph.example.layout.shape == size
        assert layout_attributes(micrograph.scene.layout) == micrograph.scene.attributes


def test_one_scene_at_twice_the_size_is_the_same_scene():
    few = range(20)
    small, large = ([draw_scene(np.random.default_rng(i), (s, s)) for i in few] for s in (32, 64))
    agree = [(a.layout == b.layout[::2, ::2]).mean() for a, b in zip(small, large, strict=True)]
    assert np.mean(agree) > 0.93 and [a[1:] for a in small] == [b[1:] for b in large]


def test_classes_are_unbalanced_as_documented(micrographs):
    layouts = np.stack([m.scene.layout for m in micrographs])
    shares = np.bincount(layouts.ravel(), minlength=4) / layouts.size
    np.testing.assert_allclose(shares, CLASS_SHARE, rtol=0.12)
    assert shares[NUCLEUS] < 0.02 and CLASS_SHARE.sum() == pytest.approx(1)


def test_attributes_are_as_frequent_as_they_should_be(micrographs):
    seen = [m.scene.attributes for m in micrographs]
    assert 0.03 <= np.mean([a.dividing for a in seen]) <= 0.08
    assert all(np.mean([a.count == count for a in seen]) > 0.08 for count in COUNTS)
    assert all(np.mean([a.size == size for a in seen]) > 0.35 for size in SIZES)
    assert 0.45 < np.mean([m.stain for m in micrographs]) < 0.55
    for stain in range(len(STAINS)):  # the layout cannot tell the stain
        large = np.mean([m.scene.attributes.size == "large" for m in micrographs if m.stain == stain])
        assert 0.35 < large < 0.53


def test_layouts_show_what_was_drawn(micrographs):
    for m in micrographs:
        assert layout_attributes(m.scene.layout) == m.scene.attributes
        assert (m.scene.cells == 0) == (m.scene.layout == BACKGROUND).all()
        border = np.concatenate([m.scene.layout[[0, -1]].ravel(), m.scene.layout[:, [0, -1]].ravel()])
        assert (border == BACKGROUND).mean() > 0.95  # cells lie inside, at most their membrane touches the border


def test_captions_say_what_is_there_and_parsing_inverts_them(micrographs):
    for m in micrographs:
        expected = (*m.scene.attributes[:2], STAINS[m.stain] if m.scene.cells else None, m.scene.attributes.dividing)
        for caption in m.example.captions:
            assert parse_caption(caption) == expected, caption


def test_captions_of_all_attributes_differ_and_are_parsed():
    every = [Attributes(*a) for a in itertools.product(COUNTS[1:], SIZES, (False, True))]
    forms = {form(a, s): (a.count, a.size, s, a.dividing) for a in every for s in STAINS for form in (sentence, report)}
    assert len(forms) == 48 and all(parse_caption(caption) == stated for caption, stated in forms.items())
    assert len(VOCABULARY) <= 32


def test_captions_that_say_less():
    assert parse_caption("a darkly stained micrograph") == (None, None, "dark", None)
    assert parse_caption("A micrograph of few cells") == ("few", None, None, False)
    assert parse_caption("large cells of which one is dividing").dividing is True
    for wrong in ("", "a purple micrograph"):
        with pytest.raises(ValueError, match="caption of cells"):
            parse_caption(wrong)


def test_light_and_stain_change_the_image_and_the_classes_stay_apart(micrographs):
    fields = np.stack([1 + bias_basis((32, 32)) @ m.bias for m in micrographs])
    assert BIAS_RANGE[0] <= fields.min() and fields.max() <= BIAS_RANGE[1] + 0.003  # it is on 9x9 points
    assert np.median(np.ptp(fields, axis=(1, 2))) > 0.12  # uneven
    gaps = -np.diff(MEANS, axis=1)
    assert gaps.min() * BIAS_RANGE[0] >= 8 * NOISE - 1e-9
    ends = MEANS.min() * BIAS_RANGE[0], MEANS.max() * BIAS_RANGE[1]
    assert ends[0] >= 3.5 * NOISE and ends[1] <= 1 - 3.5 * NOISE  # nothing clips
    layout = micrographs[0].scene.layout
    bright, dark = (render(layout, s, np.zeros(6), np.random.default_rng(0)).astype(int) for s in (0, 1))
    assert (bright >= dark).all() and (bright > dark)[layout != BACKGROUND].mean() > 0.99


def test_one_pixel_is_ambiguous():
    """The greys of one class under one stain and light are those of another class under others."""
    light = np.array(BIAS_RANGE)
    low, high = MEANS.min(0) * light[0], MEANS.max(0) * light[1]
    assert (low[:-1] < high[1:]).all()


def test_rendering_has_the_noise_and_the_field_it_says(micrographs):
    m = micrographs[0]
    draws = np.stack([render(m.scene.layout, m.stain, m.bias, np.random.default_rng(i))[..., 0] for i in range(200)])
    expected = (1 + bias_basis((32, 32)) @ m.bias) * MEANS[m.stain][m.scene.layout]
    np.testing.assert_allclose(draws.mean(0) / 255, expected, atol=6 * NOISE / np.sqrt(200))
    assert (draws / 255).std(0).mean() == pytest.approx(NOISE, rel=0.02)


def test_the_posterior_is_normalised_and_right(micrographs, reading):
    total = reading.probabilities.sum(-1)
    assert total.max() <= 1 + 1e-5 and total.min() > 0.9 and reading.probabilities.min() >= 0
    layouts = np.stack([m.scene.layout for m in micrographs[:100]])
    assert (reading.labels == layouts).mean() > 0.9995
    fields = np.stack([1 + bias_basis((32, 32)) @ m.bias for m in micrographs[:100]])
    assert np.abs(reading.bias - fields).mean() < 0.003 and reading.noise == pytest.approx(NOISE, rel=0.1)


def test_the_posterior_is_that_of_bayes_given_the_light(images):
    """Noisy enough that several classes are in question: equation (4) written out in float64 for single pixels."""
    rng = np.random.default_rng(0)
    noisy = np.clip(images[:4] + 255 * 0.08 * rng.normal(size=(4, 32, 32, 1)), 0, 255).astype(np.uint8)
    reading = read(noisy)
    uncertain = np.argwhere(reading.probabilities.max(-1) < 0.9)
    assert len(uncertain) > 50
    for n, y, x in uncertain[:50]:
        means = MEANS[reading.stain[n]] * reading.bias[n, y, x]
        joint = CLASS_SHARE * norm.pdf(noisy[n, y, x, 0] / 255, means, reading.noise[n]) * (1 - OUTLIER)
        np.testing.assert_allclose(reading.probabilities[n, y, x], joint / (joint.sum() + OUTLIER), rtol=1e-5)


def test_the_light_that_is_found_is_the_most_probable(micrographs, reading):
    """No step away from it in the family raises the posterior of equation (2), but for what EM has left."""
    basis = bias_basis((32, 32))
    m, field, noise = micrographs[0], reading.bias[0], reading.noise[0]
    grey = m.example.image[..., 0] / 255

    def fit(field):
        means = MEANS[reading.stain[0]] * field[..., None]
        density = (CLASS_SHARE * norm.pdf(grey[..., None], means, noise)).sum(-1) * (1 - OUTLIER) + OUTLIER
        c = np.linalg.lstsq(basis.reshape(-1, 6), field.ravel() - 1, rcond=None)[0]
        return np.log(density).sum() - 0.5 * ((c / BIAS_SPREAD) ** 2).sum()

    best = fit(field)
    for j, step in itertools.product(range(6), (-0.003, 0.003)):
        assert fit(field + step * basis[..., j]) < best


def test_attributes_of_clean_renders_are_all_right(micrographs, images):
    truth = [parse_caption(m.example.captions[0]) for m in micrographs[:300]]
    assert list(image_attributes(images)) == truth


def test_attributes_survive_noise_and_blur(micrographs, images):
    rng = np.random.default_rng(0)
    noisy = np.clip(images[:150] + 255 * 0.05 * rng.normal(size=(150, 32, 32, 1)), 0, 255).astype(np.uint8)
    blurred = ndimage.gaussian_filter(images[:150], (0, 0.5, 0.5, 0), mode="nearest")
    truth = [parse_caption(m.example.captions[0]) for m in micrographs[:150]]
    for changed in (noisy, blurred):
        right = [a == b for a, b in zip(image_attributes(changed), truth, strict=True)]
        assert np.mean(right) > 0.95
    layouts = np.stack([m.scene.layout for m in micrographs[:150]])
    single = read(noisy)
    assert single.noise.mean() == pytest.approx(np.hypot(NOISE, 0.05), rel=0.05)
    assert (smooth_labels(single) == layouts).mean() > (single.labels == layouts).mean() + 0.01


def test_oracle_is_unsure_where_no_class_explains_a_pixel(images):
    changed, patch = images[:40].copy(), np.zeros((32, 32), bool)
    patch[2:6, 3:13] = True
    changed[:, patch] = 255
    labels, clean = (read(x).labels for x in (changed, images[:40]))
    assert (labels[:, patch] == UNSURE).mean() > 0.85  # where the light is brightest, white is background
    assert (clean != UNSURE).all() and (labels == clean)[:, ~patch].mean() > 0.99  # the light was not misled


def test_oracle_refuses_other_images():
    for wrong in (np.zeros((1, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            read(wrong)


def test_images_are_grey(images):
    assert (images == images[..., :1]).all()


def test_classes_have_names_and_colours():
    assert LABELS.names == ("background", "cytoplasm", "membrane", "nucleus") and not LABELS.swaps


def test_the_config_reads_this_world():
    from gcdiff import config as configs

    file = Path(__file__).parents[3] / "configs" / "cells.py"
    config = configs.load_file(str(file), [("data.num", "20"), ("data.heldout", "3")])
    data = configs.splits(config)
    specs = configs.build_specs(config, data.train)
    assert (len(data.train), len(data.heldout), specs.labels, specs.image.channels) == (20, 3, LABELS, 3)
    assert np.array_equal(data.heldout[1].image, Cells("heldout", 3)[1].image)
    assert specs.vocabulary is not None and specs.vocabulary.words
