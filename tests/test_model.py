"""A real (tiny) run, trained through the command line, and its model: every direction, and the laws of sampling."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.cli.parser import EXAMPLES
from gcdiff.levels import LevelShares
from gcdiff.types import VOID, Pair

CONFIG = """
from gcdiff.config import default

def get_config():
    c = default()
    c.data.update(name="streets", size=(16, 32), num=64, heldout=4)
    c.network.update(dim=16, stem=2, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=8, final_dim=8)
    c.text.update(features=16, layers=1)
    c.train.update(steps=4, batch_size=4, log_every=1, checkpoint_every=2, evaluate_every=4, sample_every=0)
    c.sample.update(steps=3, chunk=4)
    c.optim.update(schedule="constant", ema_profiles=(0.05, 0.1))
    c.loss.balance = True
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
    return dataclasses.replace(model, params=params)


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


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
    assert np.any(base != model.sample("a nighttime street", seed=3).image)
    assert np.any(base != model.sample(None, seed=3).image)
    assert np.any(base != model.sample(TEXT, guidance=4.0, seed=3).image)


def test_an_unused_branch_equals_no_guidance(model):
    guided = model.sampling(guidance=(1.0, 3.0), image_guidance=2.0)
    a, b = guided.sample(TEXT, guidance=gcdiff.Guidance(layout=1.0, image=1.0)), model.sample(TEXT)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert np.any(guided.sample(TEXT).layout != b.layout)


def test_changing_steps_seeds_scales_and_masks_compiles_nothing(model):
    from gcdiff.samplers import repaint
    from gcdiff.samplers.sample import Sampler

    programs = (Sampler.piece, Sampler.begin, Sampler.probabilities, repaint._piece)
    known = Pair(LAYOUTS[:2] > 3, None)
    model.sample(TEXT, num=5, guidance=2.0)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, guidance=2.0)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=2)
    model.segment(IMAGES[:2])
    model.synthesize(LAYOUTS[:2])
    before = [program._cache_size() for program in programs]
    model.sample("a nighttime street", num=2, steps=13, guidance=(3.0, 1.5), seed=9)
    model.sample(TEXT, guidance=gcdiff.Guidance(text=[2, 3], interval=[0.1, 1]))
    model.sampling(eta=0.5).sample(TEXT, guidance=2.0)
    model.sample(TEXT, start=Pair(IMAGES[:2], LAYOUTS[:2]), strength=0.3, guidance=2.0)
    model.outpaint(Pair(IMAGES[:3], None), Pair(LAYOUTS[:3] > 5, None), TEXT, steps=2, guidance=1.7)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, steps=4, resamples=5)
    model.segment(IMAGES[:3], steps=5, seed=3)
    model.synthesize(LAYOUTS[:2], confidence=0.4)
    model.synthesize(LAYOUTS[:2], confidence=0.4, evidence=True)
    assert [program._cache_size() for program in programs] == before


def test_paths_answer_with_what_was_asked(model):
    assert model.sample(TEXT, path="image_only").layout is None
    assert model.sample(TEXT, path="layout_only").image is None
    assert model.sample(TEXT, path="layout_first").layout is not None
    assert model.sample(TEXT, path="image_first").layout is not None
    with pytest.raises(ValueError, match="path is 'sideways'"):
        model.sample(TEXT, path="sideways")


def test_segment_takes_any_size_and_gives_probabilities(model):
    large = np.stack([picture(3, 40, 70), picture(4, 40, 70)])
    assert model.segment(large).shape == (2, 40, 70)
    for images in (IMAGES[:2], large):
        p = model.segment(images, 1, True)
        assert p.dtype == np.float32 and p.shape == (*images.shape[:3], 10)
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(p.argmax(-1), model.segment(images))
    assert model.segment(IMAGES[:2], steps=3).shape == (2, 16, 32)


def test_images_of_several_sizes_are_segmented_as_if_alone(model):
    images = [picture(i, 9 + 7 * i, 20 + 5 * i) for i in range(6)]
    found = model.segment(images, seed=5)
    assert [y.shape for y in found] == [x.shape[:2] for x in images]
    for i in (0, 3, 5):
        np.testing.assert_array_equal(model.segment(images[i : i + 1], seed=5, first_id=i)[0], found[i])
    whole = model.segment(IMAGES[:6], steps=3)
    np.testing.assert_array_equal(model.segment(IMAGES[2:6], steps=3, first_id=2), whole[2:])
    assert np.any(model.segment(IMAGES[2:6], steps=3) != whole[2:])


def test_progress_counts_the_steps_of_all_chunks(model):
    told = []
    model.segment(IMAGES[:5], progress=told.append)
    assert told == [0, 1, 1]
    told.clear()
    model.segment(IMAGES[:5], steps=12, progress=told.append)
    assert told == [0, 10, 1, 1, 10, 1, 1]
    told.clear()
    model.sample(num=5, progress=told.append)
    assert told == [0, 3, 3]


def test_unseen_words_are_named_once_per_call(model):
    with pytest.warns(UserWarning, match="words this model has never seen: purple, zebra") as caught:
        model.sample("a street with a purple zebra", num=5)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(TEXT)


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
    with pytest.raises(ValueError, match="expected uint8"):
        model.segment(IMAGES[0])
    with pytest.raises(ValueError, match="expected at least one"):
        model.segment([])
    with pytest.raises(ValueError, match="2 captions for 3 examples"):
        model.sample([TEXT, TEXT], num=3)
    with pytest.raises(ValueError, match="guidance is .1, 2, 3., expected one number or two"):
        model.sample(TEXT, guidance=(1, 2, 3))
    for seed in (-1, 2**32, 2**64):
        with pytest.raises(ValueError, match=f"seed is {seed}, expected 0 to 4294967295"):
            model.sample(TEXT, seed=seed)
    for call in (lambda: model.sample(steps=0), lambda: model.segment(IMAGES[:1], steps=0)):
        with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
            call()


def test_outpainting_says_which_shape_is_wrong(model):
    known = np.ones((2, 16, 32), bool)
    with pytest.raises(ValueError, match=r"known.image has shape \(2, 3, 3\), expected \(2, 16, 32\)"):
        model.outpaint(Pair(IMAGES[:2], None), Pair(known[:, :3, :3], None))
    with pytest.raises(ValueError, match=r"shape \(2, 8, 8\), expected .N, H, W. with at least the model's size"):
        model.outpaint(Pair(IMAGES[:2, :8, :8], None), Pair(known[:, :8, :8], None))
    with pytest.raises(ValueError, match=r"layout has shape \(2, 8, 32\), expected \(2, 16, 32\)"):
        model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2, :8]), Pair(known, known))


def trained(model, **shares):
    """The model as if its levels had been drawn otherwise in training."""
    levels = dataclasses.replace(model.built.levels, **shares)
    return dataclasses.replace(model, built=model.built._replace(levels=levels))


DIAGONAL = dataclasses.asdict(LevelShares.shared())


def test_a_model_refuses_what_it_was_not_trained_for(model):
    def refusal(share):
        return pytest.raises(ValueError, match=f"was not trained: config.levels.{share} of this run is 0")

    known = Pair(np.ones((1, 16, 32), bool), None)
    with refusal("one_call"):
        trained(model, one_call=0.0).segment(IMAGES[:1])
    trained(model, one_call=0.0).segment(IMAGES[:1], steps=2)
    with refusal("joint"):
        trained(model, joint=0.0, independent=0.5).outpaint(Pair(IMAGES[:1], None), known)
    with refusal("layout_given_image"):
        trained(model, **DIAGONAL).segment(IMAGES[:1], samples=2)
    for call in (
        lambda m: m.segment(IMAGES[:1], probabilities=True),
        lambda m: m.synthesize(LAYOUTS[:1], confidence=0.5),
    ):
        with pytest.raises(ValueError, match="trained on the diagonal only"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(trained(model, **DIAGONAL))


def test_a_model_of_the_diagonal_answers_by_repaint_and_says_so(model):
    diagonal = trained(model, **DIAGONAL)
    known = Pair(LAYOUTS[:2] > 4, LAYOUTS[:2] > 6)
    with pytest.warns(UserWarning, match="outpainting was not trained .*: RePaint answers"):
        out = diagonal.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT)
    again = model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=1)
    jax.tree.map(np.testing.assert_array_equal, out, again)
    np.testing.assert_array_equal(out.image[known.image], IMAGES[:2][known.image])
    np.testing.assert_array_equal(out.layout[known.layout], LAYOUTS[:2][known.layout])
    more = model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=3)
    assert np.any(more.image != again.image)
    with pytest.warns(UserWarning, match="RePaint answers"):
        assert diagonal.segment(IMAGES[:1]).shape == (1, 16, 32)
    with pytest.warns(UserWarning, match="RePaint answers"):
        assert diagonal.synthesize(LAYOUTS[:1]).shape == (1, 16, 32, 3)


def test_an_edit_begins_in_the_middle(model):
    start = Pair(IMAGES[:2], LAYOUTS[:2])
    edited = model.sample(TEXT, start=start, strength=(0.0, 0.5))
    np.testing.assert_array_equal(edited.image, start.image)
    assert np.any(edited.layout != start.layout)
    edited = model.sample(TEXT, start=start, strength=(0.5, 0.0))
    np.testing.assert_array_equal(edited.layout, start.layout)
    slight, strong = (model.sample(TEXT, start=start, strength=s) for s in (0.02, 0.9))
    assert (slight.layout != start.layout).mean() < (strong.layout != start.layout).mean()
    void = np.where(LAYOUTS[:2] > 5, VOID, LAYOUTS[:2])
    np.testing.assert_array_equal(model.sample(TEXT, start=Pair(IMAGES[:2], void), strength=(0.5, 0.0)).layout, void)
    for options, message in (
        ({"start": Pair(IMAGES[:2, :8], LAYOUTS[:2])}, r"start: image has shape \(2, 8, 32, 3\), expected \(N, H, W\)"),
        ({"start": (IMAGES[:2], None)}, "start: layout has shape None"),
        ({"start": start, "num": 2}, "expected no num, path or size beside it"),
        ({"size": (16, 64), "path": "image_only"}, "path is 'image_only', expected joint"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(**options)


def test_a_canvas_is_filled_window_by_window(model):
    pair = model.sample(TEXT, num=2, size=(16, 48), seed=2)
    assert pair.image.shape == (2, 16, 48, 3) and pair.layout.shape == (2, 16, 48)
    wide = Pair(np.concatenate([IMAGES[:2], IMAGES[2:4]], axis=2), np.concatenate([LAYOUTS[:2], LAYOUTS[2:4]], axis=2))
    known = np.arange(64) % 3 == np.zeros((2, 16, 1))
    told = []
    out = model.outpaint(wide, Pair(known, known), TEXT, progress=told.append)
    np.testing.assert_array_equal(out.image[known], wide.image[known])
    np.testing.assert_array_equal(out.layout[known], wide.layout[known])
    assert told.count(0) == 1 and sum(told) == 3 * 3  # three windows of three steps
    with pytest.raises(
        ValueError, match="a canvas of 8x48 is smaller than the model's 16x32|at least the model's size"
    ):
        model.sample(size=(8, 48))


def test_a_confidence_lies_between_the_layout_and_nothing(model):
    base = model.synthesize(LAYOUTS[:2], TEXT)
    np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, confidence=1.0), base)
    np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, region_confidence=1.0), base)
    nothing = model.synthesize(np.full_like(LAYOUTS[:2], VOID), TEXT)
    for options in ({"confidence": 0.0}, {"region_confidence": np.zeros(10)}):
        np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, **options), nothing)
    dial, evidence = (model.synthesize(LAYOUTS[:2], TEXT, confidence=0.6, evidence=e) for e in (False, True))
    assert np.any(dial != base) and np.any(dial != evidence)
    for options, message in (
        ({"confidence": 1.5}, "confidence lies in 1.5 to 1.5, expected 0 to 1"),
        ({"confidence": np.zeros(3)}, r"confidence has shape \(3,\), expected a number or \(2, 16, 32\)"),
        ({"evidence": True}, "evidence needs a confidence"),
    ):
        with pytest.raises(ValueError, match=message):
            model.synthesize(LAYOUTS[:2], **options)


def test_samples_and_windows_of_a_segmentation(model):
    drawn = model.segment(IMAGES[:3], samples=2)
    assert drawn.shape == (3, 2, 16, 32) and np.any(drawn[:, 0] != drawn[:, 1])
    np.testing.assert_array_equal(model.segment(IMAGES[:1], samples=2), drawn[:1])
    assert [y.shape for y in model.segment([IMAGES[0], picture(3, 40, 70)], samples=2)] == [(2, 16, 32), (2, 40, 70)]
    np.testing.assert_array_equal(model.segment(IMAGES[:3], windows=True), model.segment(IMAGES[:3]))
    large = picture(3, 40, 70)
    p = model.segment([large], probabilities=True, windows=True)
    assert p.shape == (1, 40, 70, 10)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)


def test_the_likelihood_has_named_parts_of_every_law_that_was_trained(model):
    report = model.likelihood(Pair(IMAGES[:5], LAYOUTS[:5]), TEXT, draws=2)
    assert set(report.legs) == {"joint", "image_only", "layout_only", "image_given_layout", "layout_given_image"}
    assert set(report.paths) == {"diagonal", "layout_first", "image_first"}
    assert report.legs["image_only"].layout is None and report.legs["joint"].layout.total.value > 0
    for path in ("diagonal", "image_first"):
        gap = report.paths[path].value - report.paths["layout_first"].value
        assert report.gaps[path].value == pytest.approx(gap)
    assert "-log p(y | x)" in report.table() and report.table().count("bits/pixel of y") == 3
    assert report.grid is None and "in continuous time" in report.table() and report.to_dict()["grid"] is None
    end = report.log_snr_max
    diagonal = trained(model, **DIAGONAL).likelihood(Pair(IMAGES[:5], LAYOUTS[:5]), TEXT, draws=2, log_snr_max=end)
    assert set(diagonal.legs) == {"joint"} and diagonal.legs["joint"] == report.legs["joint"]
    with pytest.raises(ValueError, match=r"likelihood: layout has shape \(5, 8, 32\), expected \(N, H, W\)"):
        model.likelihood(Pair(IMAGES[:5], LAYOUTS[:5, :8]))


def test_the_likelihood_on_a_grid_is_that_of_so_many_steps(model):
    """In one step from level 1 it is the negative log-likelihood of one-call segmentation."""
    told, pair = [], Pair(IMAGES[:5], LAYOUTS[:5])
    one = model.likelihood(pair, TEXT, draws=2, grid=1, progress=told.append)
    assert told.count(0) == 1 and sum(told) == 2 * 2 * len(one.legs)  # chunks, draws, legs
    p = np.take_along_axis(model.segment(pair.image, text=TEXT, probabilities=True), pair.layout[..., None], axis=-1)
    found = one.legs["layout_given_image"].layout
    assert found.total.value == pytest.approx(-np.log2(p).mean(), rel=1e-4)
    assert found.diffusion.value == 0 and set(one.paths) == {"diagonal", "layout_first", "image_first"}
    told.clear()
    report = model.likelihood(pair, TEXT, draws=2, grid=3, progress=told.append)
    assert sum(told) == 2 * 2 * len(report.legs) * 2  # a random step and the last
    assert (report.grid, report.log_snr_max) == (3, None) and report.legs["joint"].image.diffusion.value > 0
    assert report.to_dict()["grid"] == 3 and "on a grid of 3 steps" in report.table()
    for options, message in (
        ({"grid": 0}, "grid is 0, expected at least 1 step"),
        (
            {"grid": 3, "log_snr_max": 9.0},
            "log_snr_max is 9.0 and grid is 3, expected one: a grid has its own last step",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.likelihood(pair, TEXT, **options)


def test_a_segmentation_in_a_shell_says_what_it_does_not_know(run, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(picture(i, 20, 40)).save(tmp_path / "photos" / f"{i}.png")
    command = ["segment", "--workdir", str(run), "--images", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--entropy", "--windows"]) == 0
    assert read(tmp_path / "out/entropy/1.png").shape == (20, 40)
    assert cli.main([*command, "--vote", "3", "--steps", "2"]) == 0
    assert read(tmp_path / "out/layouts/0.png").shape == (20, 40)
    assert cli.main([*command, "--vote", "3", "--entropy"]) == 2
    assert "--vote is 3, expected at least 1, without --windows and --entropy" in capsys.readouterr().err


def test_evaluate_measures_on_held_out_examples(run, tmp_path, capsys):
    file = tmp_path / "new" / "numbers.json"
    command = ["evaluate", "--workdir", str(run), "--num", "5", "--out", str(file)]
    assert cli.main([*command, "--likelihood", "--draws", "1"]) == 0
    found = json.loads(file.read_text())
    assert found["examples"] == 5 and 0 <= found["segmentation"]["miou"]["value"] <= 1
    assert set(found["segmentation"]["iou"]) == set(gcdiff.load(run).labels.names)
    assert found["segmentation"]["negative_log_likelihood"] > 0
    assert found["likelihood"]["legs"]["layout_given_image"]["layout"]["total"]["value"] > 0
    assert "calibration_error" in capsys.readouterr().out
    assert cli.main([*command[:-3], "0"]) == 2
    assert "--num is 0" in capsys.readouterr().err
    assert cli.main([*command, "--likelihood", "--log-snr-max", "20"]) == 2
    assert "log_snr_max is 20" in capsys.readouterr().err
    assert cli.main([*command, "--likelihood", "--draws", "1", "--grid", "3", "--num", "2"]) == 0
    assert json.loads(file.read_text())["likelihood"]["grid"] == 3
    shown = capsys.readouterr()
    assert "on a grid of 3 steps" in shown.out and "step 10/10" in shown.err  # 1 chunk, 5 legs, 2 steps
    for extra, message in (
        (["--likelihood", "--grid", "0"], "grid is 0"),
        (["--grid", "3"], "--grid is 3, expected --likelihood"),
    ):
        assert cli.main([*command, *extra]) == 2
        assert message in capsys.readouterr().err


def test_what_is_drawn_may_be_changed_on_the_way(model):
    other = model.sampling(image_step="dpm++", steps=4, path="layout_first", share=0.25)
    assert other.config.sample.steps == 4 and model.config.sample.steps == 3
    assert np.any(other.sample(TEXT).image != model.sample(TEXT).image)
    with pytest.raises(ValueError, match="config.sample.colour: there is no such field"):
        model.sampling(colour=3)
    with pytest.raises(ValueError, match="config.sample.image_step is 'euler', expected one of"):
        model.sampling(image_step="euler")


def test_cross_guidance_matters_and_text_scales_leave_it(model):
    base = model.synthesize(LAYOUTS[:2], TEXT)
    assert np.any(base != model.synthesize(LAYOUTS[:2], TEXT, guidance=gcdiff.Guidance(layout=2.0)))
    off = gcdiff.Guidance(layout=2.0, interval=(0.0, 0.0))
    np.testing.assert_allclose(model.synthesize(LAYOUTS[:2], TEXT, guidance=off), base, atol=1)


@pytest.mark.parametrize("process", ["absorbing", "bits"])
def test_every_label_process_answers_every_question(model, process):
    """Random weights; labels are classes, known pixels come back bit for bit whatever the steps and the corrector do,
    and all steps take the process's state."""
    config = model.config.copy_and_resolve_references()
    config.process.layout = process
    config.sample.update(steps=2, image_step="dpm++")
    if process == "absorbing":
        config.sample.update(layout_step="psi", psi=2.0, corrector=1.0)
    built = configs.build(config, model.specs)
    rng = np.random.default_rng(0)
    params = jax.jit(lambda: configs.initial_params(built, config, model.specs))()
    params = jax.tree.map(lambda p: (p + 0.2 * rng.normal(size=p.shape)).astype(np.float32), params)
    other = dataclasses.replace(model, config=config, built=built, params=params)
    known, layouts = Pair(LAYOUTS[:2] > 4, LAYOUTS[:2] > 6), LAYOUTS[:2].copy()
    layouts[:, :3] = VOID
    out = other.outpaint(Pair(IMAGES[:2], layouts), known, TEXT, guidance=2.0)
    assert out.layout.dtype == np.int32 and out.layout.min() >= 0 and out.layout.max() < 10
    held = known._replace(layout=known.layout & (layouts != VOID))
    np.testing.assert_array_equal(out.image[held.image], IMAGES[:2][held.image])
    np.testing.assert_array_equal(out.layout[held.layout], layouts[held.layout])
    unknown = other.outpaint(Pair(IMAGES[:2], np.where(held.layout, layouts, 7)), held, TEXT, guidance=2.0)
    jax.tree.map(np.testing.assert_array_equal, out, unknown)  # void in a known mask is unknown
    p = other.segment(IMAGES[:2], probabilities=True)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-4)
    with pytest.raises(ValueError, match=f"evidence has no meaning for process.layout={process}"):
        other.synthesize(layouts, confidence=0.5, evidence=True)
    if process == "bits":
        with pytest.raises(ValueError, match="BitsProcess, expected one with a likelihood"):
            other.likelihood(Pair(IMAGES[:1], LAYOUTS[:1]))


def test_resuming_is_no_interruption(run, config, tmp_path):
    command = ["train", "--config", str(config), "--workdir", str(tmp_path / "interrupted")]
    assert cli.main([*command, "--config.train.steps=2"]) == 0
    assert cli.main(command) == 0
    a, b = gcdiff.load(tmp_path / "interrupted").params, gcdiff.load(run).params
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_length_of_the_average_is_chosen_afterwards(run, tmp_path):
    """A shorter average is nearer to the last parameters, so their distances to a short one grow with the length."""
    short, *others = (gcdiff.load(run, ema=length).params for length in (0.05, 0.06, 0.1))
    assert set(short) == {"network", "text"}
    distances = [
        sum(np.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (short, o)), strict=True)) for o in others
    ]
    assert 0 < distances[0] < distances[1]
    out = tmp_path / "numbers.json"
    command = ["evaluate", "--workdir", str(run), "--num", "4", "--ema", "0.07", "--out", str(out)]
    assert cli.main(command) == 0 and json.loads(out.read_text())["ema"] == 0.07


def test_another_runs_weights_are_taken_by_name(run, config, tmp_path, capsys):
    workdir = tmp_path / "second"
    command = ["train", "--config", str(config), "--workdir", str(workdir), "--init", str(run)]
    plain = ["--config.optim.ema_profiles=()", "--config.loss.balance=False"]
    assert cli.main([*command, *plain, "--config.train.steps=1"]) == 0  # warm-up: the first step is a very small one
    assert "10 classes matched by name" in capsys.readouterr().err
    a, b = gcdiff.load(run).params, gcdiff.load(workdir).params
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)
    with pytest.raises(
        ValueError, match=r"second keeps no averages to choose from: its config.optim.ema_profiles is \(\)$"
    ):
        gcdiff.load(workdir, ema=0.07)


def test_the_examples_of_the_command_line_run_one_after_the_other(run, config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "runs/streets")
    Path("configs").mkdir()
    shutil.copy(config, "configs/streets.py")
    known = np.arange(32) < 16
    Path("masks").mkdir()
    for i in range(5):
        Image.fromarray(np.tile(known * np.uint8(255), (16, 1))).save(f"masks/0000{i}.png")
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for line in EXAMPLES.splitlines():
        assert line.strip() in readme
        words = shlex.split(line.replace("steps=2000", "steps=4"))
        assert words[0] == "gcdiff" and cli.main(words[1:]) == 0, capsys.readouterr().err

    for out, count in (("samples", 8), ("segmented", 8), ("synthesized", 8), ("outpainted", 5)):
        names = {f"{part}/0000{i}.png" for part in ("images", "layouts", "colors") for i in range(count)}
        assert {str(p.relative_to(out)) for p in Path(out).rglob("*") if p.is_file()} == names | {"overview.png"}
    for i in range(5):
        image, layout = (read(Path("samples", part, f"0000{i}.png")) for part in ("images", "layouts"))
        np.testing.assert_array_equal(read(Path(f"segmented/images/0000{i}.png")), image)
        np.testing.assert_array_equal(read(Path(f"outpainted/images/0000{i}.png"))[:, known], image[:, known])
        np.testing.assert_array_equal(read(Path(f"outpainted/layouts/0000{i}.png"))[:, known], layout[:, known])
    given, kept = (read(Path(out, "layouts", "00003.png")) for out in ("segmented", "synthesized"))
    np.testing.assert_array_equal(given, kept)
    assert np.any(read(Path("synthesized/images/00000.png")) != read(Path("synthesized/images/00001.png")))
    error = capsys.readouterr().err
    assert "step 6/6" in error and "step 2/2" in error  # two chunks of three steps; two chunks segmented in one call


def test_a_folder_of_mixed_sizes_is_segmented_file_by_file(run, tmp_path, capsys):
    images = [picture(i, 16 + 4 * (i % 3), 32 + i) for i in range(6)]
    (tmp_path / "photos").mkdir()
    for i, x in enumerate(images):
        Image.fromarray(x).save(tmp_path / "photos" / f"{i}.png")
    command = ["segment", "--workdir", str(run), "--seed", "3", "--text", "a zebra", "--images"]
    assert cli.main([*command, str(tmp_path / "photos"), "--out", str(tmp_path / "all")]) == 0
    assert capsys.readouterr().err.count("words this model has never seen: zebra") == 1
    with pytest.warns(UserWarning):
        expected = gcdiff.load(run).segment(images, text="a zebra", seed=3)
    for i, layout in enumerate(expected):
        np.testing.assert_array_equal(read(tmp_path / "all" / "layouts" / f"{i}.png"), layout)
        np.testing.assert_array_equal(read(tmp_path / "all" / "images" / f"{i}.png"), images[i])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "CONFIG", "--config.train.stepz=3"], "config.train.stepz: there is no such field"),
        (["train", "--config", "CONFIG", "--config.train.steps=many"], "config.train.steps=many: expected int"),
        (["train", "--config", "CONFIG", "--config.process.output=w"], "config.process.output is 'w', expected one of"),
        (["train", "--config", "CONFIG", "--config.train.seed=-1"], "config.train.seed is -1, expected 0 to"),
        (["train", "--config", "CONFIG", "--config.optim.schedule=w"], "optim.schedule is 'w', expected one of"),
        (["train", "--config", "CONFIG", "--config.network.heads=0"], "this config makes no network: "),
        (["train", "--config", "CONFIG", "--init", "EMPTY"], "is not a run directory"),
        (["train", "--config", "nowhere.py"], "nowhere.py: there is no such file"),
        (["sample", "--text", ""], "empty caption"),
        (["sample", "--seed", "18446744073709551616"], "seed is 18446744073709551616, expected 0 to"),
        (["sample", "--ema", "0.5"], "sigma_rel is 0.5, expected more than 0 and less than 0.2887"),
        (["sample", "--num", "0"], "num is 0, expected at least 1"),
        (["sample", "--steps", "0"], "steps is 0, expected at least 1"),
        (["segment", "--steps", "0", "--images", "GOOD"], "steps is 0, expected at least 1"),
        (["segment", "--images", "EMPTY"], "EMPTY: empty, expected files ending in"),
        (["segment", "--images", "MIXED"], "MIXED/y.png: not a readable image"),
        (["synthesize", "--layouts", "GOOD"], "GOOD/x.png: label 200 at row 0"),
        (["outpaint", "--known", "GOOD"], "expected --images, --layouts or both"),
        (["outpaint", "--known", "GOOD", "--images", "WIDE"], "mask x is 32 wide and 15 high, expected at least 32"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(arguments, message, config, run, tmp_path, capsys):
    contents = {
        "EMPTY": {},
        "GOOD": {"x": np.full((15, 32), 200, np.uint8)},
        "WIDE": {"x": np.zeros((16, 32), np.uint8)},
        "MIXED": {"x": np.zeros((16, 32), np.uint8), "y": None},
    }
    for name, files in contents.items():
        (tmp_path / name).mkdir()
        for stem, array in files.items():
            file = tmp_path / name / f"{stem}.png"
            file.write_bytes(b"no picture") if array is None else Image.fromarray(array).save(file)
    places = {"CONFIG": str(config), **{name: str(tmp_path / name) for name in contents}}
    out = tmp_path / "out"
    rest = ["--workdir", str(out)] if arguments[0] == "train" else ["--workdir", str(run), "--out", str(out)]
    assert cli.main([places.get(a, a) for a in arguments] + rest) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and len(error) == 1
    assert {p.name for p in tmp_path.iterdir()} == set(contents)


def test_a_batch_must_fit_the_devices(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    assert cli.main(["train", "--config", str(config), "--workdir", str(tmp_path / "out")]) == 2
    assert "batch 4 is not divisible by 3 devices" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_are_named(run, tmp_path, capsys):
    assert cli.main(["sample", "--workdir", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert cli.main(["sample", "--workdir", str(run), "--out", "/proc/here"]) == 2
    assert "cannot write to /proc/here" in capsys.readouterr().err
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "layouts").write_text("a file where a folder must go")
    assert cli.main(["sample", "--workdir", str(run), "--out", str(tmp_path / "o")]) == 2
    assert "layouts is a file, expected a folder to write to" in capsys.readouterr().err
