"""Pictures of images and layouts, raw labels that read back as they were, probabilities at another size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gcdiff.data.label_maps import read_layout
from gcdiff.pictures import colorize, decide, label_png, resize_maps, save_pairs, to_label_ids
from gcdiff.types import VOID, ImageSpec, LabelSpec


def spec(num: int, void: str = "missing", void_id: int = 255) -> LabelSpec:
    names, palette = tuple(f"class {i}" for i in range(num)), tuple((i % 256, 7, 9) for i in range(num))
    return LabelSpec(names, palette, void=void, void_id=void_id, void_color=(1, 2, 3))


@pytest.mark.parametrize(("num", "void_id"), [(3, 255), (3, 3), (255, 255)])
@pytest.mark.parametrize("void", ["missing", "class"])
def test_raw_labels_read_back_as_they_were(num, void_id, void, tmp_path):
    labels = spec(num, void, void_id)
    layout = np.random.default_rng(0).integers(0, num, (6, 7)).astype(np.int32)
    layout[0, 0] = VOID if void == "missing" else num - 1
    label_png(layout, labels).save(tmp_path / "y.png")
    np.testing.assert_array_equal(read_layout(tmp_path / "y.png", labels), layout)
    picture = Image.open(tmp_path / "y.png")
    assert np.asarray(picture)[0, 0] == void_id  # void is void in files, missing or modelled
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colorize(layout, labels))


def test_more_classes_than_8_bits_hold_are_refused():
    for function in (to_label_ids, label_png):
        with pytest.raises(ValueError, match="256 classes, expected at most 255"):
            function(np.zeros((2, 2), np.int32), spec(256))


@pytest.mark.parametrize("size", [(5, 8), (13, 21), (3, 4)])
def test_a_decision_is_the_most_probable_class_of_resized_maps(size):
    maps = np.random.default_rng(1).dirichlet(np.ones(6), (5, 8)).astype(np.float32)
    resized = resize_maps(maps, size)
    assert resized.shape == (*size, 6) and resized.dtype == np.float32
    np.testing.assert_allclose(resized.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(decide(maps, size), resized.argmax(-1))
    assert decide(np.full((2, 2, 4), 0.25, np.float32), size).max() == 0  # of equals the lowest
    if size == (5, 8):
        np.testing.assert_array_equal(resized, maps)


def test_an_output_of_any_sizes_has_one_overview(tmp_path):
    labels, rng = spec(3), np.random.default_rng(2)
    pairs = [
        (f"overview{i}", rng.integers(0, 256, (4 + i, 9, 3)).astype(np.uint8), rng.integers(-1, 3, (8, 5 + i)))
        for i in range(20)
    ]
    assert save_pairs(tmp_path, iter(pairs), labels, ImageSpec(), (4, 6)) == 20
    for name, image, layout in pairs:
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "images" / f"{name}.png")), image)
        np.testing.assert_array_equal(read_layout(tmp_path / "layouts" / f"{name}.png", labels), layout)
        colors = np.asarray(Image.open(tmp_path / "colors" / f"{name}.png"))
        np.testing.assert_array_equal(colors, colorize(layout, labels))
    assert {p.name for p in tmp_path.iterdir()} == {"images", "layouts", "colors", "overview.png"}
    width, height = Image.open(tmp_path / "overview.png").size
    assert width > 3 * 6 * 32 and height > 16 * 4 * 32  # 16 rows of three cells, 6x4 pixels 32 times enlarged
