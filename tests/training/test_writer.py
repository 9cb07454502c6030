"""What a run writes: numbers and pictures, directories that cannot be written to, and events for TensorBoard."""

from __future__ import annotations

import json
import math
import struct
import sys

import jax
import numpy as np
import pytest

from gcdiff.training.task import split_numbers
from gcdiff.training.writer import Writer, make_writable


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run: cannot be written to"):
        make_writable(tmp_path / "run")


def test_numbers_and_distributions():
    values = {"miou": 0.5, "loss": np.float32(0.25), "none": np.array(2.0), "losses/image": np.ones(3)}
    numbers, arrays = split_numbers(values)
    assert numbers == {"miou": 0.5, "loss": 0.25, "none": 2.0} and all(type(v) is float for v in numbers.values())
    assert list(arrays) == ["losses/image"]


def write(workdir, step, **options):
    """A run from `step` to step 4."""
    writer = Writer(workdir, step, **options)
    for number in range(step + 1, 5):
        writer.scalars(number, {"train/loss": number / 8, "none": math.nan})
        writer.histograms(number, {"losses": np.array([1.0, math.inf, 5.0]), "nothing": np.array([math.nan])})
        writer.pictures(number, {"pairs": np.full((2, 4, 3), 7, np.uint8)})
    writer.close()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    write(tmp_path, 0, tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_events_want_tensorboardx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        ValueError, match="^events for TensorBoard .* pip install tensorboardX, or gcdiff.tensorboard.$"
    ):
        Writer(tmp_path, tensorboard=True)
    write(tmp_path, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "samples"]


def test_events_say_the_same_and_nothing_twice(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    write(tmp_path, 0, tensorboard=True)
    write(tmp_path, 3, tensorboard=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "train/loss": step / 8, "none": None} for step in (1, 2, 3, 4)]
    files = sorted((tmp_path / "tensorboard").iterdir())
    purged = []
    for file, first in zip(files, (1, 4), strict=True):
        data, values = file.read_bytes(), {}
        while data:  # records of a length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                purged.append(event.step)
            values |= {(value.tag, event.step): value for value in event.summary.value}
        tags = ("train/loss", "losses", "samples/pairs")
        assert set(values) == {(tag, step) for tag in tags for step in range(first, 5)}
        assert values["train/loss", 4].simple_value == 0.5
        histogram, picture = values["losses", 4].histo, values["samples/pairs", 4].image
        assert (histogram.num, histogram.min, histogram.max) == (2, 1, 5)
        assert (picture.height, picture.width) == (2, 4) and picture.encoded_image_string.startswith(b"\x89PNG")
    assert purged == [1, 4]  # from these steps on, what older files say is hidden
