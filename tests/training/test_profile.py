"""A profile of a few steps, read back."""

from __future__ import annotations

import gzip
import json

import jax
import jax.numpy as jnp

from gcdiff.training.profile import SKIPPED, Profile


def walk(profile, first, steps):
    double = jax.jit(lambda x: 2 * x)
    for step in range(first, first + steps):
        profile.before(step)
        profile.after(step, double(jnp.ones(3)))
    profile.close()


def traced(workdir):
    """The steps that each trace holds."""
    steps_of = []
    for file in sorted(workdir.rglob("*.trace.json.gz")):
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        steps = [int(e["args"]["step_num"]) for e in events if "step_num" in e.get("args", {})]
        steps_of.append(sorted(set(steps)))
    return steps_of


def test_whole_steps_after_the_first_ones(tmp_path):
    said = []
    walk(Profile(tmp_path, 2, said.append), 10, 9)
    assert traced(tmp_path) == [[10 + SKIPPED, 11 + SKIPPED]]
    assert len(said) == 1 and said[0].startswith(f"{tmp_path / 'profile'}: 2 steps traced; xprof --logdir ")


def test_an_end_ends_the_trace(tmp_path):
    said = []
    walk(Profile(tmp_path, 5, said.append), 0, SKIPPED + 1)
    assert traced(tmp_path) == [[SKIPPED]] and "1 steps traced" in said[0]


def test_nothing_is_traced_without_steps_nor_elsewhere(tmp_path, monkeypatch):
    walk(Profile(tmp_path, 0), 0, 5)
    walk(Profile(tmp_path, 5), 0, SKIPPED)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    walk(Profile(tmp_path, 2), 0, 6)
    assert not list(tmp_path.iterdir())
