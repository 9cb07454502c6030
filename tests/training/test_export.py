"""What is done with a run's checkpoints: listed, verified, pruned, and exported so that nothing is missing or wrong."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.jobs.lock import hold
from gcdiff.training.checkpoint import Checkpointer
from gcdiff.training.export import FILES, WEIGHTS, restore_export, save_export
from gcdiff.training.joint_task import LossConfig, training_params
from gcdiff.training.keep import Keep
from gcdiff.training.snapshots import Snapshots
from gcdiff.training.state import TrainState

STEPS = (2, 4, 6)
CONFIG = """
from gcdiff.config import default

def get_config():
    c = default()
    c.data.update(name="streets", size=(16, 32), num=8, heldout=2)
    c.network.update(dim=8, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(True,), final_dim=8)
    c.text.update(features=16, layers=1)
    c.optim.ema_profiles = (0.05, 0.1)
    c.loss.balance = True
    return c
"""


def call(*words) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with random parameters, others at every step."""
    place = tmp_path_factory.mktemp("export")
    (place / "config.py").write_text(CONFIG)
    config = configs.load_file(str(place / "config.py"))
    specs = configs.build_specs(config, configs.splits(config).train)
    built, rng = configs.build(config, specs), np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: configs.initial_params(built, config, specs) | training_params(LossConfig(balance=True))
    )

    def random():
        return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape).astype(a.dtype)), shapes)

    configs.save_run(place / "run", config, specs)
    checkpoints, snapshots = (
        Checkpointer(place / "run" / "checkpoints", Keep(3)),
        Snapshots(place / "run" / "snapshots"),
    )
    for step in STEPS:
        state = TrainState(jnp.int32(step), {"w": jnp.zeros(3)}, random(), {"m": jnp.ones(3)}, (random(), random()))
        snapshots.save(step, state.profiles)
        checkpoints.save(step, state, {"meta": {"step": step}}, {"miou": -step})
    checkpoints.close()
    lines = [{"step": 4, "train/loss": 0.5, "train/noise": 7.0}, {"step": 4, "eval/miou": 0.25, "eval/gap": None}]
    (place / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "tr')
    return place / "run"


@pytest.fixture
def copy(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def exported(run) -> Path:
    assert call("checkpoint", "export", run, "--out", run.parent / "exported") == 0
    return run.parent / "exported"


def flip(file: Path, place: int | None = None) -> None:
    """Flip a bit in the middle of a file, or at a place."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    file.write_bytes(content)


def files_of(step: Path) -> list[Path]:
    return [p for p in step.rglob("*") if p.is_file()]


def data_of(step: Path) -> Path:
    """The largest file of a step, which holds array data."""
    return max(files_of(step), key=lambda p: p.stat().st_size)


def steps(run: Path) -> set[str]:
    return {p.name for p in (run / "checkpoints").iterdir()}


def test_a_list_says_what_is_there(copy, capsys):
    size = sum(p.stat().st_size for p in files_of(copy / "checkpoints" / "4"))
    assert call("checkpoint", "list", copy) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["checkpoints", "2", "4", "6", "snapshots", "2", "4", "6"]
    assert rows[2][3:] == [f"{size:,}", "yes", "not", "checked", "loss", "0.5", "miou", "0.25"]
    assert rows[6][4:] == ["yes", "not", "checked"]

    (copy / "checkpoints" / "6" / "manifest.json").unlink()
    flip(data_of(copy / "checkpoints" / "2"))
    assert call("checkpoint", "list", copy, "--check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "yes       damaged (" in lines[1] and " verified " in lines[2]
    assert "no        damaged (no manifest.json: the save did not finish)" in lines[3]


def test_verify_names_the_file_of_every_flipped_or_missing_byte(copy, capsys):
    assert call("checkpoint", "verify", copy) == 0
    lines = capsys.readouterr().out.splitlines()
    folders = [f"{copy}/{part}/{step}" for part in ("checkpoints", "snapshots") for step in STEPS]
    assert lines == [f"{folder}: verified" for folder in folders]

    step = copy / "checkpoints" / "4"
    for file in files_of(step):
        before, name = file.read_bytes(), file.relative_to(step).as_posix()
        if before and name != "manifest.json":
            flip(file)
            assert call("checkpoint", "verify", copy, "--step", 4) == 1
            said = capsys.readouterr().out.splitlines()
            assert said == [f"{step}: damaged ({name} is changed)", f"{copy}/snapshots/4: verified"]
            file.write_bytes(before)
    data_of(step).unlink()
    flip(data_of(copy / "snapshots" / "4"))
    (copy / "checkpoints" / "6" / "manifest.json").write_text("{")
    assert call("checkpoint", "verify", copy) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith(": verified") for line in lines] == [True, False, False, True, False, True]
    assert " is missing)" in lines[1] and "manifest.json cannot be read" in lines[2] and " is changed)" in lines[4]


@pytest.mark.parametrize(
    ("keep", "bad", "unfinished", "left"),
    [
        (1, (), (), {"6"}),
        (2, (), (), {"4", "6"}),
        (9, (), (), {"2", "4", "6"}),
        (1, (4, 6), (), {"2"}),
        (1, (), (4,), {"6"}),
        (1, (2,), (6,), {"4"}),
        (1, (6,), (4,), {"2"}),
    ],
)
def test_prune_keeps_the_newest_good_ones(copy, capsys, keep, bad, unfinished, left):
    for step in bad:
        flip(data_of(copy / "checkpoints" / str(step)))
    for step in unfinished:
        (copy / "checkpoints" / str(step) / "manifest.json").unlink()
    before = {step: sum(p.stat().st_size for p in files_of(copy / "checkpoints" / step)) for step in "246"}
    gone = sorted({"2", "4", "6"} - left)
    for dry, done in ((["--dry-run"], "would be removed"), ([], "removed")):
        assert steps(copy) == {"2", "4", "6"}
        assert call("checkpoint", "prune", copy, "--keep", keep, *dry) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[: len(gone)] == [f"{copy}/checkpoints/{s}: {done}, {before[s]:,} bytes" for s in gone]
        assert said[-1] == f"{len(gone)} {done}, {sum(before[s] for s in gone):,} bytes in all"
    assert steps(copy) == left


def test_prune_removes_what_was_set_aside_and_keeps_what_the_config_keeps(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["train"].update(keep_best="miou", keep_every=4)
    (copy / "config.json").write_text(json.dumps(config))
    aside, left = copy / "checkpoints" / "3.damaged", copy / "checkpoints" / "7.partial"
    for folder in (aside, left):
        shutil.copytree(copy / "checkpoints" / "6", folder)
    assert call("checkpoint", "list", copy, "--check") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows][:5] == ["checkpoints", "2", "4", "6", "3.damaged"]
    assert rows[4][4:] == ["yes", "set", "aside"]
    assert call("checkpoint", "prune", copy, "--keep", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 removed, ")
    assert steps(copy) == {"2", "4", "6"}  # the best, a multiple, the newest
    with hold(copy):
        assert call("checkpoint", "prune", copy, "--keep", 1, "--dry-run") == 0
        capsys.readouterr()
        assert call("checkpoint", "prune", copy, "--keep", 1) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "in use by process" in said[0]


def test_an_export_is_read_exactly_as_its_run(run, exported, monkeypatch):
    assert len({(exported / name).stat().st_mode for name in FILES}) == 1  # as readable as the rest
    assert {p.name for p in exported.iterdir()} == set(FILES)
    for refused in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, refused, None)
    of_run, of_export = gcdiff.load(run), gcdiff.load(exported)
    assert jax.tree.structure(of_run.params) == jax.tree.structure(of_export.params)
    jax.tree.map(np.testing.assert_array_equal, of_run.params, of_export.params)
    assert of_run.config.to_dict() == of_export.config.to_dict() and of_run.specs == of_export.specs
    assert of_export.specs.licence in (exported / "DATA_LICENCE.txt").read_text()
    names = load_file(exported / WEIGHTS)
    assert not any(name.startswith("balance") for name in names)
    np.testing.assert_array_equal(names["network/head_layout/bias"], of_run.params["network"]["head_layout"]["bias"])


def test_an_export_of_another_length_and_of_an_export(run, exported, tmp_path, capsys):
    assert call("checkpoint", "export", run, "--out", tmp_path / "out", "--ema", "0.07") == 0
    jax.tree.map(np.testing.assert_array_equal, gcdiff.load(run, ema=0.07).params, gcdiff.load(tmp_path / "out").params)
    (tmp_path / "out" / ".compiled").mkdir()
    assert call("checkpoint", "export", exported, "--out", tmp_path / "out") == 0  # written over
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (exported / name).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ValueError, match="is an export and holds one average: its length is chosen when it is made$"):
        gcdiff.load(exported, ema=0.07)


@pytest.mark.slow
def test_a_run_starts_from_an_export_as_from_its_run(run, exported, monkeypatch):
    fresh = jax.tree.map(jnp.zeros_like, gcdiff.load(run).params)
    monkeypatch.setattr(configs.parts, "initial_params", lambda *_: fresh)
    config, specs = configs.load_run(run)
    (a, said), (b, _) = (configs.initial_from(place, config, specs) for place in (run, exported))
    jax.tree.map(np.testing.assert_array_equal, a(None), b(None))
    jax.tree.map(np.testing.assert_array_equal, a(None), gcdiff.load(run).params)
    assert "10 classes matched by name" in said


def rewrite(**changes):
    """Another program's change of the arrays."""

    def change(folder: Path) -> None:
        arrays = load_file(folder / WEIGHTS) | {name.replace("__", "/"): array for name, array in changes.items()}
        save_file({name: array for name, array in arrays.items() if array is not None}, folder / WEIGHTS)

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: (d / WEIGHTS).unlink(), "no checkpoint found, there is neither checkpoints nor model.safetensors"),
        (lambda d: (d / "config.json").unlink(), "is not a run directory: there is no config.json in it"),
        (lambda d: (d / "specs.json").unlink(), "is not a run directory: there is no specs.json in it"),
        (
            rewrite(network__head_layout__bias=None),
            "holds nothing for network/head_layout/bias, the .* expects float32",
        ),
        (
            rewrite(network__more=np.zeros(3, np.float32)),
            r"holds float32\[3\] for network/more, the .* expects nothing",
        ),
        (
            rewrite(network__head_layout__bias=np.zeros(3, np.float32)),
            r"holds float32\[3\] for .*bias, .* float32\[10\]",
        ),
        (rewrite(network__head_layout__bias=np.zeros(10, np.float16)), r"holds float16\[10\] for .*bias, .* float32\["),
        (lambda d: flip(d / WEIGHTS, -1), "model.safetensors: damaged, its arrays have changed"),
        (lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-1]), "damaged, expected a safetensors file"),
        (lambda d: (d / WEIGHTS).write_bytes(b""), "damaged, expected a safetensors file"),
    ],
)
def test_what_is_wrong_with_an_export_is_said_in_one_line(exported, tmp_path, change, error):
    shutil.copytree(exported, tmp_path / "out")
    change(tmp_path / "out")
    with pytest.raises((ValueError, FileNotFoundError), match=error) as caught:
        gcdiff.load(tmp_path / "out")
    assert "\n" not in str(caught.value) and str(tmp_path / "out") in str(caught.value)


def test_no_bit_of_the_weights_is_changed_unnoticed(tmp_path):
    target = {"a": np.arange(3, dtype=np.float32), "b": {"c": np.float32(2.5), "none": np.zeros((0, 2), np.float32)}}
    save_export(tmp_path / "out", target, lambda _: None)
    jax.tree.map(np.testing.assert_array_equal, restore_export(tmp_path / "out", target), target)
    file = tmp_path / "out" / WEIGHTS
    content = file.read_bytes()
    for place in range(len(content)):
        flip(file, place)
        try:
            read = restore_export(tmp_path / "out", target)
        except ValueError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
        else:  # a space, or the name of the sum: the arrays are what they were
            jax.tree.map(np.testing.assert_array_equal, read, target)
        file.write_bytes(content)


def test_nothing_is_written_over_and_nothing_half_written(run, exported, copy, tmp_path, capsys):
    for name, files in {
        "other": ["notes.txt"],
        "mine": [*FILES, "evaluation.json"],
        "new_run": ["config.json"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("")
    (tmp_path / "file").write_text("")
    flip(data_of(copy / "checkpoints" / "6"))
    cases = [
        (
            ["export", run, "--out", tmp_path / "other"],
            "other holds notes.txt: expected a new or an empty folder, or an",
        ),
        (["export", run, "--out", tmp_path / "mine"], "mine holds evaluation.json: expected a new or an empty folder"),
        (
            ["export", run, "--out", tmp_path / "new_run"],
            "new_run holds config.json: expected a new or an empty folder",
        ),
        (["export", run, "--out", run], "holds DATA_LICENCE.txt: expected a new or an empty folder, or an export to"),
        (["export", run, "--out", tmp_path / "file"], "file is a file, expected a folder to write to"),
        (["export", tmp_path, "--out", tmp_path / "x"], "is not a run directory: there is no config.json in it"),
        (["export", run, "--out", tmp_path / "x", "--ema", "0.01"], "sigma_rel is 0.01, which the averages of"),
        (["list", tmp_path], "checkpoints: no checkpoint found"),
        (["verify", exported], "is an export, which is verified whenever it is loaded: expected a run"),
        (["verify", run, "--step", "3"], "--step is 3, expected one of .*: 2, 4, 6"),
        (["prune", run, "--keep", "0"], "keep is 0, expected at least 1"),
    ]
    (copy / ".lock").touch()  # what prune leaves
    before = sorted(tmp_path.rglob("*"))
    for words, error in cases:
        assert call("checkpoint", *words) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("gcdiff checkpoint: ") and error.split(".*")[-1] in lines[0]
    for step in STEPS[:2]:
        flip(data_of(copy / "checkpoints" / str(step)))
    for words, error in (
        (["prune", copy, "--keep", "1"], "no checkpoint is good"),
        (["export", copy, "--out", tmp_path / "x"], "every checkpoint is damaged"),
    ):
        assert call("checkpoint", *words) == 2 and error in capsys.readouterr().err
    config = ["--config", run.parent / "config.py"]
    assert call("train", *config, "--workdir", exported) == 2
    assert "is an export, with nothing to go on from" in capsys.readouterr().err

    def full(folder):
        (folder / "config.json").write_text("{")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        save_export(exported, {"a": np.zeros(3)}, full)
    with pytest.raises(OSError, match="no space left"):
        save_export(tmp_path / "x", {"a": np.zeros(3)}, full)
    assert sorted(tmp_path.rglob("*")) == before and {p.name for p in exported.iterdir()} == set(FILES)
