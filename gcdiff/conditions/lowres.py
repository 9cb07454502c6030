"""The conditioning of a super-resolution stage on a low-resolution pair with noise on it.

The base's samples are not the data, and a stage that trusted them would copy their faults. Noise on the low-resolution
pair hides the difference (Ho et al. 2022, cascaded diffusion models, section 4.2): in training every example has a
level of its own, uniform from 0 to `highest`; in sampling all have the level `level`. Where a pixel has shares of
classes instead of a label, a label is drawn from them before the noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff.codecs import to_state, to_uint8
from gcdiff.conditions.conditioning import Conditioning, TrainBatch
from gcdiff.grids import LAYOUT_OPERATORS, area
from gcdiff.pictures import colorize, display, enlarge
from gcdiff.processes import categorical, gaussian
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, ImageSpec, LabelSpec, LowRes, Pair

NOISE = 2**31
"""Folded into an example's key for this noise: no step of a path has this number."""


@dataclasses.dataclass(frozen=True)
class LowResInput(Conditioning):
    """The low-resolution pair: how it is made and noised; the high resolution is `factor` times as high and wide.

    `schedule` is that of the noise on both sides, `num_classes` the number of labels, `layout` the operator on layouts
    by its name in `gcdiff.grids.LAYOUT_OPERATORS`. With `enlarged` every pixel is repeated before the noise is drawn,
    so that each pixel of the high resolution has noise of its own, as in the released networks of Park et al. (2023).
    """

    factor: int
    schedule: Schedule
    num_classes: int
    layout: str = "majority"
    highest: float = 0.999
    level: float = dataclasses.field(default=0.2, compare=False)  # travels with the inputs: another compiles nothing
    enlarged: bool = False

    def reduce(self, clean: Pair) -> Pair:
        """Reduce a pair to low resolution: image float32 (B, h, w, C) and layout int32 (B, h, w)."""
        return Pair(area(clean.image, self.factor), LAYOUT_OPERATORS[self.layout](clean.layout, self.factor))

    def augment(self, key: Array, pair: Pair, level: Array) -> LowRes:
        """Noise low-resolution pairs to levels (B,), or one pair, without the batch's axis, to a level ().

        The layout is int (B, h, w) or shares of classes float32 (B, h, w, K), of which a label is drawn for every pixel
        first; it comes out int32 (B, h, w). VOID comes out uniform whatever the level.
        """
        k_image, k_draw, k_layout = jax.random.split(key, 3)
        maps, layout = jnp.asarray(level)[..., None, None], pair.layout
        image = gaussian.corrupt(k_image, pair.image, self.schedule.log_snr(maps)[..., None])
        if jnp.issubdtype(layout.dtype, jnp.floating):
            layout = jax.random.categorical(k_draw, jnp.log(layout)).astype(jnp.int32)
        layout = categorical.corrupt(k_layout, layout, self.schedule.keep(maps), self.num_classes)
        return LowRes(image, layout, self.schedule.log_snr(jnp.asarray(level)))

    def read(self, value: Any, num: int) -> tuple[Pair, np.ndarray]:
        if value is None:
            wanted = "expected a base asked with upsample= (or --upsample), or Model.upsample with low-resolution pairs"
            raise ValueError(f"this model is a super-resolution stage and cannot draw alone: {wanted}")
        return Pair(to_state(value.image), value.layout), self._levels(num)

    def of_examples(self, batch: TrainBatch) -> tuple[Pair, np.ndarray]:
        return self.reduce(Pair(batch.image, batch.layout)), self._levels(len(batch.layout))

    def draw(self, key: Array, batch: TrainBatch, known: Pair) -> LowRes:
        """Noise each example to a random level of its own. A missing image is replaced by noise, as void pixels are."""
        k_level, k_noise = jax.random.split(key)
        levels = self.highest * jax.random.uniform(k_level, batch.layout.shape[:1])
        low = self.augment(k_noise, self._enlarged(self.reduce(Pair(batch.image, batch.layout))), levels)
        if batch.has_image is None:
            return low
        noise = jax.random.normal(jax.random.fold_in(k_level, 1), low.image.shape)
        return low._replace(image=jnp.where(jnp.expand_dims(batch.no_image, -1), noise, low.image))

    def noise(self, keys: Array, inputs: tuple[Pair, Array]) -> LowRes:
        """Noise low-resolution pairs to their levels (B,); each example depends on its own key alone."""
        pair, levels = inputs
        keys = jax.vmap(lambda k: jax.random.fold_in(k, np.uint32(NOISE)))(keys)
        return jax.vmap(self.augment)(keys, self._enlarged(pair), levels)

    def write(self, params: Any, draws: LowRes, condition: Condition) -> Condition:
        return dataclasses.replace(condition, lowres=draws)

    def pictures(self, batch: TrainBatch, image: ImageSpec, labels: LabelSpec) -> Mapping[str, np.ndarray]:
        """The low-resolution pairs, enlarged to the high resolution."""
        low = self.reduce(Pair(batch.image, batch.layout))
        shown = display(to_uint8(low.image), image), colorize(np.asarray(low.layout), labels)
        return dict(zip(("given: image", "given: layout"), (enlarge(s, self.factor) for s in shown), strict=True))

    def _levels(self, num: int) -> np.ndarray:
        return np.full(num, self.level, np.float32)

    def _enlarged(self, pair: Pair) -> Pair:
        if not self.enlarged:
            return pair
        return Pair(*(jnp.repeat(jnp.repeat(side, self.factor, axis=1), self.factor, axis=2) for side in pair))
