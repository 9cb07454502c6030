"""A trained model as a few plain methods: NumPy arrays in, NumPy arrays out.

model = gcdiff.load("runs/demo")
pair = model.sample("a foggy street with two red cars", num=4)
layouts = model.segment(images)
images = model.synthesize(layouts, text="a street at night")
pair = model.outpaint(pair, known)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.codecs import to_state, to_uint8
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.samplers.sample import Sampler, example_keys, given_values, run
from gcdiff.training.joint_task import encode
from gcdiff.types import VOID, Condition, ImageSpec, LabelSpec, Pair, pair_map

Texts = str | Sequence[str] | None
Progress = Callable[[int], None] | None
"""Called with the number of network steps done since the last call."""


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model. `labels` and `image` say what its layouts and images mean; `size` is (height, width)."""

    config: Any
    specs: configs.Specs
    built: configs.Built
    params: Any

    @property
    def labels(self) -> LabelSpec:
        return self.specs.labels

    @property
    def image(self) -> ImageSpec:
        return self.specs.image

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.config.data.size)

    def sample(
        self,
        text: Texts = None,
        num: int = 1,
        steps: int | None = None,
        guidance: float | tuple[float, float] | None = None,
        seed: int = 0,
        path: str | None = None,
        progress: Progress = None,
    ) -> Pair:
        """Labelled images from text: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `text` is one caption for all, one for each, or None for no text. `guidance` is one scale, or one for the
        image and one for the layout; 1 is none. `path` is 'joint', 'layout_first', 'image_only' or 'layout_only'
        (the side that is not asked for comes back None). Sample i depends on `seed` and i alone.
        """
        name = path or self.config.sample.path
        if name not in ("joint", "layout_first", "image_only", "layout_only"):
            raise ValueError(f"path is {name!r}, expected joint, layout_first, image_only or layout_only")
        needs = {"joint": ("joint",), "layout_first": ("layout", "image_given_layout")}
        self._trained(f"the path {name}", *needs.get(name, (name.removesuffix("_only"),)))
        values = Pair(np.zeros((num, *self.size, self.image.channels), np.uint8), np.zeros((num, *self.size), np.int32))
        grid = paths.PATHS[name](self._steps(steps))
        pair = self._run(grid, values, _masks(values, False, False), text, guidance, seed, progress)
        return Pair(None if name == "layout_only" else pair.image, None if name == "image_only" else pair.layout)

    def segment(
        self, images, text: Texts = None, steps: int = 1, probabilities: bool = False, seed: int = 0,
        progress: Progress = None,
    ) -> np.ndarray:  # fmt: skip
        """The most probable layout of each image: int32 (N, H, W) for uint8 images (N, H, W, 3) of any one size.

        One call gives every pixel's exact marginal under the model. More steps draw the layout down to the last step
        and decode there: less speckle, one possible layout. With `probabilities`, float32 (N, H, W, K) instead.
        """
        images = _checked_images(images, self.image.channels)
        self._trained("segmentation", "layout_given_image")
        grid = paths.layout_given_image(steps)
        grid[:, 0] = 1.0  # unused: every pixel of the image is known
        inside = _resize_images(images, self.size)
        values = Pair(inside, np.zeros((len(inside), *self.size), np.int32))
        known = _masks(values, True, False)

        def chunk(sampler: Sampler, given, cond, scales) -> np.ndarray:
            state = run(sampler, self.params["network"], grid[:-1], given, cond, scales, progress)
            row = jnp.asarray(grid[-2])
            return np.asarray(sampler.probabilities(self.params["network"], state, given, row, cond, scales))

        p = self._chunks(chunk, values, known, text, (1.0, 1.0), seed)
        if p.shape[1:3] != images.shape[1:3]:
            p = _resize_maps(p, images.shape[1:3])
        return p if probabilities else p.argmax(axis=-1).astype(np.int32)

    def synthesize(
        self, layouts, text: Texts = None, steps: int | None = None, guidance=None, seed: int = 0,
        progress: Progress = None,
    ) -> np.ndarray:  # fmt: skip
        """An image for each layout: uint8 (N, H, W, 3) of the model's size for int (N, h, w) layouts of any one size.

        Void pixels (VOID = -1) are unknown: they stay at level 1 and say nothing.
        """
        layouts = self._checked_layouts(layouts)
        self._trained("synthesis", "image_given_layout")
        values = Pair(np.zeros((len(layouts), *self.size, self.image.channels), np.uint8), layouts)
        grid = paths.image_only(self._steps(steps))
        return self._run(grid, values, _masks(values, False, True), text, guidance, seed, progress).image

    def outpaint(
        self, pair: Pair, known: Pair, text: Texts = None, steps: int | None = None, guidance=None, seed: int = 0,
        progress: Progress = None,
    ) -> Pair:  # fmt: skip
        """The unknown pixels given the known ones, of either modality or both; known pixels come back bit for bit.

        `pair` is (uint8 (N, H, W, 3), int (N, H, W)) of the model's size; what is not known may hold anything, a side
        may be None. `known` is a Pair of bool masks (N, H, W); None is all unknown. Void is never known.
        """
        given = next((side for side in pair if side is not None), None)
        if given is None:
            raise ValueError("outpaint needs an image or a layout")
        num, size = len(given), self.size
        image = np.zeros((num, *size, self.image.channels), np.uint8) if pair.image is None else np.asarray(pair.image)
        layout = np.full((num, *size), VOID, np.int32) if pair.layout is None else self._checked_layouts(pair.layout)
        image = _checked_images(image, self.image.channels)
        nothing = np.zeros((num, *size), bool)
        masks = Pair(*(nothing if m is None else np.asarray(m, bool) for m in known))
        if pair.image is None or pair.layout is None:
            masks = Pair(*(nothing if v is None else m for v, m in zip(pair, masks, strict=True)))
        for name, array in (("image", image[..., 0]), ("known.image", masks.image), ("known.layout", masks.layout)):
            if array.shape != (num, *size):
                raise ValueError(f"outpaint: {name} has shape {array.shape}, expected {(num, *size)}")
        self._trained("outpainting", "known")
        masks = masks._replace(layout=masks.layout & (layout != VOID))
        values = Pair(image, layout)
        out = self._run(paths.joint(self._steps(steps)), values, masks, text, guidance, seed, progress)
        return out._replace(image=np.where(masks.image[..., None], image, out.image))

    def _steps(self, steps: int | None) -> int:
        return self.config.sample.steps if steps is None else steps

    def _trained(self, question: str, *shares: str) -> None:
        """Refuse a question whose levels were never trained."""
        for share in shares:
            if getattr(self.built.levels, share) == 0:
                raise ValueError(f"{question} was not trained: config.levels.{share} of this run is 0")

    def _checked_layouts(self, layouts) -> np.ndarray:
        layouts = np.asarray(layouts)
        if layouts.ndim != 3 or layouts.dtype.kind not in "iu":
            raise ValueError(f"layouts have shape {layouts.shape} and type {layouts.dtype}, expected int (N, H, W)")
        layouts = layouts.astype(np.int32)
        if layouts.size and (layouts.min() < VOID or layouts.max() >= self.labels.num_classes):
            bad = layouts[(layouts < VOID) | (layouts >= self.labels.num_classes)][0]
            raise ValueError(f"layouts hold label {bad}, expected 0..{self.labels.num_classes - 1} or void (-1)")
        if layouts.shape[1:] == self.size:
            return layouts
        blank = np.zeros((*layouts.shape[1:], 3), np.uint8)
        return np.stack([resize(Example(blank, y, ()), self.size).layout for y in layouts])

    def _run(self, grid, values: Pair, known: Pair, text, guidance, seed, progress) -> Pair:
        """The pairs (uint8, int32) at the end of a path, in chunks."""

        def chunk(sampler: Sampler, given, cond, scales) -> Pair:
            state = run(sampler, self.params["network"], grid, given, cond, scales, progress)
            return Pair(to_uint8(state.image), np.asarray(state.layout))

        return self._chunks(chunk, values, known, text, self._guidance(guidance), seed)

    def _guidance(self, guidance) -> tuple[float, float]:
        if guidance is None:
            guidance = self.config.sample.guidance
        image, layout = (guidance, guidance) if np.isscalar(guidance) else guidance
        return float(image), float(layout)

    def _chunks(self, function: Callable, values: Pair, known: Pair, text: Texts, guidance, seed: int):
        """`function` on chunks of one fixed size, the last one padded with copies; the results joined."""
        num, size = len(values.image), self.config.sample.chunk
        if num < 1:
            raise ValueError("nothing to do: expected at least one example")
        tokens, drop = self._tokens(text, num)
        guided = text is not None and tuple(guidance) != (1.0, 1.0)
        sampler = dataclasses.replace(self.built.sampler, guided=guided)
        results = []
        for first in range(0, num, size):
            ids = np.arange(first, first + size)
            rows = np.minimum(ids, num - 1)
            given = given_values(
                example_keys(seed, ids),
                Pair(to_state(values.image[rows]), values.layout[rows]),
                pair_map(lambda m, rows=rows: m[rows], known),
            )
            cond = self._condition(None if tokens is None else tokens[rows], drop)
            result = function(sampler, given, cond, Pair(*guidance))
            count = min(size, num - first)
            results.append(jax.tree.map(lambda a, count=count: np.asarray(a)[:count], result))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *results)

    def _tokens(self, text: Texts, num: int) -> tuple[np.ndarray | None, bool]:
        """Token ids (num, T), and whether the text is dropped because there is none."""
        if self.specs.vocabulary is None:
            if text is not None:
                raise ValueError("this model was trained without text")
            return None, True
        if text is None:
            return np.zeros((num, self.specs.vocabulary.length), np.int32), True
        texts = [text] * num if isinstance(text, str) else list(text)
        if len(texts) != num:
            raise ValueError(f"{len(texts)} captions for {num} examples: expected one, or one for each")
        return self.specs.vocabulary.encode(texts), False

    def _condition(self, tokens, drop: bool) -> Condition:
        if tokens is None:
            return Condition()
        return encode(self.built.text_encoder, self.params, tokens, jnp.full((len(tokens),), drop))


def load(workdir: str | Path) -> Model:
    """The model of a run directory, with its averaged (EMA) weights.

    Raises FileNotFoundError, with one line, for a directory that is no run or holds no checkpoint.
    """
    workdir = Path(workdir)
    config, specs = configs.load_run(workdir)
    built = configs.build(config, specs)
    return Model(config, specs, built, configs.restore_params(workdir, built, config, specs))


def _masks(values: Pair, image: bool, layout: bool) -> Pair:
    return Pair(np.full(values.image.shape[:3], image), np.full(values.layout.shape, layout))


def _checked_images(images, channels: int) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != channels or images.dtype != np.uint8:
        raise ValueError(
            f"images have shape {images.shape} and type {images.dtype}, expected uint8 (N, H, W, {channels})"
        )
    return images


def _resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if images.shape[1:3] == size:
        return images
    blank = np.zeros(images.shape[1:3], np.int32)
    return np.stack([resize(Example(x, blank, ()), size).image for x in images])


def _resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing of float maps (N, h, w, K), as label probabilities are brought to another size."""
    shape = (maps.shape[0], *size, maps.shape[-1])
    return np.asarray(jax.image.resize(jnp.asarray(maps), shape, "linear"))
