"""The interface of layout processes: noise on labels, with a level for each pixel.

A process owns its noisy state, what a network's head puts out, and how the one is read given the other. Samplers,
guidance, losses and likelihoods know nothing else of it:

                 noisy state            head         clean prediction                  loss
    uniform      a class                K logits     leave-one-out log-probabilities   cross-entropy
    absorbing    a class or the mask    K logits     leave-one-out log-probabilities   cross-entropy where masked
    bits         b real numbers         b numbers    b bits in [-1, 1]                 squared error

Levels t are in [0, 1], (B, 1, 1) or (B, H, W), s before t in every signature and s <= t; s == t is the identity, bit
for bit, at every level. Labels are int32 (B, H, W), VOID (-1) in clean layouts only: noising draws it as pure noise
whatever its level says, and its loss and gradient are 0. No value and no gradient is NaN or infinite.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from jaxtyping import Array, ArrayLike

from gcdiff.schedules import Schedule


class LayoutProcess(Protocol):
    """A noising process over layouts; frozen, hashable, pure.

    A state is int32 (B, H, W), or float32 (B, H, W, b) where `state_channels` is b > 0. A clean prediction is what
    `clean` returns, (B, H, W, K) or (B, H, W, b).
    """

    @property
    def num_classes(self) -> int:
        """K, the number of classes of a clean layout."""
        ...

    @property
    def schedule(self) -> Schedule:
        """The noise schedule, which gives the log-SNR of a level."""
        ...

    @property
    def state_size(self) -> int:
        """The number of values a noisy label takes; 0 where they are not counted."""
        ...

    @property
    def embedding_size(self) -> int:
        """The number of rows of the embedding of a noisy label; 0 where the state has channels."""
        ...

    @property
    def head_size(self) -> int:
        """The number of channels of the network's layout head."""
        ...

    @property
    def state_channels(self) -> int:
        """The number of channels of a noisy pixel; 0 where the state is one integer."""
        ...

    @property
    def has_likelihood(self) -> bool:
        """Whether this is a `LayoutLikelihood`."""
        ...

    def log_snr(self, t: ArrayLike) -> Array:
        """The log-SNR at level t, log(keep / (1 - keep)), as the network reads it."""
        ...

    def keep(self, t: ArrayLike) -> Array:
        """The share of the label that is left at level t: 1 at level 0, 0 at level 1."""
        ...

    def prior(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw a state at level 1, for layouts of `shape`."""
        ...

    def corrupt(self, key: Array, y0: Array, t: ArrayLike) -> Array:
        """Draw the state at t given the labels; VOID comes out as pure noise."""
        ...

    def renoise(self, key: Array, ys: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw the state at t given the state at s."""
        ...

    def clean(self, output: Array, yt: Array, t: ArrayLike) -> Array:
        """The clean prediction from a head's output (B, H, W, head_size).

        Applied to a mixture of predictions, as guidance makes them, it brings that back to a prediction.
        """
        ...

    def posterior(self, clean: Array, yt: Array, s: ArrayLike, t: ArrayLike, /) -> Any:
        """The distribution of the state at s given the state at t and a clean prediction.

        Log-probabilities (B, H, W, state_size), or mean and variance of each channel.
        """
        ...

    def reverse(self, key: Array, clean: Array, yt: Array, s: ArrayLike, t: ArrayLike, /) -> Array:
        """Draw from `posterior`; `key` is one key, or (B,): then each example is a function of its own key."""
        ...

    def loo_to_posterior(self, clean: Array, yt: Array, t: ArrayLike, /) -> Array:
        """The log-probabilities log p(y_0 | everything), float32 (B, H, W, K), normalised."""
        ...

    def loss(self, output: Array, label: Array, yt: Array, t: ArrayLike, kappa: ArrayLike = 1.0) -> Array:
        """The training loss of a head's output, float32 (B, H, W), whose optimum is the law of the clean label.

        `kappa` in [0, 1], broadcastable to the labels, is the label's own precision: it is right with probability
        kappa and uniform otherwise, independently of other pixels. kappa = 0 is void.
        """
        ...

    def decode(self, state: Array) -> Array:
        """The labels of a state, int32 (B, H, W); decode(corrupt(y_0)) is y_0 at level 0."""
        ...


class LayoutLikelihood(LayoutProcess, Protocol):
    """A layout process with a bound on -log p(y_0)."""

    def kl(self, log_p0: Array, y0: Array, yt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """The divergence of the step from t to s, nats per pixel (B, H, W); the cross-entropy at s = 0."""
        ...

    def kl_rate(self, log_p0: Array, y0: Array, yt: Array, t: ArrayLike) -> Array:
        """The divergence of an infinitesimal step at t, nats per pixel and unit of keep (B, H, W)."""
        ...

    def prior_kl(self) -> Array:
        """The divergence of the state at level 1 from the prior, nats per pixel, a scalar."""
        ...

    def bound_weight(self, t: ArrayLike) -> Array:
        """The weight of `loss` in the bound per unit of the log-SNR, of t's shape, in [0, 1]."""
        ...


@dataclasses.dataclass(frozen=True)
class OnSchedule:
    """The fields of every layout process. Raises ValueError for fewer than two classes."""

    num_classes: int
    schedule: Schedule

    def __post_init__(self):
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}, expected at least 2")

    def log_snr(self, t: ArrayLike) -> Array:
        """The log-SNR at level t, log(keep / (1 - keep))."""
        return self.schedule.log_snr(t)

    def keep(self, t: ArrayLike) -> Array:
        """The probability that a label is kept up to level t; of bits, the share of their variance."""
        return self.schedule.keep(t)
