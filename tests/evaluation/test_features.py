"""Extractors, their files and their conventions: pixels, JAX, CLIP, TorchScript, scenes; segmenters by name."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.evaluation import pytorch
from gcdiff.evaluation.agreement import agreement_sums, miou
from gcdiff.evaluation.clip_score import caption_cosines, clip_score, clip_sums
from gcdiff.evaluation.features import (
    ClipFeatures,
    Features,
    JaxFeatures,
    PixelFeatures,
    convention,
    load_features,
    resized,
    save_features,
)
from gcdiff.text.encoder import load_encoder
from gcdiff.text.images import load_image_encoder
from gcdiff.types import VOID
from gcdiff.worlds.cells.data import Cells
from gcdiff.worlds.faces.data import Faces
from gcdiff.worlds.oracles import OracleFeatures, oracle_segmenter
from gcdiff.worlds.streets.data import Streets

FIXTURES = Path(__file__).parents[1] / "text" / "fixtures"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 12, 16, 3), np.uint8)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def test_images_are_resized_without_aliases():
    """Stripes of one pixel become their mean, and what has no detail stays: no other filter does both."""
    stripes = np.zeros((1, 16, 32, 3), np.uint8)
    stripes[:, :, ::2] = 255
    np.testing.assert_allclose(resized(stripes, (8, 8))[:, :, 2:-2], 127.5, atol=1)
    flat = np.full((2, 5, 7, 3), 93, np.uint8)
    np.testing.assert_allclose(resized(flat, (9, 4)), 93, rtol=1e-6)
    np.testing.assert_array_equal(resized(IMAGES, None), IMAGES)
    with pytest.raises(ValueError, match=r"images are float64 \(2, 4, 4, 3\), expected uint8"):
        resized(np.zeros((2, 4, 4, 3)), None)


def test_pixels_are_at_the_root_mean_square_of_their_difference():
    features = PixelFeatures()(IMAGES)
    wanted = np.sqrt(np.mean((IMAGES[0] / 255 - IMAGES[1] / 255) ** 2))
    assert np.linalg.norm(features[0] - features[1]) == pytest.approx(wanted, rel=1e-5)
    assert PixelFeatures((3, 4))(IMAGES).shape == (37, 36)
    assert convention(PixelFeatures((3, 4)), IMAGES) == {
        "extractor": "pixels",
        "resolution": "12x16",
        "input": "3x4",
        "resize": "Pillow bicubic, antialiased, float32",
    }


def test_any_function_of_jax():
    weights = RNG.normal(size=(3, 5)).astype(np.float32)
    network = JaxFeatures(
        "colours", lambda p, x: x.mean((1, 2)) @ p, jnp.asarray(weights), (12, 16), (0.5,) * 3, (2.0,) * 3
    )
    features = network(IMAGES)
    np.testing.assert_allclose(features, (IMAGES / 255).mean((1, 2)) @ weights / 2 - weights.sum(0) / 4, atol=1e-5)
    np.testing.assert_allclose(network(IMAGES[30:]), features[30:], atol=1e-6)  # in another batch, padded
    wrong = JaxFeatures("maps", lambda p, x: x, jnp.zeros(0), (4, 4))
    with pytest.raises(ValueError, match=r"maps: features have shape \(4, 4, 4, 3\)"):
        wrong(IMAGES[:4])


def test_the_clip_score_is_the_cosine():
    texts, images = load_encoder(FIXTURES / "clip_quick"), load_image_encoder(FIXTURES / "clip_quick")
    captions = ["a car", "the sky"] * 4
    photos = RNG.integers(0, 256, (8, 40, 60, 3), np.uint8)
    x, y = images.encode(photos), texts.phrases(captions)
    wanted = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(caption_cosines(photos, captions, images, texts), wanted, rtol=1e-5)
    ids = np.arange(8)
    parts = [clip_sums(photos[i::2], captions[i::2], ids[i::2], images, texts) for i in (1, 0)]
    measured = clip_score(parts[0] + parts[1])
    assert measured.value == pytest.approx(np.mean(wanted), rel=1e-5) and measured.convention["units"] == "cosine x 1"
    assert clip_score(parts[0] + parts[1], 100).value == pytest.approx(100 * measured.value)
    assert "clip_quick" in measured.convention["extractor"] and measured.convention["resolution"] == "40x60"

    class Same:  # a text tower that hears what the image shows
        module, phrase_features, checkpoint = texts.module, images.features, texts.checkpoint
        phrases = staticmethod(lambda captions: 3 * x)

    np.testing.assert_allclose(caption_cosines(photos, captions, images, Same), 1)
    np.testing.assert_allclose(ClipFeatures(images)(photos), x)
    with pytest.raises(ValueError, match="8 images and 1 captions"):
        caption_cosines(photos, captions[:1], images, texts)
    with pytest.raises(ValueError, match="expected CLIP's text tower"):
        caption_cosines(photos, captions, images, load_encoder(FIXTURES / "t5_relu"))
    alike = dataclasses.replace(texts, checkpoint=dataclasses.replace(texts.checkpoint, commit="another"))
    with pytest.raises(ValueError, match="clip_quick .*, the text tower of .*clip_quick another, expected one check"):
        caption_cosines(photos, captions, images, alike)


@pytest.mark.parametrize(
    ("name", "world", "count"), [("streets", Streets, 24), ("faces", Faces, 24), ("cells", Cells, 12)]
)
def test_the_oracles_parameters_hardly_need_the_layout(name, world, count):
    images, layouts, _ = zip(*(world("heldout", 4, seed=1)[i][:3] for i in range(4)), strict=True)
    images, scenes = np.stack(images), OracleFeatures(world.name)
    np.testing.assert_allclose(scenes(images), scenes(images, np.stack(layouts)), atol=0.05)
    noise = RNG.integers(0, 256, images[:1].shape, np.uint8)
    assert scenes(noise).shape == (1, count) and np.isfinite(scenes(noise)).all()


def test_the_street_oracle_as_a_segmenter():
    streets = [Streets("heldout", 4, seed=1)[i] for i in range(4)]
    images, layouts = np.stack([s.image for s in streets]), np.stack([s.layout for s in streets])
    assert miou(agreement_sums(images, layouts, np.arange(4), oracle_segmenter("streets"), 10)).value > 0.98


def test_features_in_files(tmp_path):
    file = tmp_path / "some.npz"
    some = Features(np.array([5, 3]), RNG.normal(size=(2, 4)).astype(np.float32), {"extractor": "toy", "input": "4x4"})
    save_features(file, some)
    loaded = load_features(file)
    np.testing.assert_array_equal(loaded.ids, some.ids)
    np.testing.assert_array_equal(loaded.values, some.values)
    assert loaded.convention == some.convention and list(tmp_path.iterdir()) == [file]
    np.save(tmp_path / "bare.npy", some.values)
    bare = load_features(tmp_path / "bare.npy")
    assert bare.ids.tolist() == [0, 1] and bare.convention == {"extractor": "file bare.npy"}
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(ValueError, match=r"words.npy: features are <U1 \(1, 2\), expected finite numbers"):
        load_features(tmp_path / "words.npy")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"flat.npy: features are float64 \(3,\)"):
        load_features(tmp_path / "flat.npy")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="text.npz: "):
        load_features(tmp_path / "text.npz")
    np.savez(tmp_path / "odd.npz", features=some.values, ids=np.arange(3))
    with pytest.raises(ValueError, match=r"odd.npz: ids have shape \(3,\)"):
        load_features(tmp_path / "odd.npz")
    with pytest.raises(FileNotFoundError, match=r"none.npz: no such file"):
        load_features(tmp_path / "none.npz")


@needs_torch
def test_a_torchscript_file(tmp_path):
    import torch

    class Network(torch.nn.Module):
        def forward(self, x):
            return x[:, :, :1, :2].mean(-1, keepdim=True)

    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Network(), torch.zeros(2, 3, 12, 16)).save(tmp_path / "net.pt")
        torch.jit.trace(Pair(), torch.zeros(2, 3, 12, 16)).save(tmp_path / "pair.pt")
    network = pytorch.TorchFeatures(tmp_path / "net.pt", (12, 16), std=(1 / 255,) * 3)
    np.testing.assert_allclose(network(IMAGES), IMAGES[:, 0, :2].mean(1), atol=1e-3)
    assert "net.pt sha256 " in network.name
    with pytest.raises(ValueError, match="pair.pt: it returns a tuple"):
        pytorch.TorchFeatures(tmp_path / "pair.pt", (12, 16))(IMAGES)
    (tmp_path / "no.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no.pt: .*expected a TorchScript file"):
        pytorch.TorchFeatures(tmp_path / "no.pt", (12, 16))
    with pytest.raises(FileNotFoundError, match="none.pt"):
        pytorch.TorchFeatures(tmp_path / "none.pt", (12, 16))


def test_torch_is_asked_for_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "net.pt").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"net.pt: torch is not installed, expected it: pip install 'gcdiff\[torch\]'"):
        pytorch.TorchFeatures(tmp_path / "net.pt", (4, 4))


def test_classes_are_matched_by_name():
    theirs = {"2": "Road", "0": "traffic-light", 1: "sidewalk, pavement", 3: "rider"}
    table = pytorch.matched(theirs, ("pavement", "traffic_light", "road"), {}, "net")
    np.testing.assert_array_equal(table, [1, 0, 2, VOID])
    table = pytorch.matched(theirs, ("person", "way"), {"person": ("rider",), "way": ("road", "sidewalk")}, "net")
    np.testing.assert_array_equal(table, [VOID, 1, 1, 0])
    with pytest.raises(
        ValueError, match="net: no class for sky, bus; expected aliases to name theirs among: Road, tra"
    ):
        pytorch.matched(theirs, ("road", "sky", "bus"), {}, "net")


@needs_torch
def test_a_segmenter_of_transformers(tmp_path):
    import torch
    import transformers

    sizes = {"hidden_sizes": [4, 4, 4, 4], "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 4}
    names = {0: "sky", 1: "road", 2: "cow"}
    config = transformers.SegformerConfig(
        **sizes, sr_ratios=[1] * 4, id2label=names, label2id={v: k for k, v in names.items()}
    )
    torch.manual_seed(0)
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    preparation = {"size": {"height": 64, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preparation))
    labels = pytorch.TransformersSegmenter(str(tmp_path), ("road", "sky"))(IMAGES[:3])
    pixels = torch.tensor((resized(IMAGES[:3], (64, 32)) / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(network(pixels).logits, (12, 16), mode="bilinear")
    np.testing.assert_array_equal(labels, np.array([1, 0, VOID])[logits.argmax(1).numpy()])
    with pytest.raises(ValueError, match="no class for bus; expected aliases"):
        pytorch.TransformersSegmenter(str(tmp_path), ("bus",))
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 5}}')
    with pytest.raises(ValueError, match="size is {'shortest_edge': 5}, expected a height and a width"):
        pytorch.TransformersSegmenter(str(tmp_path), ("road",))
