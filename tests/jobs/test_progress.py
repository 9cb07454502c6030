"""The progress line on a terminal and elsewhere."""

from __future__ import annotations

import io
import math

import pytest

from gcdiff.jobs.progress import Progress, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves by hand."""
    now = [100.0]
    monkeypatch.setattr("gcdiff.jobs.progress.time.monotonic", lambda: now[0])
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
