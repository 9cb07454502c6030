"""The absorbing process: a label is kept with probability `keep`, else hidden behind a mask, the class K.

With a = keep, r = a_t / a_s and s <= t (so a_s >= a_t), per pixel:

    (1)  q(y_t | y_s) = r [y_t = y_s] + (1 - r) [y_t = mask]
    (2)  q(y_s | y_t, p) = [y_s = y_t] where y_t is a class: a label that is seen is certain and stays;
                           (a_s - a_t)/(1 - a_t) p_k for y_s = k and (1 - a_s)/(1 - a_t) for the mask, where y_t is it
    (3)  KL(q(y_s | y_t, y_0) || (2)) = (a_s - a_t)/(1 - a_t) (-log p[y_0]) where y_t is the mask, else 0
    (4)  -log p(y_0) <= integral over a from 0 to 1 of E[-log p[y_0] / (1 - a); y_t is the mask]

p is the law of the clean label given everything but the pixel's own state; as a mask says nothing, it is
p(y_0 | everything) on masked pixels, and the loss is the plain cross-entropy there. On a pixel that is seen nothing is
asked of the network and nothing is read from it. (Austin et al. 2021, D3PM; Shi et al. 2024, MD4, eq. 5; Sahoo et al.
2024, MDLM, eq. 10.)

The mask is a class of the state alone: `num_classes` and the head have K classes, the state and its embedding K + 1.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from gcdiff.processes.blocks import map_pixels
from gcdiff.processes.categorical import draw_class, log_softmax
from gcdiff.processes.categorical_losses import LOG_ZERO, cross_entropy
from gcdiff.processes.layout import OnSchedule
from gcdiff.types import VOID


@dataclasses.dataclass(frozen=True)
class AbsorbingProcess(OnSchedule):
    """The absorbing process on a schedule, as a layout process: s before t, levels (B, 1, 1) or (B, H, W)."""

    @property
    def mask(self) -> int:
        """The class of the state that hides the label."""
        return self.num_classes

    @property
    def state_size(self) -> int:
        """The number of values of a noisy label, K + 1: the classes and the mask."""
        return self.num_classes + 1

    @property
    def embedding_size(self) -> int:
        """The number of rows of the embedding of a noisy label, K + 1."""
        return self.num_classes + 1

    @property
    def head_size(self) -> int:
        """The number of logits per pixel, K."""
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
        """Draw labels at level 1: all masked, int32 of `shape`."""
        return jnp.full(shape, self.mask, jnp.int32)

    def corrupt(self, key: Array, y0: Array, t: ArrayLike) -> Array:
        """Draw y_t given y_0, int32 of y0's shape; VOID comes out masked."""
        return self.renoise(key, y0, 0.0, t)

    def renoise(self, key: Array, ys: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw y_t given y_s, (1); VOID comes out masked."""
        keep_s, keep_t = (jnp.broadcast_to(self.keep(level), ys.shape) for level in (s, t))
        hide = (keep_s - keep_t) / jnp.where(keep_s > 0, keep_s, 1.0)
        hidden = (jax.random.uniform(key, ys.shape) < hide) | (ys == VOID)
        return jnp.where(hidden, self.mask, ys)

    def clean(self, output: Array, yt: Array, t: ArrayLike) -> Array:
        """The leave-one-out log-probabilities (B, H, W, K) of logits."""
        return log_softmax(output)

    def posterior(self, log_p0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """log q(y_s | y_t, p0) of (2), (B, H, W, K + 1), the mask last; a probability of 0 is `LOG_ZERO`."""
        reveal, hide = self._shares(s, t)
        log_reveal, log_hide = (jnp.broadcast_to(jnp.log(x), yt.shape)[..., None] for x in (reveal, hide))
        moved = jnp.concatenate([log_softmax(log_p0) + log_reveal, log_hide], axis=-1)
        return jnp.where((yt == self.mask)[..., None], jnp.maximum(moved, LOG_ZERO), self._one_hot(yt))

    def reverse(self, key: Array, log_p0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw y_s of (2), int32 of yt's shape, in blocks; `key` is one key or (B,). Labels that are seen stay."""
        if key.ndim:
            maps = jax.vmap(lambda k: jax.random.uniform(k, (3, *yt.shape[1:])), out_axes=1)(key)
        else:
            maps = jax.random.uniform(key, (3, *yt.shape))
        reveal, _ = self._shares(s, t)
        (drawn,) = map_pixels(_draw, log_p0, maps[0], maps[1])
        return jnp.where((yt == self.mask) & (maps[2] < reveal), drawn, yt)

    def loo_to_posterior(self, log_p0: Array, yt: Array, t: ArrayLike) -> Array:
        """log p(y_0 | everything), (B, H, W, K): the prediction itself where masked, one-hot where a label is seen."""
        return jnp.where((yt == self.mask)[..., None], log_softmax(log_p0), self._one_hot(yt)[..., :-1])

    def loss(self, output: Array, label: Array, yt: Array, t: ArrayLike, kappa: ArrayLike = 1.0) -> Array:
        """The cross-entropy in nats where y_t is the mask, 0 elsewhere and where the label is VOID, (B, H, W).

        With a precision kappa it is -log(kappa p[label] + (1 - kappa)/K), whose optimum is the law of the clean label
        where the label is right with probability kappa and uniform otherwise (Patrini et al. 2017, forward
        correction). A label that is seen is certain at every level, so that this process has no noisy state for such
        a label: noise it at level 1, which hides it from the other pixels.
        """
        return self._masked_cross_entropy(output, label, yt, kappa)

    def decode(self, state: Array) -> Array:
        """The labels of a state, VOID where it is still masked: nowhere at level 0."""
        return jnp.where(state == self.mask, VOID, state)

    def kl(self, log_p0: Array, y0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """The divergence (3), nats per pixel (B, H, W); the cross-entropy at s = 0."""
        return self._shares(s, t)[0] * self._masked_cross_entropy(log_p0, y0, yt)

    def kl_rate(self, log_p0: Array, y0: Array, yt: Array, t: ArrayLike) -> Array:
        """The integrand of (4), nats per pixel and unit of keep (B, H, W); 0 at level 0, where nothing is masked."""
        rest = jax.nn.sigmoid(-self.log_snr(t))  # 1 - keep, without its rounding
        rate = jnp.where(rest > 0, 1.0 / jnp.where(rest > 0, rest, 1.0), 0.0)
        return rate * self._masked_cross_entropy(log_p0, y0, yt)

    def prior_kl(self) -> Array:
        """KL(q(y_1 | y_0) || the prior), nats per pixel, a scalar: 0, as everything is masked at level 1."""
        return jnp.zeros(())

    def bound_weight(self, t: ArrayLike) -> Array:
        """The weight of the loss in the bound (4): keep, as d keep = keep (1 - keep) d log_snr."""
        return self.keep(t)

    def _masked_cross_entropy(self, logits: Array, label: Array, yt: Array, kappa: ArrayLike = 1.0) -> Array:
        # A mask says as much as a uniform label at level 1 does: nothing.
        asked = jnp.where(yt == self.mask, label, VOID)
        return cross_entropy(logits, asked, jnp.zeros_like(asked), 0.0, kappa)

    def _shares(self, s: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """The probabilities that a mask at t is a label at s, and that it is still a mask: 0 and 1 where s = t."""
        keep_s, keep_t = self.keep(s), self.keep(t)
        moves = keep_s > keep_t
        rest = jnp.where(moves, 1.0 - keep_t, 1.0)
        return jnp.where(moves, (keep_s - keep_t) / rest, 0.0), jnp.where(moves, (1.0 - keep_s) / rest, 1.0)

    def _one_hot(self, yt: Array) -> Array:
        return jnp.where(jax.nn.one_hot(yt, self.state_size, dtype=bool), 0.0, LOG_ZERO)


def _draw(log_p0: Array, column: Array, row: Array) -> tuple[Array]:
    """A class drawn from softmax(log_p0) on a block."""
    return (draw_class(log_p0, jnp.max(log_p0, axis=-1, keepdims=True), column, row)[0],)
