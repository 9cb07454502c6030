"""Examples of which a side is missing: it stands at level 1, carries no loss, and is never looked at."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions
from gcdiff.conditions.text import TextInput
from gcdiff.levels import QUESTIONS, LevelShares, draw
from gcdiff.types import VOID, Pair, Text

SIZE = (16, 32)


class Says:
    """A network whose outputs are its parameters and what it is given, pixel by pixel."""

    def apply(self, variables, noisy, log_snr, condition, rngs=None):
        p = variables["params"]
        return Pair(p.image + noisy.image, p.layout + jax.nn.one_hot(noisy.layout, 10))


def task():
    c = configs.default()
    c.data.update(name="streets", size=SIZE, num=8, heldout=4)
    c.text.encoder = "none"
    c.network.update(dim=8, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.process.output = "x0"
    data = configs.splits(c)
    task = configs.build_task(c, configs.build_specs(c, data.train), data)
    return dataclasses.replace(task, network=Says(), conditions=Conditions())


def test_what_is_missing_is_not_looked_at_and_has_no_loss():
    t = task()
    image, layout = (jnp.asarray(a) for a in (t.heldout.image, t.heldout.layout))
    layout, has = layout.at[3].set(VOID).at[2, :, 5:8].set(VOID), jnp.array([False, True, True, True])
    params = {"network": Pair(jnp.zeros((4, *SIZE, 3)), jnp.zeros((4, *SIZE, 10)))}
    step = jax.jit(jax.value_and_grad(lambda p, x, k: t.step(p, TrainBatch(x, layout, {}, has), k)[0]))
    slopes = Pair(np.zeros((4, *SIZE)), np.zeros((4, *SIZE)))
    for seed in range(12):
        loss, slope = step(params, image.at[0].set(0.0), jax.random.key(seed))
        other, same = step(params, image.at[0].set(0.7), jax.random.key(seed))
        assert loss == other and np.isfinite(loss)
        jax.tree.map(np.testing.assert_array_equal, slope, same)
        slopes = Pair(*(s + np.abs(g).sum(-1) for s, g in zip(slopes, slope["network"], strict=True)))
    assert np.all(slopes.image[0] == 0) and np.all(slopes.image[1:].sum((1, 2)) > 0)
    assert np.all(slopes.layout[3] == 0) and np.all(slopes.layout[:3].sum((1, 2)) > 0)
    # The strip without labels asks nothing of the layout; its image is trained as any other.
    assert np.all(slopes.layout[2, :, 5:8] == 0) and np.all(slopes.layout[2, :, 8:].sum(0) > 0)
    assert np.all(slopes.image[2, :, 5:8].sum(0) > 0)


def test_examples_are_asked_what_their_one_side_can_answer():
    shares, grid = LevelShares(known=0.0, pieces=0.0, start=0.0, one_sided=0.0), (3, 4)
    layout = jnp.zeros((3000, *grid), jnp.int32).at[1000:2000].set(VOID)
    has = jnp.arange(3000) < 2000
    key, of = jax.random.key(0), jax.jit(draw, static_argnums=(1, 3))
    (image, lay), known = of(key, shares, layout, grid, has)
    image, lay = np.asarray(image)[:, 0, 0], np.asarray(lay)[:, 0, 0]
    no_layout, no_image = slice(1000, 2000), slice(2000, 3000)
    assert np.all(lay[no_layout] == 1) and np.all((image[no_layout] > 0) & (image[no_layout] < 1))
    assert np.all(image[no_image] == 1) and np.all(lay[no_image] > 0) and not np.any(known.image[no_image])
    share = dict(zip(QUESTIONS, shares.base(), strict=True))
    one_call = share["layout_given_image"] * shares.one_call
    asked = share["joint"] + share["layout"] + share["layout_given_image"] + share["independent"]
    np.testing.assert_allclose((lay[no_image] == 1).mean(), one_call / asked, atol=0.025)
    np.testing.assert_allclose(image[no_layout].mean(), 0.5, atol=0.03)
    # Whole examples are asked everything, as if none were missing.
    alone = of(key, shares, jnp.zeros_like(layout), grid, jnp.ones_like(has))
    np.testing.assert_array_equal(alone.levels.image[:1000, 0, 0], image[:1000])
    # A model of segmentation alone has no such question for an image without a layout: it stands where it stands.
    only = LevelShares(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 0.0, 0.0, 0.0, 0.0)
    assert np.all(np.asarray(of(key, only, layout, grid, has).levels.image[:2000]) == 0)


def test_an_empty_caption_is_a_dropped_one():
    class Encoder:
        def apply(self, variables, tokens):
            return Text(jnp.ones((*tokens.shape, 2)), tokens > 0)

    conditions = Conditions(TextInput(Encoder()))
    tokens = np.array([[3, 4, 0], [0, 0, 0]])
    for dropped, expected in ((None, [True, False]), (jnp.array([True, False]), [False, False])):
        text = conditions.condition({}, {"text": (tokens, dropped)}).text
        np.testing.assert_array_equal(text.mask.any(axis=1), expected)
