"""From a folder to a model that reads captions by a pretrained encoder: prepare, embed, train, ask."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_params

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.cli.evaluate import _captioned
from gcdiff.text.encoder import load_encoder
from gcdiff.types import Text

ENCODER = Path(__file__).parents[1] / "text" / "fixtures" / "t5_relu"
CONFIG = """
from gcdiff.config import default

def get_config():
    c = default()
    c.data.update(name="prepared", size=(16, 16), heldout=4, threads=2)
    c.network.update(dim=8, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(True,), final_dim=8)
    c.text.update(encoder="pretrained", features=16, length=32)
    c.train.update(steps=2, batch_size=4, evaluate_every=0, sample_every=0)
    c.sample.update(steps=2, chunk=4)
    return c
"""


def draw_folder(root: Path) -> None:
    """Eight examples of 16x16: one without an image, one without a layout, one without a caption."""
    rng = np.random.default_rng(0)
    for part in ("images", "layouts"):
        (root / part).mkdir(parents=True)
    captions = []
    for i in range(8):
        if i != 5:
            Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(root / "images" / f"{i}.png")
        if i != 6:
            Image.fromarray(rng.integers(0, 2, (16, 16)).astype(np.uint8)).save(root / "layouts" / f"{i}.png")
        if i != 7:
            captions.append({"file_name": f"{i}.png", "text": [f"a red car {'with a tree ' * (i % 3)}"]})
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in captions))
    labels = {"names": ["sky", "road"], "colors": [[0, 0, 255], [90, 90, 90]]}
    (root / "labels.json").write_text(json.dumps(labels))


def call(*words) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("pretrained")
    draw_folder(place / "folder")
    shutil.copytree(ENCODER, place / "t5")
    (place / "config.py").write_text(CONFIG)
    assert call("prepare", "folder", "--source", place / "folder", "--out", place / "data", "--heldout", "0.2") == 0
    assert call("embed", "--dataset", place / "data", "--encoder", place / "t5") == 0
    return place


def train(place: Path, name: str = "run", **fields) -> int:
    fields = {"data.root": place / "data", "data.embeddings": place / "data" / "embeddings", **fields}
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    return call("train", "--config", place / "config.py", "--workdir", place / name, *overrides)


@pytest.fixture(scope="module")
def run(place) -> Path:
    assert train(place) == 0
    return place / "run"


@pytest.mark.slow
def test_a_run_trained_on_features_encodes_captions_by_the_same_encoder(place, run, capsys):
    said = json.loads((run / "specs.json").read_text())["encoder"]
    encoder = load_encoder(place / "t5")
    assert said == {"model": str(place / "t5"), "revision": encoder.revision, "features": 16}
    model = gcdiff.load(run)
    drawn = model.sample("a red car", num=2)
    given = encoder.encode(["a red car"] * 2)
    features = model.sample(Text(given.tokens, given.mask), num=2)
    np.testing.assert_array_equal(drawn.image, features.image)
    np.testing.assert_array_equal(drawn.layout, features.layout)
    # Two steps of training leave the captions next to nothing to say: random weights hear them.
    heard = dataclasses.replace(model, params=random_params(model.params))
    images = [heard.sample(text, num=2).image for text in ("a red car", Text(given.tokens, given.mask), "a tree")]
    np.testing.assert_array_equal(images[0], images[1])
    assert np.any(images[0] != images[2])

    with pytest.raises(ValueError, match=r"caption has 33 tokens, the limit is 32"):
        model.sample("a" * 32, num=1)
    # An encoder that is gone is asked for by name, unless no caption is; another place may be given.
    (place / "t5").rename(place / "moved")
    try:
        fresh = gcdiff.load(run)
        gcdiff.text.pretrained.loaded.cache_clear()
        with pytest.raises(ValueError, match="encoded by .*t5 .revision .*which is not there.*--encoder"):
            fresh.sample("a red car")
        assert fresh.sample(num=1).image.shape == (1, 16, 16, 3)
        moved = ("sample", "--workdir", run, "--text", "a red car", "--out", place / "out", "--encoder")
        assert call(*moved, place / "moved") == 0
        np.testing.assert_array_equal(np.asarray(Image.open(place / "out" / "images" / "00000.png")), drawn.image[0])
        capsys.readouterr()
        assert call(*moved, place / "nowhere") == 2 and "nowhere" in capsys.readouterr().err
    finally:
        (place / "moved").rename(place / "t5")


@pytest.mark.slow
def test_a_run_without_averages_has_none_to_choose_from(run):
    with pytest.raises(
        ValueError, match=r"run keeps no averages to choose from: its config.optim.ema_profiles is \(\)$"
    ):
        gcdiff.load(run, ema=0.07)


@pytest.mark.slow
def test_held_out_captions_are_read_as_stored_or_encoded_by_the_encoder_that_is_named(place, run):
    model, named = gcdiff.load(run), gcdiff.load(run, encoder=place / "t5")
    batch = configs.examples(configs.splits(model.config), 4)
    batch = batch._replace(captions=(batch.captions[0], *[""] * (len(batch.captions) - 1)))
    pair, stored = _captioned(model.config, model, batch)
    assert len(pair.image) == len(pair.layout) == 1
    encoded = load_encoder(place / "t5").encode([batch.captions[0]], 32)
    np.testing.assert_array_equal(stored.mask, encoded.mask)
    np.testing.assert_allclose(stored.tokens.astype(np.float32), encoded.tokens, rtol=2**-8)
    named.config.data.embeddings = str(place / "gone")
    assert _captioned(named.config, named, batch)[1] == [batch.captions[0]]


def test_features_that_do_not_fit_are_refused_before_training(place, capsys):
    for fields, said in (
        ({"text.features": 8}, "config.text.features is 8, expected 16"),
        ({"text.length": 4}, "config.text.length is 4 tokens, expected at least"),
        ({"data.embeddings": place / "folder"}, "expected a directory that gcdiff embed has written"),
        ({"text.encoder": "learned"}, "expected a directory of gcdiff embed with pretrained, and with nothing else"),
        ({"text.encoder": "learned", "data.embeddings": "", "text.length": 3}, "caption has 6 words, the limit is 3"),
    ):
        assert train(place, "refused", **fields) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1 and not (place / "refused").exists()
    options = (
        "embed",
        "--dataset",
        place / "data",
        "--encoder",
        place / "t5",
        "--out",
        place / "short",
        "--limit",
        "8",
    )
    assert call(*options) == 2
    error = capsys.readouterr().err
    assert "captions have more than 8 tokens, none is cut; the longest has" in error and not (place / "short").exists()
