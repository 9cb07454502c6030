"""What a model says before its first update: nothing that its inputs do not say, finite at every level."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.losses.diffusion import layout_loss
from gcdiff.models.unet import JointUNet
from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import KINDS, GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair, Text

LEVELS = np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], np.float32)[:, None, None]
H, W, K = 8, 16, 5
RNG = np.random.default_rng(0)
CLEAN = Pair(RNG.uniform(-1, 1, (5, H, W, 3)).astype(np.float32), RNG.integers(0, K, (5, H, W)).astype(np.int32))
SCHEDULE = Schedule("cosine")
UNIFORM = UniformProcess(K, SCHEDULE)
TEXT = Condition(Text(RNG.normal(size=(5, 4, 12)).astype(np.float32), np.ones((5, 4), bool)))


def process(kind, layout=UNIFORM) -> JointProcess:
    return JointProcess(GaussianProcess(SCHEDULE, kind), layout)


@pytest.fixture(scope="module")
def output() -> Pair:
    """The outputs of a network with fresh parameters at all levels."""
    one = {"mults": (1,), "blocks": (1,), "attention": (True,), "cross_attention": (True,)}
    net = JointUNet(num_classes=K, dim=8, **one, stem=2, heads=2, head_dim=8, final_dim=8)
    joint, at = process("v"), Pair(LEVELS, LEVELS)
    noisy = joint.corrupt(jax.random.key(0), CLEAN, at)

    @jax.jit
    def fresh(key):
        log_snr = Pair(SCHEDULE.log_snr(LEVELS), SCHEDULE.log_snr(LEVELS))
        params = net.init(key, noisy, log_snr, TEXT)["params"]
        return joint.denoiser(net.apply, params)(noisy, at, TEXT)

    return fresh(jax.random.key(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_is_finite_and_bounded_at_every_level(output, kind):
    joint = process(kind)
    levels = joint.clip_levels(Pair(LEVELS, LEVELS))
    noisy = joint.corrupt(jax.random.key(0), CLEAN, levels)
    clean = joint.to_clean(output, noisy, levels).image
    least = joint.image.schedule.alpha(joint.image.highest_level) if kind == "eps" else 1.0
    assert np.all(np.abs(clean) <= np.abs(noisy.image) / least + 1e-6)
    if kind != "x0":  # what is given is taken as it is
        np.testing.assert_allclose(clean[0], CLEAN.image[0], atol=1e-6)


@pytest.mark.parametrize("layout", [UNIFORM, AbsorbingProcess(K, SCHEDULE)], ids=["uniform", "absorbing"])
def test_a_noisy_label_alone_gives_its_own_posterior(output, layout):
    """Bayes' rule with a uniform prior and the label's own noise, and nothing else."""
    noisy = layout.corrupt(jax.random.key(2), CLEAN.layout, LEVELS)
    clean = layout.clean(output.layout, noisy, LEVELS)
    np.testing.assert_allclose(clean, -np.log(K), rtol=1e-6)
    got = np.exp(layout.loo_to_posterior(clean, noisy, LEVELS))
    keep = np.asarray(layout.keep(LEVELS))[..., None]
    own, masked = np.arange(K) == np.asarray(noisy)[..., None], np.asarray(noisy)[..., None] == K
    likelihood = keep * own + (1 - keep) / K if layout is UNIFORM else np.where(masked, 1.0, own)
    np.testing.assert_allclose(got, likelihood / likelihood.sum(axis=-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("layout", [UNIFORM, AbsorbingProcess(K, SCHEDULE)], ids=["uniform", "absorbing"])
@pytest.mark.parametrize("weight", ["root", "one"])
def test_the_loss_of_an_unknown_layout_is_log_k(output, layout, weight):
    noisy, levels = layout.corrupt(jax.random.key(3), CLEAN.layout, LEVELS), jnp.broadcast_to(LEVELS, (5, H, W))
    loss = layout_loss(layout, output.layout, CLEAN.layout, noisy, levels, levels == 0, weight)
    np.testing.assert_allclose(loss[-1], np.log(K), rtol=1e-5)
    assert np.isfinite(loss).all() and loss[0] == 0
