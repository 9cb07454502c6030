"""Parameter groups: which group a parameter is in, its rate, its clipping, and that a frozen part stays as it is."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff import config as configs
from gcdiff.training import manifest
from gcdiff.training.checkpoint import Checkpointer, restore_ema
from gcdiff.training.groups import Group, check_groups, frozen_names, groups_of, join, split
from gcdiff.training.optim import Optim
from gcdiff.training.snapshots import Snapshots, average_of
from gcdiff.training.state import create_state, train_step

ROOT = Path(__file__).parents[2]
PARAMS = {
    "decoder": {"bias": jnp.full(2, 3.0), "kernel": jnp.full((2, 2), -2.0)},
    "encoder": {"bias": jnp.full(2, 1.0), "kernel": jnp.full((2, 2), 4.0)},
    "head": jnp.full(3, 5.0),
}
FROZEN_ENCODER = (("encoder/*", 0.0, "all"), ("head", 3.0, "head"))


class Quadratic:
    """Half the squared distance of every parameter from the batch's value."""

    def init(self, key):
        return PARAMS

    def draw(self, batch, key):
        return batch

    def loss_of(self, params, drawn):
        return 0.5 * sum(jnp.sum((leaf - drawn) ** 2) for leaf in jax.tree.leaves(params)), {}


def optim_of(groups, **settings):
    settings = {"warmup": 0, "schedule": "constant", "weight_decay": 0.0, "learning_rate": 0.1} | settings
    return Optim(groups=groups, **settings)


def trained(optim, steps=1, batch=0.0):
    """The states before and after some steps, each on an own draw of the batch's value."""
    start = jax.jit(functools.partial(create_state, Quadratic(), optim, 0))()
    step, state = jax.jit(functools.partial(train_step, Quadratic(), optim, 0)), start
    for number in range(steps):
        state, _ = step(state, jnp.float32(batch + number), jnp.float32(0))
    return start, state


def norm(tree) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_the_first_pattern_that_matches_decides():
    groups = [Group("encoder/bias", 2.0, "a"), Group("encoder/*", 0.0), Group("*bias", 5.0, "b")]
    names = [group.pattern for group in groups_of(groups, PARAMS)]
    assert dict(zip(manifest.named(PARAMS), names, strict=True)) == {
        "decoder/bias": "*bias",
        "decoder/kernel": "*",  # of no pattern: rate 1
        "encoder/bias": "encoder/bias",
        "encoder/kernel": "encoder/*",
        "head": "*",
    }
    assert frozen_names(groups, PARAMS) == {"encoder/kernel"}
    assert groups_of(groups, PARAMS)[1] == Group("*", 1.0, "all")


def test_a_rate_is_a_factor_on_the_learning_rate():
    _, plain = trained(optim_of(()))
    _, state = trained(optim_of(FROZEN_ENCODER, clip=1e9))
    assert_equal(state.params["decoder"], plain.params["decoder"])  # Adam's first step does not depend on the norm
    np.testing.assert_allclose(PARAMS["head"] - state.params["head"], 3 * (PARAMS["head"] - plain.params["head"]))


def test_a_frozen_part_stays_bit_for_bit_and_nothing_is_kept_of_it():
    optim = optim_of(FROZEN_ENCODER, weight_decay=0.1, ema_profiles=(0.1,))
    start, state = trained(optim, steps=20)
    assert_equal(state.frozen["encoder"], PARAMS["encoder"])
    assert_equal(state.averaged["encoder"], PARAMS["encoder"])
    assert all(np.all(new != old) for new, old in zip(*map(jax.tree.leaves, (state.params, start.params)), strict=True))
    without_frozen = set(manifest.named(PARAMS)) - {"encoder/bias", "encoder/kernel"}
    moments = state.opt_state[1]
    for tree in (state.params, state.ema, *state.profiles, moments.mu, moments.nu):
        assert set(manifest.named(tree)) == without_frozen
    assert_equal(join(*split(PARAMS, {"head"})), PARAMS)


def test_a_frozen_part_is_stored_once(tmp_path):
    _, state = trained(optim_of(FROZEN_ENCODER, ema_profiles=(0.1,)), steps=3)
    checkpoints = Checkpointer(tmp_path / "checkpoints")
    checkpoints.save(3, state, {"meta": {}})
    restored, _ = checkpoints.restore(state)
    checkpoints.close()
    assert_equal(restored, state)
    stored = manifest.arrays(tmp_path / "checkpoints" / "3")
    assert set(stored.pop("frozen")) == {"encoder/bias", "encoder/kernel"}
    assert set(stored) == {"state", "ema", "profiles"}
    assert not any("encoder" in name for item in stored.values() for name in item)
    assert_equal(restore_ema(tmp_path / "checkpoints", PARAMS), state.averaged)

    Snapshots(tmp_path / "snapshots").save(3, state.profiles)
    stored = manifest.arrays(tmp_path / "snapshots" / "3")
    assert not any("encoder" in name for item in stored.values() for name in item)
    average = average_of(tmp_path / "snapshots", PARAMS, (0.1,), 0.1, tmp_path / "checkpoints")
    assert_equal(average, join(state.profiles[0], state.frozen))


def test_every_clip_group_has_its_own_norm():
    """Adam's first moment after a step is (1 - b1) times the clipped gradient."""
    groups = (("encoder/*", 1.0, "encoder"),)
    _, state = trained(optim_of(groups, clip=0.5, b1=0.5), batch=-1e3)
    first = state.opt_state[1].mu
    np.testing.assert_allclose(norm(first["encoder"]), 0.25, rtol=1e-5)
    np.testing.assert_allclose(norm([first["decoder"], first["head"]]), 0.25, rtol=1e-5)
    _, together = trained(optim_of((), clip=0.5, b1=0.5), batch=-1e3)
    np.testing.assert_allclose(norm(together.opt_state[1].mu), 0.25, rtol=1e-5)


@pytest.mark.parametrize(
    "groups, message",
    [
        ((("encodr/*", 0.0, "all"),), r"^optim.groups: no parameter has a name like 'encodr/\*'; names near it: enc"),
        ((("*", 2.0, "all"), ("head", 0.0, "all")), r"^optim.groups: all that 'head' matches is in groups before"),
        ((("*", 0.0, "all"),), r"^optim.groups freezes every parameter: '\*'$"),
    ],
)
def test_groups_that_do_not_fit_the_parameters_are_refused(groups, message):
    with pytest.raises(ValueError, match=message) as error:
        create_state(Quadratic(), optim_of(groups), 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ('("head",0,"all")', r"^--config.optim.groups=\(.*\): expected tuple, as in \(\('\*', 1.0, 'all'\),\)$"),
        ('(("head","fast","all"),)', r"^--config.optim.groups=.*: expected tuple, as in"),
        ('(("head",0),)', r"^--config.optim.groups=.*: expected tuple, as in"),
        ("head", r"^--config.optim.groups=head: expected tuple, as in"),
        ('(("head",-1,"all"),)', r"^optim.groups has the rate -1.0 for 'head', expected 0 \(frozen\) or more$"),
        ('(("head",1e999,"all"),)', r"^--config.optim.groups=.*: expected a finite number$"),
    ],
)
def test_a_bad_value_in_the_config_is_refused_in_one_line(text, message):
    config = configs.default()
    with pytest.raises(ValueError, match=message) as error:
        configs.override(config, "optim.groups", text)
        configs.train_config(config)
    assert "\n" not in str(error.value)


def test_the_example_in_the_docs_runs():
    """Its groups are read from the command line, and they fit the parameters of the config that is named there."""
    (line,) = re.findall(r"^    (gcdiff train .*optim\.groups.*)$", (ROOT / "docs" / "training.md").read_text(), re.M)
    words = shlex.split(line)
    (text,) = (word.partition("=")[2] for word in words if word.startswith("--config.optim.groups="))
    file = ROOT / words[words.index("--config") + 1]
    config = configs.load_file(str(file), [("optim.groups", text), ("data.num", "64")])
    specs = configs.build_specs(config, configs.splits(config).train)
    built = configs.build(config, specs)
    params = jax.eval_shape(lambda: configs.initial_params(built, config, specs))
    groups = configs.train_config(config).optim.groups
    check_groups(groups, params)
    parts = ("network/stem", "network/block0/", "network/block1/", "text/")
    assert frozen_names(groups, params) == {name for name in manifest.named(params) if name.startswith(parts)}
