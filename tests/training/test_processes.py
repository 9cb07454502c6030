"""Two real processes on this machine: one run, which stops at one step and goes on as if nothing had been.

What each of them runs is `main`, below.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gcdiff.training.loop import Interrupted, train

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Regression, assert_equal, batches, config, lines  # noqa: E402


def shares(start, stop_at=None, seen=None):
    """This process's rows of the batches; `stop_at` is the step before which this process receives a signal to stop."""
    size = 8 // jax.process_count()
    rows = slice(jax.process_index() * size, (jax.process_index() + 1) * size)
    for step, batch in enumerate(batches(start), start):
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if seen is not None:
            seen.append(step)
        yield {name: array[rows] for name, array in batch.items()}


def main(number: int, port: str, folder: Path) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    whole = train(Regression(), shares, folder / "whole", config())
    stop_at, seen = 5 if number == 1 else None, []
    try:
        train(Regression(), lambda start: shares(start, stop_at), folder / "stopped", config())
    except Interrupted as error:
        print(error)
    state = train(Regression(), lambda start: shares(start, seen=seen), folder / "stopped", config())
    assert_equal(jax.device_get(state.params), jax.device_get(whole.params))
    assert_equal(jax.device_get(state.opt_state), jax.device_get(whole.opt_state))
    print(json.dumps(seen))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of both runs, and what each process has printed."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command, environment = [sys.executable, __file__], os.environ | {"JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [*command, str(number), port, str(folder)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=150) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    return folder, [out.splitlines() for out, _ in outputs]


@pytest.mark.slow
def test_both_stop_at_the_same_step_though_one_alone_was_told(finished):
    _, said = finished
    stops = [[line for line in lines if line.startswith("stopped at step")] for lines in said]
    assert len(stops[0]) == 1 and stops[0] == stops[1]


@pytest.mark.slow
def test_the_resumed_run_equals_the_uninterrupted_one(finished):
    """Parameters and optimiser are compared within the processes, numbers here."""
    folder, said = finished
    assert lines(folder / "stopped") == lines(folder / "whole")
    stopped = int(said[0][-2].split()[3].rstrip(";"))
    assert [json.loads(one[-1])[: 12 - stopped] for one in said] == [list(range(stopped, 12))] * 2


@pytest.mark.slow
def test_the_first_process_alone_writes_and_one_process_goes_on(finished, tmp_path):
    folder, _ = finished
    assert len([line for line in lines(folder / "whole") if line["step"] == 12]) == 2
    state = train(Regression(), batches, folder / "stopped", config())  # finished: restored on one process
    assert int(state.step) == 12


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
