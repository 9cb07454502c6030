"""Analog bits: a class is written in b = ceil(log2 K) bits, each -1 or 1, and these are noised as grey values are.

    (1)  y_t = alpha_t c(y_0) + sigma_t eps,   c(k)_j = 2 (the j-th binary digit of k) - 1
    (2)  the head puts out the clean bits, x_j = E[c(y_0)_j | everything]; its loss is |x - c(y_0)|^2 / b
    (3)  p(y_0 = k | everything) ~ prod_j (1 + c(k)_j x_j)/2, normalised over the K codes that are classes

(Chen et al. 2023, Analog Bits, with the clean bits as output; without their self-conditioning.) It is the baseline of
the field: any sampler of images applies. What it lacks: 2^b - K codes mean no class, classes with like numbers have
like codes, (3) takes bits for independent where a pixel's are not, and a bound on -log p(y_0) is not defined.

The network sees everything, the pixel's own noisy bits included, so that there is no leave-one-out prediction here.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from gcdiff.processes.categorical_losses import LOG_ZERO
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.layout import OnSchedule
from gcdiff.types import VOID

_MOST = 1.0 - 1e-6  # of a bit that is read as a probability


@dataclasses.dataclass(frozen=True)
class BitsProcess(OnSchedule):
    """Analog bits on a schedule, as a layout process: s before t, levels (B, 1, 1) or (B, H, W).

    A state is float32 (B, H, W, b).
    """

    @property
    def state_size(self) -> int:
        """The number of values of a noisy label, 0: they are not counted."""
        return 0

    @property
    def embedding_size(self) -> int:
        """The number of rows of the embedding of a noisy label, 0: it has channels instead."""
        return 0

    @property
    def head_size(self) -> int:
        """The number of outputs per pixel, b."""
        return self.state_channels

    @property
    def state_channels(self) -> int:
        """The number of channels of a noisy label, b: the bits that K classes need."""
        return (self.num_classes - 1).bit_length()

    @property
    def has_likelihood(self) -> bool:
        """Whether there is a bound on -log p(y_0): False."""
        return False

    @property
    def gaussian(self) -> GaussianProcess:
        """The Gaussian process that noises the bits as grey values."""
        return GaussianProcess(self.schedule, "x0")

    @property
    def codes(self) -> np.ndarray:
        """The bits of every class, float32 (K, b)."""
        digits = np.arange(self.num_classes)[:, None] >> np.arange(self.state_channels)
        return (2 * (digits & 1) - 1).astype(np.float32)

    def prior(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw bits at level 1: standard normal, float32 (*shape, b)."""
        return self.gaussian.prior(key, (*shape, self.state_channels))

    def corrupt(self, key: Array, y0: Array, t: ArrayLike) -> Array:
        """Draw y_t of (1), float32 (*y0.shape, b); VOID comes out as standard normal."""
        return self.gaussian.corrupt(key, self._encode(y0), jnp.where(y0 == VOID, 1.0, t))

    def renoise(self, key: Array, ys: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw y_t given y_s."""
        return self.gaussian.renoise(key, ys, s, t)

    def clean(self, output: Array, yt: Array, t: ArrayLike) -> Array:
        """The clean prediction of an output: bits (B, H, W, b) clipped to [-1, 1]."""
        return jnp.clip(output.astype(jnp.float32), -1.0, 1.0)

    def posterior(self, bits: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Mean (B, H, W, b) and variance, broadcastable to it, of y_s given y_t and clean bits."""
        return self.gaussian.posterior(bits, yt, s, t)

    def reverse(self, key: Array, bits: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """The ancestral step: draw y_s of `posterior`; `key` is one key or (B,)."""
        mean, variance = self.posterior(bits, yt, s, t)
        if key.ndim:
            noise = jax.vmap(lambda k: jax.random.normal(k, yt.shape[1:]))(key)
        else:
            noise = jax.random.normal(key, yt.shape)
        return mean + jnp.sqrt(variance) * noise

    def loo_to_posterior(self, bits: Array, yt: Array, t: ArrayLike) -> Array:
        """log p(y_0 | everything) as (3), (B, H, W, K); one-hot at the state's class at level 0."""
        # log of the product, up to what all codes share: (1 + x)/2 = sqrt(1 - x^2)/2 exp(arctanh x).
        law = jax.nn.log_softmax(self._match(jnp.arctanh(jnp.clip(bits, -_MOST, _MOST))))
        given = jnp.where(jax.nn.one_hot(self.decode(yt), self.num_classes, dtype=bool), 0.0, LOG_ZERO)
        level = jnp.broadcast_to(jnp.asarray(t, jnp.float32), yt.shape[:-1])
        return jnp.where((level <= 0)[..., None], given, law)

    def loss(self, output: Array, label: Array, yt: Array, t: ArrayLike, kappa: ArrayLike = 1.0) -> Array:
        """The mean squared error of the bits, float32 (B, H, W); 0 where the label is VOID.

        For a label of precision kappa the bits of which it is the mean, kappa x + (1 - kappa) m with m the mean code,
        are compared: the optimum is the clean bits' mean for every kappa > 0. kappa = 0 is void. A label of kappa < 1
        is no state of this process: noise it at level 1, which hides it from the other pixels.
        """
        asked = (label != VOID) & (jnp.asarray(kappa) > 0)
        share = jnp.broadcast_to(jnp.asarray(kappa, jnp.float32), label.shape)[..., None]
        mean = self.codes.mean(axis=0).reshape((1,) * label.ndim + (-1,))
        error = share * output.astype(jnp.float32) + (1.0 - share) * mean - self._encode(label)
        return jnp.where(asked, jnp.square(error).mean(axis=-1), 0.0)

    def decode(self, state: Array) -> Array:
        """The class whose code is nearest, int32 (B, H, W). Codes that mean no class are never chosen."""
        return jnp.argmax(self._match(state), axis=-1).astype(jnp.int32)  # all codes have one length

    def _encode(self, y0: Array) -> Array:
        """The bits of labels; VOID has those of class 0."""
        return jnp.asarray(self.codes)[jnp.maximum(y0, 0)]

    def _match(self, bits: Array) -> Array:
        """The inner product of bits (..., b) with every code, (..., K)."""
        return jnp.matmul(bits, self.codes.T, precision="highest")
