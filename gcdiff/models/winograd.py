"""Winograd's convolution of 3x3, F(2x2, 3x3) (Lavin and Gray 2016): 16 multiplications for 4 results instead of 36.

The input, in tiles of 4x4 that overlap by two, and the kernel are mapped by small matrices of 0, +-1 and +-1/2; the 16
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

TILE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
RESULT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

PART = 2**21
"""Bytes of the input of a part: what is made of it is four times as much, and is read again while a cache holds it."""


def winograd(x: Array, w: Array) -> Array:
    """x (B, h, w, C) with even h and w, w (3, 3, C, F), same padding: (B, h, w, F). Examples go in parts."""
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
    """The matrix, of 0 and +-1, times a vector of arrays: sums and differences alone."""
    return [sum(p if m > 0 else -p for m, p in zip(row, parts, strict=True) if m) for row in matrix]
