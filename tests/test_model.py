"""A real (tiny) run, trained through the command line, and its model: every direction, and the laws of sampling."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import gcdiff
from gcdiff import cli
from gcdiff.types import VOID, Pair

CONFIG = """
from gcdiff.config import default

def get_config(arg="free"):
    c = default()
    c.data.update(name="streets", size=(16, 32), num=64, heldout=4)
    c.network.update(dim=16, stem=2, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=8, final_dim=8)
    c.text.update(features=16, layers=1)
    c.train.update(steps=4, batch_size=4, log_every=1, checkpoint_every=2, evaluate_every=4, sample_every=0)
    c.sample.update(steps=3, chunk=4)
    c.levels.kind = arg
    return c
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", "--config", str(config), "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def model(run):
    """The run's model with random non-zero weights everywhere, so that outputs depend on every input."""
    model = gcdiff.load(run)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: (p + 0.2 * rng.normal(size=p.shape)).astype(np.float32), model.params)
    object.__setattr__(model, "params", params)
    return model


LAYOUTS = np.random.default_rng(1).integers(0, 10, (14, 16, 32)).astype(np.int32)
IMAGES = np.random.default_rng(2).integers(0, 256, (14, 16, 32, 3)).astype(np.uint8)
TEXT = "a foggy street with one red car"


def test_a_run_directory_is_complete(run):
    names = {p.name for p in run.iterdir()}
    assert {"config.json", "specs.json", "DATA_LICENCE.txt", "metrics.jsonl", "checkpoints", "samples"} <= names
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/segmentation_miou" in row for row in rows) and rows[0]["step"] == 1


def test_an_example_alone_is_that_example_among_thirteen_others(model):
    many = model.sample(TEXT, num=14, guidance=2.0, seed=3)
    alone = model.sample(TEXT, num=1, guidance=2.0, seed=3)
    np.testing.assert_array_equal(many.image[:1], alone.image)
    np.testing.assert_array_equal(many.layout[:1], alone.layout)
    assert many.image.shape == (14, 16, 32, 3) and many.image.dtype == np.uint8
    assert many.layout.shape == (14, 16, 32) and many.layout.dtype == np.int32
    assert len(np.unique(many.image, axis=0)) == 14
    whole, one = model.segment(IMAGES), model.segment(IMAGES[:1])
    np.testing.assert_array_equal(whole[:1], one)


def test_seeds_texts_and_scales_matter(model):
    base = model.sample(TEXT, seed=3).image
    assert np.any(base != model.sample(TEXT, seed=4).image)
    assert np.any(base != model.sample("a street at night", seed=3).image)
    assert np.any(base != model.sample(None, seed=3).image)
    assert np.any(base != model.sample(TEXT, guidance=4.0, seed=3).image)


def test_an_unused_branch_equals_no_guidance(model):
    a, b = model.sample(TEXT, guidance=1.0), model.sample(TEXT)
    np.testing.assert_array_equal(a.image, b.image)


def test_changing_steps_seeds_scales_and_masks_compiles_nothing(model):
    from gcdiff.samplers.sample import Sampler

    model.sample(TEXT, num=5, guidance=2.0)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), Pair(LAYOUTS[:2] > 3, None), TEXT, guidance=2.0)
    before = Sampler.piece._cache_size()
    model.sample("a street at night", num=2, steps=13, guidance=(3.0, 1.5), seed=9)
    model.outpaint(Pair(IMAGES[:3], None), Pair(LAYOUTS[:3] > 5, None), TEXT, steps=2, guidance=1.7)
    assert Sampler.piece._cache_size() == before


def test_paths_answer_with_what_was_asked(model):
    assert model.sample(TEXT, path="image_only").layout is None
    assert model.sample(TEXT, path="layout_only").image is None
    assert model.sample(TEXT, path="layout_first").layout is not None
    with pytest.raises(ValueError, match="path is 'sideways'"):
        model.sample(TEXT, path="sideways")


def test_segment_takes_any_size_and_gives_probabilities(model):
    large = np.random.default_rng(3).integers(0, 256, (2, 40, 70, 3)).astype(np.uint8)
    assert model.segment(large).shape == (2, 40, 70)
    p = model.segment(IMAGES[:2], probabilities=True)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(-1), model.segment(IMAGES[:2]))
    assert model.segment(IMAGES[:2], steps=3).shape == (2, 16, 32)


def test_void_pixels_of_a_layout_say_nothing(model):
    void = np.arange(32) < 10
    a = model.synthesize(np.where(void, VOID, LAYOUTS[:2]), TEXT)
    b = model.synthesize(np.where(void, VOID, (LAYOUTS[:2] + void) % 10), TEXT)
    np.testing.assert_array_equal(a, b)
    assert np.any(a != model.synthesize(LAYOUTS[:2], TEXT))
    assert a.dtype == np.uint8 and a.shape == (2, 16, 32, 3)


def test_known_pixels_come_back_bit_for_bit(model):
    rng = np.random.default_rng(4)
    known = Pair(rng.random((3, 16, 32)) < 0.5, rng.random((3, 16, 32)) < 0.5)
    layouts = LAYOUTS[:3].copy()
    layouts[:, :3] = VOID
    out = model.outpaint(Pair(IMAGES[:3], layouts), known, TEXT)
    np.testing.assert_array_equal(out.image[known.image], IMAGES[:3][known.image])
    kept = known.layout & (layouts != VOID)
    np.testing.assert_array_equal(out.layout[kept], layouts[kept])
    assert out.layout.min() >= 0


def test_arrays_that_cannot_be_are_refused(model):
    with pytest.raises(ValueError, match="layouts hold label 10, expected 0..9 or void"):
        model.synthesize(LAYOUTS + 1)
    with pytest.raises(ValueError, match="expected uint8"):
        model.segment(IMAGES / 255)
    with pytest.raises(ValueError, match="2 captions for 3 examples"):
        model.sample([TEXT, TEXT], num=3)
    with pytest.raises(ValueError, match="known.image has shape"):
        model.outpaint(Pair(IMAGES[:2], None), Pair(np.ones((2, 3, 3), bool), None))


def test_resuming_is_no_interruption(run, config, tmp_path):
    workdir = tmp_path / "interrupted"
    command = ["train", "--config", str(config), "--workdir", str(workdir)]
    assert cli.main([*command, "--config.train.steps=2", "--config.optim.schedule=constant"]) == 0
    assert cli.main([*command, "--config.train.steps=4", "--config.optim.schedule=constant"]) == 0
    whole = tmp_path / "whole"
    assert (
        cli.main(["train", "--config", str(config), "--workdir", str(whole), "--config.optim.schedule=constant"]) == 0
    )
    a, b = gcdiff.load(workdir).params, gcdiff.load(whole).params
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_another_runs_weights_are_taken_by_name(run, config, tmp_path, capsys):
    workdir = tmp_path / "second"
    command = ["train", "--config", str(config), "--workdir", str(workdir), "--init", str(run)]
    assert cli.main([*command, "--config.train.steps=1", "--config.optim.learning_rate=1e-12"]) == 0
    assert "10 classes matched by name" in capsys.readouterr().err
    a, b = gcdiff.load(run).params, gcdiff.load(workdir).params
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


def test_a_model_of_shared_levels_refuses_what_it_was_not_trained_for(config, run, tmp_path):
    workdir = tmp_path / "shared"
    shared = f"{config}:shared"
    assert cli.main(["train", "--config", shared, "--workdir", str(workdir), "--config.train.steps=1"]) == 0
    model = gcdiff.load(workdir)
    with pytest.raises(ValueError, match="segmentation was not trained: config.levels.layout_given_image"):
        model.segment(IMAGES[:1])


def test_the_commands_write_pictures_that_can_be_read_back(run, tmp_path):
    out = tmp_path / "drawn"
    assert cli.main(["sample", "--workdir", str(run), "--text", TEXT, "--num", "2", "--out", str(out)]) == 0
    names = {p.name for p in out.iterdir()}
    assert names == {"overview.png"} | {f"0000{i}{end}.png" for i in (0, 1) for end in ("", "_layout", "_labels")}
    images, layouts, masks = (tmp_path / n for n in ("images", "layouts", "masks"))
    for folder in (images, layouts, masks):
        folder.mkdir()
    for name in ("00000", "00001"):
        (out / f"{name}.png").rename(images / f"{name}.png")
        (out / f"{name}_labels.png").rename(layouts / f"{name}.png")
        Image.fromarray(np.full((16, 32), 255, np.uint8)).save(masks / f"{name}.png")
    before = np.asarray(Image.open(layouts / "00000.png"))
    base = ["--workdir", str(run), "--out"]
    assert cli.main(["segment", *base, str(tmp_path / "a"), "--images", str(images)]) == 0
    assert cli.main(["synthesize", *base, str(tmp_path / "b"), "--layouts", str(layouts), "--steps", "2"]) == 0
    command = ["outpaint", *base, str(tmp_path / "c"), "--images", str(images), "--layouts", str(layouts)]
    assert cli.main([*command, "--known", str(masks)]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c" / "00000_labels.png")), before)
    assert np.asarray(Image.open(tmp_path / "a" / "00000_labels.png")).max() < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "CONFIG", "--config.train.stepz=3"], "config.train.stepz: there is no such field"),
        (["train", "--config", "CONFIG", "--config.train.steps=many"], "config.train.steps=many: expected int"),
        (["train", "--config", "CONFIG", "--config.process.output=w"], "config.process.output is 'w', expected one of"),
        (["train", "--config", "nowhere.py"], "nowhere.py: there is no such file"),
        (["sample", "--text", ""], "empty caption"),
        (["segment", "--images", "EMPTY"], "EMPTY"),
        (["synthesize", "--layouts", "BAD"], "200"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(arguments, message, config, run, tmp_path, capsys):
    empty, bad = tmp_path / "EMPTY", tmp_path / "BAD"
    empty.mkdir()
    bad.mkdir()
    Image.fromarray(np.full((16, 32), 200, np.uint8)).save(bad / "x.png")
    places = {"CONFIG": str(config), "EMPTY": str(empty), "BAD": str(bad)}
    out = tmp_path / "out"
    rest = ["--workdir", str(out)] if arguments[0] == "train" else ["--workdir", str(run), "--out", str(out)]
    assert cli.main([places.get(a, a) for a in arguments] + rest) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and len(error) == 1
    assert not out.exists()


def test_places_that_cannot_be_are_named(run, tmp_path, capsys):
    assert cli.main(["sample", "--workdir", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert cli.main(["sample", "--workdir", str(run), "--out", "/proc/here"]) == 2
    assert "cannot write to /proc/here" in capsys.readouterr().err
