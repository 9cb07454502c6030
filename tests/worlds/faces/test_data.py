"""The face world keeps its promises: seeds, sides, attributes, captions, and what its oracle reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from gcdiff.config import load_file, splits
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import mirror
from gcdiff.worlds.faces.appearance import (
    ATTRIBUTES,
    HAIR_COLORS,
    IMAGE_ONLY,
    LABELS,
    LIGHT_GAIN,
    MEANS,
    RARE,
    SURFACE_CLASS,
    SURFACE_SHARE,
    SURFACE_SIGMA,
    layout_of,
    render,
)
from gcdiff.worlds.faces.attributes import read_attributes
from gcdiff.worlds.faces.captions import VOCABULARY, attribute_vector, parse_caption
from gcdiff.worlds.faces.data import Faces
from gcdiff.worlds.faces.oracle import HALF_SHARE, Oracle
from gcdiff.worlds.faces.scene import WIDTH, paint
from gcdiff.worlds.pixels import OUTLIER, UNSURE


@pytest.fixture(scope="module")
def portraits():
    data = Faces("heldout", 2000)
    return [data.truth(i) for i in range(len(data))]


@pytest.fixture(scope="module")
def images(portraits):
    return np.stack([p.example.image for p in portraits[:300]])


def _mirrored(face):
    return face._replace(center_x=WIDTH - face.center_x, roll=-face.roll, turn=-face.turn)


@pytest.mark.parametrize("size", [(24, 32), (32, 36)])
def test_a_size_that_cannot_be_drawn_is_named_in_one_line(size):
    with pytest.raises(ValueError, match="^size of .*, expected .*$"):
        Faces("train", 5, size=size)[0]


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (96, 64)])
def test_other_sizes_show_the_same_faces(size):
    data, small = Faces("train", 20, size=size), Faces("train", 20)
    for i in range(20):
        shown = data.truth(i)
        assert shown.example.image.shape == (*size, 3) and shown.face == small.truth(i).face
        np.testing.assert_array_equal(read_attributes(shown.surfaces), attribute_vector(shown.face.attributes))
    if size == (64, 64):
        assert (shown.example.layout[::2, ::2] == small[19].layout).mean() > 0.9


def test_a_mirrored_layout_is_the_layout_of_the_mirrored_face(portraits):
    for p in portraits[:200]:
        once = mirror(p.example, LABELS.swaps)
        np.testing.assert_array_equal(once.layout, layout_of(paint(_mirrored(p.face))))
        np.testing.assert_array_equal(mirror(once, LABELS.swaps).layout, p.example.layout)
        assert (once.layout != p.example.layout[:, ::-1]).any()  # the classes changed places
    names = [{LABELS.names[i].removeprefix("left ").removeprefix("right ") for i in pair} for pair in LABELS.swaps]
    assert names == [{"eye"}, {"brow"}]


def test_the_person_s_left_is_in_the_right_half(portraits):
    layouts = np.stack([p.example.layout for p in portraits])
    for i, name in enumerate(LABELS.names):
        there = (layouts == i).any((0, 1))
        if name.startswith("left"):
            assert not there[:16].any() and (layouts == i).any((1, 2)).all()
        elif name.startswith("right"):
            assert not there[16:].any() and (layouts == i).any((1, 2)).all()
        else:
            assert there[:16].any() and there[16:].any()


def test_attributes_exclude_each_other_and_rare_ones_are_rare(portraits):
    for p in portraits:
        there = p.face.attributes
        assert there <= set(ATTRIBUTES)
        assert ("Bald" in there) + len(there & set(HAIR_COLORS)) == 1
        assert not ("Bangs" in there and there & {"Bald", "Wearing_Hat"})
    share = dict(
        zip(ATTRIBUTES, np.mean([attribute_vector(p.face.attributes) for p in portraits], axis=0), strict=True)
    )
    for name in ATTRIBUTES:
        low, high = (0.03, 0.09) if name in RARE else (0.1, 0.6)
        assert low <= share[name] <= high, name


def test_some_attributes_change_the_image_alone(portraits):
    """Taken away or exchanged, an attribute of IMAGE_ONLY leaves the layout as it is, and every other one does not."""
    without = {
        "Black_Hair": "Gray_Hair",
        "Blond_Hair": "Gray_Hair",
        "Brown_Hair": "Gray_Hair",
        "Gray_Hair": "Blond_Hair",
    }
    for p in portraits[:100]:
        for name in p.face.attributes - {"Bald"}:
            changed = p.face.attributes - {name} | {without[name] for _ in range(name in without)}
            skin = "tan" if name == "Pale_Skin" else p.face.skin
            surfaces = paint(p.face._replace(attributes=changed, skin=skin))
            assert (surfaces != p.surfaces).any()
            assert (layout_of(surfaces) == p.example.layout).all() == (name in IMAGE_ONLY), name


def test_light_changes_the_image_and_not_the_layout(portraits):
    surfaces = portraits[0].surfaces
    lit = [render(surfaces, light, np.random.default_rng(0)).astype(float) for light in range(len(LIGHT_GAIN))]
    assert min(np.abs(a - b).mean() for i, a in enumerate(lit) for b in lit[:i]) > 4
    labels = Oracle().labels(np.stack(lit).astype(np.uint8))
    assert (labels == layout_of(surfaces)).mean() > 0.99


def test_surface_shares(portraits):
    measured = np.bincount(np.stack([p.surfaces for p in portraits]).ravel(), minlength=len(SURFACE_SHARE))
    np.testing.assert_allclose(measured / measured.sum(), SURFACE_SHARE, rtol=0.2)
    np.testing.assert_allclose(HALF_SHARE.sum(-1), 1)
    np.testing.assert_allclose(HALF_SHARE.mean(0), SURFACE_SHARE)


def test_captions_say_all_attributes_and_parsing_inverts_them(portraits):
    for p in portraits:
        for caption in p.example.captions:
            assert parse_caption(caption) == p.face.attributes, caption
    assert len(VOCABULARY) <= 64
    assert len({p.example.captions[1] for p in portraits[:200]}) > 100


def test_caption_forms():
    parsed = parse_caption("a smiling pale person with blond hair and bangs, wearing glasses and earrings")
    assert parsed == {"Smiling", "Pale_Skin", "Blond_Hair", "Bangs", "Eyeglasses", "Wearing_Earrings"}
    assert parse_caption("This face wears a cap, has no hair and smiles.") == {"Wearing_Hat", "Bald", "Smiling"}
    assert parse_caption("a person") == frozenset()
    for wrong in ("", "a purple person", "a person with hair", "a smilingperson"):
        with pytest.raises(ValueError, match="face caption"):
            parse_caption(wrong)


def test_classes_are_far_apart_under_every_light():
    """Two surfaces of classes that share a place are 4.5 sums of their textures apart, or more."""
    assert MEANS.min() >= 0 and MEANS.max() <= 1
    shares_place = (HALF_SHARE[:, :, None] * HALF_SHARE[:, None] > 0).any(0)
    other = (SURFACE_CLASS[:, None] != SURFACE_CLASS) & shares_place
    distance = np.linalg.norm(MEANS[:, :, None] - MEANS[:, None], axis=-1) / (SURFACE_SIGMA[:, None] + SURFACE_SIGMA)
    assert distance[:, other].min() >= 4.5


def test_oracle_reads_clean_renders(portraits, images):
    reading = Oracle().read(images)
    layouts = np.stack([p.example.layout for p in portraits[:300]])
    wanted = np.stack([attribute_vector(p.face.attributes) for p in portraits[:300]])
    assert (reading.labels == layouts).mean() >= 0.9995
    assert (reading.attributes == wanted).mean() >= 0.999
    assert set(ATTRIBUTES) == {name for p in portraits[:300] for name in p.face.attributes}  # none went unseen


def test_oracle_reads_noisy_renders_less_well(portraits, images):
    rng, wanted = np.random.default_rng(0), np.stack([attribute_vector(p.face.attributes) for p in portraits[:40]])
    right = [1.0]
    for sigma in (0.05, 0.2):
        noisy = np.clip(images[:40] + 255 * sigma * rng.normal(size=images[:40].shape), 0, 255).astype(np.uint8)
        right.append(float((Oracle().attributes(noisy) == wanted).mean()))
    assert right[0] >= right[1] >= 0.95 > right[2]


def test_a_mirrored_image_is_read_as_the_mirrored_layout(portraits, images):
    for p, labels in zip(portraits[:20], Oracle().labels(images[:20, :, ::-1]), strict=True):
        mirrored = mirror(Example(p.example.image, p.example.layout, ()), LABELS.swaps).layout
        assert (labels == mirrored).mean() > 0.999


def test_posterior_is_normalised(images):
    probabilities = Oracle().probabilities(images[:8])
    assert probabilities.shape == (8, 32, 32, LABELS.num_classes + 1) and probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)


def test_posterior_equals_bayes_written_out():
    """Four pixels, some clipped, one far from all: against sums in float64 over exact masses of rounded colours."""
    pixels = np.array([[[0, 30, 51], [185, 216, 240], [185, 214, 236], [90, 255, 10]]], np.uint8)
    flat = pixels.reshape(-1, 3)
    low = np.where(flat == 0, -np.inf, (flat - 0.5) / 255)[:, None, None]
    high = np.where(flat == 255, np.inf, (flat + 0.5) / 255)[:, None, None]
    sigma = SURFACE_SIGMA[:, None].astype(float)
    mass = np.prod(255 * (norm.cdf(high, MEANS, sigma) - norm.cdf(low, MEANS, sigma)), -1)  # (pixels, lights, surfaces)
    joint = np.array([mass[i] * HALF_SHARE[half] for i, half in enumerate((0, 0, 1, 1))])
    pixel = (1 - OUTLIER) * joint.sum(-1) + OUTLIER
    light = pixel.prod(0) / pixel.prod(0).sum()
    surface = np.einsum("l,pls->ps", light, (1 - OUTLIER) * joint / pixel[..., None])
    expected = np.stack([surface[:, k == SURFACE_CLASS].sum(1) for k in range(LABELS.num_classes)], -1)
    none = (light * OUTLIER / pixel).sum(-1)
    probabilities = Oracle().probabilities(pixels[None] if pixels.ndim == 3 else pixels)[0, 0]
    np.testing.assert_allclose(probabilities, np.concatenate([expected, none[:, None]], -1), atol=1e-3)
    assert probabilities[1, LABELS.names.index("right eye")] > 0.9 < probabilities[2, LABELS.names.index("left eye")]
    assert Oracle().labels(pixels[None])[0, 0, 3] == UNSURE and none[3] > 0.9


def test_the_config_draws_faces_and_flips_half_of_them():
    config = load_file(str(Path(__file__).parents[3] / "configs" / "faces.py"))
    data, rng = splits(config), np.random.default_rng(0)
    assert isinstance(data.train, Faces) and isinstance(data.heldout, Faces)
    assert (data.train.split, data.heldout.split) == ("train", "heldout")
    example, flipped = data.train[0], 0
    for _ in range(100):
        drawn = data.train_transform(example, rng).layout
        assert not np.isin(drawn[:, :16], (3, 5)).any()  # the person's left stays in the right half
        flipped += bool((drawn != example.layout).any())
    assert 30 < flipped < 70


def test_oracle_refuses_other_images():
    for wrong in (np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 33, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            Oracle().labels(wrong)


def test_a_picture_without_a_face_has_no_attributes_of_a_face():
    shown = Oracle().attributes(np.full((1, 32, 32, 3), (107, 158, 242), np.uint8))[0]
    assert {name for name, there in zip(ATTRIBUTES, shown, strict=True) if there} == {"Bald"}
