"""The convolution of all networks: odd kernels, same padding, by the fastest algorithm on the device.

Winograd's form of 3x3, F(2x2, 3x3) (Lavin and Gray 2016), takes 16 multiplications for 4 results instead of 36. The
input, in tiles of 4x4 that overlap by two, and the kernel are mapped by small matrices of 0, +-1 and +-1/2; the 16
numbers of a tile are then 16 matrix products over all tiles, whose results are mapped back. In float32 its rounding
errors are no larger than those of the plain sum (both 2 to 4e-7 of the result, at 48 to 128 channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

LAYOUTS = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def convolve(x: Array, w: Array) -> Array:
    """The convolution of x (B, h, w, C) with an odd kernel (k, k, C, F), same padding: (B, h, w, F).

    On a CPU, 3x3 kernels from 48 channels on over 512 pixels or more go by `winograd`, with less than half of the
    multiplications. Large kernels, and others to 64 features, use half of the machine: for them two rows of the result
    are computed as one with twice the features, by a kernel that is one row taller, k + 1 over k times the work at
    twice the speed (benchmarks/convolutions.py, with what else was tried). The gradient of x is a convolution like
    these, and that of the kernel is one too: XLA's own takes a hundred times as long in the body of a loop.

    >>> from gcdiff.models.convolution import convolve
    >>> convolve(np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)).shape
    (1, 8, 8, 5)
    """
    return _convolve(x, w)


def _convolve(x: Array, w: Array) -> Array:
    (height, width), (size, _, channels, features) = x.shape[1:3], w.shape
    many, wide = height * width >= 512, min(channels, features) >= 48
    if size == 3 and many and wide and height % 2 == width % 2 == 0 and x.dtype == jnp.float32:
        on_cpu = winograd
    elif height % 2 == 0 and (size >= 7 or (features == 64 and many)):
        on_cpu = _two_rows_at_once
    else:
        return _directly(x, w)
    return jax.lax.platform_dependent(x, w, cpu=on_cpu, default=_directly)


def _directly(x: Array, w: Array) -> Array:
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUTS)


def _two_rows_at_once(x: Array, w: Array) -> Array:
    b, height, width, _ = x.shape
    pad, features = w.shape[0] // 2, w.shape[-1]
    first, second = (jnp.pad(w, ((i, 1 - i), (0, 0), (0, 0), (0, 0))) for i in range(2))
    both = jnp.concatenate([first, second], axis=-1)
    y = jax.lax.conv_general_dilated(x, both, (2, 1), [(pad, pad), (pad, pad)], dimension_numbers=LAYOUTS)
    return y.reshape(b, height // 2, width, 2, features).swapaxes(2, 3).reshape(b, height, width, features)


def _convolve_forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, w), (x, w)


def _convolve_backward(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, w = kept
    dw = jax.lax.platform_dependent(x, w, dy, cpu=_kernel_gradient, default=_kernel_gradient_directly)
    return _convolve(dy, jnp.flip(w, (0, 1)).swapaxes(2, 3)), dw


def _kernel_gradient_directly(x: Array, w: Array, dy: Array) -> Array:
    return jax.linear_transpose(lambda w: _directly(x, w), w)(dy)[0]


def _kernel_gradient(x: Array, w: Array, dy: Array) -> Array:
    """The gradient by the kernel, a convolution of the channels of x by the features of dy.

    Its order of axes is the one that the CPU's fast convolution takes: XLA brings others into it, but not in the body
    of a loop.
    """
    pad = w.shape[0] // 2
    dw = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), (1, 1), [(pad, pad)] * 2, dimension_numbers=LAYOUTS
    )
    return dw.transpose(1, 2, 0, 3)


convolve.defvjp(_convolve_forward, _convolve_backward)


TILE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])


KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


RESULT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


PART = 2**21
"""Bytes of the input of a part: what is made of it is four times as much, and is read again while a cache holds it."""


def winograd(x: Array, w: Array) -> Array:
    """Winograd's convolution of x (B, h, w, C), h and w even, with w (3, 3, C, F), same padding: (B, h, w, F).

    Examples go in parts of `PART` bytes.
    """
    size = max(n for n in range(1, len(x) + 1) if len(x) % n == 0 and (n == 1 or n * x[0].size * 4 <= PART))
    if size == len(x):
        return _part(x, w)
    parts = x.reshape(-1, size, *x.shape[1:])
    return jax.lax.map(lambda part: _part(part, w), parts).reshape(*x.shape[:3], -1)


def _part(x: Array, w: Array) -> Array:
    b, height, width, c = x.shape
    padded, rows, columns = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), height // 2, width // 2
    tiles = [[padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for i in range(4)] for j in range(4)]
    down = [_mapped(TILE, column) for column in tiles]
    mapped = [_mapped(TILE, [down[j][i] for j in range(4)]) for i in range(4)]
    v = jnp.stack([mapped[i][j] for i in range(4) for j in range(4)]).reshape(16, -1, c)
    u = jnp.einsum("ik,jl,klco->ijco", KERNEL, KERNEL, w).reshape(16, c, -1)
    m = jnp.einsum("knc,kco->kno", v, u).reshape(4, 4, b, rows, columns, -1)
    up = [_mapped(RESULT, [m[i, j] for i in range(4)]) for j in range(4)]
    y = [_mapped(RESULT, [up[j][i] for j in range(4)]) for i in range(2)]
    return jnp.stack([jnp.stack(row, axis=3) for row in y], axis=2).reshape(b, height, width, -1)


def _mapped(matrix: np.ndarray, parts: Sequence[Array]) -> list[Any]:
    """A matrix of 0 and +-1 times a vector of arrays, by sums and differences alone."""
    return [sum(p if m > 0 else -p for m, p in zip(row, parts, strict=True) if m) for row in matrix]
