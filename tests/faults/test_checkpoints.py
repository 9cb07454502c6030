"""Faults of checkpoints, each provoked: damage to every file, full disks, directories that vanish, saves that fail.

Whatever happens, what is restored is exactly what was saved at its step, and what was saved stays.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff.training import manifest
from gcdiff.training.checkpoint import Checkpointer, restore_ema
from gcdiff.training.keep import Keep
from gcdiff.training.state import TrainState

DOCUMENTS = {"meta": {"seconds": 1.5}, "data": {"step": 3}, "config": {"name": "x"}}


def state_of(step: int, size: int = 50) -> TrainState:
    """A state whose values depend on the step."""
    rng = np.random.default_rng(step)

    def tree():
        return {"w": rng.normal(size=(size, 20)).astype(np.float32), "b": rng.normal(size=7).astype(np.float32)}

    return TrainState(np.int32(step), tree(), tree(), {"m": tree()}, (tree(),))


def restored(checkpoints: Checkpointer, size: int = 50) -> int | None:
    """The step that is restored, None if there is none; it must be what was saved, to the bit."""
    saved = checkpoints.restore(jax.eval_shape(lambda: state_of(0, size)))
    if saved is None:
        return None
    state, documents = saved
    step = int(state.step)
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step, size))
    assert documents == DOCUMENTS | {"meta": {"seconds": step}}
    return step


def save(checkpoints: Checkpointer, step: int, size: int = 50) -> None:
    checkpoints.save(step, state_of(step, size), DOCUMENTS | {"meta": {"seconds": step}}, {"miou": 0.5})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with two steps, its checkpointer, and the content of every file of the second step."""
    place = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpointer(place, Keep(2))
    for step in (1, 2):
        save(checkpoints, step)
    checkpoints.wait()
    return place, checkpoints, {p: p.read_bytes() for p in sorted((place / "2").rglob("*")) if p.is_file()}


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def damages(content: bytes):
    """Ways to damage a file: a bit at its beginning, middle and end, cut by a byte, by half, to nothing; gone."""
    if content:
        yield from (flipped(content, place) for place in sorted({0, len(content) // 2, len(content) - 1}))
        yield from {content[:-1], content[: len(content) // 2], b""} - {content}
    yield content + b"\0"
    yield None


def test_no_damage_to_any_file_is_restored(saved, capsys):
    place, checkpoints, files = saved
    kinds = {file.relative_to(place / "2").parts[0] for file in files}
    assert kinds >= {"state", "ema", "profiles", "meta", "data", "config", "manifest.json", "_CHECKPOINT_METADATA"}
    tried = 0
    for file, content in files.items():
        for number, damaged in enumerate(damages(content)):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            said = manifest.damage(place / "2")
            assert said is not None and file.name in said, (file, number)
            if number in (1, 6):  # a whole restore for two of them: the flip in the middle, the missing file
                assert restored(checkpoints) == 1
                assert f"{place}/2: damaged ({said}); set aside as 2.damaged\n" in capsys.readouterr().err
                (place / "2.damaged").rename(place / "2")
            file.write_bytes(content)
            tried += 1
    assert restored(checkpoints) == 2 and tried > 8 * len(files) - 20 > 250


def test_no_byte_of_a_manifest_is_changed_unnoticed(saved, tmp_path):
    place, _, files = saved
    small = tmp_path / "1"
    manifest.partial(small).mkdir()
    (manifest.partial(small) / "file").write_text("content")
    manifest.finish(manifest.partial(small), small, {"ema": {"w": "float32[3, 4]"}}, {"miou": 0.5})
    tried = 0
    for folder, content, stride in (
        (small, (small / "manifest.json").read_bytes(), 1),
        (place / "2", files[place / "2" / "manifest.json"], 29),
    ):
        assert all(
            section in content for section in (b'"files"', b'"arrays"', b'"numbers": {"miou": 0.5}', b'"sha256"')
        )
        assert manifest.damage(folder) is None
        for at in range(0, len(content), stride):
            for bit in (at % 8, 5):  # 5: capitals
                (folder / "manifest.json").write_bytes(flipped(content, at, bit))
                assert manifest.damage(folder) is not None, at
                tried += 1
        (folder / "manifest.json").write_bytes(content)
        assert manifest.damage(folder) is None
    for text in ("", "{}", "[]", "null", '{"files": {}}', '{"files": 3, "arrays": {}}', '{"sha256": 1}', "[" * 90_000):
        (small / "manifest.json").write_text(text)
        assert manifest.damage(small) is not None, text
    assert tried > 700


def test_every_damaged_step_is_set_aside_under_a_name_of_its_own(tmp_path, capsys):
    checkpoints = Checkpointer(tmp_path, Keep(3))
    for _ in range(3):
        save(checkpoints, 5)
        checkpoints.wait()
        (tmp_path / "5" / "manifest.json").unlink()
        assert restored(checkpoints) is None
    assert {p.name for p in tmp_path.iterdir()} == {"5.damaged", "5.damaged-2", "5.damaged-3"}
    assert checkpoints.latest() is None and [p.name for p in manifest.aside(tmp_path)][0] == "5.damaged"
    assert capsys.readouterr().err.count("no manifest.json: the save did not finish); set aside as 5.damaged") == 3
    with pytest.raises(FileNotFoundError, match="no checkpoint found$"):
        restore_ema(tmp_path, {})


def test_what_killed_saves_leave_is_removed_and_is_no_step(saved, tmp_path):
    shutil.copytree(saved[0] / "2", tmp_path / "2")
    left = (
        "3.partial",
        "3.partial.orbax-checkpoint-tmp",
        "4.orbax-checkpoint-tmp-17",
        "1.partial",
        "5.orbax-checkpoint-tmp",
    )
    for name in left:
        shutil.copytree(saved[0] / "2", tmp_path / name)
    shutil.copytree(saved[0] / "2", tmp_path / "1.damaged")
    assert manifest.steps(tmp_path) == [2] and len(manifest.leftovers(tmp_path)) == len(left)
    checkpoints = Checkpointer(tmp_path, Keep(2))
    assert {p.name for p in tmp_path.iterdir()} == {"1.damaged", "2"} and restored(checkpoints) == 2


@contextlib.contextmanager
def small_disk(place: Path, size: int):
    """A file system of its own at `place`, or a skipped test where none may be mounted."""
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True)
    if made.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_one_line_and_takes_nothing_that_was_saved(tmp_path, capfd):
    with small_disk(tmp_path / "disk", 4 << 20):
        checkpoints, filler = Checkpointer(tmp_path / "disk" / "checkpoints", Keep(2)), tmp_path / "disk" / "filler"
        save(checkpoints, 1, size=3000)  # 1.2 MB
        checkpoints.wait()
        step, failed = 2, 0
        for free in (0, 5_000, 30_000, 150_000, 500_000, 900_000, 1_150_000, 1_250_000, 1_300_000, 2_000_000):
            filler.write_bytes(bytes(max(shutil.disk_usage(tmp_path / "disk").free - free, 0)))
            last = checkpoints.latest()
            try:
                save(checkpoints, step, size=3000)
                checkpoints.wait()
            except OSError as error:
                failed += 1
                said = (
                    f"step {step} could not be saved (No space left on device); the last good checkpoint is step {last}"
                )
                assert str(error) == f"{checkpoints.directory}: {said}"
            else:
                last, step = step, step + 1
            filler.unlink()
            assert restored(checkpoints, size=3000) == last == checkpoints.latest()
        assert failed >= 6 and step > 2  # there was too little room, and enough
        checkpoints.close()
        assert restored(Checkpointer(checkpoints.directory), size=3000) == step - 1
        assert not manifest.leftovers(checkpoints.directory)
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_a_limit_of_the_size_of_files_is_one_line(tmp_path):
    checkpoints = Checkpointer(tmp_path, Keep(2))
    save(checkpoints, 1, size=3000)
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (200, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(
                OSError, match=r"step 2 could not be saved \(File too large\); the last good .* step 1$"
            ):
                save(checkpoints, 2, size=3000)
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert restored(checkpoints, size=3000) == 1
    save(checkpoints, 2, size=3000)
    assert restored(checkpoints, size=3000) == 2


def test_a_directory_that_vanishes_is_one_line(tmp_path, capfd):
    failed = 0
    for number, delay in enumerate((None, 0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.3)):
        place, away = tmp_path / str(number), tmp_path / f"{number}.away"
        checkpoints = Checkpointer(place, Keep(2))
        save(checkpoints, 1)
        checkpoints.wait()
        try:
            if delay is None:  # between two saves
                place.rename(away)
            save(checkpoints, 2, size=3000)
            time.sleep(delay or 0)
            place.rename(away)
            if number % 2:  # and another comes in its place
                place.mkdir(exist_ok=True)
            checkpoints.wait()
        except OSError as error:
            failed += 1
            said = "step 2 could not be saved (the directory has been removed); there is no checkpoint"
            assert str(error) == f"{place}: {said}"
        checkpoints.close()
        if manifest.steps(away) == [1]:
            assert restored(Checkpointer(away)) == 1
        else:  # it had been saved before
            assert restored(Checkpointer(away), size=3000) == 2
        assert restored(Checkpointer(place), size=3000) is None
    assert failed >= 3
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("function", ["finish", "save", "remove"])
def test_any_other_failure_of_a_save_is_one_line_once(tmp_path, monkeypatch, function):
    checkpoints = Checkpointer(tmp_path, Keep(1))
    save(checkpoints, 1)
    checkpoints.wait()

    def broken(*_, **__):
        raise RuntimeError("out\nof order")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._writer if function == "save" else manifest, function, broken)
        what = {"remove": r"step 2 is saved, but an older one not removed \(out of order\)$"}.get(
            function, r"step 2 could not be saved \(out of order\); the last good checkpoint is step 1$"
        )
        with pytest.raises(OSError, match=what):
            save(checkpoints, 2)
            save(checkpoints, 3)
    checkpoints.wait()  # said once
    save(checkpoints, 3)
    assert restored(checkpoints) == 3 and manifest.steps(tmp_path) == [3]
    with pytest.raises(FileExistsError, match="3: there is a checkpoint of this step already$"):
        save(checkpoints, 3)
    checkpoints.close()
