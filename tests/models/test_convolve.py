"""The convolution that every network uses against the plain one: values and gradients."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.models import convolution
from gcdiff.models.convolution import LAYOUTS, convolve


def plain(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUTS)


@pytest.mark.parametrize(
    "shape",
    [(16, 33, 3, 64, 3), (5, 4, 3, 64, 3), (8, 6, 64, 3, 3), (4, 7, 2, 4, 7), (4, 4, 3, 8, 3), (16, 34, 50, 48, 3)],
)
def test_values_and_gradients_are_those_of_the_plain_convolution(shape):
    height, width, channels, features, size = shape
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    w = rng.normal(size=(size, size, channels, features)).astype(np.float32)
    dy = rng.normal(size=(2, height, width, features)).astype(np.float32)

    @jax.jit
    def both(x, w, dy):
        return [(y, *pull(dy)) for y, pull in (jax.vjp(f, x, w) for f in (convolve, plain))]

    assert height * width < 512 or "platform" in str(jax.make_jaxpr(convolve)(x, w))  # one of the ways is taken
    for ours, exact in zip(*both(x, w, dy), strict=True):
        assert np.linalg.norm(ours - exact) < 1e-5 * np.linalg.norm(exact)


def test_winograd_in_parts_is_winograd_at_once(monkeypatch):
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=size).astype(np.float32) for size in ((6, 4, 6, 5), (3, 3, 5, 7)))
    at_once = jax.jit(lambda: convolution.winograd(x, w))()
    monkeypatch.setattr(convolution, "PART", 2 * x[0].nbytes)
    in_parts = jax.jit(lambda: convolution.winograd(x, w))()
    np.testing.assert_allclose(at_once, plain(x, w), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-4, atol=1e-5)


def test_a_loop_gets_convolutions_in_the_order_of_axes_that_is_fast_in_one():
    def gradients(x, w):
        return jax.lax.scan(lambda s, x: (s, jax.grad(lambda x, w: convolve(x, w).sum(), (0, 1))(x, w)), 0.0, x)[1]

    for features in (3, 64):
        shapes = (2, 1, 16, 32, 5), (3, 3, 5, features)
        lowered = jax.jit(gradients).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
        orders = re.findall(r"dim_numbers = (\S.*?->\[.*?\])", lowered.as_text())
        assert len(orders) >= 2 and set(orders) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


def test_the_type_is_kept():
    x, w = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 64), jnp.bfloat16)
    y, pull = jax.vjp(convolve, x, w)
    assert y.dtype == jnp.bfloat16 and {a.dtype for a in pull(y)} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(np.asarray(y[0, 1, 1], np.float32), 18.0)
