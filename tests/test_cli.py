"""A real (tiny) run: trained, asked and measured through the command line."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_models import STREETS

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.cli.parser import EXAMPLES
from gcdiff.evaluation.metrics import METRICS
from gcdiff.samplers.sample import Sampler


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(STREETS)
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    """Begun for half of its steps, and gone on with: `tests/training` shows that this makes no difference."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["train", "--config", str(config), "--workdir", str(workdir)]
    assert cli.main([*command, "--config.train.steps=2"]) == 0
    assert cli.main(command) == 0
    return workdir


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_a_run_directory_is_complete(run):
    names = {p.name for p in run.iterdir()}
    assert {"config.json", "specs.json", "DATA_LICENCE.txt", "metrics.jsonl", "checkpoints", "samples"} <= names
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/segmentation_miou" in row for row in rows)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]


def test_a_restored_model_goes_on_after_ten_steps_in_the_same_program(run):
    model = gcdiff.load(run)
    model.sample()
    before = Sampler.piece._cache_size()
    model.sample(steps=13)
    assert Sampler.piece._cache_size() == before


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
    assert cli.main([*command, "--likelihood", "--draws", "1", "--grid", "3"]) == 0
    shown, report = capsys.readouterr(), json.loads(file.read_text())
    assert report["examples"] == 5 and 0 <= report["segmentation"]["miou"]["value"] <= 1
    assert set(report["segmentation"]["iou"]) == set(gcdiff.load(run).labels.names)
    assert report["segmentation"]["negative_log_likelihood"] > 0
    assert report["likelihood"]["legs"]["layout_given_image"]["layout"]["total"]["value"] > 0
    assert report["likelihood"]["grid"] == 3 and "calibration_error" in shown.out
    assert "on a grid of 3 steps" in shown.out and "step 20/20" in shown.err  # 2 chunks, 5 legs, 2 steps
    assert cli.main([*command[:-3], "0"]) == 2
    assert "--num is 0" in capsys.readouterr().err
    assert cli.main([*command, "--likelihood", "--log-snr-max", "20"]) == 2
    assert "log_snr_max is 20" in capsys.readouterr().err
    for extra, message in (
        (["--likelihood", "--grid", "0"], "grid is 0"),
        (["--grid", "3"], "--grid is 3, expected --likelihood"),
    ):
        assert cli.main([*command, *extra]) == 2
        assert message in capsys.readouterr().err


def test_a_report_is_of_every_metric_that_there_can_be(run, tmp_path, capsys):
    out = tmp_path / "report"
    command = ["evaluate", "--workdir", str(run), "--num", "6", "--pairs", "4", "--out", str(out)]
    assert cli.main([*command, "--metrics", "full", "--draws", "1", "--sweep", "steps=2"]) == 0
    shown, report = capsys.readouterr(), json.loads((out / "report.json").read_text())
    measured = {row["metric"] for row in report["rows"]}
    assert measured >= {"segmentation", "pairs", "synthesis", "captions", "layouts", "diversity", "likelihood"}
    assert measured | set(report["left_out"]) == set(METRICS) and "left out: clip" in shown.out
    assert report["sweeps"][0]["points"][0]["value"] == 2 and "--sweep steps=2" in report["made"]["command"]
    for row in report["rows"]:
        assert row["title"] in shown.out
    assert "4 pairs: " in shown.err and (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert {p.name for p in out.iterdir()} == {"report.json", "report.html"}
    for extra, message in (
        (["--metrics", "fid"], "unknown metric 'fid', expected some of segmentation"),
        (["--sweep", "psi=1"], "--sweep is 'psi=1', expected guidance=VALUES"),
        (["--sweep", "steps=0"], "expected 1 step or more"),
        (["--sweep", "steps=x"], "expected numbers such as steps=1,2,4"),
        (["--metrics", "quick", "--sweep", "steps=1"], "expected one of them in --metrics"),
        (["--metrics", "pairs", "--features", "inception:x"], "expected clip:DIR, torchscript:FILE"),
        (["--metrics", "pairs", "--pairs", "0"], "--pairs is 0"),
        (["--metrics", "pairs", "--sweep", "guidance=1,nan"], "expected 0 or more"),
        (["--metrics", "pairs", "--sweep", "guidance=inf"], "expected 0 or more"),
        (["--segmenter", "x"], "--segmenter is of a report, expected --metrics"),
    ):
        assert cli.main([*command, *extra]) == 2
        stderr = capsys.readouterr().err
        assert message in stderr and stderr.count("\n") == 1


def test_the_length_of_the_average_is_chosen_afterwards(run, tmp_path):
    """A shorter average is nearer to the last parameters, so their distances to a short one grow with the length."""
    loaded = (gcdiff.load(run, ema=length).params for length in (0.05, 0.06, 0.1))
    short, *others = (jax.tree.map(np.asarray, params) for params in loaded)
    assert set(short) == {"network", "text"}
    distances = [
        sum(np.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (short, o)), strict=True)) for o in others
    ]
    assert 0 < distances[0] < distances[1]
    out = tmp_path / "numbers.json"
    command = ["evaluate", "--workdir", str(run), "--num", "4", "--ema", "0.07", "--out", str(out)]
    assert cli.main(command) == 0 and json.loads(out.read_text())["ema"] == 0.07


@pytest.mark.slow
def test_another_runs_weights_are_taken_by_name(run, config, tmp_path, capsys):
    workdir = tmp_path / "second"
    command = ["train", "--config", str(config), "--workdir", str(workdir), "--init", str(run)]
    assert cli.main([*command, "--config.train.steps=1"]) == 0  # warm-up: the first step is a very small one
    assert "10 classes matched by name" in capsys.readouterr().err
    a, b = gcdiff.load(run).params, gcdiff.load(workdir).params
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


def test_what_only_training_needs_is_not_taken_from_another_run(run, config):
    plain = configs.load_file(str(config), [("optim.ema_profiles", "()"), ("loss.balance", "False")])
    data = configs.splits(plain)
    specs = configs.build_specs(plain, data.train)
    initial, _ = configs.initial_from(run, plain, specs)
    task = configs.build_task(plain, specs, data, initial)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, shapes) == jax.tree.map(np.shape, gcdiff.load(run).params)


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
        (["train", "--config", "CONFIG", "--config.network.dim=0"], "this config makes no network: "),
        (["train", "--config", "CONFIG", "--init", "EMPTY"], "is not a run directory"),
        (["train", "--config", "nowhere.py"], "nowhere.py: there is no such file"),
        (["sample", "--text", ""], "empty caption"),
        (["sample", "--seed", "18446744073709551616"], "seed is 18446744073709551616, expected 0 to"),
        (["sample", "--ema", "0.5"], "sigma_rel is 0.5, expected more than 0 and less than 0.2887"),
        (["sample", "--num", "0"], "num is 0, expected at least 1"),
        (["train", "--config", "CONFIG", "--config.optim.b1=1e999"], "config.optim.b1=1e999: expected a finite number"),
        (["train", "--config", "CONFIG", "--config.data.scale=(0,nan)"], "config.data.scale=(0,nan): expected tuple"),
        (["sample", "--guidance", "nan"], "guidance is nan, expected a finite number"),
        (["sample", "--guidance", "1e39"], "guidance is 1e+39, expected a finite number"),
        (["sample", "--config.sample.guidance=(1,1e999)"], "config.sample.guidance=(1,1e999): expected a finite"),
        (["sample", "--ema", "nan"], "sigma_rel is nan, expected more than 0"),
        (["generate", "--num", "1", "--guidance", "inf"], "--guidance is inf, expected a finite number"),
        (["generate", "--num", "1", "--min-agreement", "nan"], "--min-agreement is nan, expected 0 to 1"),
        (["synthesize", "--layouts", "WIDE", "--confidence", "nan"], "confidence lies in nan to nan, expected 0 to 1"),
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
    devices = 3 * jax.devices()
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert cli.main(["train", "--config", str(config), "--workdir", str(tmp_path / "out")]) == 2
    assert "batch 4 is not divisible by 3 devices" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_are_named(run, tmp_path, capsys):
    assert cli.main(["sample", "--workdir", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert cli.main(["sample", "--workdir", str(run), "--out", "/proc/here"]) == 2
    assert "cannot write to /proc/here" in capsys.readouterr().err
    Image.fromarray(picture(0, 16, 32)).save(tmp_path / "a.png")
    assert cli.main(["segment", "--workdir", str(run), "--images", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path} would be written to where --images {tmp_path} is read" in capsys.readouterr().err
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "layouts").write_text("a file where a folder must go")
    assert cli.main(["sample", "--workdir", str(run), "--out", str(tmp_path / "o")]) == 2
    assert "layouts is a file, expected a folder to write to" in capsys.readouterr().err
