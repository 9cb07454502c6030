"""The label loss and the label step against the dense formulae: time and temporaries, in one run.

    python benchmarks/labels.py [--classes 19 171] [--repeats 3] [--json FILE]

`posterior_kl` is timed with its gradient, `reverse` as a draw, at (8, 128, 128, K). Dense means the usual code (that of
Hoogeboom et al. 2021): one-hot labels, posteriors as (..., K) log-probabilities, the divergence as a sum over them, and
a draw with jax.random.categorical. Temporaries are what XLA allocates
beside inputs and results, in units of the logits' size. The two versions take turns; the best time of each counts.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import jax.numpy as jnp

from gcdiff.processes import categorical

SHAPE = (8, 128, 128)


def log_one_hot(labels, classes):
    return jnp.log(jnp.maximum(jax.nn.one_hot(labels, classes), 1e-30))


def dense_posterior(log_p0, y_t, keep_s, keep_t):
    """log q(y_s | y_t, p0) as it is usually written; levels (B, 1, 1)."""
    classes = log_p0.shape[-1]
    keep_s, ratio = keep_s[..., None], (keep_t / keep_s)[..., None]
    log_u = jnp.logaddexp(jnp.log(keep_s) + log_p0, jnp.log(1 - keep_s) - jnp.log(classes))
    log_f = jnp.logaddexp(jnp.log(ratio) + log_one_hot(y_t, classes), jnp.log(1 - ratio) - jnp.log(classes))
    return jax.nn.log_softmax(log_u + log_f)


def dense_kl(logits, y0, y_t, keep_s, keep_t):
    log_q = dense_posterior(log_one_hot(y0, logits.shape[-1]), y_t, keep_s, keep_t)
    log_p = dense_posterior(jax.nn.log_softmax(logits), y_t, keep_s, keep_t)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)


def dense_reverse(key, logits, y_t, keep_s, keep_t):
    return jax.random.categorical(key, dense_posterior(jax.nn.log_softmax(logits), y_t, keep_s, keep_t))


def with_gradient(kl):
    return jax.value_and_grad(lambda logits, *rest: jnp.sum(kl(logits, *rest)))


def compare(ours, dense, arguments, logits_bytes, repeats):
    """Seconds and temporaries (in units of the logits) of two jitted functions on the same arguments."""
    programs = [jax.jit(function).lower(*arguments).compile() for function in (ours, dense)]
    seconds = [float("inf")] * 2
    for _ in range(repeats + 1):  # the first round warms up, and the best of the others counts anyway
        for i, program in enumerate(programs):
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            seconds[i] = min(seconds[i], time.perf_counter() - start)
    temporaries = [p.memory_analysis().temp_size_in_bytes / logits_bytes for p in programs]
    return {
        "seconds": seconds[0],
        "dense_seconds": seconds[1],
        "times_faster": seconds[1] / seconds[0],
        "temporaries": temporaries[0],
        "dense_temporaries": temporaries[1],
    }


def measure(classes, repeats):
    keys = jax.random.split(jax.random.key(0), 4)
    logits = 3.0 * jax.random.normal(keys[0], (*SHAPE, classes))
    y0 = jax.random.randint(keys[1], SHAPE, 0, classes)
    keep_s, keep_t = jnp.linspace(0.3, 0.9, 8).reshape(8, 1, 1), jnp.linspace(0.2, 0.85, 8).reshape(8, 1, 1)
    y_t = categorical.corrupt(keys[2], y0, keep_t, classes)
    kl, reverse = with_gradient(categorical.posterior_kl), categorical.reverse
    kl_arguments, reverse_arguments = (logits, y0, y_t, keep_s, keep_t), (keys[3], logits, y_t, keep_s, keep_t)
    return {
        "posterior_kl and gradient": compare(kl, with_gradient(dense_kl), kl_arguments, logits.nbytes, repeats),
        "reverse": compare(reverse, dense_reverse, reverse_arguments, logits.nbytes, repeats),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 171])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    results = {}
    print(f"{'':34}{'ms':>9}{'dense ms':>10}{'faster':>8}{'temp':>8}{'dense temp':>12}   (temp in units of the logits)")
    for classes in options.classes:
        results[f"K={classes}"] = measure(classes, options.repeats)
        for name, row in results[f"K={classes}"].items():
            print(
                f"{f'K={classes} {name}':34}{1e3 * row['seconds']:9.1f}{1e3 * row['dense_seconds']:10.1f}"
                f"{row['times_faster']:7.1f}x{row['temporaries']:8.3f}{row['dense_temporaries']:12.2f}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"shape": SHAPE, "device": jax.devices()[0].device_kind, **results}, file, indent=2)


if __name__ == "__main__":
    main()
