"""Formulations of a 3x3 convolution and of the gradient of its kernel, as XLA runs them on this machine.

    python benchmarks/convolutions.py [--rounds 7] [--json FILE]

GFLOP per second of the nominal work, 2 B h w k k C F, whatever a formulation really computes.
`gcdiff.models.convolution.convolve` chooses between direct, two rows and winograd. Forward:

    direct      the plain convolution
    two rows    two rows of the result as one with twice the features
    two columns the same with two columns
    rows        k matrix products with k columns of the input beside each other
    patches     one matrix product with all k x k neighbours beside each other
    winograd    F(2x2, 3x3), Lavin and Gray 2016: 16 matrix products of a quarter of the pixels

Gradient of the kernel:

    direct      XLA's: a convolution whose kernel is as large as the picture
    forward     the same, written as a forward convolution of the channels by the features (`convolve` on a CPU)
    shifts      k x k matrix products
    rows        k matrix products with k columns of the input beside each other
    dy rows     the same with the columns of the output's gradient
    patches     one matrix product

The same gradients in the body of a loop come last, for two shapes.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff.models.convolution import LAYOUTS, _kernel_gradient, winograd

SHAPES = (  # B, h, w, C, F, k
    (8, 64, 64, 64, 64, 3),
    (8, 32, 32, 64, 64, 3),
    (8, 32, 32, 128, 64, 3),
    (8, 24, 32, 48, 48, 3),
    (8, 32, 32, 96, 96, 3),
    (16, 32, 64, 32, 32, 3),
    (8, 64, 64, 128, 128, 3),
    (8, 32, 32, 128, 128, 3),
    (8, 16, 16, 128, 128, 3),
    (8, 16, 16, 256, 128, 3),
    (8, 8, 8, 256, 256, 3),
    (8, 8, 8, 512, 256, 3),
    (8, 64, 64, 6, 16, 7),
    (8, 64, 64, 6, 16, 15),
)


IN_LOOPS, TURNS, LOOP = (SHAPES[1], SHAPES[8]), 2, "the same in a loop"


def direct(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUTS)


def two(x, w, axis: int):
    """Two rows (axis 0) or columns (axis 1) of the result at once."""
    b, height, width, _ = x.shape
    pad, features = w.shape[0] // 2, w.shape[-1]
    widths = [[(i * (a == axis), (1 - i) * (a == axis)) for a in range(2)] for i in range(2)]
    both = jnp.concatenate([jnp.pad(w, (*at, (0, 0), (0, 0))) for at in widths], axis=-1)
    strides = (2, 1) if axis == 0 else (1, 2)
    y = jax.lax.conv_general_dilated(x, both, strides, [(pad, pad)] * 2, dimension_numbers=LAYOUTS)
    if axis == 0:
        y = y.reshape(b, height // 2, width, 2, features).swapaxes(2, 3)
    return y.reshape(b, height, width, features)


def padded(x, k: int):
    return jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))


def columns(x, k: int):
    """k columns beside each other: (B, h + k - 1, w, k * C)."""
    return jnp.concatenate([padded(x, k)[:, :, j : j + x.shape[2]] for j in range(k)], axis=-1)


def rows(x, w):
    k, _, c, features = w.shape
    beside, h = columns(x, k), x.shape[1]
    parts = (beside[:, i : i + h].reshape(-1, k * c) @ w[i].reshape(k * c, -1) for i in range(k))
    return sum(parts).reshape(*x.shape[:3], features)


def neighbours(x, k: int):
    xp, (_, h, w, c) = padded(x, k), x.shape
    parts = [xp[:, i : i + h, j : j + w] for i in range(k) for j in range(k)]
    return jnp.concatenate(parts, axis=-1).reshape(-1, k * k * c)


def patches(x, w):
    return (neighbours(x, w.shape[0]) @ w.reshape(-1, w.shape[-1])).reshape(*x.shape[:3], -1)


def direct_dw(x, dy, k: int):
    w = jax.ShapeDtypeStruct((k, k, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: direct(x, w), w)(dy)[0]


def forward_dw(x, dy, k: int):
    return _kernel_gradient(x, jax.ShapeDtypeStruct((k, k), x.dtype), dy)


def shifts_dw(x, dy, k: int):
    b, h, w, c = x.shape
    xp, d = padded(x, k), dy.reshape(-1, dy.shape[-1])
    parts = [xp[:, i : i + h, j : j + w].reshape(-1, c).T @ d for i in range(k) for j in range(k)]
    return jnp.stack(parts).reshape(k, k, c, -1)


def rows_dw(x, dy, k: int):
    (_, h, _, c), d = x.shape, dy.reshape(-1, dy.shape[-1])
    beside = columns(x, k)
    return jnp.stack([(beside[:, i : i + h].reshape(-1, k * c).T @ d).reshape(k, c, -1) for i in range(k)])


def dy_rows_dw(x, dy, k: int):
    (_, h, _, c), features = x.shape, dy.shape[-1]
    beside, flat = columns(dy, k), x.reshape(-1, x.shape[-1])
    parts = [flat.T @ beside[:, k - 1 - i : k - 1 - i + h].reshape(-1, k * features) for i in range(k)]
    return jnp.flip(jnp.stack(parts).reshape(k, c, k, features), 2).swapaxes(1, 2)


def patches_dw(x, dy, k: int):
    return (neighbours(x, k).T @ dy.reshape(-1, dy.shape[-1])).reshape(k, k, x.shape[-1], -1)


FORWARD = {
    "direct": direct,
    "two rows": functools.partial(two, axis=0),
    "two columns": functools.partial(two, axis=1),
    "rows": rows,
    "patches": patches,
    "winograd": winograd,
}
KERNEL_GRADIENT = {
    "direct": direct_dw, "forward": forward_dw, "shifts": shifts_dw, "rows": rows_dw, "dy rows": dy_rows_dw,
    "patches": patches_dw,
}  # fmt: skip


def looped(f, x, dy, k: int):
    """The gradient in the body of a loop that runs twice; what it is given depends on the turn."""
    start = jnp.zeros((k, k, x.shape[-1], dy.shape[-1]))
    return jax.lax.fori_loop(0, TURNS, lambda i, sum_: sum_ + f(x * (1 + i), dy, k=k), start)


def measure(shape, rounds: int) -> dict:
    b, h, w, c, features, k = shape
    rng = np.random.default_rng(0)
    sizes = (b, h, w, c), (k, k, c, features), (b, h, w, features)
    x, kernel, dy = (jnp.asarray(rng.normal(size=size).astype(np.float32)) for size in sizes)
    gflop = 2 * b * h * w * c * features * k * k / 1e9
    programs = {("forward", name): (jax.jit(f), (x, kernel)) for name, f in FORWARD.items() if fits(name, k)}
    for name, f in KERNEL_GRADIENT.items():
        if fits(name, k):
            programs["kernel's gradient", name] = jax.jit(functools.partial(f, k=k)), (x, dy)
            if shape in IN_LOOPS:
                programs[LOOP, name] = jax.jit(functools.partial(looped, f, k=k)), (x, dy)
    best, exact = {}, {}
    for key, (f, arguments) in programs.items():
        out = np.asarray(f(*arguments))
        reference = exact.setdefault(key[0], out)
        assert np.abs(out - reference).max() < 1e-3 * np.abs(reference).max(), key
        best[key] = np.inf
    for _ in range(rounds):
        for key, (f, arguments) in programs.items():
            start = time.perf_counter()
            f(*arguments).block_until_ready()
            best[key] = min(best[key], time.perf_counter() - start)
    turns = {what: TURNS if what == LOOP else 1 for what, _ in programs}
    return {
        what: {n: round(times * gflop / s, 1) for (w, n), s in best.items() if w == what}
        for what, times in turns.items()
    }


def fits(name: str, k: int) -> bool:
    """Winograd's form is of 3x3; what copies every neighbour is hopeless for large kernels."""
    return k == 3 or name not in ("winograd", "patches", "shifts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "convolutions.json")
    options = parser.parse_args()
    results = []
    for shape in SHAPES:
        measured = measure(shape, options.rounds)
        results.append({"shape": shape, **measured})
        print("x".join(map(str, shape[:4])), "->", shape[4], f"{shape[5]}x{shape[5]}")
        for what, speeds in measured.items():
            print(f"  {what:20}" + "".join(f"{name} {speed:.0f}   " for name, speed in speeds.items()), flush=True)
    options.json.write_text(
        json.dumps({"device": jax.devices()[0].device_kind, "gflop_per_s": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
