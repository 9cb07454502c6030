"""The README's command lines for several devices and processes, run as they stand there, on a tiny config.

`--distributed` finds the variables of a Slurm job of one task.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from tiny_models import STREETS  # noqa: E402

README = Path(__file__).parents[1] / "README.md"
SEVERAL = ("--coordinator", "--distributed", "--seeds")
SLURM = {
    "JOB_ID": "1",
    "STEP_NODELIST": "localhost",
    "NTASKS": "1",
    "PROCID": "0",
    "LOCALID": "0",
    "STEP_NUM_NODES": "1",
}


def start(line: str, folder: Path, port: str) -> subprocess.Popen:
    """A command line of the README in a folder, with the tiny config and a free port."""
    _, command, *words = shlex.split(line.replace("configs/streets.py", "tiny.py").replace("9876", port))
    environment = {f"SLURM_{name}": value for name, value in SLURM.items()} if "--distributed" in words else {}
    return subprocess.Popen(
        [sys.executable, "-m", "gcdiff", command, *words], cwd=folder, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_command_lines_for_several_processes(tmp_path):
    (tmp_path / "tiny.py").write_text(STREETS)
    lines = [line.strip() for line in README.read_text().splitlines() if line.startswith("    gcdiff")]
    lines = [line for line in lines if any(word in line for word in SEVERAL)]
    assert {word for word in SEVERAL for line in lines if word in line} == set(SEVERAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = [line for line in lines if "--coordinator" in line]
    for group in (together, *([line] for line in lines if line not in together)):
        running = [start(line, tmp_path, port) for line in group]
        said = [process.communicate(timeout=280)[0] for process in running]
        assert [process.returncode for process in running] == [0] * len(group), said
    runs = {p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("metrics.jsonl")}
    assert runs == {"runs/two", "runs/pod", "runs/seeds/seed-0", "runs/seeds/seed-1", "runs/seeds/seed-2"}
    losses = {}
    for run in runs:
        found = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        losses[run] = [line["train/loss"] for line in found if "train/loss" in line]
        assert len(losses[run]) == 4 and (tmp_path / run / "checkpoints" / "4").is_dir()
    assert losses["runs/pod"] == losses["runs/seeds/seed-0"] != losses["runs/seeds/seed-1"]
    assert max(abs(a - b) for a, b in zip(losses["runs/two"], losses["runs/pod"], strict=True)) < 1e-4
