"""Faults of a run, each provoked: what it says is one line, and what was saved stays."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gcdiff import cli
from gcdiff.data.dataset import Example
from gcdiff.data.pipeline import batches as pipeline
from gcdiff.jobs import lock
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.loop import train
from gcdiff.types import ImageSpec, LabelSpec

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("training", "")]
from test_loop import Regression, batches, config  # noqa: E402
from tiny_models import STREETS  # noqa: E402


def saved(folder: Path) -> list[int]:
    """The steps that were saved, the newest of which is whole."""
    restore_ema(folder / "checkpoints", jax.eval_shape(Regression().init, jax.random.key(0)))
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def meanwhile(step, happens):
    """Batches; before that of a step something happens."""

    def source(start):
        for number, batch in enumerate(batches(start), start):
            if number == step:
                happens()
            yield batch

    return source


def full(file: Path):
    """Puts a file on a disk that is full."""
    file.unlink()
    file.symlink_to("/dev/full")


def test_a_full_disk_is_one_line_and_takes_nothing_that_was_saved(tmp_path):
    source, settings = meanwhile(13, lambda: full(tmp_path / "metrics.jsonl")), config(20, log_every=5)
    with pytest.raises(OSError, match=r"metrics.jsonl: cannot be written to \(No space left on device\)$"):
        train(Regression(), source, tmp_path, settings)
    assert saved(tmp_path) == [8, 12]


def test_a_run_directory_that_vanishes_is_one_line(tmp_path):
    """Which line depends on whether a save is going on."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    with pytest.raises(OSError, match=r"^[^\n]*/run/(metrics.jsonl|checkpoints): [^\n]*$"):
        train(Regression(), meanwhile(14, lambda: shutil.move(run, moved)), run, config(20))
    assert 8 in saved(moved)


class Files:
    """A data set of PNG files: x is their mean colours, y the sum of these."""

    name, licence, image = "files", "", ImageSpec()
    labels = LabelSpec(("a", "b"), ((0, 0, 0), (9, 9, 9)))

    def __init__(self, folder: Path, num: int = 64):
        self.files = [folder / f"{i}.png" for i in range(num)]
        for i, file in enumerate(self.files):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(file)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        from gcdiff.data.reader import read_image

        return Example(read_image(self.files[index]), np.zeros((4, 4), np.int32), ())

    def batches(self, start):
        for batch in pipeline(self, 8, seed=0, start=start):
            x = batch.image.mean(axis=(1, 2))
            yield {"x": np.concatenate([x, x[:, :1]], axis=1), "y": x.sum(axis=1)}


def test_an_example_that_cannot_be_read_is_one_line(tmp_path):
    """It is named; with the file mended the run goes on from what was saved."""
    (tmp_path / "data").mkdir()
    files, run = Files(tmp_path / "data"), tmp_path / "run"
    whole = files.files[5].read_bytes()
    train(Regression(), files.batches, run, config(7))
    files.files[5].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"5\.png: [^\n]*$"):
        train(Regression(), files.batches, run, config(40))
    assert saved(run)[-1] >= 7
    files.files[5].write_bytes(whole)
    assert int(train(Regression(), files.batches, run, config(40)).step) == 40


def test_a_second_run_in_a_directory_is_refused(tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(STREETS)
    words = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    with lock.hold(tmp_path / "run"):
        assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gcdiff train: {tmp_path / 'run'}: in use by process ") and said.count("\n") == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
