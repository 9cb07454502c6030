"""What a super-resolution stage is given: a low-resolution pair with noise on it, and the level of that noise.

The base's samples are not the data, and a stage that trusted them would copy their faults. Noise on what it is given
hides the difference (Ho et al. 2022, cascaded diffusion models, section 4.2): in training every example has a level of
its own, uniform from 0 to `highest`; in sampling all have the level `level`. Of shares of classes a label is drawn for
every pixel, and that is noised.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.codecs import to_uint8
from gcdiff.grids import LAYOUT_OPERATORS, area
from gcdiff.parallel import BATCH
from gcdiff.pictures import colorize, display, enlarge
from gcdiff.processes.joint import JointProcess
from gcdiff.types import ImageSpec, LabelSpec, LowRes, Pair

NOISE = 2**31
"""Folded into an example's key for this noise: no step of a path has this number."""


@dataclasses.dataclass(frozen=True)
class LowResInput:
    """How a low-resolution pair is made and noised; the high resolution is `factor` times as high and wide.

    `layout` names the operator on layouts. With `enlarged`, every pixel is repeated before the noise is drawn, so that
    each pixel of the high resolution has noise of its own, as in the released networks of Park et al. (2023).
    """

    factor: int
    layout: str = "majority"
    highest: float = 0.999
    level: float = 0.2
    enlarged: bool = False

    def reduce(self, clean: Pair) -> Pair:
        """The low-resolution pair, image float32 (B, h, w, C) and layout int32 (B, h, w), of a pair."""
        return Pair(area(clean.image, self.factor), LAYOUT_OPERATORS[self.layout](clean.layout, self.factor))

    def draw(self, key: Array, process: JointProcess, batch: Any, level: float | None = None) -> LowRes:
        """What a batch (with `image`, `layout` and `no_image`) is trained on: each example at a level of its own, or
        all at `level`. Where the image is missing its place is taken by noise, as that of void pixels is."""
        k_level, k_noise = jax.random.split(key)
        shape = batch.layout.shape[:1]
        levels = self.highest * jax.random.uniform(k_level, shape) if level is None else jnp.full(shape, level)
        low = process.augment(k_noise, self._prepared(self.reduce(Pair(batch.image, batch.layout)), levels))
        if batch.has_image is None:
            return low
        noise = jax.random.normal(jax.random.fold_in(k_level, 1), low.image.shape)
        return low._replace(image=jnp.where(jnp.expand_dims(batch.no_image, -1), noise, low.image))

    def told(self, process: JointProcess, keys: Array, pair: Pair, mesh: Mesh | None = None) -> LowRes:
        """What examples with `keys` (B,) are told in sampling of a low-resolution pair, whose layout may be shares
        float32 (B, h, w, K); each depends on its own key alone. With a `mesh` they are those of all its devices."""
        lowres = self._prepared(pair, jnp.full(keys.shape, self.level, jnp.float32))
        return _each(process, mesh, *parallel.place((keys, lowres), mesh, BATCH))

    def pictures(self, clean: Pair, image: ImageSpec, labels: LabelSpec) -> dict[str, np.ndarray]:
        """The low-resolution pairs of clean pairs as a person sees them, at the high resolution, by their titles."""
        low = self.reduce(clean)
        shown = display(to_uint8(low.image), image), colorize(np.asarray(low.layout), labels)
        return dict(zip(("given: image", "given: layout"), (enlarge(s, self.factor) for s in shown), strict=True))

    def _prepared(self, pair: Pair, levels: Array) -> LowRes:
        if not self.enlarged:
            return LowRes(pair.image, pair.layout, levels)

        def repeat(a):
            return jnp.repeat(jnp.repeat(a, self.factor, axis=1), self.factor, axis=2)

        return LowRes(repeat(pair.image), repeat(pair.layout), levels)


@jax.jit(static_argnums=(0, 1))
def _each(process: JointProcess, mesh: Mesh | None, keys: Array, lowres: LowRes) -> LowRes:
    def augment(keys, lowres) -> LowRes:
        return jax.vmap(process.augment)(jax.vmap(lambda k: jax.random.fold_in(k, np.uint32(NOISE)))(keys), lowres)

    return parallel.on_each(mesh, augment, (BATCH, BATCH), BATCH)(keys, lowres)
