"""A job of many items: each made once and in order, whatever stops it, and nothing that its log said is lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_job
from small_job import FORMS, KEYS, Small

from gcdiff.jobs import folder as folders
from gcdiff.jobs.resumable import run

forms = pytest.mark.parametrize("form", FORMS)
BATCHES = ["gfe", "dcb", "a"]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def logged(folder: Path, form: str) -> list[str]:
    """The keys of the whole lines of the log, in their order."""
    lines = (folder / FORMS[form].log).read_text().split("\n")[:-1]
    return [json.loads(line)[FORMS[form].key] for line in lines[0 if FORMS[form].header else 1 :]]


def process(folder: Path, form: str, moment: str) -> subprocess.Popen:
    command = [sys.executable, small_job.__file__, folder, form, moment]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed(folder: Path, form: str, moment: str) -> None:
    with process(folder, form, moment) as child:
        assert child.wait(60) == -signal.SIGKILL, moment


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The folder of a job that was not stopped, for each form."""
    folders = {form: tmp_path_factory.mktemp("made") / form for form in FORMS}
    for form, folder in folders.items():
        assert run(Small(form), folder)
    return folders


@forms
def test_items_are_made_once_in_their_order_and_not_again(tmp_path, form):
    job, reports = Small(form), []
    assert run(job, tmp_path / "out", lambda *counts: reports.append(counts))
    assert [what for kind, what in job.trace if kind == "compute"] == BATCHES
    assert [what for kind, what in job.trace if kind == "write"] == list(KEYS) == logged(tmp_path / "out", form)
    assert reports == [(0, 7, 0), (3, 7, 3), (6, 7, 6), (7, 7, 7)]
    before, again = contents(tmp_path / "out"), Small(form)
    assert run(again, tmp_path / "out") and not again.trace and contents(tmp_path / "out") == before


@forms
@pytest.mark.parametrize("moment", small_job.MOMENTS)
def test_a_job_that_is_killed_goes_on_to_the_same_bytes(made, tmp_path, form, moment):
    out, alone = tmp_path / "out", moment in ("before-the-log", "within-the-end")
    for at in ("",) if alone else (":0", ":4"):
        killed(out, form, moment + at)
        if moment != "before-the-log":
            number = len(KEYS) if moment == "within-the-end" else int(at[1:])
            assert logged(out, form) == list(KEYS[:number])
        assert not (out / "sums.json").exists()
    job, finished = Small(form), 0 if moment == "before-the-log" else 7 if moment == "within-the-end" else 4
    assert run(job, out) and contents(out) == contents(made[form])
    assert [what for kind, what in job.trace if kind == "write"] == list(KEYS[finished:])
    assert [what for kind, what in job.trace if kind == "compute"] == BATCHES[finished // 3 if finished < 7 else 3 :]


@forms
def test_a_damaged_item_is_made_again_and_its_line_stays_until_then(made, tmp_path, form):
    out, whole = tmp_path / "out", contents(made[form])
    shutil.copytree(made[form], out)
    (out / "f.txt").write_text("something else")
    (out / "half" / "c.txt").unlink()
    log = whole[FORMS[form].log]
    for moment in ("half-a-file:1", "before-the-line:1", "half-a-file:4", "between-files:4"):
        killed(out, form, moment)
        assert (out / FORMS[form].log).read_bytes() == log, moment
    assert not (out / "sums.json").exists()  # which says that the folder is whole
    job = Small(form)
    assert run(job, out) and contents(out) == whole
    assert job.trace == [("compute", "dcb"), ("write", "c")]  # "f" was finished by the process before


@forms
def test_the_line_of_an_item_that_is_made_again_replaces_its_old_one(made, tmp_path, form):
    """Also where what it says is another: it stands in its place, and there is one of it."""
    out, log = tmp_path / "out", FORMS[form].log
    shutil.copytree(made[form], out)
    text = (out / log).read_text()
    old = text.replace('"result": 103', '"result": 999')
    (out / log).write_text(old)
    (out / "f.txt").unlink()
    killed(out, form, "half-a-file:1")
    assert (out / log).read_text() == old != text
    assert run(Small(form), out) and contents(out) == contents(made[form])


def test_a_second_process_is_refused_and_goes_on_after_the_first_one_is_killed(made, tmp_path):
    form, out = "header-in-log", tmp_path / "out"
    with process(out, form, "waits:4") as first:
        assert first.stdout.readline() == "waits\n"
        with pytest.raises(
            ValueError, match=f"^{out}: in use by process {first.pid} on .*share a directory$"
        ) as refused:
            run(Small(form), out)
        assert "\n" not in str(refused.value)
        assert logged(out, form) == list(KEYS[:4])
        first.kill()
    assert run(Small(form), out) and contents(out) == contents(made[form])


def test_what_another_process_has_finished_in_the_meantime_is_kept(made, tmp_path, monkeypatch):
    """It began after this one has looked at the folder, and ended before this one took hold of it."""
    form, out, hold = "header-in-log", tmp_path / "out", folders.hold

    def late(path):
        monkeypatch.setattr(folders, "hold", hold)
        assert run(Small(form), out)
        return hold(path)

    monkeypatch.setattr(folders, "hold", late)
    job = Small(form)
    assert run(job, out) and not job.trace and contents(out) == contents(made[form])


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_a_stop_between_pieces_leaves_what_is_whole(made, tmp_path, pieces):
    form, calls = "header-in-log", []
    out = tmp_path / "out"

    def stop(done, total, items):
        calls.append(done)
        return len(calls) <= pieces

    assert not run(Small(form), out, stop)
    if pieces:
        there = contents(out)
        assert (
            logged(out, form) == list(KEYS[: 3 * pieces])
            and there.items()
            >= {
                file: content for file, content in contents(made[form]).items() if Path(file).stem in KEYS[: 3 * pieces]
            }.items()
        )
        assert len(there) == 1 + 2 * 3 * pieces  # the log, and two files for each item
    else:
        assert not out.exists()
    assert run(Small(form), out) and contents(out) == contents(made[form])


@pytest.mark.parametrize("number", [0, 4])
def test_an_interrupt_within_an_item_leaves_those_before_it(made, tmp_path, monkeypatch, number):
    form, out = "header-beside", tmp_path / "out"
    write = Small.write

    def interrupted(self, folder, key, result):
        if key == KEYS[number]:
            with folder.writing(f"{key}.txt") as part:
                part.write_text("half")
                raise KeyboardInterrupt
        return write(self, folder, key, result)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Small, "write", interrupted)
        run(Small(form), out)
    if number:
        assert logged(out, form) == list(KEYS[:number]) and not list(out.glob(".gcdiff-*"))
    else:
        assert not out.exists()
    assert run(Small(form), out) and contents(out) == contents(made[form])


@forms
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(made, tmp_path, form):
    out, other = tmp_path / "out", Small(form)
    shutil.copytree(made[form], out)
    other.header = {"items": ["another"]}
    with pytest.raises(ValueError, match="was begun with items .* now it is .'another'.: expected the same"):
        run(other, out)
    assert contents(out) == contents(made[form])
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not empty and was not written by small job"):
        run(other, foreign)
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]


def test_two_items_of_one_name_are_refused(tmp_path):
    job = Small()
    job.keys = ("a", "b", "a")
    with pytest.raises(ValueError, match="two items are called 'a'"):
        run(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
