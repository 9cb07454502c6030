"""The training loop on a toy task: exact resume, stopping, limits, devices."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.jobs.stop import Paused
from gcdiff.training import loop
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.loop import Diverged, Interrupted, TrainConfig, train
from gcdiff.training.optim import Optim
from gcdiff.training.snapshots import average_of


class Regression:
    """A tiny MLP fitted to noisy values of a linear function; the noise comes from the step's key."""

    precision = "float32"

    def __init__(self, hidden=8):
        self.hidden = hidden
        self.evaluated = []

    def init(self, key):
        k1, k2 = jax.random.split(key)
        return {
            "w1": jax.random.normal(k1, (4, self.hidden)),
            "b1": jnp.zeros(self.hidden),
            "w2": jax.random.normal(k2, (self.hidden, 1)),
        }

    def predict(self, params, x):
        return (jnp.tanh(x @ params["w1"] + params["b1"][None]) @ params["w2"])[:, 0]

    def draw(self, batch, key):
        return {**batch, "noise": 0.1 * jax.random.normal(key, batch["y"].shape)}

    def loss_of(self, params, drawn):
        loss = jnp.mean((self.predict(params, drawn["x"]) - drawn["y"] - drawn["noise"]) ** 2)
        return loss, {"noise": drawn["noise"].mean()}

    def sample(self, params, step):
        return {"flat": np.full((4, 6, 3), 200, np.uint8)}

    def evaluate(self, params, step):
        self.evaluated.append(step)
        batch = next(batches(10_000))
        return {"error": float(jnp.mean((self.predict(params, batch["x"]) - batch["y"]) ** 2)), "none": float("nan")}


def batches(start, size=8, poison=None):
    for step in range(start, 20_000):
        x = np.random.default_rng(step).normal(size=(size, 4)).astype(np.float32)
        if step == poison:
            x[0, 0] = np.inf
        yield {"x": x, "y": x.sum(axis=1)}


def config(steps=12, **fields):
    fields = {"log_every": 5, "evaluate_every": 6, "sample_every": 6, "checkpoint_every": 4} | fields
    return TrainConfig(steps=steps, optim=Optim(learning_rate=1e-2, warmup=3, ema_profiles=(0.05, 0.1)), **fields)


def lines(workdir):
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "seconds" and "time/" not in name} for line in logged
    ]


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def send_signal_at(step, signum=signal.SIGTERM, **options):
    def source(start):
        for number, batch in enumerate(batches(start, **options), start):
            if number == step:
                os.kill(os.getpid(), signum)
            yield batch

    return source


def stop_dead_at(step):
    """Batches that raise, as if the machine had gone away."""

    def source(start):
        for number, batch in enumerate(batches(start), start):
            if number == step:
                raise OSError("gone")
            yield batch

    return source


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(Regression(), batches, workdir, config())


def test_what_a_run_leaves(whole):
    workdir, state = whole
    assert int(state.step) == 12
    assert [(line["step"], sorted(line)[1]) for line in lines(workdir)] == [
        (5, "train/grad_norm"), (6, "eval/none"), (10, "train/grad_norm"), (12, "train/grad_norm"), (12, "eval/none")
    ]  # fmt: skip
    assert lines(workdir)[1]["eval/none"] is None
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["0000006_flat.png", "0000012_flat.png"]
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["12", "8"]
    assert sorted(p.name for p in (workdir / "snapshots").iterdir()) == ["12", "4", "8"]
    assert_equal(restore_ema(workdir / "checkpoints", jax.eval_shape(Regression().init, jax.random.key(0))), state.ema)
    shapes = jax.eval_shape(Regression().init, jax.random.key(0))
    for length, average in zip((0.05, 0.1), state.profiles, strict=True):
        combined = average_of(workdir / "snapshots", shapes, (0.05, 0.1), length)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), combined, average)


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_was_told_to_stop_resumes_exactly(whole, tmp_path, step):
    with pytest.raises(Interrupted, match=f"stopped at step {step + 1}") as error:
        train(Regression(), send_signal_at(step), tmp_path, config())
    assert error.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    state = train(Regression(), batches, tmp_path, config())
    assert_equal(state, whole[1])
    assert lines(tmp_path) == lines(whole[0])


def test_a_run_that_died_resumes_exactly(whole, tmp_path):
    with pytest.raises(OSError, match="gone"):
        train(Regression(), stop_dead_at(11), tmp_path, config())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "tra')
    state = train(Regression(), batches, tmp_path, config())
    assert_equal(state, whole[1])
    assert lines(tmp_path) == lines(whole[0])


def test_a_damaged_checkpoint_is_stepped_over(whole, tmp_path, capsys):
    with pytest.raises(OSError, match="gone"):
        train(Regression(), stop_dead_at(11), tmp_path, config())
    files = [p for p in (tmp_path / "checkpoints/8/state").rglob("*") if p.is_file() and p.parent.name == "d"]
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)
    state = train(Regression(), batches, tmp_path, config())
    said = capsys.readouterr().err
    assert (
        said.count(": damaged (") == 1
        and "is changed); set aside as 8.damaged\n" in said
        and "going on from step 4" in said
    )
    assert_equal(state, whole[1])
    assert lines(tmp_path) == lines(whole[0])
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["12", "8", "8.damaged"]


def test_the_best_checkpoint_stays_and_a_number_that_is_not_there_is_named(tmp_path):
    one = {"steps": 6, "evaluate_every": 1, "sample_every": 0, "checkpoint_every": 1, "keep": 1}
    train(Regression(), batches, tmp_path / "a", config(**one, keep_best="-error", keep_every=4))
    errors = {line["step"]: line["eval/error"] for line in lines(tmp_path / "a") if "eval/error" in line}
    assert {int(p.name) for p in (tmp_path / "a/checkpoints").iterdir()} == {min(errors, key=errors.__getitem__), 4, 6}
    said = r"^keep_best is 'mious', expected a held-out number \(error, none\), after a '-' where the lowest is best$"
    with pytest.raises(ValueError, match=said):
        train(Regression(), batches, tmp_path / "b", config(**one, keep_best="mious"))


def test_a_finished_run_is_left_alone(whole, capsys):
    workdir, state = whole
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    task = Regression()
    again = train(task, lambda start: pytest.fail("took a batch"), workdir, config())
    assert "finished at step 12" in capsys.readouterr().err
    assert_equal(again, state)
    assert not task.evaluated
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}


def test_another_configuration_is_an_error_and_no_damage(whole):
    workdir, _ = whole
    with pytest.raises(ValueError, match=r"holds float32\[8\] for .*b1, the configuration expects float32\[9\]"):
        train(Regression(hidden=9), batches, workdir, config())
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["12", "8"]


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, capsys):
    state = train(Regression(), lambda start: batches(start, poison=7), tmp_path, config())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert "step 8: loss is inf and grad_norm is nan, the step is skipped (1 in a row)" in capsys.readouterr().err
    skipped = {line["step"]: line.get("train/skipped", 0) for line in lines(tmp_path) if "train/loss" in line}
    assert skipped == {5: 0, 10: 1, 12: 0}


def test_pictures_that_cannot_be_drawn_cost_no_training(whole, tmp_path, capsys):
    class Blind(Regression):
        def sample(self, params, step):
            raise ValueError("operands could not be\nbroadcast together")

    assert_equal(train(Blind(), batches, tmp_path, config()), whole[1])
    said = capsys.readouterr().err
    assert "step 6: pictures could not be drawn (operands could not be broadcast together)\n" in said
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["12", "8"]


def test_after_skipped_steps_in_a_row_other_batches_are_tried_once(tmp_path, capsys):
    """From the last checkpoint; a run that was stopped remembers it."""

    def source(start, order=0, until=11):
        asked.append((start, order))
        for step, batch in enumerate(batches(start), start):
            if step >= (6, until)[order]:
                batch["x"][0, 0] = np.nan
            yield batch

    asked, settings = [], config(steps=40, max_skipped=3, evaluate_every=0, sample_every=0)
    with pytest.raises(Diverged, match="^steps 12 to 14 were not finite .loss is nan and grad_norm"):
        train(Regression(), source, tmp_path, settings)
    said = capsys.readouterr().err
    assert asked == [(0, 0), (8, 1)], said  # the checkpoint of step 8 holds the state of step 6
    assert "going back to the checkpoint of step 8, with other batches" in said
    state = train(Regression(), functools.partial(source, until=99), tmp_path, settings)
    assert asked[-1] == (12, 1) and int(state.step) == 40


class Slow(Regression):
    """Evaluating and drawing take long; a signal comes meanwhile."""

    def __init__(self, slow):
        super().__init__()
        self.slow = [slow]

    def evaluate(self, params, step):
        if "evaluate" in self.slow:
            self.slow.remove("evaluate")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return super().evaluate(params, step)

    def sample(self, params, step):
        if "sample" in self.slow:
            self.slow.remove("sample")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        return super().sample(params, step)


@pytest.mark.parametrize("slow", ["evaluate", "sample"])
def test_a_signal_is_heard_while_something_long_goes_on(whole, tmp_path, slow):
    """The step is saved at once, and what it was to show is shown when the run goes on."""
    task, began = Slow(slow), time.monotonic()
    with pytest.raises(Interrupted, match="stopped at step 6; the same command goes on from there") as error:
        train(task, batches, tmp_path, config())
    assert time.monotonic() - began < 20 and error.value.left
    state = train(task, batches, tmp_path, config())
    assert_equal(state, whole[1])
    assert lines(tmp_path) == lines(whole[0])
    pictures = [sorted(p.name for p in (run / "samples").iterdir()) for run in (tmp_path, whole[0])]
    assert pictures[0] == pictures[1]


def test_minutes_end_a_run_and_its_learning_rate(tmp_path):
    def slow(start):
        for batch in batches(start):
            time.sleep(0.01)
            yield batch

    began = time.monotonic()
    limited = config(steps=100_000, minutes=1.5 / 60, log_every=1, evaluate_every=0, sample_every=0, checkpoint_every=0)
    state = train(Regression(), slow, tmp_path, limited)
    assert time.monotonic() - began < 15
    assert 3 < int(state.step) < 1000
    rates = [line["train/learning_rate"] for line in lines(tmp_path) if "train/learning_rate" in line]
    assert rates[-1] < 0.1 * limited.optim.learning_rate
    train(Regression(), lambda start: pytest.fail("took a batch"), tmp_path, limited)


def test_a_pause_stops_a_start_and_bends_nothing(whole, tmp_path, monkeypatch):
    """Each start has the same time, of its steps alone; the end is that of a run without pauses, bit for bit."""

    class Meter(loop.Meter):
        """Every step takes 20 seconds; compiling and evaluating take an hour."""

        made = 0

        def __init__(self, *arguments):
            self.now, Meter.made = 0.0, Meter.made + 1
            super().__init__(*arguments, clock=lambda: self.now)

        def step(self):
            self.now += 20
            super().step()

        @contextlib.contextmanager
        def paused(self):
            with super().paused():
                self.now += 3600
                yield

    monkeypatch.setattr(loop, "Meter", Meter)
    limited = config(pause_minutes=2.2)  # seven steps of a start, a line of the log between them
    with pytest.raises(Paused, match="^stopped at step 7 of 12, after 2.2 minutes; the same command goes on") as error:
        train(Regression(), batches, tmp_path, limited)
    assert (error.value.signum, error.value.left) == (0, False)
    assert (tmp_path / "checkpoints" / "7").is_dir()
    assert_equal(train(Regression(), batches, tmp_path, limited), whole[1])
    assert lines(tmp_path) == lines(whole[0])
    assert Meter.made == 2
    train(Regression(), lambda start: pytest.fail("took a batch"), tmp_path, limited)


def test_every_start_does_a_step_before_it_pauses(tmp_path):
    limited = config(steps=3, pause_minutes=1e-9, evaluate_every=0, sample_every=0)
    for step in (1, 2):
        with pytest.raises(Paused, match=f"^stopped at step {step} of 3, after 1e-09 minutes"):
            train(Regression(), batches, tmp_path, limited)
    assert int(train(Regression(), batches, tmp_path, limited).step) == 3


def test_periods_of_zero_and_below():
    settings = TrainConfig(evaluate_every=0, sample_every=-1, checkpoint_every=4)
    assert [settings.due(step, step == 9) for step in (4, 7, 9)] == [(0, 0, 1), (0, 0, 0), (1, 0, 1)]
    with pytest.raises(ValueError, match="^sample_every is -2, expected -1 or more$"):
        TrainConfig(sample_every=-2)
    with pytest.raises(ValueError, match="^checkpoint_every is -1, expected 0 or more$"):
        TrainConfig(checkpoint_every=-1)


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^the batches ended at step 2 of 12$"):
        train(Regression(), lambda start: itertools.islice(batches(start), 2), tmp_path / "a", config())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run: cannot be written to \(Not a directory\)$"):
        train(Regression(), batches, tmp_path / "file" / "run", config())
    with pytest.raises(FileNotFoundError, match="no checkpoint found"):
        restore_ema(tmp_path / "nothing", {})
    with pytest.raises(ValueError, match="^log_every is 0, expected at least 1$"):
        TrainConfig(steps=1, log_every=0)
    with pytest.raises(ValueError, match="^pause_minutes is 0, expected more than 0 or None$"):
        TrainConfig(steps=1, pause_minutes=0)
