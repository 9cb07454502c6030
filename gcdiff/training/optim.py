"""The optimiser: AdamW or Muon with warm-up, decay and clipping, and the moving average of the parameters.

    g    <- g * min(1, clip / |g|),     |g| over each clip group
    u    =  Adam(g; b1, b2) + weight_decay * p                    (decay on matrices and kernels alone)
    u    =  muon_rate .2 sqrt(max(m, n)) O + weight_decay * p     (kind "muon", for the hidden matrices, m x n)
    p    <- p - rate lr(step, progress) * u
    ema  <- d ema + (1 - d) p,     d = min(ema_decay, (1 + step) / (10 + step))

The rate, 1 by default, and the clip group are those of the parameter's group (`gcdiff.training.groups`); parameters of
rate 0 are frozen, and nothing of the above is computed or kept for them.

`step` counts finished updates, 0 at the first. `progress` in [0, 1] is the share of training that is done; it is
given by the loop, so that a run limited by time decays to its end as one limited by steps does.

O is the momentum of the gradient with its singular values brought near 1 (`orthogonal`). The factor gives an entry the
size that Adam's has (Liu et al. 2025); a kernel of a convolution counts as the matrix from its inputs to its features.
What is no hidden matrix goes by Adam: embeddings, heads, stems, norms and biases.

AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
Muon: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gcdiff.training import manifest
from gcdiff.training.averages import MOST_SIGMA_REL
from gcdiff.training.groups import Group, clip_by_group, groups_of, read_groups

SCHEDULES = ("cosine", "linear", "constant", "stable")
OPTIMISERS = ("adamw", "muon")
BY_ADAM = ("network/head_*", "network/stem*", "*/embedding", "network/labels/*", "*/depthwise/*")
"""The names of matrices that Adam moves though the optimiser is Muon: the first and the last layers, and what mixes no
channels."""

MOMENTUM = 0.95
"""The decay of Muon's momentum of the gradient, taken one step ahead (Nesterov's)."""

POLAR = ((8.0934, -23.6205, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""The coefficients (a, b, c) of the steps of `orthogonal`."""


@dataclasses.dataclass(frozen=True)
class Optim:
    """Settings of the optimiser: adamw or muon. `warmup` is in steps, `final` is a share of `learning_rate`, and
    `muon_rate` a factor on it for the matrices that Muon moves. With the schedule stable the rate stays until the last
    share `decay` of training, and falls linearly from there (Hägele et al. 2024): the stable part can be trained on.

    `ema_profiles` are the relative standard deviations of averages that are kept beside the usual one, so that one of
    any length can be made after training (`gcdiff.training.averages`); (0.05, 0.1) serve for 0.03 to 0.2.

    `groups` are (pattern, rate, clip group) in order (`gcdiff.training.groups`): the first whose pattern matches a
    parameter's name says by what factor it learns faster, or that it is frozen, and with which it is clipped. As in

        Optim(groups=(("text/*", 0.0, "all"), ("network/head_*", 10.0, "heads")))
    """

    kind: str = "adamw"
    learning_rate: float = 3e-4
    muon_rate: float = 1.0
    warmup: int = 100
    schedule: str = "cosine"
    final: float = 0.05
    decay: float = 0.3
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.99
    clip: float = 1.0
    ema_decay: float = 0.999
    ema_profiles: tuple[float, ...] = ()
    groups: Any = (tuple(Group()),)

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"optim.schedule is {self.schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if self.kind not in OPTIMISERS:
            raise ValueError(f"optim.kind is {self.kind!r}, expected one of {', '.join(OPTIMISERS)}")
        for name in ("learning_rate", "muon_rate", "warmup", "final", "decay", "weight_decay", "clip"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"optim.{name} is {getattr(self, name)}, expected a finite number")
        for name in ("b1", "b2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optim.{name} is {getattr(self, name)}, expected 0 <= {name} < 1")
        for name in ("learning_rate", "muon_rate", "decay", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optim.{name} is {getattr(self, name)}, expected more than 0")
        profiles = self.ema_profiles
        if len(set(profiles)) < len(profiles) or not all(0 < s < MOST_SIGMA_REL for s in profiles):
            raise ValueError(f"optim.ema_profiles is {profiles}, expected different numbers within 0 and 0.2886")
        object.__setattr__(self, "groups", read_groups(self.groups))


def learning_rate(optim: Optim, step: Array, progress: Array) -> Array:
    """The learning rate f32 () at int `step` () and f32 `progress` (): linear warm-up times the schedule."""
    warm = jnp.minimum(1.0, (step.astype(jnp.float32) + 1.0) / max(optim.warmup, 1))
    progress = jnp.clip(progress, 0.0, 1.0)
    left = {
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
        "linear": 1.0 - progress,
        "constant": jnp.ones_like(progress),
        "stable": jnp.minimum(1.0, (1.0 - progress) / optim.decay),
    }[optim.schedule]
    return optim.learning_rate * warm * (optim.final + (1.0 - optim.final) * left)


def learning_rates(optim: Optim, step: Array, progress: Array) -> dict[float, Array]:
    """The learning rates f32 () by the rate of a group, of all rates above 0 and of 1."""
    factors = dict.fromkeys((1.0, *(group.rate for group in optim.groups if group.rate > 0)))
    optims = {f: dataclasses.replace(optim, learning_rate=optim.learning_rate * f) for f in factors}
    return {factor: learning_rate(scaled, step, progress) for factor, scaled in optims.items()}


def descend(optim: Optim, rates: Mapping[float, Array], params: Any, updates: Any) -> Any:
    """The parameters after a step along `updates`, the directions u above, at the learning rates of their groups."""
    factors = jax.tree.unflatten(jax.tree.structure(params), [g.rate for g in groups_of(optim.groups, params)])
    return jax.tree.map(lambda p, u, factor: p - rates[factor].astype(p.dtype) * u, params, updates, factors)


def transformation(optim: Optim) -> optax.GradientTransformation:
    """The transformation from gradients to the direction u above, not yet scaled by the learning rate."""
    return optax.chain(
        clip_by_group(optim.clip, optim.groups),
        _moments(optim),
        optax.add_decayed_weights(optim.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
    )


def _moments(optim: Optim) -> optax.GradientTransformation:
    """The part with moments: Adam's, or Muon's for hidden matrices and Adam's for the rest."""
    adam = optax.scale_by_adam(optim.b1, optim.b2)
    if optim.kind == "adamw":
        return adam
    muon = optax.chain(
        optax.trace(MOMENTUM, nesterov=True),
        optax.stateless(lambda updates, _: jax.tree.map(lambda u: optim.muon_rate * _orthogonalised(u), updates)),
    )
    return optax.partition({"muon": muon, "adam": adam}, _labels)


def _labels(params: Any) -> Any:
    """Which optimiser moves each array of a tree."""
    named = manifest.named(params).items()
    labels = ["muon" if p.ndim in (2, 4) and not any(fnmatchcase(n, b) for b in BY_ADAM) else "adam" for n, p in named]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def _orthogonalised(u: Array) -> Array:
    """The factor .2 sqrt(max(m, n)) times O of a kernel (..., inputs, features), all axes but the last as one."""
    matrix = u.reshape(-1, u.shape[-1])
    return (0.2 * math.sqrt(max(matrix.shape)) * orthogonal(matrix)).reshape(u.shape)


def orthogonal(matrix: Array) -> Array:
    """The matrix (m, n) with its singular values brought near 1, its singular vectors kept.

    Three steps X <- a X + b (X X') X + c (X X')^2 X from the matrix over its Frobenius norm. Each polynomial is the
    best on what the one before leaves of [.01, 1] (Amsel et al. 2025, Polar Express): singular values from .01 of the
    norm on come within .27 of 1. Five steps with one polynomial (Jordan et al. 2024) take two thirds more time.

    >>> from gcdiff.training.optim import orthogonal
    >>> values = np.linalg.svd(orthogonal(np.float32([[3.0, 0.0], [4.0, 1.0]])), compute_uv=False)
    >>> bool(abs(values - 1).max() < 0.3)
    True
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = jnp.asarray(matrix if wide else matrix.T)
    x = x / (jnp.linalg.norm(x) + 1e-8)
    for a, b, c in POLAR:
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if wide else x.T


def ema_decay(optim: Optim, step: Array) -> Array:
    """The decay f32 () of the moving average: short at first, so that the average forgets the initial parameters."""
    step = step.astype(jnp.float32)
    return jnp.minimum(optim.ema_decay, (1.0 + step) / (10.0 + step))


def average(optim: Optim, step: Array, ema: Any, params: Any) -> Any:
    """The moving average after `params` has been taken in."""
    decay = ema_decay(optim, step)
    return jax.tree.map(lambda e, p: e + (1.0 - decay).astype(e.dtype) * (p - e), ema, params)
