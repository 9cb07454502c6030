"""Averages of the parameters whose length is chosen after training: power-function profiles and their mixtures.

    (1)  ema_t = beta ema_(t-1) + (1 - beta) theta_t,     beta = (1 - 1/t)^(gamma + 1),  t = 1, 2, ...
    (2)  ema_t = sum_i p_i theta_i,     p_i = (i^(gamma+1) - (i-1)^(gamma+1)) / t^(gamma+1)
                                            = the integral over (i-1, i] of  (gamma + 1) tau^gamma / t^(gamma+1)
    (3)  sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))),   the profile's standard deviation over t
    (4)  <p_(a,gamma), p_(b,delta)> = (gamma + 1)(delta + 1) (a/b)^e / ((gamma + delta + 1) max(a, b)),
         e = delta for a < b, else -gamma

The length of such an average stays the same share of the training, however long it goes on, and beta_1 = 0 forgets the
initial parameters. Any other profile is nearly a weighted sum of a few stored ones, at several t: the weights are those
of the least squares of the profiles, by (4), here among weights of sum 1, so that what does not change over the
training comes back as it is. (Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models",
section 3 and appendix C, with its algorithms 2 and 3; (3) is its equation 123.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

MOST_SIGMA_REL = 12**-0.5
"""The sigma_rel of gamma = 0, where every step counts the same; profiles above it weigh early steps more."""


def gamma_of(sigma_rel: float) -> float:
    """The exponent of the profile of a relative standard deviation, by (3): the largest root of its cubic.

    Raises ValueError unless 0 < sigma_rel < 12^-.5.
    """
    if not 0 < sigma_rel < MOST_SIGMA_REL:
        raise ValueError(f"sigma_rel is {sigma_rel}, expected more than 0 and less than {MOST_SIGMA_REL:.4f}")
    t = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def sigma_rel_of(gamma: float) -> float:
    """The relative standard deviation (3) of the profile of an exponent."""
    return float(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


def take_in(sigma_rels: Sequence[float], step: Array, averages: tuple, params: Any) -> tuple:
    """The averages (1) after the update `step` () = t - 1: a tree like `params` for each of `sigma_rels`."""
    t = step.astype(jnp.float32) + 1.0

    def one(sigma_rel: float, average: Any) -> Any:
        fresh = -jnp.expm1((gamma_of(sigma_rel) + 1.0) * jnp.log1p(-1.0 / t))  # 1 - beta, exact where it is small
        return jax.tree.map(lambda e, p: e + fresh.astype(e.dtype) * (p - e), average, params)

    return tuple(one(sigma_rel, average) for sigma_rel, average in zip(sigma_rels, averages, strict=True))


def inner_products(t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray) -> np.ndarray:
    """The inner products (4) of profiles, float64, for arrays that broadcast."""
    exponent = np.where(t_a < t_b, gamma_b, -gamma_a)
    top = (gamma_a + 1) * (gamma_b + 1) * (t_a / t_b) ** exponent
    return top / ((gamma_a + gamma_b + 1) * np.maximum(t_a, t_b))


def mixture(steps: np.ndarray, sigma_rels: np.ndarray, step: float, sigma_rel: float) -> tuple[np.ndarray, float]:
    """The best approximation of one average by others: (their weights float64 (n,), of sum 1; the misfit).

    The others are profiles of `sigma_rels` (n,) at `steps` (n,), the wanted one is of `sigma_rel` at `step`. The misfit
    is the norm of the difference of the profiles over that of the wanted one: 0 is exact.
    """
    t, gamma = np.asarray(steps, np.float64), np.array([gamma_of(s) for s in sigma_rels])
    wanted = np.float64(step), np.float64(gamma_of(sigma_rel))
    gram = inner_products(t[:, None], gamma[:, None], t[None], gamma[None])
    target, square = inner_products(t, gamma, *wanted), inner_products(*wanted, *wanted)
    # Profiles are brought to norm 1, and the sum of the weights is held by a multiplier, the last unknown.
    scale = 1.0 / np.sqrt(np.diag(gram))
    border = scale / scale.max()
    system = np.block([[scale[:, None] * gram * scale, border[:, None]], [border, np.zeros(1)]])
    solution = np.linalg.lstsq(system, np.append(scale * target, 1.0 / scale.max()), rcond=None)[0]
    weights = scale * solution[:-1]
    left = square - 2.0 * weights @ target + weights @ gram @ weights
    return weights, float(np.sqrt(max(left, 0.0) / square))
