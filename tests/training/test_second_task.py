"""A task that is not the joint one goes through the same command, loop, checkpoints, devices and `gcdiff.load`.

The task is the one of docs/extending.md, in a copy of the package that holds it; everything runs in processes of their
own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import extended
import numpy as np
import pytest

CONFIG = """
from gcdiff.config import default

def get_config():
    c = default()
    c.task = "tint"
    c.data.update(name="streets", size=(16, 32), num=64, heldout=4)
    c.text.encoder = "none"
    c.train.update(steps=160, batch_size=8, log_every=40, checkpoint_every=8, evaluate_every=80, sample_every=0)
    c.optim.update(schedule="constant", learning_rate=0.02, ema_profiles=(0.05, 0.1))
    return c
"""
READ = """
import sys, gcdiff, numpy as np
model = gcdiff.load(sys.argv[1])
assert type(model).__name__ == "Tint", model
np.save(sys.argv[2], np.stack([model.colors, gcdiff.load(sys.argv[1], ema=0.1).colors]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = extended.extend(tmp_path_factory.mktemp("second"))
    (place / "tint.py").write_text(CONFIG)
    (place / "read.py").write_text(READ)
    return place


def start(place: Path, *arguments, **environment) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(place)} | environment
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(place: Path, *arguments, **environment) -> str:
    process = start(place, *arguments, **environment)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    return out + error


def train(place: Path, name: str, *overrides: str, **environment) -> np.ndarray:
    """Train to the end; the averaged colours of the classes, of both averages."""
    run(place, "-m", "gcdiff", "train", "--config", "tint.py", "--workdir", name, *overrides, **environment)
    run(place, "read.py", name, f"{name}.npy")
    return np.load(place / f"{name}.npy")


@pytest.fixture(scope="module")
def whole(place) -> np.ndarray:
    return train(place, "whole")


@pytest.mark.slow
def test_it_trains_and_is_loaded_as_what_it_declares(place, whole):
    assert whole.shape == (2, 10, 3) and np.any(whole[0] != whole[1])
    names = ("sky", "road")  # the sky is lighter than the road
    from gcdiff.worlds.streets.appearance import LABELS

    sky, road = (whole[0, LABELS.names.index(name)].mean() for name in names)
    assert sky > road + 0.2
    assert sorted(p.name for p in (place / "whole" / "samples").iterdir()) == ["0000160_colors.png"]
    assert '"eval/error"' in (place / "whole" / "metrics.jsonl").read_text()
    exported = run(place, "-m", "gcdiff", "checkpoint", "export", "whole", "--out", "exported")
    assert "exported" in exported


@pytest.mark.slow
def test_it_stops_is_killed_and_goes_on_bit_for_bit(place, whole):
    assert "step 40/40" in run(
        place, "-m", "gcdiff", "train", "--config", "tint.py", "--workdir", "killed", "--config.train.steps=40"
    )
    process = start(place, "-m", "gcdiff", "train", "--config", "tint.py", "--workdir", "killed")
    checkpoints, until = place / "killed" / "checkpoints", time.monotonic() + 200
    while max(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit()) <= 40:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    np.testing.assert_array_equal(train(place, "killed"), whole)


@pytest.mark.slow
def test_it_runs_on_eight_devices(place, whole):
    cut = train(place, "eight", "--config.mesh.data=4", "--config.mesh.fsdp=2", JAX_NUM_CPU_DEVICES="8")
    np.testing.assert_allclose(cut, whole, atol=2e-5)


def test_an_unknown_task_is_refused(place):
    process = start(place, "-m", "gcdiff", "train", "--config", "tint.py", "--workdir", "x", "--config.task=tinct")
    _, error = process.communicate(timeout=200)
    assert process.returncode == 2 and "config.task is 'tinct', expected one of ('joint', 'tint')" in error
    assert not (place / "x").exists()
