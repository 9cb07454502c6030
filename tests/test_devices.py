"""Several devices, and several processes, give the answers of one, bit for bit; `devices` has the questions."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import devices
import numpy as np
import pytest

from gcdiff.text.batches import batches, rounds

ROOT = Path(__file__).parents[1]


def start(count: int, *arguments) -> subprocess.Popen:
    """A process with `count` devices of its own."""
    settings = {"JAX_NUM_CPU_DEVICES": str(count), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, devices.__file__, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    """The answers of one device, of eight, and of the two processes with one each."""
    folder = tmp_path_factory.mktemp("devices")
    files = [folder / f"{name}.npz" for name in ("eight", "first", "second")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [start(8, files[0]), *(start(1, files[1 + i], port, i) for i in (0, 1))]
    try:
        one = devices.answers()
        for process in running:
            said = process.communicate(timeout=300)[1]
            assert process.returncode == 0, said
    finally:
        for process in running:
            process.kill()
    return [one, *(dict(np.load(file)) for file in files)]


def test_eight_devices_answer_as_one(runs):
    one, eight = runs[:2]
    names = {name.split(".")[0] for name in one}
    assert names > {"sample", "outpaint", "segment", "evaluate", "text", "vectors", "features", "bounds"}
    for name in one:
        if name.split(".")[0] not in ("bounds", "progress"):
            np.testing.assert_array_equal(one[name], eight[name], err_msg=name)
    assert len(np.unique(one["sample.0"], axis=0)) == devices.NUM


def test_bounds_on_eight_devices_differ_by_rounding_alone(runs):
    """The sum over the pixels of an image goes in another order."""
    one, eight = (answers["bounds.0"] for answers in runs[:2])
    np.testing.assert_allclose(eight, one, rtol=0, atol=1e-6 * np.abs(one).max())


def test_two_processes_draw_what_one_does(runs):
    for several in runs[2:]:
        assert {"sample.0", "sample.1"} < set(several)
        for name in ("sample.0", "sample.1"):
            np.testing.assert_array_equal(several[name], runs[0][name])


def test_a_round_is_a_chunk_on_every_device(runs):
    """13 examples of 12 steps in chunks of 4: so many rounds for so many devices, and one program for all of them."""
    for answers, count in zip(runs, (4, 1, 2, 2), strict=True):
        np.testing.assert_array_equal(answers["progress.0"], [0, 12 * count, 12 * count])
        assert answers["programs.0"] == 1


@pytest.mark.parametrize("num", [0, 3, 21, 33, 300])
def test_a_device_takes_the_batches_of_a_single_one(num):
    """The same rows together in a batch of the same size; only the last of a size may be filled up."""
    rows = np.arange(num) * 7
    alone = [(where.tolist(), size) for where, size in batches(rows)]
    for count in (1, 2, 8):
        chunks = []
        for where, size in rounds(rows, count):
            each, rest = divmod(size, count)
            assert rest == 0 and 0 < len(where) <= size
            chunks += [(where[i : i + each].tolist(), each) for i in range(0, len(where), each)]
        assert chunks == alone
