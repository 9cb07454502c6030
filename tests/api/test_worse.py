"""Autoguidance of whole models: what it is given, where it comes from, what is refused."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
from tiny_models import STREETS, random_model

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.training.export import save_export
from gcdiff.types import Pair

CAPTIONS = ["a foggy street with two red cars", "a sunny street"]


def tiny(tmp_path, **fields):
    """The config of a tiny network, with other fields by their dotted paths."""
    file = tmp_path / "tiny.py"
    file.write_text(STREETS)
    return configs.with_fields(configs.load_file(str(file)), fields)


@pytest.fixture
def model(tmp_path):
    return random_model(tiny(tmp_path))


@pytest.fixture
def worse(model):
    """A model of the same pairs with a wider head of another output."""
    return random_model(configs.with_fields(model.config, {"network.final_dim": 16, "process.output": "x0"}))


def equal(a: Pair, b: Pair) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_worse_model_changes_what_is_drawn_only_where_it_is_asked(model, worse):
    plain = model.sample(CAPTIONS, 2)
    guided = model.against(worse)
    assert equal(guided.sample(CAPTIONS, 2), plain)
    drawn = guided.sampling(autoguidance=2.0).sample(CAPTIONS, 2)
    assert not equal(drawn, plain)
    assert equal(guided.sample(CAPTIONS, 2, guidance=gcdiff.Guidance(auto=2.0)), drawn)
    assert equal(guided.sampling(autoguidance=2.0).sample(CAPTIONS, 2, guidance=gcdiff.Guidance()), plain)


def test_a_model_against_itself_is_itself(model):
    """worse + s (own - worse) with both the same: up to rounding, and here bit for bit."""
    same = model.against(model).sampling(autoguidance=1.5)
    drawn, plain = same.sample(CAPTIONS, 2), model.sample(CAPTIONS, 2)
    assert np.abs(drawn.image.astype(int) - plain.image).max() <= 1
    assert (drawn.layout == plain.layout).mean() > 0.99


def test_segmentations_are_not_sharpened(model, worse):
    images = np.random.default_rng(0).integers(0, 256, (2, *model.size, 3), np.uint8)
    guided = model.against(worse).sampling(autoguidance=2.0)
    laws = (m.segment(images, probabilities=True) for m in (guided, model))
    np.testing.assert_array_equal(*laws)


def test_autoguidance_without_a_worse_model_is_refused(model):
    why = r"autoguidance is 2.0 and the model has no worse one: expected a folder worse in its run, or Model.against"
    with pytest.raises(ValueError, match=why):
        model.sample(CAPTIONS, 2, guidance=gcdiff.Guidance(auto=2.0))
    with pytest.raises(ValueError, match=why):
        model.sampling(autoguidance=2.0)
    with pytest.raises(ValueError, match=r"guidance.auto is nan, expected a finite number"):
        model.against(model).sample(CAPTIONS, 2, guidance=gcdiff.Guidance(auto=float("nan")))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("data.size", (16, 64), "size"),
        ("process.layout_shift", 1.0, "noise"),
        ("process.layout", "absorbing", "noise"),
        ("text.encoder", "none", "set of conditionings"),
    ],
)
def test_a_worse_model_of_other_pairs_is_refused(model, field, value, named):
    other = random_model(configs.with_fields(model.config, {field: value}))
    with pytest.raises(ValueError, match=f"the worse model has another {named}: "):
        model.against(other)


def test_a_run_brings_the_worse_model_in_its_folder(model, worse, tmp_path):
    config = configs.with_fields(model.config, {"sample.autoguidance": 2.0})

    def write(place, params, config):
        save_export(place, params, lambda folder: configs.save_run(folder, config, model.specs))

    write(tmp_path / "run", model.params, config)
    with pytest.warns(UserWarning, match=r"autoguidance is 2.0 and there is no worse in .*run: drawn without auto"):
        alone = gcdiff.load(tmp_path / "run")
    assert equal(alone.sample(CAPTIONS, 2), model.sample(CAPTIONS, 2))
    write(tmp_path / "run" / "worse", worse.params, worse.config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = gcdiff.load(tmp_path / "run")
    drawn = loaded.sample(CAPTIONS, 2)
    assert equal(drawn, model.against(worse).sampling(autoguidance=2.0).sample(CAPTIONS, 2))
    out = tmp_path / "out"
    for _ in range(2):  # the second writes over the first
        assert cli.main(["checkpoint", "export", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert equal(gcdiff.load(out).sample(CAPTIONS, 2), drawn)


def test_a_training_keeps_its_worse_model(tmp_path):
    """The averaged weights of the step that train.worse says: those of a run that ends there, at a constant rate."""
    file = tmp_path / "tiny.py"
    file.write_text(STREETS)
    command = ["train", "--config", str(file), "--config.train.evaluate_every=-1", "--config.train.sample_every=-1"]
    whole, half = tmp_path / "whole", tmp_path / "half"
    assert cli.main([*command, "--workdir", str(whole), "--config.train.worse=0.5"]) == 0
    assert cli.main([*command, "--workdir", str(half), "--config.train.steps=2"]) == 0
    assert not (half / "worse").exists()
    kept, wanted = gcdiff.load(whole / "worse"), gcdiff.load(half)
    jax.tree.map(np.testing.assert_array_equal, kept.params, wanted.params)
    assert gcdiff.load(whole).worse is not None and kept.worse is None
