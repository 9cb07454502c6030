"""The README's command lines for several processes and seeds, run as they stand there, on a tiny config.

`--distributed` finds the variables of a Slurm job of one task; `--seeds` needs no process of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gcdiff import cli
from gcdiff.cli.parser import make_parser

sys.path.insert(0, str(Path(__file__).parent))
from tiny_models import STREETS  # noqa: E402

README = Path(__file__).parents[1] / "README.md"
SEVERAL = ("--coordinator", "--seeds", "--distributed")
SLURM = {
    "JOB_ID": "1",
    "STEP_NODELIST": "localhost",
    "NTASKS": "1",
    "PROCID": "0",
    "LOCALID": "0",
    "STEP_NUM_NODES": "1",
}


@pytest.mark.parametrize(
    "command",
    [
        "train --config x --workdir x", "embed --dataset x --encoder x", "evaluate --workdir x",
        "sample --workdir x --out x", "segment --workdir x --out x --images x",
        "synthesize --workdir x --out x --layouts x", "outpaint --workdir x --out x --known x",
        "generate --workdir x --out x --num 1",
    ],
)  # fmt: skip
def test_a_command_that_uses_devices_may_be_one_of_several_processes(command):
    options = "--coordinator here:1 --num-processes 2 --process-id 1"
    parsed = make_parser().parse_args(f"{command} {options}".split())
    assert (parsed.coordinator, parsed.num_processes, parsed.process_id) == ("here:1", 2, 1)


def words(line: str, port: str) -> list[str]:
    """A command line of the README, with the tiny config, a free port and fewer seeds."""
    return shlex.split(line.replace("configs/streets.py", "tiny.py").replace("9876", port).replace("0,1,2", "0,1"))[1:]


def start(words: list[str], folder: Path) -> subprocess.Popen:
    environment = {f"SLURM_{name}": value for name, value in SLURM.items()} if "--distributed" in words else {}
    return subprocess.Popen(
        [sys.executable, "-m", "gcdiff", *words], cwd=folder, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_lines_for_several_processes(tmp_path, monkeypatch):
    plain = STREETS.replace("ema_profiles=(0.05, 0.1)", "").replace("c.loss.balance = True", "c.levels.kind = 'shared'")
    plain = plain.replace("c.text.update(features=16, layers=1)", "c.text.encoder = 'none'")  # less to compile
    (tmp_path / "tiny.py").write_text(plain)
    lines = [line.strip() for line in README.read_text().splitlines() if line.startswith("    gcdiff")]
    lines = [line for line in lines if any(word in line for word in SEVERAL)]
    assert {word for word in SEVERAL for line in lines if word in line} == set(SEVERAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together, seeds, alone = ([words(line, port) for line in lines if word in line] for word in SEVERAL)
    monkeypatch.chdir(tmp_path)
    for command in seeds:
        assert cli.main(command) == 0
    for group in (together, alone):
        running = [start(command, tmp_path) for command in group]
        said = [process.communicate(timeout=200)[0] for process in running]
        assert [process.returncode for process in running] == [0] * len(group), said
    runs = {p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("metrics.jsonl")}
    assert runs == {"runs/two", "runs/pod", "runs/seeds/seed-0", "runs/seeds/seed-1"}
    losses = {}
    for run in runs:
        lines = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        losses[run] = [line["train/loss"] for line in lines if "train/loss" in line]
        assert len(losses[run]) == 4 and (tmp_path / run / "checkpoints" / "4").is_dir()
    assert losses["runs/pod"] == losses["runs/seeds/seed-0"] != losses["runs/seeds/seed-1"]
    assert max(abs(a - b) for a, b in zip(losses["runs/two"], losses["runs/pod"], strict=True)) < 1e-4
