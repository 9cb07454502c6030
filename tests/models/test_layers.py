"""Laws of the building blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.models.layers import GroupNorm

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [4, 16])  # fewer channels than groups: each is a group of its own
def test_group_norm_is_its_definition_also_far_from_zero(channels):
    x = (RNG.normal(size=(2, 5, 6, channels)) * RNG.uniform(0.1, 2, channels) + 1000).astype(np.float32)
    scale, bias = RNG.normal(size=(2, channels)).astype(np.float32)
    params = {"params": {"GroupNorm_0": {"scale": scale, "bias": bias}}}
    groups = x.astype(np.float64).reshape(2, 30, min(channels, 8), -1)
    centred = groups - groups.mean((1, 3), keepdims=True)
    expected = (centred / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)).reshape(x.shape) * scale + bias
    np.testing.assert_allclose(jax.jit(GroupNorm().apply)(params, x), expected, atol=5e-3)  # 1000 has a spacing of 6e-5
    low = jax.jit(GroupNorm(dtype=jnp.bfloat16).apply)(params, x)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), expected, atol=0.05)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="the number of channels is 12, expected a multiple of 8 groups"):
        jax.eval_shape(GroupNorm().init, jax.random.key(0), np.zeros((1, 2, 2, 12), np.float32))
