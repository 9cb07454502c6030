"""The low-resolution pair of a super-resolution stage: noise at a level of each example, in training and sampling."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import random_params

from gcdiff import config as configs
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions
from gcdiff.conditions.lowres import LowResInput
from gcdiff.grids import majority
from gcdiff.samplers.sample import example_keys
from gcdiff.schedules import Schedule
from gcdiff.training.look import segment
from gcdiff.training.task import split_numbers
from gcdiff.types import VOID, Pair

K = 5
COSINE, LINEAR = Schedule("cosine"), Schedule("linear")
STAGE = LowResInput(2, LINEAR, K)
AUGMENT = jax.jit(STAGE.augment)
RNG = np.random.default_rng(0)


def pairs(batch, size=(64, 64)):
    layout = RNG.integers(0, K, (batch, *size)).astype(np.int32)
    return RNG.uniform(-1, 1, (batch, *size, 3)).astype(np.float32), layout


def test_each_example_is_noised_to_its_own_level_on_the_schedule_of_its_own():
    image, layout = pairs(4)
    level = np.array([0.0, 0.2, 0.6, 1.0], np.float32)
    noisy = AUGMENT(jax.random.key(0), Pair(image, layout), level)
    np.testing.assert_array_equal(noisy.image[0], image[0])
    np.testing.assert_array_equal(noisy.layout[0], layout[0])
    kept = (noisy.layout == layout).mean((1, 2))
    keep = LINEAR.keep(level)
    np.testing.assert_allclose(kept, keep + (1 - keep) / K, atol=0.03)  # 4,096 pixels: 4 standard errors
    rest = noisy.image - LINEAR.alpha(level)[:, None, None, None] * image
    np.testing.assert_allclose(rest.std((1, 2, 3)), LINEAR.sigma(level), atol=0.03)
    np.testing.assert_array_equal(noisy.log_snr, jax.jit(LINEAR.log_snr)(level))
    assert noisy.log_snr[1] != COSINE.log_snr(level)[1]
    nothing = noisy.without(np.array([True, False, False, False]))
    assert nothing.log_snr[0] == -np.inf and np.all(nothing.log_snr[1:] == noisy.log_snr[1:])


def test_shares_are_drawn_from_and_void_is_drawn_uniformly():
    (image, layout), level = pairs(4), np.zeros(4, np.float32)
    certain = AUGMENT(jax.random.key(1), Pair(image, np.eye(K, dtype=np.float32)[layout]), level)
    np.testing.assert_array_equal(certain.layout, layout)
    law = np.array([0.5, 0.3, 0.2, 0.0, 0.0], np.float32)
    drawn = AUGMENT(jax.random.key(2), Pair(image, np.broadcast_to(law, (4, 64, 64, K))), level).layout
    assert drawn.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(np.ravel(drawn), minlength=K) / drawn.size, law, atol=0.025)
    assert drawn.max() == 2
    void = AUGMENT(jax.random.key(3), Pair(image, np.full_like(layout, VOID)), level).layout
    np.testing.assert_allclose(np.bincount(np.ravel(void), minlength=K) / void.size, 1 / K, atol=0.025)


def sampled(stage, keys, pair):
    """The low-resolution pair that a network reads in sampling."""
    levels = np.full(len(pair.layout), stage.level, np.float32)
    return Conditions(lowres=stage).sampling({}, keys, {"lowres": (pair, levels)}).lowres


def test_an_examples_noise_depends_on_its_own_key_alone():
    stage, pair = dataclasses.replace(STAGE, level=0.5), Pair(*pairs(6, (4, 8)))
    many = sampled(stage, example_keys(3, np.arange(6)), pair)
    one = sampled(stage, example_keys(3, np.array([4])), Pair(pair.image[4:5], pair.layout[4:5]))
    for a, b in zip(many, one, strict=True):
        np.testing.assert_array_equal(a[4:5], b)
    assert np.any(many.layout != sampled(stage, example_keys(4, np.arange(6)), pair).layout)
    enlarged = sampled(dataclasses.replace(stage, enlarged=True), example_keys(3, np.arange(6)), pair)
    assert enlarged.layout.shape == (6, 8, 16) and np.any(enlarged.layout[:, ::2] != enlarged.layout[:, 1::2])


def test_levels_in_training_differ_between_examples_and_stay_below_the_highest():
    stage, (image, layout) = dataclasses.replace(STAGE, highest=0.4), pairs(64, (4, 8))
    batch, known = TrainBatch(image, layout), Pair(np.zeros(layout.shape, bool), np.zeros(layout.shape, bool))
    drawn = jax.jit(lambda k: stage.draw(k, batch, known))(jax.random.key(0))
    assert drawn.image.shape == (64, 2, 4, 3) and drawn.layout.shape == (64, 2, 4)
    level = LINEAR.level(np.asarray(jax.nn.sigmoid(drawn.log_snr)))
    assert len(np.unique(level)) == 64 and 0.3 < level.max() < 0.4 and level.min() < 0.1
    fixed = Conditions(lowres=stage).fixed(jax.random.key(0), batch)["lowres"]
    np.testing.assert_allclose(fixed.log_snr, LINEAR.log_snr(np.float32(stage.level)), rtol=1e-6)


def test_a_missing_image_is_not_seen_at_low_resolution():
    """Whatever stands in its place, and the examples with an image keep theirs."""
    (image, layout), has = pairs(4, (4, 8)), np.array([True, False, True, False])
    known, draw = Pair(np.zeros(layout.shape, bool), np.zeros(layout.shape, bool)), jax.jit(STAGE.draw)
    one, other, whole = (
        draw(jax.random.key(0), TrainBatch(x, layout, {}, h), known)
        for x, h in ((image, has), (np.where(has[:, None, None, None], image, 0.7), has), (image, None))
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
    np.testing.assert_array_equal(one.image[has], whole.image[has])
    assert np.all(one.image[~has] != whole.image[~has])


def tiny(**data):
    """The config of a stage from 16 x 32 to 32 x 64 on streets."""
    c = configs.default()
    c.data.update(name="streets", size=(32, 64), num=8, heldout=4, lowres=2, **data)
    c.network.update(dim=16, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.text.update(features=16, layers=1)
    c.sample.update(steps=2, chunk=4)
    return c


@pytest.mark.slow
def test_a_stage_trains_and_hears_what_it_is_given():
    c = tiny()
    c.text.encoder = "none"
    configs.check(c)
    data = configs.splits(c)
    task = configs.build_task(c, configs.build_specs(c, data.train), data)
    batch, params = task.heldout, random_params(jax.eval_shape(task.init, jax.random.key(0)))
    (loss, _), slope = jax.jit(jax.value_and_grad(task.step, has_aux=True))(params, batch, jax.random.key(0))
    assert np.isfinite(loss)
    for name in ("lowres_labels", "lowres_level", "labels", "stem"):
        sizes = [float(np.abs(leaf).max()) for leaf in jax.tree.leaves(slope["network"][name])]
        assert np.isfinite(sizes).all() and max(sizes) > 0, name


class Repeats:
    """A network that says again what it is given."""

    def apply(self, variables, noisy, log_snr, condition):
        image, layout = (enlarge(a, 2, axis=(1, 2)) for a in condition.lowres[:2])
        return Pair(image, 30.0 * jax.nn.one_hot(layout, 10))


def enlarge(a, factor, axis):
    for i in axis:
        a = jnp.repeat(a, factor, axis=i)
    return a


def test_numbers_and_pictures_of_a_stage_are_given_the_pairs_of_the_data():
    c = tiny()
    c.text.encoder, c.process.output = "none", "x0"
    data = configs.splits(c)
    task = configs.build_task(c, configs.build_specs(c, data.train), data)
    sampler = dataclasses.replace(task.sampler, apply_fn=Repeats().apply)
    certain = Conditions(lowres=dataclasses.replace(task.conditions.lowres, level=0.0))
    task = dataclasses.replace(task, network=Repeats(), sampler=sampler, conditions=certain)
    params, batch = {"network": {}}, task.heldout
    small = majority(batch.layout, 2)
    np.testing.assert_array_equal(segment(task, params, batch), enlarge(small, 2, (1, 2)))
    values = task.evaluate(params, 0)
    assert 0.5 < values["segmentation_miou"] < 1 and all(np.isfinite(v).all() for v in values.values())
    numbers, distributions = split_numbers(values)
    assert len(distributions) == 8 and not distributions.keys() & numbers.keys()
    for name, each in distributions.items():
        assert each.shape == (len(batch.image),) and numbers[name.removeprefix("losses/")] == pytest.approx(each.mean())
    sheet = task.sample(params, 0)["pairs"]
    rows = np.split(sheet[4 : 4 + 4 * 116], 4)  # the first four rows: 32 pixels at 3 times their size, gap and title
    for given, drawn in ((rows[0], rows[2]), (rows[1], rows[3])):
        np.testing.assert_array_equal(given[16:112], drawn[16:112])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.lowres": 1}, "config.data.lowres is 1, expected 0 or a divisor"),
        ({"data.lowres": 3}, r"config.data.lowres is 3, expected 0 or a divisor of data.size \(32, 64\) from 2 on"),
        ({"data.lowres_layout": "area"}, "config.data.lowres_layout is 'area', expected one of"),
        ({"process.lowres_schedule": "steep"}, "config.process.lowres_schedule is 'steep', expected one of"),
        ({"levels.lowres_max": 0.1}, "config.sample.lowres_level is 0.2 and config.levels.lowres_max 0.1, expected"),
        ({"process.layout": "bits", "loss.layout_weight": "one"}, "config.data.lowres needs labels that are classes"),
    ],
)
def test_fields_of_a_stage_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        configs.with_fields(tiny(), fields)


def test_the_noise_has_the_images_schedule_unless_another_is_named():
    def schedule(c):
        data = configs.splits(c)
        lowres = configs.build(c, configs.build_specs(c, data.train)).conditions.lowres
        return None if lowres is None else lowres.schedule

    c = tiny()
    c.process.update(image_schedule="cosine", image_shift=-1.0)
    assert schedule(c) == Schedule("cosine", -1.0)
    c.process.lowres_schedule = "linear"
    assert schedule(c) == Schedule("linear")
    c.data.lowres = 0
    assert schedule(c) is None
