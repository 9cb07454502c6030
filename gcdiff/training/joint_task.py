"""The task of training a joint model: levels drawn in layers, both modalities noised, two losses, one network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.codecs import to_uint8
from gcdiff.conditions.conditions import TrainBatch, condition, encode, init_params
from gcdiff.conditions.lowres import LowResInput
from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.levels import LevelShares, draw
from gcdiff.losses import diffusion
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.pictures import colorize, display, overlay, sheet, void_left_out
from gcdiff.processes.joint import JointProcess
from gcdiff.rng import stream
from gcdiff.samplers.sample import PLAIN, Sampler, Settings, example_keys, given_values, run
from gcdiff.training import balance
from gcdiff.training.task import split_numbers
from gcdiff.types import VOID, Condition, ImageSpec, LabelSpec, LowRes, Pair, pair_map

RANGES = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


class Drawn(NamedTuple):
    """A batch and what a step has drawn for it, every array batch first: levels and known-masks, the noisy pair, whose
    text is dropped (B,) (None: nobody's), what a stage is given, and keys (B,) of which the first says which features
    of the network are dropped (None: none are)."""

    batch: TrainBatch
    levels: Pair
    known: Pair
    noisy: Pair
    drop: Any = None
    lowres: LowRes | None = None
    features: Any = None


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the two losses and their dependence on the level. `balance` divides each by what is expected of it at
    its level, which is learned (`gcdiff.training.balance`)."""

    image: float = 1.0
    layout: float = 1.0
    image_weight: str = "none"
    layout_weight: str = "root"
    balance: bool = False

    def __post_init__(self):
        if self.image_weight not in diffusion.IMAGE_WEIGHTS:
            raise ValueError(f"loss.image_weight is {self.image_weight!r}, expected one of {diffusion.IMAGE_WEIGHTS}")
        if self.layout_weight not in diffusion.LAYOUT_WEIGHTS:
            raise ValueError(
                f"loss.layout_weight is {self.layout_weight!r}, expected one of {diffusion.LAYOUT_WEIGHTS}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class JointTask:
    """What the training loop needs to know of a joint model.

    `heldout` is a fixed batch for the numbers and pictures, `seen` one of training examples for the gap between them;
    `initial` optionally replaces the freshly drawn parameters of network and text by given ones. With `lowres` the
    model is a super-resolution stage: it is given the low-resolution pair of the data, in training and in numbers.
    Numbers and pictures are computed on the devices of the sampler's mesh, and do not depend on how many they are.
    """

    process: JointProcess
    network: Any
    text_encoder: Any | None
    loss: LossConfig
    levels: LevelShares
    drop_text: float
    drop_text_given_image: float
    photometric: float
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
    lowres: LowResInput | None = None

    @property
    def segments(self) -> bool:
        """Whether one-call segmentation is a question this model is trained on."""
        return self.levels.layout_given_image > 0

    @property
    def precision(self) -> str:
        """What the network computes in."""
        return jnp.dtype(self.network.dtype).name

    @property
    def mesh(self) -> Mesh | None:
        """The devices that numbers and pictures are computed on; None for a single one."""
        return self.sampler.mesh

    @property
    def devices(self) -> int:
        """How many they are."""
        return 1 if self.mesh is None else self.mesh.size

    def init(self, key: Array) -> Any:
        """Fresh parameters: {'network': ..., 'text': ..., 'balance': ...}, the last for training alone."""
        params = init_params(
            self.process, self.network, self.text_encoder, key, jax.tree.map(lambda a: a[:1], self.heldout)
        )
        params = self.initial(params) if self.initial is not None else params
        return {**params, **training_params(self.loss)}

    def draw(self, batch: TrainBatch, key: Array) -> Drawn:
        """What a step draws, before anything is computed from the parameters: levels, noise, whose text is dropped."""
        k_levels, k_noise, k_drop, k_vary, k_features = jax.random.split(key, 5)
        levels, known = draw(k_levels, self.levels, batch.layout, batch.image.shape[1:3], batch.has_image)
        # Questions about a whole given image are mostly asked without a caption; and its colours, which carry no loss
        # there, may vary without the model learning to draw such colours.
        given = known.image.all(axis=(1, 2))
        drop = jax.random.bernoulli(k_drop, jnp.where(given, self.drop_text_given_image, self.drop_text))
        if self.photometric:
            batch = batch._replace(
                image=jnp.where(given[:, None, None, None], self._vary(k_vary, batch.image), batch.image)
            )
        lowres = None
        if self.lowres is not None:
            lowres = self.lowres.draw(jax.random.fold_in(key, 5), self.process, batch)
        features = jax.random.split(k_features, len(batch.layout))
        return Drawn(batch, levels, known, self.noised(batch, levels, k_noise), drop, lowres, features)

    def loss_of(self, params: Any, drawn: Drawn) -> tuple[Array, dict[str, Array]]:
        """The mean loss of what was drawn and its parts."""
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
        """The mean loss of a batch and its parts."""
        return self.loss_of(params, self.draw(batch, key))

    def _vary(self, key: Array, image: Array) -> Array:
        """Images with another saturation, and another gain and offset for each channel and in common, of strength
        `photometric`."""
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
        """The noisy pair of a batch at given levels."""
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
        """Levels with none of the layout below that of its own labels."""
        return levels._replace(layout=jnp.maximum(levels.layout, self._label_floor()))

    def losses(self, params: Any, drawn: Drawn) -> Pair:
        """Per-example losses (B,) of what was drawn; a missing image has none."""
        batch, known, noisy = drawn.batch, drawn.known, drawn.noisy
        clean, levels, kappa = Pair(batch.image, batch.layout), self.process.clip_levels(drawn.levels), 1.0
        if self.label_precision < 1:
            levels, kappa = self._above_labels(levels), self.process.layout.keep(self._label_floor())
        apply = self.network.apply
        if drawn.features is not None:
            apply = functools.partial(apply, rngs={"dropout": drawn.features[0]})
        denoise = self.process.denoiser(apply, params["network"])
        told = condition(self.text_encoder, params, batch.tokens, drawn.drop)
        output = denoise(noisy, levels, dataclasses.replace(told, lowres=drawn.lowres))
        channels = diffusion.channel_weights(self.image)
        image = diffusion.image_loss(
            self.process.image, output.image, clean.image, noisy.image, levels.image, known.image | batch.no_image,
            self.loss.image_weight, channels,
        )  # fmt: skip
        layout = diffusion.layout_loss(
            self.process.layout, output.layout, clean.layout, noisy.layout, levels.layout, known.layout,
            self.loss.layout_weight, kappa,
        )  # fmt: skip
        return Pair(image, layout)

    def evaluate(self, params: Any, step: int) -> dict[str, float | np.ndarray]:
        """Numbers on the held-out batch: both losses by ranges of the level, and the mIoU of one-call segmentation;
        and how much worse they are than on as many training examples (`gap`). `losses/...` are the losses of the
        held-out examples (N,) whose means the losses are."""
        out = self._numbers(params, self.heldout)
        if self.seen is not None:
            seen, _ = split_numbers(self._numbers(params, self.seen))
            gaps = {name: out[name] - value for name, value in seen.items()}
            out["image_gap"] = sum(v for k, v in gaps.items() if k.startswith("image")) / len(RANGES)
            out["layout_gap"] = sum(v for k, v in gaps.items() if k.startswith("layout")) / len(RANGES)
            if self.segments:
                out["segmentation_gap"] = -gaps["segmentation_miou"]
        return out

    def _numbers(self, params: Any, batch: TrainBatch) -> dict[str, Any]:
        out = {}
        for low, high in RANGES:
            t = low + (high - low) * (np.arange(len(batch.image), dtype=np.float32) + 0.5) / len(batch.image)
            of_each = []
            for i, (part, rows, count) in enumerate(self._parts(batch)):
                chunks = i * self.devices + np.arange(self.devices)
                keys = jax.vmap(functools.partial(stream, 0, "heldout"))(chunks)
                part, at, keys = parallel.place((part, t[rows], keys), self.mesh, BATCH)
                values = parallel.to_host(self._losses_at(params, part, at, keys))
                of_each.append(pair_map(lambda a, count=count: a[:count], values))
            for side, values in zip(Pair._fields, zip(*of_each, strict=True), strict=True):
                each = np.concatenate(values)
                out[f"{side}_{low:g}_{high:g}"] = float(each.mean(dtype=np.float64))
                out[f"losses/{side}_{low:g}_{high:g}"] = each
        if self.segments:
            truth, seen = (void_left_out(y, self.labels) for y in (batch.layout, self.segment(params, batch)))
            out["segmentation_miou"] = mean_iou(confusion(truth, seen, self.labels.num_classes))
        return out

    def _parts(self, batch: TrainBatch):
        """A batch in rounds, a chunk of the sampler's size on every device, the last one padded: (examples, their rows,
        how many of them count)."""
        num, size = len(batch.image), self.devices * self.chunk
        for first in range(0, num, size):
            rows = np.minimum(np.arange(first, first + size), num - 1)
            yield jax.tree.map(lambda a, rows=rows: a[rows], batch), rows, min(size, num - first)

    @jax.jit(static_argnums=0)
    def _losses_at(self, params: Any, batch: TrainBatch, t: Array, keys: Array) -> Pair:
        """Both losses (B,) on the diagonal at levels t (B,), void pixels unknown; a key for each device's chunk."""
        return parallel.on_each(self.mesh, self._losses_of_chunk, (WHOLE, BATCH, BATCH, BATCH), BATCH)(
            params, batch, t, keys
        )

    def _losses_of_chunk(self, params: Any, batch: TrainBatch, t: Array, keys: Array) -> Pair:
        key, t = keys[0], t[:, None, None]
        levels = Pair(
            jnp.where(batch.no_image, 1.0, jnp.broadcast_to(t, batch.image.shape[:3])),
            jnp.where(batch.layout == VOID, 1.0, jnp.broadcast_to(t, batch.layout.shape)),
        )
        nothing = Pair(jnp.zeros(batch.image.shape[:3], bool), jnp.zeros(batch.layout.shape, bool))
        lowres = None
        if self.lowres is not None:
            lowres = self.lowres.draw(jax.random.fold_in(key, 3), self.process, batch, self.lowres.level)
        return self.losses(params, Drawn(batch, levels, nothing, self.noised(batch, levels, key), lowres=lowres))

    def _told(self, params: Any, batch: TrainBatch, keys: Array, drop=None) -> Condition:
        """What a chunk of held-out examples is told in sampling."""
        lowres, clean = None, Pair(batch.image, batch.layout)
        if self.lowres is not None:
            lowres = self.lowres.told(self.process, keys, self.lowres.reduce(clean), self.mesh)
        tokens, drop = parallel.place((batch.tokens, drop), self.mesh, BATCH)
        return dataclasses.replace(encode(self.text_encoder, params, tokens, drop, self.mesh), lowres=lowres)

    def segment(self, params: Any, batch: TrainBatch) -> np.ndarray:
        """The most probable layout of each image after one call, int32 (B, H, W)."""
        sampler = dataclasses.replace(self.sampler, branches=())
        found = []
        for part, rows, count in self._parts(batch):
            known = Pair(np.ones(part.image.shape[:3], bool), np.zeros(part.layout.shape, bool))
            keys = example_keys(0, rows)
            given = given_values(keys, Pair(part.image, part.layout), known).placed(self.mesh)
            told = self._told(params, part, keys, np.ones(len(rows), bool))
            row = np.ones(2, np.float32)
            state = sampler.begin(given, row).state
            p = sampler.probabilities(params["network"], state, given, row, told, PLAIN)
            found.append(parallel.to_host(p)[:count].argmax(axis=-1))
        return np.concatenate(found).astype(np.int32)

    def sample(self, params: Any, step: int) -> dict[str, np.ndarray]:
        """A look: pairs drawn for the first held-out captions, and the segmentation of the held-out images."""
        batch, shown = next(self._parts(self.heldout))[0], min(8, self.chunk)
        known = Pair(np.zeros(batch.image.shape[:3], bool), np.zeros(batch.layout.shape, bool))
        keys = example_keys(0, np.arange(len(batch.image)))
        given = given_values(keys, Pair(batch.image, batch.layout), known).placed(self.mesh)
        told = self._told(params, batch, keys)
        state = parallel.to_host(run(self.sampler, params["network"], self.path, given, told, self.settings))
        images = display(to_uint8(state.image), self.image)[:shown]
        layouts = np.asarray(self.process.layout.decode(state.layout))[:shown]
        first = Pair(batch.image[:shown], batch.layout[:shown])
        real = display(to_uint8(first.image), self.image)
        rows = {
            **({} if self.lowres is None else self.lowres.pictures(first, self.image, self.labels)),
            "drawn: image": images,
            "drawn: layout": colorize(layouts, self.labels),
            "held out": real,
            "held out: labels": colorize(first.layout, self.labels),
        }
        if self.segments:
            segmented = self.segment(params, self.heldout)[:shown]
            rows["held out, segmented in one call"] = overlay(real, segmented, self.labels)
        return {"pairs": sheet([list(row) for row in rows.values()], list(rows))}


def training_params(loss: LossConfig) -> dict[str, Any]:
    """Fresh parameters that are trained and saved with a model's own, and that nothing but its training needs."""
    return {"balance": balance.init()} if loss.balance else {}
