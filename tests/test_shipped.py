"""Models in the package: found by name, whole, read as their run was, and never written to."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from argparse import Namespace
from pathlib import Path, PurePath

import jax
import ml_dtypes
import numpy as np
import pytest
import setuptools
from safetensors.numpy import load_file
from tiny_models import STREETS, random_model

import gcdiff
from gcdiff import cli, shipped
from gcdiff import config as configs
from gcdiff.cli.files import beside, cache_compilations, writable
from gcdiff.cli.generate import _header
from gcdiff.training.checkpoint import save_ema
from gcdiff.training.export import FILES, WEIGHTS, WORSE, is_export

ROOT = Path(__file__).parents[1]
COMMAND = "gcdiff train --config configs/streets.py --workdir runs/tiny"
main = runpy.run_path(str(ROOT / "tools" / "ship.py"))["main"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a run of random weights, and recorded numbers."""
    place = tmp_path_factory.mktemp("ship")
    (place / "tiny.py").write_text(STREETS)
    config = configs.load_file(str(place / "tiny.py"))
    model = random_model(config)
    extra = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), jax.eval_shape(lambda: training_params(config)))
    configs.save_run(place / "run", config, model.specs)
    save_ema(place / "run" / "checkpoints", 1, {**model.params, **extra}, {"step": 1})
    (place / "row.json").write_text(json.dumps({"agreement": [0.5, 0.4, 0.6]}))
    return place


def training_params(config):
    return configs.TASKS["joint"].training_params(config)


def ship(place: Path, *more: str, name: str = "tiny") -> int:
    row = ["--numbers", str(place / "row.json"), "--command", COMMAND, "--time", "1 minute", "--cost", "nothing"]
    return main([str(place / "run"), "--name", name, *row, *more])


@pytest.fixture
def home(place, tmp_path, monkeypatch, capsys) -> Path:
    """A package in which that run is shipped as `tiny`, and an empty current folder."""
    home, here = tmp_path / "package" / "shipped", tmp_path / "here"
    home.mkdir(parents=True)
    here.mkdir()
    monkeypatch.setattr(shipped, "HOME", home)
    monkeypatch.chdir(here)
    assert ship(place) == 0
    name, digest = re.fullmatch(r' +"(\w+)": "(\w{64})",', capsys.readouterr().out.splitlines()[-1]).groups()
    monkeypatch.setattr(shipped, "MODELS", {name: digest, "other": "0" * 64})
    return home


def refusal(capsys, *words) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_name_stands_for_the_weights_of_its_run_rounded_on_the_disk_alone(place, home):
    of_run, of_name = gcdiff.load(place / "run"), gcdiff.load("tiny")
    stored = load_file(home / "tiny" / WEIGHTS)
    assert {array.dtype for array in stored.values()} == {np.dtype(ml_dtypes.bfloat16)}
    rounded = jax.tree.map(lambda a: np.asarray(a).astype(ml_dtypes.bfloat16).astype(np.float32), of_run.params)
    jax.tree.map(np.testing.assert_array_equal, rounded, of_name.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(of_name.params)} == {np.dtype(np.float32)}
    assert of_name.config.to_dict() == of_run.config.to_dict() and of_name.specs == of_run.specs


def test_a_folder_goes_before_a_shipped_model_and_the_screen_says_which(place, home, capsys):
    assert cli.main(["checkpoint", "list", "tiny", "--check"]) == 0
    out, err = capsys.readouterr()
    assert err == "tiny: the shipped model is used, as there is no folder of that name here\n"
    assert re.search(rf"{WEIGHTS} .* verified\n", out) and f"command: {COMMAND}\n" in out
    shutil.copytree(place / "run", "tiny")
    assert cli.main(["checkpoint", "list", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert err == "tiny: the folder of that name here is used, not the shipped model\n" and "checkpoints" in out
    jax.tree.map(np.testing.assert_array_equal, gcdiff.load("tiny").params, gcdiff.load(place / "run").params)
    Path("tiny/config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json in it; the folder hides the shipped model tiny:"):
        gcdiff.load("tiny")
    assert cli.main(["checkpoint", "list", str(place / "run")]) == 0
    assert capsys.readouterr().err == ""


def test_an_unknown_name_is_answered_with_the_names_there_are(home, monkeypatch, capsys):
    said = "tin is not a run directory: there is no such folder; models that are shipped: tiny, other"
    assert refusal(capsys, "sample", "--workdir", "tin", "--out", "out") == f"gcdiff sample: {said}"
    with pytest.raises(FileNotFoundError, match=said):
        gcdiff.load("tin")
    with pytest.raises(FileNotFoundError, match="other: missing, expected the shipped model other: install gcdiff"):
        gcdiff.load("other")
    with pytest.raises(FileNotFoundError, match="runs/tiny is not a run directory: there is no such folder; models"):
        gcdiff.load("runs/tiny")
    monkeypatch.setattr(shipped, "MODELS", {})
    assert refusal(capsys, "sample", "--workdir", "tiny", "--out", "out").endswith("there is no such folder")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("change", [b"", b"flipped"])
def test_a_damaged_file_gets_one_line(home, change, capsys):
    file = home / "tiny" / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if change else change)
    said = f"{file}: damaged, expected the file that gcdiff was published with: install gcdiff again"
    with pytest.raises(ValueError, match=re.escape(said)):
        gcdiff.load("tiny")
    assert cli.main(["checkpoint", "list", "tiny", "--check"]) == 0
    assert "damaged (" in capsys.readouterr().out


def test_nothing_trains_into_a_shipped_model_and_nothing_is_written_into_the_package(place, home, tmp_path, capsys):
    config, inside = place / "tiny.py", home / "tiny"
    before = sorted(tmp_path.rglob("*"))
    train = ["train", "--config", config, "--workdir"]
    hides = "tiny is a shipped model, which a folder of that name would hide: expected another --workdir, with --init"
    assert hides in refusal(capsys, *train, "tiny") and hides in refusal(capsys, *train, "tiny", "--seeds", "0,1")
    (tmp_path / "link").symlink_to(home)
    refused = "lies where gcdiff keeps its shipped models: expected a place outside the package"
    for words in (
        [*train, inside],
        [*train, tmp_path / "link" / "new"],
        [*train, home / "new", "--seeds", "0,1"],
        ["checkpoint", "export", place / "run", "--out", inside],
        ["import-gcdp", "x.pt", "--dataset", "celeba", "--out", home / "x"],
        ["sample", "--workdir", place / "run", "--out", inside / "samples"],
        ["evaluate", "--workdir", place / "run", "--out", inside / "evaluation.json"],
        ["generate", "--workdir", place / "run", "--num", "1", "--out", inside / "x"],
        ["prepare", "folder", "--source", "x", "--out", home / "x"],
    ):
        assert refused in refusal(capsys, *words), words
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    Path("tiny").mkdir()
    shipped.check_new(Path("tiny"))
    assert writable(Path("tiny")) == Path("tiny")


def test_what_commands_leave_beside_a_run_has_another_place(place, home, tmp_path, monkeypatch, capsys):
    for run in ("tiny", home / "tiny"):
        assert beside(Path(run), "report") == Path("tiny-report")
    assert beside(Path("runs/tiny"), "report") == Path("runs/tiny/report")
    kept = {}
    monkeypatch.setattr(jax.config, "update", lambda name, value: kept.update({name: value}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    cache_compilations(Path("tiny"))
    assert kept == {} and not (tmp_path / "cache").exists()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    for run in ("tiny", home / "tiny"):
        cache_compilations(Path(run))
        assert kept.pop("jax_compilation_cache_dir") == str(tmp_path / "cache" / "gcdiff" / "tiny")
        assert capsys.readouterr().err == f"compiled programs are kept in {tmp_path}/cache/gcdiff/tiny\n"
    cache_compilations(place / "run")
    assert kept == {"jax_compilation_cache_dir": str(place / "run" / ".compiled")} and capsys.readouterr().err == ""
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("file").absolute()))
    kept.clear()
    cache_compilations(Path("tiny"))  # where nothing can be kept, nothing is
    assert kept == {}


def test_commands_take_the_name(place, home, capsys):
    """Every command that reads a run takes the name, and what it leaves lies outside the package."""
    before = {file: file.stat().st_mtime_ns for file in home.rglob("*")}
    for words in (
        ["sample", "--text", "a foggy street", "--steps", "1", "--out", "samples"],
        ["evaluate", "--num", "2"],
    ):
        assert cli.main([*words, "--workdir", "tiny"]) == 0
        assert capsys.readouterr().err.splitlines()[0].startswith("tiny: the shipped model is used")
    assert {p.name for p in Path().iterdir()} == {"samples", "tiny-evaluation.json"}
    assert cli.main(["checkpoint", "export", "tiny", "--out", "mine"]) == 0
    jax.tree.map(np.testing.assert_array_equal, gcdiff.load("mine").params, gcdiff.load("tiny").params)
    assert is_export(Path("mine")) and {a.dtype for a in load_file(Path("mine") / WEIGHTS).values()} == {np.dtype("f4")}
    for words, said in (
        ("checkpoint verify tiny", "is an export, which is verified whenever it is loaded"),
        ("sample --workdir mine --upsample tiny --out out", "that run is no super-resolution stage"),
    ):
        capsys.readouterr()
        assert cli.main(words.split()) == 2
        which, why = capsys.readouterr().err.splitlines()
        assert which.startswith("tiny: the shipped model is used") and said in why
    assert {file: file.stat().st_mtime_ns for file in home.rglob("*")} == before


def test_a_training_starts_from_the_name(home, monkeypatch):
    fresh = jax.tree.map(np.zeros_like, gcdiff.load("tiny").params)
    monkeypatch.setattr(configs.parts, "initial_params", lambda *_: fresh)
    config, specs = configs.load_run(Path("tiny"))
    initial, said = configs.initial_from(Path("tiny"), config, specs)
    jax.tree.map(np.testing.assert_array_equal, initial(None), gcdiff.load("tiny").params)
    assert said.startswith("weights of tiny: ") and "10 classes matched by name" in said


def test_an_export_in_bfloat16_is_what_is_shipped(place, home):
    assert cli.main(["checkpoint", "export", str(place / "run"), "--out", "mine", "--dtype", "bfloat16"]) == 0
    for name in FILES:
        assert (Path("mine") / name).read_bytes() == (home / "tiny" / name).read_bytes()


def test_a_worse_model_is_shipped_with_its_run_and_its_damage_is_said(place, home, capsys):
    run = place / "guided"
    assert cli.main(["checkpoint", "export", str(place / "run"), "--out", str(run)]) == 0
    assert cli.main(["checkpoint", "export", str(place / "run"), "--out", str(run / WORSE)]) == 0
    capsys.readouterr()
    row = ["--numbers", str(place / "row.json"), "--command", COMMAND, "--time", "1 minute", "--cost", "nothing"]
    assert main([str(run), "--name", "guided", *row]) == 0
    digests = dict(re.findall(r'"([\w/]+)": "(\w{64})",', capsys.readouterr().out))
    assert set(digests) == {"guided", f"guided/{WORSE}"}
    shipped.MODELS.update(digests)
    jax.tree.map(np.testing.assert_array_equal, gcdiff.load("guided").worse.params, gcdiff.load("guided").params)
    assert cli.main(["checkpoint", "list", "guided", "--check"]) == 0
    assert re.search(rf"{WORSE}/{WEIGHTS} .* verified\n", capsys.readouterr().out)
    shipped.MODELS[f"guided/{WORSE}"] = "0" * 64
    with pytest.raises(ValueError, match=rf"{WORSE}/{WEIGHTS}: damaged, expected the file that gcdiff was published"):
        gcdiff.load("guided")


def test_the_tool_refuses_what_must_not_be_shipped(place, home, monkeypatch, capsys):
    before = sorted(home.rglob("*"))
    assert ship(place, name="Not/a name") == 2
    assert "--name is 'Not/a name', expected small letters" in capsys.readouterr().err
    assert ship(place, "--cost", "what /home/me/bill.txt says") == 2
    assert "card.json names /home/me/bill.txt, a place of this machine" in capsys.readouterr().err
    monkeypatch.setattr(shipped, "LARGEST", 100)
    assert ship(place) == 2
    assert "bytes, expected at most 100" in capsys.readouterr().err
    assert sorted(home.rglob("*")) == before


def test_an_installation_brings_all_files(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **words: given.update(words))
    runpy.run_path(str(ROOT / "setup.py"))
    assert "gcdiff.shipped" in given["packages"]
    for name in (*FILES, shipped.CARD):
        assert any(PurePath("tiny", name).match(p) for p in given["package_data"]["gcdiff.shipped"]), name


def test_the_generated_data_set_says_the_name(home):
    options = dict.fromkeys(("captions", "audit", "balance", "min_agreement", "steps", "guidance", "audit_quantile"))
    arguments = Namespace(workdir=Path("tiny"), num=1, seed=0, **options)
    assert _header(arguments, Namespace(config=configs.default(), params=np.zeros(1)), None)["run"] == "tiny"


def test_every_shipped_model_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.LARGEST <= 20_000_000
    check_files = runpy.run_path(str(ROOT / "tools" / "ship.py"))["check_files"]
    for name, digest in shipped.MODELS.items():
        folder = shipped.find(name)
        files, worse = {p.name for p in folder.iterdir()}, gcdiff.load(name).worse
        if folder.name == WORSE:
            assert files == set(FILES) and digest == shipped.sha256(folder / WEIGHTS)
            continue
        assert files == {*FILES, shipped.CARD} | ({WORSE} if f"{name}/{WORSE}" in shipped.MODELS else set())
        assert (worse is not None) == (WORSE in files)
        check_files(folder)  # none is too large, none names a place of a machine
        card, leaves = shipped.card(folder), jax.tree.leaves(gcdiff.load(name).params)
        assert card["name"] == name and card["sha256"] == digest == shipped.sha256(folder / WEIGHTS)
        assert card["command"].startswith("gcdiff train ") and card["time"] and card["cost"] and card["numbers"]
        assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
        assert sum(leaf.size for leaf in leaves) == card["parameters"]


def test_no_folder_is_shipped_without_its_sha256():
    assert {p.parent.relative_to(shipped.HOME).as_posix() for p in shipped.HOME.rglob(WEIGHTS)} == set(shipped.MODELS)
