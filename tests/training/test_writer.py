"""The progress line on a terminal and elsewhere, directories that cannot be written to, and events for TensorBoard."""

from __future__ import annotations

import io
import json
import math
import struct
import sys

import jax
import numpy as np
import pytest

from gcdiff.jobs.progress import Progress, progress_bar
from gcdiff.training.task import split_numbers
from gcdiff.training.writer import Writer, make_writable


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves by hand."""
    now = [100.0]
    monkeypatch.setattr("gcdiff.training.writer.time.monotonic", lambda: now[0])
    return now


def walk(progress, clock, steps, seconds=2.0, limit=math.inf):
    progress.note(0, "compiling")
    clock[0] += 60
    for step in range(1, steps + 1):
        progress.update(step, {"loss": 0.25}, limit)
        clock[0] += seconds
    progress.close()


def test_plain_lines_come_every_ten_seconds(clock):
    file = io.StringIO()
    walk(Progress(1000, file=file), clock, 20)
    lines = file.getvalue().splitlines()
    assert lines[0] == "step 0/1000  compiling"
    assert len(lines) == 5  # at 60, 70, 80, 90 s after the note
    assert lines[-1] == "step 16/1000  0.5 steps/s  32:48 left  loss 0.25"  # compiling is not in the rate


def test_time_left_knows_the_limit(clock):
    file = io.StringIO()
    walk(Progress(100_000, file=file), clock, 20, limit=75.0)
    assert "1:15 left" in file.getvalue().splitlines()[-1]


def test_a_terminal_shows_one_line(clock):
    file = Terminal()
    walk(Progress(1000, file=file), clock, 20)
    assert file.getvalue().count("\n") == 1 and file.getvalue().count("\r") == 21


def test_runs_are_told_apart_and_some_are_not_heard(clock):
    for terminal in (True, False):
        heard, silent = (Terminal() if terminal else io.StringIO() for _ in range(2))
        for progress in (Progress(20, file=heard, prefix="seed 1: "), Progress(20, file=silent, quiet=True)):
            progress.say("going on")
            walk(progress, clock, 20)
        lines = heard.getvalue().replace("\r", "\n").replace("\x1b[K", "").split("\n")
        lines = [line for line in lines if line]
        assert len(lines) > 3 and all(line.startswith("seed 1: ") for line in lines)
        assert silent.getvalue() == ""


def test_progress_bar_counts_pieces(clock, capsys):
    with progress_bar(20) as advance:
        for _ in range(2):
            advance(10)
            clock[0] += 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("step 20/20  10 steps/s")


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
        data, found = file.read_bytes(), {}
        while data:  # records of a length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                purged.append(event.step)
            found |= {(value.tag, event.step): value for value in event.summary.value}
        tags = ("train/loss", "losses", "samples/pairs")
        assert set(found) == {(tag, step) for tag in tags for step in range(first, 5)}
        assert found["train/loss", 4].simple_value == 0.5
        histogram, picture = found["losses", 4].histo, found["samples/pairs", 4].image
        assert (histogram.num, histogram.min, histogram.max) == (2, 1, 5)
        assert (picture.height, picture.width) == (2, 4) and picture.encoded_image_string.startswith(b"\x89PNG")
    assert purged == [1, 4]  # from these steps on, what older files say is hidden
