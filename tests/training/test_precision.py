"""bfloat16 for convolutions and attention, float32 for all that is summed, compared or kept."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from gcdiff import config as configs
from gcdiff.losses.diffusion import image_loss, layout_loss
from gcdiff.models.unet import JointUNet
from gcdiff.processes.gaussian import KINDS, GaussianProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES
from gcdiff.samplers.sample import PLAIN, as_arrays, capped, example_keys
from gcdiff.schedules import Schedule
from gcdiff.training.optim import Optim
from gcdiff.training.state import create_state, train_step
from gcdiff.types import Condition, Pair, Text

SENSITIVE = {"exp", "exp2", "expm1", "log", "log1p", "rsqrt", "sqrt", "sin", "cos", "pow", "cumsum", "argmax", "top_k"}
"""What softmax, norms, log-probabilities, schedules and features of levels are made of."""
SHAPE, K = (4, 8, 16), 5


def operations(jaxpr):
    """(name, type of the first operand) of everything that a traced function does."""
    for equation in equations(jaxpr):
        yield equation.primitive.name, equation.invars[0].aval.dtype if equation.invars else None


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: isinstance(v, Jaxpr | ClosedJaxpr)):
            if isinstance(value, Jaxpr | ClosedJaxpr):
                yield from equations(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def floats(tree) -> set[str]:
    return {str(a.dtype) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)}


@pytest.fixture(scope="module")
def task():
    c = configs.default()
    c.data.update(name="streets", size=(16, 32), num=8, heldout=4)
    c.network.update(dim=16, stem=2, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=8, final_dim=8, dtype="bfloat16")
    c.text.update(features=16, layers=1)
    c.sample.update(steps=2, chunk=4)
    c.loss.balance = True
    data = configs.splits(c)
    return configs.build_task(c, configs.build_specs(c, data.train), data)


@pytest.mark.slow
def test_training_keeps_and_measures_in_float32(task):
    optim = Optim(ema_profiles=(0.05, 0.1))
    state = jax.eval_shape(functools.partial(create_state, task, optim, 0))
    step = functools.partial(train_step, task, optim, 0)
    after, metrics = jax.eval_shape(step, state, task.heldout, jnp.float32(0))
    assert floats(state) == floats(after) == floats(metrics) == {"float32"}
    assert floats(jax.eval_shape(jax.grad(task.step, has_aux=True), state.params, task.heldout, jax.random.key(0))) == {
        "float32"
    }
    done = set(operations(jax.make_jaxpr(task.step)(state.params, task.heldout, jax.random.key(0)).jaxpr))
    assert ("conv_general_dilated", jnp.dtype("bfloat16")) in done  # it is a network of bfloat16
    assert {kind for name, kind in done if name in SENSITIVE} <= {jnp.dtype("float32"), jnp.dtype("uint32")}


def paper_like():
    """A network with every part of the paper's."""
    return JointUNet(
        num_classes=K, dim=16, mults=(1,), blocks=(2,), attention=(True,), cross_attention=(True,), heads=2, head_dim=8,
        stem=2, final_dim=16, text_features=8, full_resolution=True, stem_kernels=(3, 7), gates=True,
        imagen_attention=True, middle_attention=True, attention_skips=True, learned_levels=True, level_tokens=2,
        text_latents=3, text_length=4, dtype=jnp.bfloat16,
    )  # fmt: skip


@pytest.mark.parametrize("net", [paper_like(), paper_like().clone(imagen_attention=False, full_resolution=False)])
def test_gradients_are_not_summed_over_pixels_in_bfloat16(net):
    """A sum of ones over 32768 pixels in bfloat16 is 1024."""
    shape = 4, 16, 32
    noisy = Pair(jnp.zeros((*shape, 3)), jnp.zeros(shape, int))
    log_snr, condition = Pair(*[jnp.zeros(shape)] * 2), Condition(Text(jnp.zeros((4, 3, 12)), jnp.ones((4, 3), bool)))

    def loss(variables):
        out = net.apply(variables, noisy, log_snr, condition)
        return jnp.square(out.image).sum() + jnp.square(out.layout).sum()

    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), noisy, log_snr, condition))
    pixels = shape[1] * shape[2] // net.stem**2
    for equation in equations(jax.make_jaxpr(jax.grad(loss))(shapes).jaxpr):
        if equation.primitive.name == "reduce_sum" and equation.invars[0].aval.dtype == jnp.bfloat16:
            summed = np.prod([equation.invars[0].aval.shape[i] for i in equation.params["axes"]])
            assert summed < pixels, equation


def test_sampling_is_in_float32(task):
    batch, params = task.heldout, jax.eval_shape(task.init, jax.random.key(0))
    given = capped(
        example_keys(0, np.arange(4)), Pair(batch.image, batch.layout), Pair(*[np.ones((4, 16, 32), np.float32)] * 2)
    )
    row, rows = jnp.ones(2), jnp.tile(jnp.array([[1.0], [1.0], [0.5]]), (1, 2))

    def walk(params):
        condition = task.conditions.sampling(params, given.keys, task.conditions.of_examples(batch))
        carry = task.sampler.start(given, row)
        shares = task.sampler.probabilities(params["network"], carry.state, given, row, condition, PLAIN)
        return task.sampler.step(params["network"], carry, given, rows, condition, as_arrays(PLAIN)), shares

    assert floats(jax.eval_shape(walk, params)) == {"float32"}


@pytest.mark.slow
def test_the_outputs_are_those_of_float32_within_two_percent():
    rng = np.random.default_rng(0)
    noisy = Pair(rng.normal(size=(*SHAPE, 3)).astype(np.float32), rng.integers(0, K, SHAPE).astype(np.int32))
    log_snr = Pair(*rng.uniform(-9, 9, (2, *SHAPE)).astype(np.float32))
    condition = Condition(Text(rng.normal(size=(4, 3, 12)).astype(np.float32), np.ones((4, 3), bool)))
    outs = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        net = JointUNet(
            num_classes=K, dim=16, mults=(1, 2), blocks=(1, 1), heads=2, head_dim=8, final_dim=8, dtype=dtype
        )
        shapes = jax.eval_shape(lambda net=net: net.init(jax.random.key(0), noisy, log_snr, condition))["params"]
        assert floats(shapes) == {"float32"}
        draw = np.random.default_rng(1)
        # Weights of the size that fresh ones have, also where they start at zero.
        params = jax.tree.map(
            lambda s, draw=draw: (draw.normal(size=s.shape) * np.prod(s.shape[:-1]) ** -0.5).astype(np.float32), shapes
        )
        outs[dtype] = jax.jit(net.apply)({"params": params}, noisy, log_snr, condition)
    for side in Pair._fields:
        exact, got = (getattr(outs[dtype], side) for dtype in (jnp.float32, jnp.bfloat16))
        assert got.dtype == jnp.float32
        error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
        assert 0 < error < 0.02, (side, error)


def test_what_a_network_of_bfloat16_says_is_read_in_float32():
    schedule, low = Schedule("cosine"), functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    levels = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    known = jax.ShapeDtypeStruct(SHAPE, bool)
    image = jax.ShapeDtypeStruct((*SHAPE, 3), jnp.float32)
    for kind in KINDS:
        process = GaussianProcess(schedule, kind)
        assert jax.eval_shape(process.to_clean, low((*SHAPE, 3)), image, levels).dtype == jnp.float32
        loss = functools.partial(image_loss, process)
        assert jax.eval_shape(loss, low((*SHAPE, 3)), image, image, levels, known).dtype == jnp.float32
    label = jax.ShapeDtypeStruct(SHAPE, jnp.int32)
    for make in LAYOUT_PROCESSES.values():
        process = make(K, schedule)
        state = jax.eval_shape(lambda p=process: p.prior(jax.random.key(0), SHAPE))
        head = low((*SHAPE, process.head_size))
        assert jax.eval_shape(process.clean, head, state, levels).dtype == jnp.float32
        loss = functools.partial(layout_loss, process, weight="one")
        assert jax.eval_shape(loss, head, label, state, levels, known).dtype == jnp.float32
