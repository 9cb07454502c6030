"""The joint task with every layout process: from a config to a training step, a sample and a start from other weights.

All but the last test is traced and not compiled: shapes and types must fit from end to end.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff import config as configs
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES
from gcdiff.samplers.sample import example_keys, given_values
from gcdiff.schedules import Schedule
from gcdiff.training import balance
from gcdiff.training.joint_task import Drawn, LossConfig
from gcdiff.training.state import gradient
from gcdiff.training.transfer import Names, transfer
from gcdiff.types import VOID, LabelSpec, Pair


def tiny(layout, weight="root", balanced=False, **network):
    """A config and its task on streets of 16 x 32 pixels."""
    c = configs.default()
    c.data.update(name="streets", size=(16, 32), num=8, heldout=4)
    c.network.update(dim=16, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.network.update(**network)
    c.text.update(features=16, layers=1)
    c.sample.update(steps=2, chunk=4)
    c.process.layout, c.loss.layout_weight, c.loss.balance = layout, weight, balanced
    configs.check(c)
    data = configs.splits(c)
    return configs.build_task(c, configs.build_specs(c, data.train), data)


@pytest.mark.parametrize(
    ("layout", "weight"), [("uniform", "kl"), ("uniform", "elbo"), ("absorbing", "elbo"), ("bits", "one")]
)
def test_every_layout_process_trains_and_samples(layout, weight):
    task = tiny(layout, weight)
    assert isinstance(task.process.layout, LAYOUT_PROCESSES[layout])
    key, batch = jax.random.key(0), jax.tree.map(jnp.asarray, task.heldout)
    params = jax.eval_shape(task.init, key)
    (loss, parts), slope = jax.eval_shape(jax.value_and_grad(task.step, has_aux=True), params, batch, key)
    assert loss.shape == () and set(parts) == {"loss", "image", "layout"}
    assert jax.tree.structure(slope) == jax.tree.structure(params)

    def sample(params):
        known = Pair(np.zeros(batch.image.shape[:3], bool), np.zeros(batch.layout.shape, bool))
        given = given_values(example_keys(0, np.arange(4)), Pair(batch.image, batch.layout), known)
        condition = task.conditions.sampling(params, given.keys, task.conditions.of_examples(batch))
        row = jnp.asarray(task.path[0])
        state = task.sampler.begin(given, row).state
        shares = task.sampler.probabilities(params["network"], state, given, row, condition, task.settings)
        return task.process.layout.decode(state.layout), shares

    labels, shares = jax.eval_shape(sample, params)
    assert (labels.shape, labels.dtype) == (batch.layout.shape, jnp.int32)
    assert shares.shape == (*batch.layout.shape, task.labels.num_classes)


@pytest.fixture(scope="module")
def balanced():
    """A task of balanced losses without text, and what it draws, compiled."""
    task = dataclasses.replace(tiny("uniform", balanced=True), conditions=Conditions(), photometric=0.1)
    return task, jax.jit(task.draw)


class Zero:
    """A network that puts out zeros."""

    def apply(self, variables, noisy, log_snr, condition, rngs=None):
        return Pair(jnp.zeros_like(noisy.image), jnp.zeros((*noisy.layout.shape, 10)))


def test_colours_vary_where_the_whole_image_is_given_and_carries_no_loss(balanced):
    """An image of which a part is to be drawn keeps its colours, so that the model learns these."""
    task, draw = balanced
    varied, whole, part = [], [], []
    for seed in range(24):
        drawn = draw(task.heldout, jax.random.key(seed))
        known = np.asarray(drawn.known.image)
        varied += list((np.asarray(drawn.batch.image) != task.heldout.image).any(axis=(1, 2, 3)))
        whole += list(known.all(axis=(1, 2)))
        part += list(known.any(axis=(1, 2)) & ~known.all(axis=(1, 2)))
        np.testing.assert_array_equal(drawn.batch.layout, task.heldout.layout)
    assert sum(whole) > 3 and sum(part) > 3
    np.testing.assert_array_equal(varied, whole)


def test_each_loss_has_its_weight_and_is_logged_without_it(balanced):
    task, draw = balanced
    drawn = draw(task.heldout, jax.random.key(1))
    params = {"network": {}, "balance": balance.init()}
    for weights in ((2.0, 3.0), (0.5, 0.0)):
        loss = LossConfig(*weights, image_weight=task.loss.image_weight)
        weighed = dataclasses.replace(task, network=Zero(), loss=loss)
        total, parts = jax.jit(weighed.loss_of)(params, drawn)
        each = jax.jit(weighed.losses)(params, drawn)
        np.testing.assert_allclose([parts["image"], parts["layout"]], [side.mean() for side in each], rtol=1e-5)
        np.testing.assert_allclose(total, weights[0] * parts["image"] + weights[1] * parts["layout"], rtol=1e-5)
        assert parts["loss"] == total and parts["image"] > 0 and parts["layout"] > 0


def test_balanced_losses_start_as_they_are_and_charge_what_they_count(balanced):
    """Void and known pixels, and an example whose layout is all void, are counted as the losses count them."""
    task = dataclasses.replace(balanced[0], network=Zero())
    layout = task.heldout.layout.copy()
    layout[:2], layout[2, :9] = VOID, VOID
    drawn, loss_of = balanced[1](task.heldout._replace(layout=layout), jax.random.key(1)), jax.jit(task.loss_of)
    start = balance.init()
    later = {side: w.at[0].set(0.02) for side, w in start.items()}  # u = .6
    (loss, parts), (other, same) = (loss_of({"network": {}, "balance": w}, drawn) for w in (start, later))
    np.testing.assert_allclose(loss, parts["image"] + parts["layout"], rtol=1e-6)
    assert parts["image"] == same["image"] > 0 and parts["layout"] == same["layout"] > 0
    # With logits of 0 every pixel that is asked has a loss: those without one are not charged with u.
    shares = (~drawn.known.image).mean() + ((layout != VOID) & ~drawn.known.layout).mean()
    np.testing.assert_allclose(other, loss * np.exp(-0.6) + 0.6 * shares, rtol=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(balanced):
    class Linear:
        """Every output is a weight times what stands there, so that each example has a gradient of its own."""

        def apply(self, variables, noisy, log_snr, condition, rngs=None):
            p, shown = variables["params"], jax.nn.one_hot(noisy.layout, 10)
            level = jnp.clip(log_snr.layout, -5, 5)[..., None]
            return Pair(noisy.image * p["image"], shown @ p["layout"] + level * p["level"])

    task, rng = dataclasses.replace(balanced[0], network=Linear()), np.random.default_rng(0)
    sizes = {"image": (3,), "layout": (10, 10), "level": (10,)}
    params = {"network": {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in sizes.items()}}
    params["balance"] = jax.tree.map(lambda a: a + 0.01, balance.init())
    drawn = balanced[1](task.heldout, jax.random.key(1))
    whole, *others = (jax.jit(lambda p, d, n=n: gradient(task, p, d, n))(params, drawn) for n in (1, 2, 4))
    assert all(np.linalg.norm(leaf) > 1e-3 for leaf in whole[1]["network"].values())
    for other in others:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), whole, other)


@pytest.mark.parametrize(("layout", "weight"), [("absorbing", "kl"), ("bits", "kl"), ("bits", "elbo")])
def test_a_weight_that_a_process_does_not_have_is_refused(layout, weight):
    with pytest.raises(ValueError) as caught:
        tiny(layout, weight)
    said = f"config.loss.layout_weight is {weight!r}, which process.layout={layout} does not have"
    assert str(caught.value) == said


@pytest.mark.parametrize("rarity", [-0.1, 1.5, float("nan")])
def test_a_rarity_that_is_no_power_from_0_to_1_is_refused(rarity):
    with pytest.raises(ValueError, match="^loss.rarity is .*, expected 0 .none. to 1"):
        LossConfig(rarity=rarity)


def test_rarity_reads_the_noisy_labels_at_the_image_s_pixels():
    """The same task with and without: the image's losses differ by the weights alone, the layout's do not."""
    task = tiny("uniform")
    drawn = task.draw(task.heldout, jax.random.key(0))
    params = task.init(jax.random.key(1))
    weighed = dataclasses.replace(task, loss=dataclasses.replace(task.loss, rarity=1.0))
    losses = [jax.jit(t.losses) for t in (task, weighed)]
    without, weighted = (f(params, drawn) for f in losses)
    np.testing.assert_array_equal(without.layout, weighted.layout)
    same = drawn._replace(noisy=drawn.noisy._replace(layout=jnp.zeros_like(drawn.noisy.layout)))
    without_labels, weighted_same = (f(params, same) for f in losses)
    np.testing.assert_allclose(without_labels.image, weighted_same.image, rtol=1e-6)
    assert np.abs(without.image - weighted.image).max() > 1e-3


def tables(embedding, head, value):
    """The class-dependent arrays of a network: a table of `embedding` rows and a head of `head` channels."""
    filled = {"labels": {"embedding": np.zeros((embedding, 2))}, "head_layout": {"bias": np.zeros(head)}}
    return jax.tree.map(lambda a: a + value + np.arange(len(a)).reshape(-1, *[1] * (a.ndim - 1)), filled)


def test_classes_are_found_by_name_and_the_mask_with_them():
    old, new = (LabelSpec(names, ((0, 0, 0),) * len(names)) for names in (("sky", "car", "road"), ("road", "pole")))
    names = Names(new, None), Names(old, None)
    masked, _ = transfer(tables(3, 2, 100), tables(4, 3, 0), *names)
    np.testing.assert_array_equal(masked["labels"]["embedding"][:, 0], [2, 101, 3])
    np.testing.assert_array_equal(masked["head_layout"]["bias"], [2, 101])
    unmasked, _ = transfer(tables(3, 2, 100), tables(3, 3, 0), *names)
    np.testing.assert_array_equal(unmasked["labels"]["embedding"][:, 0], [2, 101, 102])
    bits, report = transfer(tables(2, 1, 100), tables(3, 2, 0), *names)
    np.testing.assert_array_equal(bits["head_layout"]["bias"], [100])
    assert "not taken: head_layout/bias" in report


def test_an_imprecise_label_is_kept_by_what_its_level_keeps_beyond_its_precision():
    """Of a label of precision .6 the share keep / .6 stays as it is: all of it at and below its own level."""
    task, label = dataclasses.replace(tiny("uniform"), label_precision=0.6), np.ones((40, 16, 32), np.int32)
    noised = jax.jit(
        lambda levels: task.noised(TrainBatch(jnp.zeros((40, 16, 32, 3)), label), levels, jax.random.key(0))
    )
    for level in (0.2, 0.6, 0.8, 1.0):
        layout = noised(Pair(*[jnp.full(label.shape, level)] * 2)).layout
        kept = min(float(task.process.layout.keep(level)) / 0.6, 1.0)
        np.testing.assert_allclose((layout == 1).mean(), kept + (1 - kept) / 10, atol=0.015)


def test_imprecise_labels_are_noised_from_their_own_level():
    """A network that always says p learns the clean law from labels that are right with probability .6, at every level;
    labels below their own level ask nothing, and the network reads their level."""
    task = dataclasses.replace(tiny("uniform"), label_precision=0.6)
    clean = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05, 0, 0, 0, 0], np.float32)
    keys, shape = jax.random.split(jax.random.key(0), 2), (64, 16, 32)
    label = np.random.default_rng(0).choice(10, shape, p=clean / clean.sum()).astype(np.int32)
    renoise = jax.jit(UniformProcess(10, Schedule("cosine")).renoise)
    seen = renoise(keys[0], label, 0.0, task.process.layout.schedule.level(0.6))
    lowest: list = []

    class Says:
        def apply(self, variables, noisy, log_snr, condition):
            lowest.append(jnp.min(log_snr.layout))
            return Pair(noisy.image, jnp.broadcast_to(variables["params"], (*noisy.layout.shape, 10)))

    task = dataclasses.replace(task, network=Says(), conditions=Conditions())
    batch = TrainBatch(jnp.zeros((*shape, 3)), seen)
    nothing = Pair(jnp.zeros(shape, bool), jnp.zeros(shape, bool))

    def loss(logits, level):
        levels = Pair(jnp.full(shape, 0.5), jnp.full(shape, level))
        drawn = Drawn(batch, levels, nothing, task.noised(batch, levels, keys[1]), {})
        return task.losses({"network": logits}, drawn).layout.mean(), lowest.pop()

    slope_of = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for level in (0.7, 1.0):
        slopes = [slope_of(jnp.log(law + 1e-6), level)[1] for law in (clean, 0.6 * clean + 0.04)]
        assert np.abs(slopes[0]).max() < 0.012 < 0.02 < np.abs(slopes[1]).max()
    (value, least), _ = slope_of(jnp.log(clean + 1e-6), 0.2)
    assert value == 0
    np.testing.assert_allclose(jax.nn.sigmoid(least), 0.6, atol=1e-3)
