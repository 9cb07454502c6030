"""What stays by the rule, saves in the background of a run that goes on, any number of devices, two processes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff import parallel
from gcdiff.jobs.lock import hold
from gcdiff.training import manifest
from gcdiff.training.checkpoint import Checkpointer, restore_ema
from gcdiff.training.keep import Keep, check_best, dropped
from gcdiff.training.snapshots import Snapshots, average_of
from gcdiff.training.state import TrainState

DOCUMENTS = {"meta": {"seconds": 1.5}, "data": {"step": 3, "order": [1, 2]}, "config": {"name": "x", "none": None}}


def state_of(step: int, mesh=None, size: int = 64) -> TrainState:
    """A state whose values depend on the step, cut over a mesh."""
    rng = np.random.default_rng(step)

    def tree():
        return {"w": rng.normal(size=(size, 128)).astype(np.float32), "b": rng.normal(size=7).astype(np.float32)}

    state = TrainState(np.int32(step), tree(), tree(), {"m": tree(), "count": np.int32(step)}, (tree(),))
    return jax.device_put(state, parallel.state_shardings(state, mesh or parallel.device_mesh()))


def target_on(mesh) -> TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0, mesh))


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def random_runs():
    rng = np.random.default_rng(0)
    for _ in range(300):
        steps = np.sort(rng.choice(np.arange(1, 60), rng.integers(1, 15), replace=False)).tolist()
        values = [{}, {"a": math.nan}, *({"a": float(v), "b": 0.0} for v in range(4))]
        numbers = {step: values[rng.integers(len(values))] for step in steps}
        yield numbers, Keep(int(rng.integers(1, 4)), ("", "a", "-a", "c")[rng.integers(4)], int(rng.integers(5)))


def test_the_rule_keeps_the_newest_the_best_and_the_multiples_and_nothing_else():
    for numbers, keep in random_runs():
        drop = dropped(numbers, keep)
        stay = set(numbers) - set(drop)
        assert drop == sorted(set(drop)) and set(drop) <= set(numbers)
        newest, multiples = (
            set(sorted(numbers)[-keep.latest :]),
            {s for s in numbers if keep.every and not s % keep.every},
        )
        assert newest | multiples <= stay
        sign = -1 if keep.best == "-a" else 1
        measured = {step: sign * v["a"] for step, v in numbers.items() if not math.isnan(v.get("a", math.nan))}
        more = stay - newest - multiples
        if measured and keep.best in ("a", "-a"):
            best = max(measured.values())
            assert best in [measured[step] for step in stay if step in measured]
            assert len(more) <= 1 and all(measured[step] == best for step in more)
        else:
            assert not more


def test_dropping_at_every_save_leaves_what_dropping_at_the_end_leaves():
    for numbers, keep in random_runs():
        kept = {}
        for step in sorted(numbers):
            kept[step] = numbers[step]
            for old in dropped(kept, keep):
                del kept[old]
        assert kept.keys() == numbers.keys() - set(dropped(numbers, keep))


def test_bad_rules_are_one_line():
    for fields, said in (
        ({"latest": 0}, "keep is 0, expected at least 1"),
        ({"every": -1}, "keep_every is -1, exp.* 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Keep(**fields)
    check_best({"a": 0.0}, Keep(best="-a"))
    with pytest.raises(ValueError, match=r"^keep_best is '-x', expected a held-out number \(a, b\), after a '-' where"):
        check_best({"b": 1.0, "a": 0.0}, Keep(best="-x"))


def test_a_save_holds_the_values_of_its_step_though_the_next_steps_take_the_buffers(tmp_path):
    step = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    checkpoints, state = Checkpointer(tmp_path, Keep(1)), step(state_of(0, size=4096))
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    for number in range(1, 4):
        want = jax.tree.map(np.array, state)
        checkpoints.save(number, state, {})
        for _ in range(10):
            state = step(state)
        jax.block_until_ready(state)
        assert_equal(checkpoints.restore(target)[0], want)
    checkpoints.close()


def test_a_save_goes_on_in_the_background_and_drops_nothing_before_it_is_finished(tmp_path, monkeypatch):
    checkpoints, go = Checkpointer(tmp_path, Keep(1)), threading.Event()
    checkpoints.save(1, state_of(1), DOCUMENTS)
    checkpoints.wait()
    finish = manifest.finish
    monkeypatch.setattr(manifest, "finish", lambda *arguments: (go.wait(60), finish(*arguments)))
    checkpoints.save(2, state_of(2), DOCUMENTS)
    assert checkpoints.latest() == 1
    go.set()
    checkpoints.wait()
    assert checkpoints.latest() == 2 and [p.name for p in tmp_path.iterdir()] == ["2"]
    state, documents = checkpoints.restore(target_on(parallel.device_mesh()))
    assert_equal(state, state_of(2))
    assert documents == DOCUMENTS
    checkpoints.close()


def test_the_best_is_known_again_when_a_run_goes_on(tmp_path):
    for step, value in enumerate((0.1, 0.7, 0.3, math.nan, 0.5), 1):  # a new start for every step
        checkpoints = Checkpointer(tmp_path, Keep(1, "miou"))
        checkpoints.save(step, state_of(step), {}, {"miou": value})
        checkpoints.close()
    assert {p.name for p in tmp_path.iterdir()} == {"2", "5"}


def test_checkpoints_from_before_the_sum_and_the_documents_are_restored(tmp_path):
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(1, state_of(1), {"meta": {"step": 1}})
    checkpoints.close()
    content = json.loads((tmp_path / "1" / "manifest.json").read_text())
    (tmp_path / "1" / "manifest.json").write_text(json.dumps({name: content[name] for name in ("files", "arrays")}))
    state, documents = Checkpointer(tmp_path).restore(target_on(parallel.device_mesh()))
    assert_equal(state, state_of(1))
    assert documents == {"meta": {"step": 1}}


def test_a_directory_is_held_by_one(tmp_path):
    code = "import sys, pathlib, gcdiff.jobs.lock as l\nwith l.hold(pathlib.Path(sys.argv[1])): pass"
    with hold(tmp_path):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        held = (
            f"{tmp_path}: in use by process {os.getpid()} on {socket.gethostname()}; two runs cannot share a directory"
        )
        assert done.stderr.splitlines()[-1] == f"ValueError: {held}"
        with pytest.raises(ValueError, match="two runs cannot share a directory"), hold(tmp_path):
            pass
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0
    with hold(tmp_path):
        pass


def run_here(code: str, *arguments, **environment) -> subprocess.Popen:
    """Start a Python process that has the names of this module."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, arguments)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def hand_over(place: Path) -> None:
    """On eight devices: what one saved is restored, and what eight, four and one have saved, each on each."""
    meshes = [parallel.device_mesh(fsdp=n, devices=jax.devices()[:n]) for n in (8, 4, 1)]
    assert meshes[0].size == 8
    checkpoints = Checkpointer(place, Keep(9))
    assert checkpoints.latest() == 1
    for step, saved_on in enumerate([meshes[2], *meshes], 1):
        if step > 1:
            checkpoints.save(step, state_of(step, saved_on), DOCUMENTS)
        for mesh in meshes:
            state, documents = checkpoints.restore(target_on(mesh))
            assert_equal(state, state_of(step))
            assert documents == DOCUMENTS
            shards = state.params["w"].addressable_shards
            assert {shard.data.size for shard in shards} == {64 * 128 // mesh.size} and len(shards) == mesh.size
    checkpoints.save(5, state_of(5, meshes[0]), DOCUMENTS)
    Snapshots(place.parent / "snapshots").save(5, state_of(5, meshes[0]).profiles)
    checkpoints.close()


def test_saved_on_some_devices_and_restored_on_others(tmp_path):
    checkpoints = Checkpointer(tmp_path / "checkpoints")
    checkpoints.save(1, state_of(1), DOCUMENTS)
    checkpoints.close()
    code = "from test_checkpoint import *; hand_over(Path(sys.argv[2]))"
    process = run_here(code, tmp_path / "checkpoints", JAX_NUM_CPU_DEVICES="8")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    state, documents = Checkpointer(tmp_path / "checkpoints").restore(target_on(parallel.device_mesh()))
    assert_equal(state, state_of(5))
    assert documents == DOCUMENTS
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state.ema)
    assert_equal(restore_ema(tmp_path / "checkpoints", shapes), state_of(5).ema)
    assert_equal(average_of(tmp_path / "snapshots", shapes, (0.1,), 0.1), state_of(5).profiles[0])


def one_of_two(place: Path, port: str, number: int) -> None:
    """One of two processes with two devices each: both save, fall back to the same step, and fail together."""
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number)
    mesh = parallel.device_mesh(fsdp=4)
    checkpoints = Checkpointer(place / "checkpoints", Keep(2))
    for step in (1, 2, 3):
        checkpoints.save(step, state_of(step, mesh), DOCUMENTS)
    checkpoints.wait()
    if number == 0:
        file = max((p for p in (place / "checkpoints" / "3").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    state, documents = checkpoints.restore(target_on(mesh))
    assert documents == DOCUMENTS
    jax.tree.map(
        lambda a, b: [np.testing.assert_array_equal(x.data, y.data) for x, y in zip(*map(shards, (a, b)), strict=True)],
        state,
        state_of(2, mesh),
    )
    Snapshots(place / "snapshots").save(2, state.profiles)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state.ema)
    assert restore_ema(place / "checkpoints", shapes)["w"].is_fully_addressable
    if number == 0:
        manifest.finish = None
    checkpoints.save(4, state, DOCUMENTS)
    with pytest.raises(
        OSError, match=r"step 4 could not be saved \(.*\); the last good checkpoint is step 2$"
    ) as error:
        checkpoints.wait()
    assert ("process 0 could not write" in str(error.value)) == (number == 1)
    checkpoints.close()


def shards(array):
    return array.addressable_shards


def test_two_processes_save_fall_back_and_fail_together(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from test_checkpoint import *; one_of_two(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))"
    processes = [run_here(code, tmp_path, port, number, JAX_NUM_CPU_DEVICES="2") for number in (0, 1)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert ["set aside as 3.damaged" in text for text in said] == [True, False]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "3.damaged"]
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state_of(2).ema)
    assert_equal(average_of(tmp_path / "snapshots", shapes, (0.1,), 0.1), state_of(2).profiles[0])
