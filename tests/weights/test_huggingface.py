"""Checkpoints in their several forms are read alike, and every fault is named in one line."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import huggingface_hub
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gcdiff.text.encoder import load_encoder
from gcdiff.text.images import load_image_encoder, preprocess, read_preprocessing

FIXTURES = Path(__file__).parents[1] / "text" / "fixtures"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"


def copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, to))


def rewrite(place: Path, change) -> None:
    """Change the weights' dictionary in place, or give another."""
    weights = load_file(place / WEIGHTS)
    save_file(change(weights) or weights, place / WEIGHTS)


def configure(place: Path, **fields) -> None:
    file = place / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def shard(place: Path) -> None:
    weights = load_file(place / WEIGHTS)
    (place / WEIGHTS).unlink()
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(weights))}
    for file in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == file}, place / file)
    (place / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def assert_same(one, other) -> None:
    assert one.module == other.module
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.fixture
def t5(tmp_path):
    return copy("t5_relu", tmp_path / "t5")


@pytest.fixture
def clip(tmp_path):
    return copy("clip_gelu", tmp_path / "clip")


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
def test_types_and_shards_are_read_alike(t5, kind):
    rewrite(t5, lambda weights: {name: w.astype(ml_dtypes.bfloat16).astype(kind) for name, w in weights.items()})
    whole = load_encoder(t5)
    rounded = load_file(FIXTURES / "t5_relu" / WEIGHTS)[QUERY].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(whole.params["qkv0"]["kernel"][:, :12], rounded.T)
    shard(t5)
    assert_same(load_encoder(t5), whole)


def test_parts_that_the_encoder_lacks_are_left_out_and_names_may_differ(t5, clip):
    """A T5 with its decoder and the other name of its table; the text tower of a CLIP alone, without a projection."""

    def as_t5_large(weights):
        weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")
        weights["decoder.final_layer_norm.weight"] = weights["lm_head.weight"] = np.ones(3, np.float32)

    rewrite(t5, as_t5_large)
    assert_same(load_encoder(t5), load_encoder(FIXTURES / "t5_relu"))
    whole = load_encoder(clip)
    rewrite(clip, lambda weights: {**weights, "text_model.embeddings.position_ids": np.arange(77)[None]})
    assert_same(load_encoder(clip), whole)
    text = json.loads((clip / "config.json").read_text())["text_config"]
    configure(clip, **{**text, "model_type": "clip_text_model", "projection_dim": 8})
    projected = ("text_model.", "text_projection.")
    rewrite(clip, lambda weights: {n: w for n, w in weights.items() if n.startswith(projected)})
    assert_same(load_encoder(clip), whole)
    start = len(projected[0])
    rewrite(clip, lambda weights: {n[start:]: w for n, w in weights.items() if n.startswith(projected[0])})
    alone = load_encoder(clip)
    assert (alone.phrase_features, whole.phrase_features) == (16, 8)
    del whole.params["project"]
    jax.tree.map(np.testing.assert_array_equal, alone.params, whole.params)


def test_the_second_copy_of_old_configurations_counts(clip):
    text = json.loads((clip / "config.json").read_text())["text_config"]
    given = {k: text[k] for k in text if k != "eos_token_id"}
    configure(clip, text_config={"hidden_size": 99}, text_config_dict={**given, "eos_token_id": 2})
    assert load_encoder(clip).module.end == 2


def test_a_parameter_that_is_missing_too_many_or_of_another_form_is_named(t5):
    def fault(change):
        place = copy("t5_relu", t5.parent / "faulty")
        rewrite(place, change)
        with pytest.raises(ValueError) as error:
            load_encoder(place)
        shutil.rmtree(place)
        assert str(error.value).startswith(f"{place}: ") and "\n" not in str(error.value)
        return str(error.value)

    assert f"weights lack {QUERY}, which" in fault(lambda w: {n: a for n, a in w.items() if n != QUERY})
    assert "weights lack shared.weight" in fault(lambda w: {n: a for n, a in w.items() if n != "shared.weight"})
    assert "hold encoder.left.over, which" in fault(lambda w: {**w, "encoder.left.over": w[QUERY]})
    assert f"{QUERY} has shape (7, 7), expected (12, 16)" in fault(lambda w: {**w, QUERY: np.zeros((7, 7), "f")})
    assert f"{QUERY} is of int8, expected float32" in fault(lambda w: {**w, QUERY: w[QUERY].astype(np.int8)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected t5 or clip or clip_text_model"),
        ({"d_model": "16"}, "d_model is '16', expected a whole number from 1"),
        ({"num_layers": 0}, "num_layers is 0, expected"),
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu', expected relu or gated-gelu"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0, expected a number above 0"),
    ],
)
def test_a_wrong_field_is_named(t5, fields, message):
    configure(t5, **fields)
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        load_encoder(t5)


def test_a_missing_or_damaged_file_is_named(t5):
    def fault(kind, change):
        place = copy("t5_relu", t5.parent / "faulty")
        change(place)
        with pytest.raises(kind) as error:
            load_encoder(place)
        shutil.rmtree(place)
        assert "\n" not in str(error.value)
        return str(error.value).removeprefix(f"{place}/")

    def cut(place):
        (place / WEIGHTS).write_bytes((place / WEIGHTS).read_bytes()[:-100])

    def lose_a_shard(place):
        shard(place)
        (place / "model-00002-of-00002.safetensors").unlink()

    def empty_index(place):
        (place / WEIGHTS).unlink()
        (place / INDEX).write_text("{}")

    missing = FileNotFoundError
    assert fault(missing, lambda p: (p / "config.json").unlink()).startswith("config.json: no such file, expected a")
    assert "no weights, expected model.safetensors or" in fault(missing, lambda p: (p / WEIGHTS).unlink())
    assert fault(missing, lose_a_shard).startswith("model-00002-of-00002.safetensors: no such file, expected it as")
    assert fault(ValueError, cut).startswith("model.safetensors: damaged, expected a safetensors file")
    assert fault(ValueError, empty_index).startswith(f"{INDEX}: no weight_map")
    assert fault(ValueError, lambda p: (p / "config.json").write_text("{")).startswith("config.json: damaged")


def test_pytorch_files_without_torch_say_what_to_do(t5, monkeypatch):
    (t5 / WEIGHTS).rename(t5 / "pytorch_model.bin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"expected safetensors; save the model with save_pretrained .*gcdiff\[torch"):
        load_encoder(t5)


def test_a_directory_knows_its_revision(t5):
    encoder = load_encoder(t5)
    assert encoder.model_id == str(t5)
    assert encoder.revision == hashlib.sha256((t5 / WEIGHTS).read_bytes()).hexdigest()
    assert load_encoder(t5, revision=encoder.revision).revision == encoder.revision
    rewrite(t5, lambda weights: {name: w + w for name, w in weights.items()})
    with pytest.raises(ValueError, match=f"sha256 [0-9a-f]+, expected {encoder.revision}"):
        load_encoder(t5, revision=encoder.revision)


def test_the_hub_is_asked_for_what_is_needed(monkeypatch, tmp_path):
    commit = "1" * 40
    copy("t5_relu", tmp_path / commit)
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(tmp_path / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    encoder = load_encoder("google/t5-tiny", revision="main")
    assert (encoder.model_id, encoder.revision) == ("google/t5-tiny", commit)
    ((name, revision, patterns),) = asked
    assert (name, revision) == ("google/t5-tiny", "main")
    assert {"config.json", "model.safetensors", "model-*.safetensors", "spiece.model"} <= set(patterns)
    assert not any("bin" in pattern for pattern in patterns)
    (tmp_path / commit / WEIGHTS).unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="^google/t5-tiny: no model.safetensors on the hub: expected safetensors"):
        load_encoder("google/t5-tiny")


def test_what_is_neither_a_directory_nor_on_the_hub_is_named(monkeypatch, tmp_path):
    def snapshot_download(*_, **__):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for source in ("google/t5-tiny", tmp_path / "none", "./none", "a/b/c"):
        with pytest.raises(
            FileNotFoundError, match=f"^{source}: no such directory, .*expected a directory with .*hub$"
        ):
            load_encoder(source)


def test_images_are_prepared_as_the_checkpoint_says(clip):
    wanted = np.load(clip / "expected.npz")
    file = clip / "preprocessor_config.json"
    pixels = preprocess(wanted["photo"], read_preprocessing(clip))
    np.testing.assert_allclose(pixels, wanted["pixels"][0], atol=1e-5)
    fields = json.loads(file.read_text())
    file.write_text(json.dumps({**fields, "size": 12, "crop_size": 12}))
    np.testing.assert_array_equal(preprocess(wanted["photo"], read_preprocessing(clip)), pixels)
    with pytest.raises(ValueError, match=r"an image is float32 \(12, 12, 3\), expected uint8 \(H, W, 3\)"):
        load_image_encoder(clip).encode(pixels[None])
    file.rename(clip / "other.json")
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json: no such file"):
        load_image_encoder(clip)
    whole = clip / "processor_config.json"
    whole.write_text(json.dumps({"image_processor": {**fields, "do_resize": False}}))
    with pytest.raises(ValueError, match="image_processor: do_resize is False, expected true"):
        load_image_encoder(clip)
    whole.write_text(json.dumps({"image_processor": {**fields, "crop_size": {"height": 10, "width": 10}}}))
    with pytest.raises(ValueError, match="images are cropped to 10, expected 12 by config.json"):
        load_image_encoder(clip)
