"""Guidance is an extrapolation whose weights sum to 1, and a dropped text stays dropped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.guidance import Guidance, guide
from gcdiff.processes.categorical import loo_to_posterior, posterior
from gcdiff.types import Condition, Pair, Text

B, H, W, C, K = 3, 2, 4, 3, 5
KEYS = jax.random.split(jax.random.key(0), 6)
NOISY = Pair(jax.random.normal(KEYS[0], (B, H, W, C)), jax.random.randint(KEYS[1], (B, H, W), 0, K))
LEVELS = Pair(jnp.full((B, H, W), 0.4), jnp.full((B, H, W), 0.6))
WITH = Pair(jax.random.normal(KEYS[2], (H, W, C)), jax.nn.log_softmax(jax.random.normal(KEYS[3], (H, W, K))))
WITHOUT = Pair(jax.random.normal(KEYS[4], (H, W, C)), jax.nn.log_softmax(jax.random.normal(KEYS[5], (H, W, K))))
DROPPED = np.array([False, True, False])


def predict(noisy, levels, condition):
    """One answer with text and another without."""
    drop = ~condition.text.mask.any(axis=1)[:, None, None, None]
    return Pair(*(jnp.where(drop, b, a) for a, b in zip(WITH, WITHOUT, strict=True)))


def guided(image, layout, drop=DROPPED):
    text = Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool))
    condition = Condition(text=text if drop is None else text.without(drop))
    return guide(predict, Guidance(Pair(image, layout)), ("text",))(NOISY, LEVELS, condition)


def test_scale_one_is_the_branch_with_text():
    image, layout = guided(1.0, 1.0, drop=None)
    for i in range(B):
        np.testing.assert_array_equal(image[i], WITH.image)
        np.testing.assert_allclose(layout[i], WITH.layout, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 2.5, 7.0])
def test_the_scales_are_the_papers(scale):
    """(1 - s) without + s with, each side by its own scale; the layout a law."""
    image, layout = guided(scale, 2.0 * scale)
    np.testing.assert_allclose(image[0], scale * WITH.image + (1 - scale) * WITHOUT.image, atol=1e-5)
    mixed = 2 * scale * WITH.layout + (1 - 2 * scale) * WITHOUT.layout
    np.testing.assert_allclose(layout[0], jax.nn.log_softmax(mixed), atol=1e-5)
    np.testing.assert_allclose(jnp.exp(layout).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_dropped_text_stays_dropped(scale):
    """Both branches are then the one without text: as the weights sum to 1, no scale changes it."""
    image, layout = guided(scale, scale)
    np.testing.assert_array_equal(image[1], WITHOUT.image)
    np.testing.assert_allclose(layout[1], WITHOUT.layout, atol=1e-6)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_guidance_commutes_with_the_offset(keep):
    """Guided leave-one-out law, then the own label by Bayes' rule = the guided posterior, by enumeration."""
    scale, y_t = 2.5, np.asarray(NOISY.layout[0])
    likelihood = keep * np.eye(K)[y_t] + (1 - keep) / K  # of the own noisy label, for every clean one
    powers = 1.0
    for law, weight in ((WITH.layout, scale), (WITHOUT.layout, 1 - scale)):
        own = np.exp(np.asarray(law, np.float64)) * likelihood
        powers = powers * (own / own.sum(-1, keepdims=True)) ** weight
    _, layout = guided(1.0, scale)
    np.testing.assert_allclose(
        jnp.exp(loo_to_posterior(layout[0], NOISY.layout[0], keep)), powers / powers.sum(-1, keepdims=True), atol=2e-6
    )


LAWS = np.random.default_rng(3).dirichlet(np.full(9, 0.4), size=2).reshape(2, 3, 3) * 0.95 + 0.05 / 9
"""p(y | text) and p(y) of two labels of three classes."""


def noised(law, keeps):
    """The law of two labels of which each is noised to a keep of its own, by enumeration."""
    first, second = (keep * np.eye(3) + (1 - keep) / 3 for keep in keeps)
    return first.T @ law @ second


def guided_laws(keep, scale):
    """`guide` on the exact predictions of the two labels: (9, 2, 3), for every pair of noisy labels."""
    states = np.stack(np.indices((3, 3)), axis=-1).reshape(9, 1, 2)
    log = [np.log([noised(law, (1, keep)).T, noised(law, (keep, 1))]) for law in LAWS]  # [i][other's noisy, own clean]
    tables = jnp.asarray(np.array(log), jnp.float32)

    def exact(noisy, levels, condition):
        said = condition.text.mask.any(axis=1)[:, None, None]
        first, second = noisy.layout[..., 0], noisy.layout[..., 1]
        with_text, without = (jnp.stack([t[0][second], t[1][first]], axis=-2) for t in tables)
        return Pair(None, jax.nn.log_softmax(jnp.where(said[..., None], with_text, without)))

    text = Condition(text=Text(jnp.zeros((9, 2, 4)), jnp.ones((9, 2), bool)))
    levels = Pair(None, jnp.full((9, 1, 2), 0.5))
    return np.exp(guide(exact, Guidance(Pair(1.0, scale)), ("text",))(Pair(None, states), levels, text).layout[:, 0])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 1.0])
def test_guided_labels_are_the_law_that_the_page_names(keep):
    """p(y_i, others' noisy labels given text)^s p(...)^(1-s), y_i clean: not the sharpened law of all noisy labels,
    from which noised predictions differ at every keep but 0 and 1."""
    laws = guided_laws(keep, 2.5).reshape(3, 3, 2, 3)
    for i, keeps in enumerate(((1, keep), (keep, 1))):
        with_text, without = (noised(law, keeps) for law in LAWS)
        law = np.moveaxis(with_text**2.5 * without**-1.5, i, -1)  # (the other's noisy label, y_i)
        law = np.broadcast_to(np.expand_dims(law / law.sum(axis=-1, keepdims=True), i), (3, 3, 3))
        np.testing.assert_allclose(laws[..., i, :], law, atol=1e-5)
    both = noised(LAWS[0], (keep, keep)) ** 2.5 * noised(LAWS[1], (keep, keep)) ** -1.5
    conditional = (both / both.sum(axis=0)).T  # of the first noisy label, given the second
    distance = np.abs(keep * laws[0, :, 0] + (1 - keep) / 3 - conditional).sum(axis=-1).max() / 2
    assert distance < 1e-5 if keep in (0.0, 1.0) else distance > 0.02


@pytest.mark.parametrize("steps", [1, 4])
def test_one_guided_label_has_the_sharpened_law(steps):
    """p(y given text)^s p(y)^(1-s) on every grid: the guided prediction of a lone label is the same at every level."""
    with_text, without = (jnp.asarray(law.sum(axis=1), jnp.float32) for law in LAWS)

    def exact(noisy, levels, condition):
        said = condition.text.mask.any(axis=1)[:, None, None, None]
        return Pair(None, jnp.log(jnp.where(said, with_text, without)) * jnp.ones((*noisy.layout.shape, 1)))

    predict = guide(exact, Guidance(Pair(1.0, 2.5)), ("text",))
    states, text = np.arange(3)[:, None, None], Condition(text=Text(jnp.zeros((3, 2, 4)), jnp.ones((3, 2), bool)))
    law, keeps = np.full(3, 1 / 3), np.linspace(0, 1, steps + 1)
    for keep_t, keep_s in zip(keeps[:-1], keeps[1:], strict=True):
        clean = predict(Pair(None, states), Pair(None, jnp.full((3, 1, 1), 0.5)), text).layout
        law = law @ np.exp(posterior(clean[:, 0, 0], np.arange(3), keep_s, keep_t))
    powers = np.asarray(with_text) ** 2.5 * np.asarray(without) ** -1.5
    np.testing.assert_allclose(law, powers / powers.sum(), atol=1e-5)


def test_impossible_classes_stay_finite():
    certain = Pair(None, jnp.where(jnp.arange(K) == 2, 0.0, -jnp.inf) * jnp.ones((2 * B, H, W, 1)))
    condition = Condition(text=Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool)))
    image, layout = guide(lambda *a: certain, Guidance(Pair(1.0, 3.0)), ("text",))(NOISY, LEVELS, condition)
    assert image is None and np.isfinite(layout).all()
    np.testing.assert_allclose(layout[..., 2], 0, atol=1e-6)


def test_guidance_without_a_text_is_refused():
    with pytest.raises(ValueError, match="needs a text"):
        guide(predict, Guidance(Pair(2.0, 2.0)), ("text",))(NOISY, LEVELS, Condition())


@pytest.mark.parametrize("side", ["image", "layout"])
def test_guidance_by_a_modality_that_the_model_does_not_have_is_refused(side):
    noisy, levels = (pair._replace(**{side: None}) for pair in (NOISY, LEVELS))
    with pytest.raises(ValueError, match=f"guidance by the {side} needs the {side}; this model has none"):
        guide(predict_cross, Guidance(), (side,))(noisy, levels, Condition())


BLIND = Pair(
    jax.random.normal(jax.random.key(7), (H, W, C)), jax.nn.log_softmax(jnp.arange(float(K)) * jnp.ones((H, W, 1)))
)


def predict_cross(noisy, levels, condition):
    """One answer where the other modality is seen and another where it is at level 1."""
    alone = Pair(levels.layout, levels.image)
    return Pair(*(jnp.where((t == 1)[..., None], b, a) for a, b, t in zip(WITH, BLIND, alone, strict=True)))


def test_cross_guidance_sharpens_what_the_modalities_say_of_each_other():
    """Each side by its own scale: p(y given x)^s p(y)^(1-s), by enumeration; the text's branch beside them."""
    scales = Guidance(layout=1.5, image=3.0)
    assert scales.branches() == ("layout", "image")
    image, layout = guide(predict_cross, scales, scales.branches())(NOISY, LEVELS, Condition())
    np.testing.assert_allclose(image[1], 1.5 * WITH.image - 0.5 * BLIND.image, atol=1e-5)
    powers = np.exp(3.0 * np.asarray(WITH.layout) - 2.0 * np.asarray(BLIND.layout))
    np.testing.assert_allclose(np.exp(layout[1]), powers / powers.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_guidance_holds_on_its_interval_of_levels_alone():
    levels = LEVELS._replace(image=jnp.where(jnp.arange(W) < 2, 0.4, 0.9) * jnp.ones((B, H, 1)))
    scales = Guidance(layout=2.0, interval=(0.2, 0.5))
    image, layout = guide(predict_cross, scales, ("layout",))(NOISY, levels, Condition())
    np.testing.assert_array_equal(image[0, :, 2:], WITH.image[:, 2:])
    assert np.abs(image[0, :, :2] - WITH.image[:, :2]).max() > 0.1
    np.testing.assert_allclose(layout[0], WITH.layout, atol=1e-6)


TABLE = Pair(
    jax.random.normal(jax.random.key(8), (2, 2, 2, 2, C)),
    jax.nn.log_softmax(jax.random.normal(jax.random.key(9), (2, 2, 2, 2, K))),
)
"""An answer for every text, image and layout that is there (1) or not (0), and for noise that is 1 or not."""


def look_up(noisy, levels, condition):
    there = condition.text.mask.any(axis=1)[:, None, None], levels.image < 1, levels.layout < 1
    there = [jnp.broadcast_to(t, (len(noisy.image), H, W)).astype(int) for t in there]
    return Pair(*(answer[*there, (noisy.image[..., 0] > 0).astype(int)] for answer in TABLE))


def test_every_branch_goes_without_one_thing_alone():
    """Text, layout and image at once: each output is the prediction and, for each of its branches, the scale less 1
    times what that thing adds. The interval is that of a side's own level."""
    levels = Pair(*(jnp.broadcast_to(jnp.array(x), (B, H, W)) for x in ((0.1, 0.4, 0.9, 0.4), (0.4, 0.1, 0.4, 0.9))))
    condition = Condition(text=Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool)))
    scales = Guidance(Pair(2.0, 3.0), layout=1.5, image=2.5, interval=(0.2, 0.5))
    assert scales.branches() == ("text", "layout", "image")
    image, layout = guide(look_up, scales, scales.branches())(NOISY, levels, condition)
    mark = np.asarray(NOISY.image[..., 0] > 0).astype(int)

    def said(side, text=1, image=1, layout=1):
        return np.asarray(TABLE[side])[text, image, layout, mark]

    guided = said(0) + 1.0 * (said(0) - said(0, text=0)) + 0.5 * (said(0) - said(0, layout=0))
    inside = ((levels.image > 0.2) & (levels.image < 0.5))[..., None]
    np.testing.assert_allclose(image, np.where(inside, guided, said(0)), atol=1e-5)
    guided = said(1) + 2.0 * (said(1) - said(1, text=0)) + 1.5 * (said(1) - said(1, image=0))
    inside = ((levels.layout > 0.2) & (levels.layout < 0.5))[..., None]
    np.testing.assert_allclose(layout, jax.nn.log_softmax(np.where(inside, guided, said(1))), atol=1e-5)


WORSE = Pair(BLIND.image * jnp.ones((B, 1, 1, 1)), WITHOUT.layout * jnp.ones((B, 1, 1, 1)))


def test_autoguidance_leads_away_from_the_worse_model():
    """worse + s (own - worse) of each side within the interval, by one call of the model of its own size."""
    calls = []

    def worse(noisy, levels):
        calls.append((noisy, levels))
        return WORSE

    scales = Guidance(auto=2.5, interval=(0.2, 0.5))
    assert scales.branches() == ()
    image, layout = guide(predict_cross, scales, (), worse=worse)(NOISY, LEVELS, Condition())
    np.testing.assert_allclose(image, 2.5 * WITH.image - 1.5 * WORSE.image, atol=1e-5)
    np.testing.assert_allclose(layout[0], WITH.layout, atol=1e-6)  # its level lies outside
    assert calls == [(NOISY, LEVELS)]
    image, layout = guide(predict_cross, Guidance(auto=2.5), (), worse=worse)(NOISY, LEVELS, Condition())
    np.testing.assert_allclose(layout, jax.nn.log_softmax(2.5 * WITH.layout - 1.5 * WORSE.layout), atol=1e-5)


def test_autoguidance_adds_to_the_other_branches():
    scales = Guidance(Pair(2.0, 3.0), auto=1.5)
    text = Condition(text=Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool)))
    image, layout = guide(predict, scales, ("text",), worse=lambda *_: WORSE)(NOISY, LEVELS, text)
    own = 2.0 * WITH.image - WITHOUT.image
    np.testing.assert_allclose(image, own + 0.5 * (WITH.image - WORSE.image), atol=1e-5)
    mixed = 3.0 * WITH.layout - 2.0 * WITHOUT.layout + 0.5 * (WITH.layout - WORSE.layout)
    np.testing.assert_allclose(layout, jax.nn.log_softmax(mixed), atol=1e-5)


def test_a_class_that_one_of_two_models_rules_out_stays_finite():
    ruled_out = Pair(None, jnp.where(jnp.arange(K) == 2, -jnp.inf, WITH.layout) * jnp.ones((B, 1, 1, 1)))
    for own, other in ((WORSE, ruled_out), (ruled_out, WORSE)):
        own = own._replace(image=None)
        layout = guide(lambda *_, own=own: own, Guidance(auto=2.0), (), worse=lambda *_, o=other: o)(
            NOISY, LEVELS, Condition()
        ).layout
        assert np.isfinite(layout).all()


def test_an_unused_branch_is_not_run():
    assert Guidance().branches() == ()
    assert guide(predict_cross, Guidance(), ()) is predict_cross
    calls = []

    def counting(noisy, levels, condition):
        calls.append(len(noisy.image))
        return predict_cross(noisy, levels, condition)

    guide(counting, Guidance(image=2.0), ("image",))(NOISY, LEVELS, Condition())
    assert calls == [2 * B]


def test_one_scale_for_both_directions_has_the_conditionals_of_one_law():
    """p(x, y) [p(x, y) / p(x) p(y)]^(s-1), enumerated on a table; with two scales no law has both."""
    law = np.random.default_rng(0).dirichlet(np.ones(12)).reshape(3, 4)
    px, py = law.sum(1, keepdims=True), law.sum(0, keepdims=True)

    def guided(scale_x, scale_y):
        """The guided conditionals of x given y and of y given x."""
        x = (law / py) ** scale_x * px ** (1 - scale_x)
        y = (law / px) ** scale_y * py ** (1 - scale_y)
        return x / x.sum(0, keepdims=True), y / y.sum(1, keepdims=True)

    def cross_ratios(conditional):
        return np.log(conditional[1:, 1:] * conditional[:1, :1] / (conditional[1:, :1] * conditional[:1, 1:]))

    joint = law * (law / (px * py)) ** 1.5
    x, y = guided(2.5, 2.5)
    np.testing.assert_allclose(x, joint / joint.sum(0, keepdims=True))
    np.testing.assert_allclose(y, joint / joint.sum(1, keepdims=True))
    x, y = guided(2.5, 1.5)
    assert np.abs(cross_ratios(x) - cross_ratios(y)).max() > 0.5
