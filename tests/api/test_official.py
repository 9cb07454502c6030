"""Checkpoints of the paper's released trainer as runs; the files are made here, as that trainer makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from official_weights import REFERENCE, TINY, needs_reference, random_weights

import gcdiff
from gcdiff.api.official import import_checkpoint, read_checkpoint
from gcdiff.cli import main
from gcdiff.models.official import convert, infer
from gcdiff.schedules import CURVES
from gcdiff.types import Pair

torch = pytest.importorskip("torch", reason="torch is not installed: PyTorch files cannot be read")
SETTINGS = {**TINY, "dim_mults": [1], "num_resnet_blocks": 1, "layer_attns": True, "layer_cross_attns": False}
BASE = {**SETTINGS, "lowres_cond": False}


def table(name: str, count: int = 1000) -> np.ndarray:
    """log(keep(i / count) / keep(0)), as the trainer keeps it."""
    log_keep = np.array(jax.nn.log_sigmoid(CURVES[name](np.arange(count, dtype=np.float32) / count, 1.0)))
    return log_keep - log_keep[0]


def checkpoint(weights, ema=None, unet: int = 0, labels: str = "cosine", lowres: str = "linear") -> dict:
    model = {f"noise_schedulers_lbl.{unet}.log_cumprod_alpha": table(labels)}
    model |= {"lowres_noise_schedule_lbl.log_cumprod_alpha": table(lowres)}
    model |= {f"unets.{unet}.{name}": value for name, value in weights.items()}
    content = {"model": model, "steps": np.array([0] * unet + [300]), "version": "1.11.14"}
    if ema is not None:
        averages = {f"{unet}.ema_model.{name}": value for name, value in ema.items()}
        content["ema"] = averages | {f"{unet}.online_model.{name}": value for name, value in weights.items()}
    tensors = jax.tree.map(lambda a: torch.tensor(a) if isinstance(a, np.ndarray) else a, content)
    return tensors


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """(file, weights, averaged weights, run) of a base."""
    place = tmp_path_factory.mktemp("released")
    weights = random_weights(BASE)
    ema = {name: 0.5 * value for name, value in weights.items()}
    torch.save(checkpoint(weights, ema), place / "base.pt")
    said = import_checkpoint(place / "base.pt", "celeba", place / "run", (8, 12))
    assert "averaged weights of step 300; schedule of the labels: cosine" in said
    return place / "base.pt", weights, ema, place / "run"


def test_the_averaged_weights_become_a_run(released):
    _, _, ema, run = released
    model = gcdiff.load(run)
    module, params = convert(ema, BASE)
    assert model.built.network.clone(parent=None, state_classes=None) == module
    assert jax.tree.all(jax.tree.map(np.array_equal, model.params["network"], params))
    assert model.size == (8, 12) and model.labels.num_classes == 4


def test_a_run_answers_in_every_direction(released):
    """Trained on the diagonal alone, it answers conditional questions by RePaint."""
    model = gcdiff.load(released[3]).sampling(chunk=4)
    rng = np.random.default_rng(0)
    text = gcdiff.Text(rng.normal(size=(3, 5, 6)), np.arange(5) < np.array([[5], [2], [0]]))
    pair = model.sample(text, 3, steps=2, guidance=1.0)
    assert pair.image.shape == (3, 8, 12, 3) and pair.layout.max() < 4
    again = model.sample(gcdiff.Text(text.tokens[:1], text.mask[:1]), 1, steps=2, guidance=1.0)
    np.testing.assert_array_equal(again.image, pair.image[:1])
    with pytest.warns(UserWarning, match="RePaint"):
        layouts = model.segment(pair.image, steps=2)
    with pytest.warns(UserWarning, match="RePaint"):
        images = model.synthesize(pair.layout, text, steps=2, guidance=1.0)
    assert layouts.shape == pair.layout.shape and images.shape == pair.image.shape
    known = Pair(np.arange(12) < np.full((3, 8, 1), 6), None)
    with pytest.warns(UserWarning, match="RePaint"):
        filled = model.outpaint(pair, known, steps=2)
    np.testing.assert_array_equal(filled.image[:, :, :6], pair.image[:, :, :6])


def test_text_that_does_not_fit_is_refused(released):
    model = gcdiff.load(released[3])
    with pytest.raises(ValueError, match="this model takes encoded captions"):
        model.sample("a face", 1, steps=2)
    for tokens, mask in ((np.zeros((1, 5, 7)), np.ones((1, 5))), (np.zeros((2, 5, 6)), np.ones((2, 5)))):
        with pytest.raises(ValueError, match=r"expected gcdiff.Text of features \(1, T, 6\)"):
            model.sample(gcdiff.Text(tokens, mask.astype(bool)), 1, steps=2)
    with pytest.raises(ValueError, match="text has 10 tokens"):
        model.sample(gcdiff.Text(np.zeros((1, 10, 6)), np.ones((1, 10), bool)), 1, steps=2)


def test_a_stage_and_its_schedules(tmp_path):
    weights = random_weights(SETTINGS)
    torch.save(checkpoint(weights, unet=1, labels="linear"), tmp_path / "sr.pt")
    said = import_checkpoint(tmp_path / "sr.pt", "celeba", tmp_path / "run", (8, 12))
    assert "super-resolution stage" in said and "(there are no averages) of step 300" in said
    model = gcdiff.load(tmp_path / "run")
    assert model.factor == 2 and model.config.process.lowres_schedule == "linear"
    assert model.config.process.layout_schedule == model.config.process.image_schedule == "linear"
    _, params = convert(weights, SETTINGS)
    assert jax.tree.all(jax.tree.map(np.array_equal, model.params["network"], params))


def test_a_file_of_the_older_format_is_read_too(released, tmp_path):
    content = torch.load(released[0], weights_only=True)
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old, new = (read_checkpoint(file) for file in (tmp_path / "old.pt", released[0]))
    assert old.weights.keys() == new.weights.keys() and old.schedule == new.schedule
    assert all(np.array_equal(old.weights[name], new.weights[name]) for name in new.weights)


PEAK = """
import pathlib, sys
from gcdiff.api.official import read_checkpoint
import torch

def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
read_checkpoint(pathlib.Path(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_what_is_not_taken_of_a_file_takes_no_memory(released, tmp_path):
    """An optimiser of 256 MiB beside the weights."""
    content = torch.load(released[0], weights_only=True)
    torch.save({**content, "optim0": {"state": {0: {"exp_avg": torch.ones(2**26)}}}}, tmp_path / "large.pt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    taken = []
    for file in (released[0], tmp_path / "large.pt"):
        command = [sys.executable, "-c", PEAK, str(file)]
        taken.append(int(subprocess.run(command, capture_output=True, check=True, env=environment).stdout))
    assert taken[1] - taken[0] < 64 * 1024  # KiB


@needs_reference
def test_a_checkpoint_of_the_released_trainer(tmp_path):
    file = REFERENCE / "official_checkpoint_tiny.pt"
    assert (
        main(["import-gcdp", str(file), "--dataset", "celeba", "--out", str(tmp_path / "run"), "--size", "8", "8"]) == 0
    )
    content = torch.load(file, weights_only=True)["ema"]
    weights = {n.removeprefix("0.ema_model."): a.numpy() for n, a in content.items() if n.startswith("0.ema_model.")}
    model = gcdiff.load(tmp_path / "run")
    _, params = convert(weights, infer(weights))
    assert jax.tree.all(jax.tree.map(np.array_equal, model.params["network"], params))
    pair = model.sample(num=2, steps=2)
    assert pair.image.shape == (2, 8, 8, 3) and pair.layout.max() < 5


def damaged(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-3000])


def of_another_program(file):
    torch.save({"state_dict": {}}, file)


def with_code(file):
    torch.save({"model": shutil.rmtree}, file)


def rewritten(change):
    def write(file):
        content = torch.load(file, weights_only=True)
        change(content)
        torch.save(content, file)

    return write


def drop(content):
    del content["ema"]["0.ema_model.mid_attn.fn.fn.to_q.weight"]


def add(content):
    content["ema"]["0.ema_model.extra.weight"] = torch.zeros(3)


def spoil(content):
    content["ema"]["0.ema_model.final_conv.bias"][0] = float("nan")


def other_noise(content):
    content["model"]["noise_schedulers_lbl.0.log_cumprod_alpha"] *= 2


def two_networks(content):
    for name in list(content["model"]):
        if name.startswith("unets.0."):
            content["model"][name.replace("unets.0.", "unets.1.")] = content["model"][name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, "cannot be read as a PyTorch checkpoint"),
        (cut, "cannot be read as a PyTorch checkpoint"),
        (with_code, "cannot be read as a PyTorch checkpoint of weights alone"),
        (of_another_program, "there is no 'model' in it"),
        (rewritten(drop), "lack mid_attn.fn.fn.to_q.weight"),
        (rewritten(add), "hold extra.weight, which this network does not have"),
        (rewritten(spoil), "0.ema_model.final_conv.bias holds values that are not finite"),
        (rewritten(other_noise), "follows none of the schedules"),
        (rewritten(two_networks), "holds 2 networks"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_and_leaves_nothing(released, tmp_path, capsys, change, message):
    file = tmp_path / "bad.pt"
    shutil.copy(released[0], file)
    change(file)
    assert main(["import-gcdp", str(file), "--dataset", "celeba", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said and str(file) in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


def test_classes_of_another_data_set_and_a_folder_in_use_are_refused(released, tmp_path, capsys):
    (tmp_path / "used").write_text("")
    assert main(["import-gcdp", str(released[0]), "--dataset", "celeba", "--out", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    wide = random_weights({**BASE, "num_classes": 20})
    torch.save(checkpoint(wide), tmp_path / "city.pt")
    with pytest.raises(ValueError, match="the network has 20 classes as cityscapes, celeba has 19"):
        import_checkpoint(tmp_path / "city.pt", "celeba", tmp_path / "run", (8, 12))
    import_checkpoint(tmp_path / "city.pt", "cityscapes", tmp_path / "run", (8, 12))
    assert gcdiff.load(tmp_path / "run").labels.names[19] == "void"
