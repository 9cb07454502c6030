"""Laws of small networks of both kinds, with all weights non-zero."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.models.attention import identity_control
from gcdiff.models.transformer import JointTransformer
from gcdiff.models.unet import JointUNet
from gcdiff.processes.categorical import UniformProcess
from gcdiff.types import Condition, LowRes, Pair, Text

B, H, W, K = 4, 16, 32, 5
RNG = np.random.default_rng(0)
UNET = JointUNet(num_classes=K, dim=16, stem=2, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=8, final_dim=8)
NETS = {"unet": UNET, "transformer": JointTransformer(num_classes=K, dim=32, depth=2, heads=2, patch=4, embedding=1)}
both = pytest.mark.parametrize("kind", NETS)
NOISY = Pair(RNG.normal(size=(B, H, W, 3)).astype(np.float32), RNG.integers(0, K, (B, H, W)).astype(np.int32))
MAPS = Pair(*RNG.uniform(-9, 9, (2, B, H, W)).astype(np.float32))
CONDITION = Condition(
    Text(RNG.normal(size=(B, 6, 12)).astype(np.float32), np.arange(6) < np.array([[6], [3], [1], [0]]))
)


def random_params(net, condition=CONDITION):
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), NOISY, MAPS, condition))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (rng.normal(size=s.shape) * 0.2).astype(np.float32), shapes)


# Of one level without attention, or of one block, for what does not depend on them: it compiles in half the time.
PLAIN = {
    "unet": UNET.clone(mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,)),
    "transformer": NETS["transformer"].clone(depth=1),
}
STRIDE = {"unet": 2, "transformer": 4}


@functools.lru_cache
def params_of(kind):
    return random_params(NETS[kind])


@functools.lru_cache
def compiled(net, mutable=False):
    return jax.jit(functools.partial(net.apply, mutable=mutable))


def apply(net, params, noisy, log_snr, condition):
    return compiled(net)({"params": params}, noisy, log_snr, condition)


@both
def test_outputs_have_the_right_shapes_and_heads_start_at_zero(kind):
    out = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    assert out.image.shape == (B, H, W, 3) and out.layout.shape == (B, H, W, K)

    @jax.jit
    def fresh_heads():
        params = NETS[kind].init(jax.random.key(0), NOISY, MAPS, CONDITION)["params"]
        return {name: part for name, part in params.items() if name.startswith("head_")}

    start = apply(NETS[kind], params_of(kind) | fresh_heads(), NOISY, MAPS, CONDITION)
    assert not np.any(start.image) and not np.any(start.layout)


@both
def test_constant_level_maps_equal_scalar_levels(kind):
    scalars = Pair(np.linspace(-3, 4, B, dtype=np.float32)[:, None, None], np.full((B, 1, 1), 0.7, np.float32))
    maps = Pair(*(np.broadcast_to(s, (B, H, W)) for s in scalars))
    a, b = (apply(NETS[kind], params_of(kind), NOISY, snr, CONDITION) for snr in (scalars, maps))
    np.testing.assert_allclose(a.image, b.image, atol=2e-4)
    np.testing.assert_allclose(a.layout, b.layout, atol=2e-4)


@both
def test_every_input_is_heard(kind):
    base = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    other_text = CONDITION.replace(text=CONDITION.text._replace(tokens=CONDITION.text.tokens + 1))
    for noisy, maps, condition in (
        (NOISY._replace(image=NOISY.image + 0.1), MAPS, CONDITION),
        (NOISY._replace(layout=(NOISY.layout + 1) % K), MAPS, CONDITION),
        (NOISY, MAPS._replace(image=MAPS.image + 1), CONDITION),
        (NOISY, MAPS._replace(layout=MAPS.layout + 1), CONDITION),
        (NOISY, MAPS, other_text),
    ):
        out = apply(NETS[kind], params_of(kind), noisy, maps, condition)
        assert np.abs(out.image - base.image)[0].max() > 1e-3 and np.abs(out.layout - base.layout)[0].max() > 1e-3


@both
def test_masked_and_dropped_text_changes_nothing(kind):
    base = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    tokens = np.where(CONDITION.text.mask[..., None], CONDITION.text.tokens, 9.0)
    out = apply(
        NETS[kind], params_of(kind), NOISY, MAPS, CONDITION.replace(text=CONDITION.text._replace(tokens=tokens))
    )
    np.testing.assert_array_equal(base.image, out.image)


@both
def test_unknown_is_one_input(kind):
    unknown = Pair(np.full((B, H, W), -np.inf, np.float32), np.full((B, H, W), -np.inf, np.float32))
    other = Pair(NOISY.image * 2 + 1, (NOISY.layout + 2) % K)
    a, b = (apply(NETS[kind], params_of(kind), noisy, unknown, CONDITION) for noisy in (NOISY, other))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.layout, b.layout)


@both
def test_an_identity_control_changes_nothing_and_maps_can_be_asked_for(kind):
    base = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    controlled = compiled(NETS[kind].clone(control=identity_control), "attention")
    out, sown = controlled({"params": params_of(kind)}, NOISY, MAPS, CONDITION)
    np.testing.assert_allclose(base.image, out.image, atol=2e-4)
    np.testing.assert_allclose(base.layout, out.layout, atol=2e-4)
    weights = jax.tree.leaves(sown)
    assert len(weights) == {"unet": 4, "transformer": 2}[kind]
    assert all(np.allclose(w.sum(-1), 1, atol=1e-5) for w in weights)


@both
def test_a_control_sees_the_regions_and_can_forbid_keys(kind):
    def forbid(scores, grid, region, areas, embedding):
        assert grid[0] * grid[1] == scores.shape[2] and region.shape == (B, scores.shape[3])
        null = jnp.arange(scores.shape[3]) == 0
        return jnp.broadcast_to(null.astype(jnp.float32), scores.shape)

    base = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    out = apply(NETS[kind].clone(control=forbid), params_of(kind), NOISY, MAPS, CONDITION)
    assert np.abs(base.image - out.image).max() > 1e-3


@both
def test_a_zero_started_injection_changes_nothing_and_a_trained_one_does(kind):
    stride = STRIDE[kind]
    injected = CONDITION.replace(inject={stride: np.ones((B, H // stride, W // stride, 7), np.float32)})
    params = random_params(PLAIN[kind], injected)
    zero = {k: jax.tree.map(np.zeros_like, v) if k.endswith("inject") else v for k, v in params.items()}
    plain = {k: v for k, v in params.items() if not k.endswith("inject")}
    base = apply(PLAIN[kind], plain, NOISY, MAPS, CONDITION)
    np.testing.assert_array_equal(base.image, apply(PLAIN[kind], zero, NOISY, MAPS, injected).image)
    assert np.abs(base.image - apply(PLAIN[kind], params, NOISY, MAPS, injected).image).max() > 1e-3


@both
def test_a_layout_on_a_finer_grid(kind):
    net = NETS[kind].clone(layout_factor=2)
    noisy = NOISY._replace(layout=np.zeros((B, 2 * H, 2 * W), np.int32))
    maps = MAPS._replace(layout=np.zeros((B, 2 * H, 2 * W), np.float32))
    out = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), noisy, maps, CONDITION))[0]
    assert out.image.shape == (B, H, W, 3) and out.layout.shape == (B, 2 * H, 2 * W, K)


def test_the_blocks_of_chosen_levels_of_a_unet_are_computed_again():
    """The two blocks and the two attentions of the coarser level, and no others; the parameters are the same."""
    nets = [UNET.clone(attention=(True, True)), UNET.clone(attention=(True, True), remat=(False, True))]
    shapes = [jax.eval_shape(lambda net=net: net.init(jax.random.key(0), NOISY, MAPS, CONDITION)) for net in nets]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])

    def gradient(net):
        def loss(params):
            return jnp.square(net.apply({"params": params}, NOISY, MAPS, CONDITION).layout).mean()

        return str(jax.make_jaxpr(jax.grad(loss))(shapes[0]["params"]))

    assert [gradient(net).count("remat") for net in nets] == [0, 4]


@both
def test_one_modality_alone(kind):
    net = NETS[kind].clone(inputs=("image",), outputs=("layout",))
    out = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), NOISY, MAPS, CONDITION))[0]
    assert out.image is None and out.layout.shape == (B, H, W, K)


@both
def test_sizes_and_conditions_it_cannot_take_are_refused(kind):
    with pytest.raises(ValueError, match="15x32 is not divisible by the network's stride 4"):
        jax.eval_shape(
            NETS[kind].init, jax.random.key(0), Pair(NOISY.image[:, 1:], NOISY.layout[:, 1:]),
            Pair(MAPS.image[:, 1:], MAPS.layout[:, 1:]), CONDITION,
        )  # fmt: skip
    with pytest.raises(ValueError, match="lowres=True, but condition.lowres is None"):
        jax.eval_shape(NETS[kind].clone(lowres=True).init, jax.random.key(0), NOISY, MAPS, CONDITION)
    lowres = LowRes(np.zeros((B, 3, W, 3), np.float32), np.zeros((B, 3, W), np.int32), np.zeros(B, np.float32))
    with pytest.raises(ValueError, match="does not divide"):
        jax.eval_shape(
            NETS[kind].clone(lowres=True).init, jax.random.key(0), NOISY, MAPS, CONDITION.replace(lowres=lowres)
        )


@both
def test_a_low_resolution_pair_is_read_as_labels_or_as_their_shares(kind):
    """One-hot shares are the labels; at the unknown level neither says anything."""
    net, rng = PLAIN[kind].clone(lowres=True), np.random.default_rng(3)
    image, labels = rng.normal(size=(B, H // 2, W // 2, 3)).astype(np.float32), rng.integers(0, K, (B, H // 2, W // 2))
    conditions = [
        CONDITION.replace(lowres=LowRes(image * sign, layout, np.full(B, level, np.float32)))
        for sign, layout, level in ((1, labels, 2), (1, np.eye(K, dtype=np.float32)[labels], 2), (1, labels, -20),
                                    (-1, labels[::-1], -20))
    ]  # fmt: skip
    params = random_params(net, conditions[0])
    outs = [apply(net, params, NOISY, MAPS, condition) for condition in conditions]
    np.testing.assert_allclose(outs[0].layout, outs[1].layout, atol=1e-5)
    np.testing.assert_array_equal(outs[2].layout, outs[3].layout)
    assert np.abs(outs[0].layout - outs[2].layout).max() > 1e-3


@both
def test_the_last_class_at_void_pixels_has_no_part_in_the_loss(kind):
    """A label of -1 must not be read as class K-1: its logits there change neither the loss nor its gradient."""
    from gcdiff.losses.diffusion import layout_loss
    from gcdiff.schedules import Schedule

    process = UniformProcess(K, Schedule("cosine"))
    out = apply(NETS[kind], params_of(kind), NOISY, MAPS, CONDITION)
    void = np.arange(W) < 9
    label = np.where(void, -1, NOISY.layout)
    levels = np.broadcast_to(np.where(void, np.float32(1.0), np.float32(0.4)), (B, H, W))
    known = np.zeros((B, H, W), bool)

    def loss(logits):
        return layout_loss(process, logits, label, NOISY.layout, levels, known).sum()

    poisoned = np.array(out.layout)
    poisoned[..., K - 1] += np.where(void, 50.0, 0.0)
    slope = jax.jit(jax.value_and_grad(loss))
    a, b = slope(out.layout), slope(poisoned)
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1][:, :, 9:], b[1][:, :, 9:])
    assert not np.any(a[1][:, :, :9]) and np.any(a[1][:, :, 9:])


@both
def test_features_are_dropped_only_with_random_numbers_for_it(kind):
    dropping = PLAIN[kind].clone(dropout=0.5)
    params = random_params(PLAIN[kind])
    base = apply(PLAIN[kind], params, NOISY, MAPS, CONDITION)
    np.testing.assert_array_equal(apply(dropping, params, NOISY, MAPS, CONDITION).layout, base.layout)

    @jax.jit
    def train(key):
        return dropping.apply({"params": params}, NOISY, MAPS, CONDITION, rngs={"dropout": key}).layout

    one, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - base.layout).max() > 1e-2 and np.abs(one - other).max() > 1e-2
