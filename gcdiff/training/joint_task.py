"""The task of training a joint model: noise levels, noisy pairs, the two losses, held-out numbers and pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff.codecs import Codec
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions, init_params
from gcdiff.levels import LevelShares, draw
from gcdiff.losses import diffusion
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, Settings
from gcdiff.training import balance, look
from gcdiff.types import VOID, ImageSpec, LabelSpec, Pair, pair_map


class Drawn(NamedTuple):
    """A batch with all random numbers of a training step, every array batch first.

    levels, known: the noise levels and the masks of known pixels; noisy: the pair at these levels; conditions: the
    draws of the conditionings by name; features: keys (B,) of which the first says which features of the network are
    dropped, or None where none are.
    """

    batch: TrainBatch
    levels: Pair
    known: Pair
    noisy: Pair
    conditions: Mapping[str, Any]
    features: Any = None


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the two losses, and how they depend on the level.

    With `balance` each loss is divided by its expected value at that level, which is learned
    (`gcdiff.training.balance`). `rarity` in [0, 1] makes the image's loss weigh pixels with rare labels more
    (`gcdiff.losses.diffusion.rarity`): things that cover few pixels are learned in fewer examples.
    """

    image: float = 1.0
    layout: float = 1.0
    image_weight: str = "none"
    layout_weight: str = "root"
    balance: bool = False
    rarity: float = 0.0

    def __post_init__(self):
        if self.image_weight not in (names := ("none", *diffusion.EPS_WEIGHTS)):
            raise ValueError(f"loss.image_weight is {self.image_weight!r}, expected one of {names}")
        if self.layout_weight not in diffusion.LAYOUT_WEIGHTS:
            raise ValueError(
                f"loss.layout_weight is {self.layout_weight!r}, expected one of {diffusion.LAYOUT_WEIGHTS}"
            )
        if not 0 <= self.rarity <= 1:
            raise ValueError(f"loss.rarity is {self.rarity}, expected 0 (none) to 1 (all classes weigh alike)")


@dataclasses.dataclass(frozen=True, eq=False)
class JointTask:
    """A joint model as the training loop sees it (`gcdiff.training.task.Task`).

    `heldout` is a fixed batch for numbers and pictures, `seen` one of training examples for the gap between the two;
    `initial` optionally replaces the fresh parameters of network and conditionings by given ones; `photometric` varies
    the colours of images that are wholly known. Numbers and pictures are computed on the devices of the sampler's mesh
    and do not depend on their number (`gcdiff.training.look`).
    """

    process: JointProcess
    network: Any
    conditions: Conditions
    loss: LossConfig
    levels: LevelShares
    photometric: float
    codec: Codec
    image: ImageSpec
    labels: LabelSpec
    heldout: TrainBatch
    sampler: Sampler
    settings: Settings
    path: np.ndarray
    label_precision: float = 1.0
    chunk: int = 16
    initial: Callable[[Any], Any] | None = None
    seen: TrainBatch | None = None

    @property
    def segments(self) -> bool:
        """Whether the model is trained to segment an image in one call."""
        return self.levels.layout_given_image > 0

    @property
    def precision(self) -> str:
        """The name of the type that the network computes in."""
        return jnp.dtype(self.network.dtype).name

    @property
    def mesh(self) -> Mesh | None:
        """The devices that numbers and pictures are computed on; None for a single one."""
        return self.sampler.mesh

    def init(self, key: Array) -> Any:
        """Initial parameters: {'network': ..., 'text': ..., 'balance': ...}, the last for training alone."""
        one = jax.tree.map(lambda a: a[:1], self.heldout)
        params = init_params(self.process, self.network, self.conditions, key, one)
        params = self.initial(params) if self.initial is not None else params
        return {**params, **training_params(self.loss)}

    def draw(self, batch: TrainBatch, key: Array) -> Drawn:
        """Draw the random numbers of a step: levels, noise, conditionings. Nothing here depends on the parameters."""
        k_levels, k_noise, k_conditions, k_vary, k_features = jax.random.split(key, 5)
        levels, known = draw(k_levels, self.levels, batch.layout, batch.image.shape[1:3], batch.has_image)
        if self.photometric:
            # The colours of a given image carry no loss: they may vary without the model learning to draw such colours.
            whole = known.image.all(axis=(1, 2))[:, None, None, None]
            batch = batch._replace(image=jnp.where(whole, self._vary(k_vary, batch.image), batch.image))
        conditions = self.conditions.draw(k_conditions, batch, known)
        features = jax.random.split(k_features, len(batch.layout))
        return Drawn(batch, levels, known, self.noised(batch, levels, k_noise), conditions, features)

    def diagonal(self, batch: TrainBatch, t: Array, key: Array) -> Drawn:
        """Draw a batch with both modalities at levels t (B,), void pixels and missing images at 1, nothing known."""
        t = t[:, None, None]
        levels = Pair(
            jnp.where(batch.no_image, 1.0, jnp.broadcast_to(t, batch.image.shape[:3])),
            jnp.where(batch.layout == VOID, 1.0, jnp.broadcast_to(t, batch.layout.shape)),
        )
        known = Pair(jnp.zeros(batch.image.shape[:3], bool), jnp.zeros(batch.layout.shape, bool))
        conditions = self.conditions.fixed(jax.random.fold_in(key, 3), batch)
        return Drawn(batch, levels, known, self.noised(batch, levels, key), conditions)

    def loss_of(self, params: Any, drawn: Drawn) -> tuple[Array, dict[str, Array]]:
        """The mean loss of drawn examples, and its parts by name."""
        batch, levels, known = drawn.batch, drawn.levels, drawn.known
        image, layout = self.losses(params, drawn)
        parts = {"image": image.mean(), "layout": layout.mean()}
        if self.loss.balance:
            floor = self.process.layout.schedule.level(self.label_precision)
            counted = Pair(~(known.image | batch.no_image), (levels.layout > floor) & (batch.layout != VOID))
            weights = Pair(**params["balance"])
            image, layout = pair_map(balance.balanced, Pair(image, layout), weights, levels, counted)
        loss = self.loss.image * image.mean() + self.loss.layout * layout.mean()
        return loss, {"loss": loss, **parts}

    def step(self, params: Any, batch: TrainBatch, key: Array) -> tuple[Array, dict[str, Array]]:
        """Draw the random numbers of a batch, and return its mean loss and the parts by name."""
        return self.loss_of(params, self.draw(batch, key))

    def _vary(self, key: Array, image: Array) -> Array:
        """Vary colours at random, by `photometric`: the saturation, and gain and offset per channel and of all."""
        k_gain, k_offset, k_saturation = jax.random.split(key, 3)
        batch, channels = image.shape[0], image.shape[-1]

        def shift(k):
            k_each, k_common = jax.random.split(k)
            each = jax.random.normal(k_each, (batch, 1, 1, channels))
            return self.photometric * (0.5 * each + jax.random.normal(k_common, (batch, 1, 1, 1)))

        grey = image.mean(axis=-1, keepdims=True)
        saturation = jnp.exp(2 * self.photometric * jax.random.normal(k_saturation, (batch, 1, 1, 1)))
        return jnp.clip((grey + saturation * (image - grey)) * jnp.exp(shift(k_gain)) + shift(k_offset), -1.0, 1.0)

    def noised(self, batch: TrainBatch, levels: Pair, key: Array) -> Pair:
        """Draw the noisy pair of a batch at given levels."""
        clean, levels = Pair(batch.image, batch.layout), self.process.clip_levels(levels)
        noisy = self.process.corrupt(key, clean, levels)
        if self.label_precision < 1:
            # A label of this precision is itself a noisy label, of the level where keep is its precision: it is noised
            # from there, and stands nowhere below.
            levels = self._above_labels(levels)
            again = self.process.layout.renoise(
                jax.random.fold_in(key, 2), clean.layout, self._label_floor(), levels.layout
            )
            noisy = noisy._replace(layout=again)
        return noisy

    def _label_floor(self) -> Array:
        return jnp.float32(self.process.layout.schedule.level(self.label_precision))

    def _above_labels(self, levels: Pair) -> Pair:
        """Levels with those of the layout raised to the level of its own, noisy labels."""
        return levels._replace(layout=jnp.maximum(levels.layout, self._label_floor()))

    def losses(self, params: Any, drawn: Drawn) -> Pair:
        """The losses (B,) of drawn examples, for image and layout; 0 for a missing image."""
        batch, known, noisy = drawn.batch, drawn.known, drawn.noisy
        clean, levels, kappa = Pair(batch.image, batch.layout), self.process.clip_levels(drawn.levels), 1.0
        if self.label_precision < 1:
            levels, kappa = self._above_labels(levels), self.process.layout.keep(self._label_floor())
        apply = self.network.apply
        if drawn.features is not None:
            apply = functools.partial(apply, rngs={"dropout": drawn.features[0]})
        denoise = self.process.denoiser(apply, params["network"])
        output = denoise(noisy, levels, self.conditions.condition(params, drawn.conditions))
        image = diffusion.image_loss(
            self.process.image, output.image, clean.image, noisy.image, levels.image, known.image | batch.no_image,
            self.loss.image_weight, self.codec.weights, self._rarity(noisy),
        )  # fmt: skip
        layout = diffusion.layout_loss(
            self.process.layout, output.layout, clean.layout, noisy.layout, levels.layout, known.layout,
            self.loss.layout_weight, kappa,
        )  # fmt: skip
        return Pair(image, layout)

    def _rarity(self, noisy: Pair) -> Array | None:
        """The weights of pixels (B, h, w) by their noisy labels; None for no weights."""
        if not self.loss.rarity:
            return None
        factor = noisy.layout.shape[1] // noisy.image.shape[1]
        classes = self.process.layout.embedding_size or self.labels.num_classes
        return diffusion.rarity(noisy.layout[:, ::factor, ::factor], classes, self.loss.rarity)

    def evaluate(self, params: Any, step: int) -> dict[str, float | np.ndarray]:
        """Numbers on the held-out batch (`gcdiff.training.look.numbers`)."""
        return look.numbers(self, params)

    def sample(self, params: Any, step: int) -> dict[str, np.ndarray]:
        """Pictures of the held-out batch (`gcdiff.training.look.pictures`)."""
        return look.pictures(self, params)


def training_params(loss: LossConfig) -> dict[str, Any]:
    """Initial parameters that only training needs; they are trained and saved beside the model's own."""
    return {"balance": balance.init()} if loss.balance else {}
