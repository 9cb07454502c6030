"""The uniform categorical process: a label is kept with probability `keep`, else drawn anew from all K classes.

With a = keep, r = a_t / a_s and s <= t (so a_s >= a_t), per pixel:

    (1)  q(y_t | y_0) = a_t [y_t = y_0] + (1 - a_t)/K
    (2)  q(y_t | y_s) = r [y_t = y_s] + (1 - r)/K,        1 - r = (a_s - a_t)/a_s
    (3)  q(y_s = k | y_t, p) = u_k f_k / Z,               u_k = a_s p_k + (1 - a_s)/K
                                                          f_k = r [k = y_t] + (1 - r)/K
                                                          Z = a_t p[y_t] + (1 - a_t)/K
    (4)  a draw from (3) is y_t, a draw from p, or a uniform class, with weights
         r u[y_t],  (1 - r) a_s / K,  (1 - r)(1 - a_s)/K

In (3) p is the law of the clean label that leaves the pixel's own noisy label out; what p(y_0 | everything) is then,
`loo_to_posterior` says: p[y_t] is multiplied by 1 + K a_t/(1 - a_t). (Hoogeboom et al. 2021, multinomial diffusion;
Austin et al. 2021, D3PM.)

Conventions: labels are int32 (...); `log_p0` is (..., K), float, normalised or not, and may be one-hot with -inf;
`keep_*` are broadcastable to the labels, in [0, 1], with keep_s >= keep_t. keep_s == keep_t is the identity at every
level. The log of a probability 0 is returned as the finite `LOG_ZERO`, so that no value and no gradient is infinite.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from gcdiff.processes.blocks import map_pixels
from gcdiff.processes.categorical_losses import LOG_ZERO, cross_entropy, kl_rate, posterior_kl, prior_kl
from gcdiff.processes.layout import OnSchedule
from gcdiff.types import VOID

__all__ = [
    "LOG_ZERO",
    "UniformProcess",
    "corrupt",
    "cross_entropy",
    "kl_rate",
    "loo_to_posterior",
    "posterior",
    "posterior_kl",
    "prior_kl",
    "renoise",
    "reverse",
]

_COLUMNS = 16


def corrupt(key: Array, y0: Array, keep_t: ArrayLike, num_classes: int) -> Array:
    """Draw y_t of (1), int32 of y0's shape. VOID comes out uniform whatever the level."""
    return renoise(key, y0, 1.0, keep_t, num_classes)


def renoise(key: Array, y_s: Array, keep_s: ArrayLike, keep_t: ArrayLike, num_classes: int) -> Array:
    """Draw y_t of (2), int32 of y_s's shape; keep_s == keep_t returns y_s. VOID comes out uniform."""
    keep_s, keep_t = (jnp.broadcast_to(jnp.asarray(k, jnp.float32), y_s.shape) for k in (keep_s, keep_t))
    key_jump, key_class = jax.random.split(key)
    jump = (keep_s - keep_t) / jnp.where(keep_s > 0, keep_s, 1.0)
    jumps = (jax.random.uniform(key_jump, y_s.shape) < jump) | (y_s == VOID)
    return jnp.where(jumps, jax.random.randint(key_class, y_s.shape, 0, num_classes, jnp.int32), y_s)


def posterior(log_p0: Array, y_t: Array, keep_s: ArrayLike, keep_t: ArrayLike) -> Array:
    """The log-probabilities (3) of y_s given y_t and the leave-one-out law of y_0, float32 (..., K).

    keep_s = 1 gives softmax(log_p0 + offset), keep_t = 0 gives keep_s p + (1 - keep_s)/K, keep_s == keep_t the
    one-hot of y_t. Differentiable in log_p0, -inf entries included.
    """
    classes = log_p0.shape[-1]
    keep_s, keep_t, stay = _safe_levels(keep_s, keep_t, log_p0.shape[:-1])
    own = jax.nn.one_hot(y_t, classes, dtype=bool)
    jump = (keep_s - keep_t) / keep_s
    log_u = jnp.logaddexp(
        jnp.log(keep_s)[..., None] + log_softmax(log_p0), jnp.log1p(-keep_s)[..., None] - jnp.log(classes)
    )
    log_f = jnp.where(own, jnp.log(keep_t / keep_s + jump / classes)[..., None], jnp.log(jump / classes)[..., None])
    return jnp.where(stay[..., None], jnp.where(own, 0.0, LOG_ZERO), log_softmax(log_u + log_f))


def loo_to_posterior(log_p0: Array, y_t: Array, keep_t: ArrayLike) -> Array:
    """log p(y_0 | everything), float32 (..., K), from leave-one-out log-probabilities; one-hot at y_t for keep_t = 1.

    The offset on the observed class, log(1 + K keep/(1 - keep)), is softplus(log_snr + log K).
    """
    return posterior(log_p0, y_t, 1.0, keep_t)


def reverse(key: Array, log_p0: Array, y_t: Array, keep_s: ArrayLike, keep_t: ArrayLike) -> Array:
    """Draw y_s of (3) as the mixture (4), int32 of y_t's shape, in blocks: no array of size (..., K) is made.

    `key` is one key, or one for each example along the first axis: what an example draws is then a function of its own
    key alone. keep_s == keep_t returns y_t bit for bit, also where p[y_t] underflows.
    """
    if key.ndim:
        # Only the random maps are drawn example by example: the blocks are cut from the batch as a whole.
        maps = jax.vmap(lambda k: _random_maps(k, y_t.shape[1:], log_p0.shape[-1]))(key)
    else:
        maps = _random_maps(key, y_t.shape, log_p0.shape[-1])
    keep_s, keep_t, stay = _safe_levels(keep_s, keep_t, log_p0.shape[:-1])
    (y_s,) = map_pixels(_draw, log_p0, y_t, keep_s, keep_t, *maps)
    return jnp.where(stay, y_t, y_s)


def _random_maps(key: Array, shape: tuple[int, ...], classes: int) -> tuple[Array, Array, Array, Array]:
    """Draw three maps that are uniform in [0, 1) and one of uniform classes."""
    key_branch, key_clean, key_class = jax.random.split(key, 3)
    branch = jax.random.uniform(key_branch, shape)
    column, row = jax.random.uniform(key_clean, (2, *shape))
    return branch, column, row, jax.random.randint(key_class, shape, 0, classes, jnp.int32)


def _draw(log_p0, y_t, keep_s, keep_t, branch, column, row, uniform):
    """The mixture (4) on a block: `branch`, `column` and `row` are uniform in [0, 1), `uniform` is a uniform class."""
    top = jnp.max(log_p0, axis=-1, keepdims=True)
    y_0, total = draw_class(log_p0, top, column, row)
    own = jnp.exp(jnp.take_along_axis(log_p0, y_t[..., None], axis=-1) - top)[..., 0] / total
    jump = (keep_s - keep_t) / keep_s
    to_own = keep_t * own + (keep_t / keep_s) * (1.0 - keep_s) / log_p0.shape[-1]
    to_clean = to_own + jump * keep_s / log_p0.shape[-1]
    point = branch * (to_clean + jump * (1.0 - keep_s) / log_p0.shape[-1])
    return (jnp.where(point < to_own, y_t, jnp.where(point < to_clean, y_0, uniform)),)


def draw_class(log_p0: Array, top: Array, column: Array, row: Array) -> tuple[Array, Array]:
    """A class drawn from softmax(log_p0), int32 (b, n), and the sum of exp(log_p0 - top), for a block (b, n, K).

    `top` (b, n, 1) is the maximum, `column` and `row` (b, n) are uniform in [0, 1).
    The classes are laid out in rows of `_COLUMNS`; the column is drawn first, then the row in it. A cumulative sum over
    all classes would cost several times the rest of the step.
    """
    classes = log_p0.shape[-1]
    rows = -(-classes // _COLUMNS)
    fill = jnp.pad(log_p0 - top, ((0, 0), (0, 0), (0, rows * _COLUMNS - classes)), constant_values=-jnp.inf)
    columns = jnp.sum(jnp.exp(fill).reshape(*log_p0.shape[:-1], rows, _COLUMNS), axis=-2)
    # Without the barrier XLA computes the sums anew for each of their uses.
    drawn, total = _draw_index(jax.lax.optimization_barrier(columns), column)
    members = drawn[..., None] + _COLUMNS * jnp.arange(rows)[None, None]
    masses = jnp.exp(jnp.take_along_axis(log_p0, jnp.minimum(members, classes - 1), axis=-1) - top)
    return drawn + _COLUMNS * _draw_index(jnp.where(members < classes, masses, 0.0), row)[0], total


def _draw_index(masses: Array, uniform: Array) -> tuple[Array, Array]:
    """The index where the running sum of `masses` (..., n) passes `uniform` times its end, and that end.

    Added one by one, the sum stands still at a mass of 0: such an index is never drawn. A parallel sum may not.
    """
    reach = list(itertools.accumulate(masses[..., i] for i in range(masses.shape[-1])))
    point = uniform * reach[-1]
    return sum(((r <= point).astype(jnp.int32) for r in reach), jnp.int32(0)), reach[-1]


def _safe_levels(keep_s: ArrayLike, keep_t: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Levels of `shape` with 0 <= keep_t < keep_s everywhere, and where they were replaced: the identity steps."""
    keep_s, keep_t = (jnp.broadcast_to(jnp.asarray(k, jnp.float32), shape) for k in (keep_s, keep_t))
    stay = keep_s <= keep_t
    return jnp.where(stay, 0.5, keep_s), jnp.where(stay, 0.25, keep_t), stay


def log_softmax(logits: Array) -> Array:
    """The log_softmax of logits in float32, floored: logaddexp(-inf, -inf) has gradient NaN."""
    return jnp.maximum(jax.nn.log_softmax(logits.astype(jnp.float32)), LOG_ZERO)


@dataclasses.dataclass(frozen=True)
class UniformProcess(OnSchedule):
    """The uniform process on a schedule, as a layout process: s before t, levels (B, 1, 1) or (B, H, W)."""

    @property
    def state_size(self) -> int:
        """The number of values a noisy label takes."""
        return self.num_classes

    @property
    def embedding_size(self) -> int:
        """The number of rows of the embedding of a noisy label."""
        return self.num_classes

    @property
    def head_size(self) -> int:
        """The number of logits per pixel."""
        return self.num_classes

    @property
    def state_channels(self) -> int:
        """The number of channels of a noisy label, 0: it is one integer."""
        return 0

    @property
    def has_likelihood(self) -> bool:
        """Whether there is a bound on -log p(y_0): True."""
        return True

    def prior(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw labels at level 1: uniform, int32 of `shape`."""
        return jax.random.randint(key, shape, 0, self.num_classes, jnp.int32)

    def corrupt(self, key: Array, y0: Array, t: ArrayLike) -> Array:
        """Draw y_t given y_0; VOID comes out uniform."""
        return corrupt(key, y0, self.keep(t), self.num_classes)

    def renoise(self, key: Array, ys: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw y_t given y_s."""
        return renoise(key, ys, self.keep(s), self.keep(t), self.num_classes)

    def clean(self, output: Array, yt: Array, t: ArrayLike) -> Array:
        """The leave-one-out log-probabilities (B, H, W, K) of logits."""
        return log_softmax(output)

    def posterior(self, log_p0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """log q(y_s | y_t, p0), (B, H, W, K)."""
        return posterior(log_p0, yt, self.keep(s), self.keep(t))

    def reverse(self, key: Array, log_p0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw y_s given y_t and the leave-one-out log-probabilities of y_0; `key` is one key or (B,)."""
        return reverse(key, log_p0, yt, self.keep(s), self.keep(t))

    def loo_to_posterior(self, log_p0: Array, yt: Array, t: ArrayLike) -> Array:
        """log p(y_0 | everything), (B, H, W, K)."""
        return loo_to_posterior(log_p0, yt, self.keep(t))

    def loss(self, output: Array, label: Array, yt: Array, t: ArrayLike, kappa: ArrayLike = 1.0) -> Array:
        """The cross-entropy on p(y_0 | everything), nats per pixel (B, H, W), for a label of precision kappa."""
        return cross_entropy(output, label, yt, self.keep(t), kappa)

    def decode(self, state: Array) -> Array:
        """The labels of a state: the state itself."""
        return state

    def kl(self, log_p0: Array, y0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """KL(q(y_s | y_t, y_0) || q(y_s | y_t, p0)), nats per pixel (B, H, W); the cross-entropy at s = 0."""
        return posterior_kl(log_p0, y0, yt, self.keep(s), self.keep(t))

    def kl_rate(self, log_p0: Array, y0: Array, yt: Array, t: ArrayLike) -> Array:
        """The divergence of an infinitesimal step at t, nats per pixel and unit of keep (B, H, W)."""
        return kl_rate(log_p0, y0, yt, self.keep(t))

    def prior_kl(self) -> Array:
        """KL(q(y_1 | y_0) || the prior), nats per pixel, a scalar: 0, as nothing is kept at level 1."""
        return prior_kl(self.keep(1.0), self.num_classes)

    def bound_weight(self, t: ArrayLike) -> Array:
        """The weight of the loss in the bound, keep^2.

        The bound is no weighted cross-entropy; as keep goes to 1 it becomes one with this weight, down to keep = .3
        their curvatures are within a factor of 2, and both vanish at keep = 0.
        """
        return jnp.square(self.keep(t))
