"""A run that is killed (SIGKILL) at many moments, each time it has gone on, ends as one that never was.

What another process runs is `main`, below: it forks a child for every start of the run, and prints a row for each. It
kills at FEW moments, in `make test-all` at all of MOMENTS.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

EVERY, STEPS = 4, 260
MOMENTS = (
    [("inside a save", seconds) for seconds in (0.0, 0.002, 0.005, 0.01, 0.03)]  # that arrays have been written for
    + [("before the manifest", name) for name in ("finish", "_settle", "_checksums", "_sealed", "rename")]
    + [("anywhere", seconds) for seconds in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)]
)
FEW = [MOMENTS[2], MOMENTS[6], MOMENTS[9], MOMENTS[13]]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, when, directory: Path) -> None:
    """Prepare the death of this process at a moment of its second save."""
    from gcdiff.training import manifest
    from gcdiff.training.checkpoint import Checkpointer

    saves, finish, write = [], manifest.finish, Checkpointer._finish

    def writing(*arguments):
        saves.append(directory)
        if len(saves) == 2 and moment == "inside a save":
            time.sleep(when)
            die()
        write(*arguments)

    def finishing(*arguments):
        if len(saves) == 2 and moment == "before the manifest":
            if when == "finish":
                die()
            place = Path if when == "rename" else manifest
            setattr(place, when, lambda *_: die())
        finish(*arguments)

    Checkpointer._finish, manifest.finish = writing, finishing


def child(folder: Path, moment: str, when) -> None:
    """One start of the run; it writes down every step that it begins."""
    from test_loop import Regression, batches, config

    from gcdiff.training.loop import train
    from gcdiff.training.optim import Optim

    def source(start):
        for step, batch in enumerate(batches(start), start):
            with (folder / "reached").open("a") as file:
                file.write(f"{step}\n")
            if moment == "anywhere" and step == start + 1:
                threading.Timer(when, die).start()
            time.sleep(0.002)
            yield batch

    if moment:
        arm(moment, when, folder / "checkpoints")
    settings = config(STEPS, checkpoint_every=EVERY, evaluate_every=0, sample_every=0, log_every=10)
    settings = dataclasses.replace(settings, optim=Optim(learning_rate=1e-2, warmup=3))
    state = train(Regression(), source, folder, settings)
    import jax

    np.savez(folder / "end.npz", *jax.tree.leaves(state))


def main(folder: Path, moments: list) -> None:
    import test_loop  # noqa: F401  so that children need not

    def start(name: str, moment: str = "", when=None) -> int:
        (folder / name).mkdir(exist_ok=True)
        if (number := os.fork()) == 0:
            child(folder / name, moment, when)
            os._exit(0)
        return os.waitpid(number, 0)[1]

    assert start("whole") == 0
    for moment, when in moments:
        status = start("killed", moment, when)
        reached = int((folder / "killed" / "reached").read_text().split("\n")[-2])
        directory = folder / "killed" / "checkpoints"
        kept = max((int(p.name) for p in directory.iterdir() if p.name.isdigit()), default=0)
        left = any(".partial" in p.name for p in directory.iterdir())
        print(json.dumps({"moment": moment, "when": when, "status": status, "lost": reached - kept, "left": left}))
    assert start("killed") == 0


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def runs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, __file__, folder, request.param], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == len(FEW if request.param == "few" else MOMENTS)
    return folder, rows


def test_each_kill_hit_its_moment(runs):
    _, rows = runs
    assert [row["status"] for row in rows] == [signal.SIGKILL] * len(rows)
    assert all(row["left"] for row in rows if row["moment"] != "anywhere")


def test_no_more_is_lost_than_the_way_to_the_last_save(runs):
    """That is two periods where the kill falls into a save, which goes on beside the steps."""
    _, rows = runs
    assert all(0 <= row["lost"] <= 2 * EVERY for row in rows), rows


def test_no_wrong_value_is_restored(runs):
    """The end is bit for bit that of a run that was never killed, and so is what it has logged."""
    from test_loop import lines

    folder, _ = runs
    killed, whole = (np.load(folder / name / "end.npz") for name in ("killed", "whole"))
    assert killed.files == whole.files and len(whole.files) > 8
    for name in whole.files:
        np.testing.assert_array_equal(killed[name], whole[name])
    assert lines(folder / "killed") == lines(folder / "whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]), FEW if sys.argv[2:] == ["few"] else MOMENTS)
