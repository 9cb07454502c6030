"""A trained model as a few plain methods: NumPy arrays in, NumPy arrays out.

model = gcdiff.load("runs/demo")
pair = model.sample("a foggy street with two red cars", num=4)
layouts = model.segment(images)
images = model.synthesize(layouts, text="a nighttime street")
pair = model.outpaint(pair, known)
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.codecs import check_images, check_layouts, decide, resize_maps, to_state, to_uint8
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.samplers.sample import Sampler, example_keys, given_values, run
from gcdiff.training.joint_task import encode
from gcdiff.types import VOID, Condition, ImageSpec, LabelSpec, Pair, pair_map

Texts = str | Sequence[str] | None
Scales = float | tuple[float, float] | None
Progress = Callable[[int], None] | None
"""Called with the number of steps done since the last call: 0 once at the start, then as a chunk goes on."""

UNSEEN_WORDS = "words this model has never seen"


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

    def unseen_words(self, text: Texts) -> list[str]:
        """The words of captions that this model has never seen, sorted: it takes them all for one unknown word."""
        if text is None or self.specs.vocabulary is None:
            return []
        return self.specs.vocabulary.unknown([text] if isinstance(text, str) else text)

    def sample(
        self,
        text: Texts = None,
        num: int = 1,
        steps: int | None = None,
        guidance: Scales = None,
        seed: int = 0,
        path: str | None = None,
        progress: Progress = None,
    ) -> Pair:
        """Labelled images from text: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `text` is one caption for all, one for each, or None for no text. `guidance` is one scale, or one for the
        image and one for the layout; 1 is none. `path` is 'joint', 'layout_first', 'image_only' or 'layout_only'
        (the side that is not asked for comes back None). Sample i depends on `seed` (0 to 2^32 - 1) and i alone.
        """
        if num < 1:
            raise ValueError(f"num is {num}, expected at least 1")
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
        self, images, steps: int = 1, probabilities: bool = False, text: Texts = None, seed: int = 0,
        progress: Progress = None, *, first_id: int = 0,
    ) -> np.ndarray | list[np.ndarray]:  # fmt: skip
        """The most probable layout of each image: int32 (N, H, W) for uint8 images (N, H, W, 3).

        Images may be of any size, and as a sequence of different ones; the answer is then a list. They are resized to
        the model's size and the class probabilities back, bilinearly. One call gives every pixel's exact marginal
        under the model. More steps draw the layout down to the last step and decode there: less speckle, one possible
        layout. With `probabilities`, float32 (N, H, W, K) instead. Image i is example `first_id` + i of `seed`.
        """
        images = check_images(images, self.image.channels)
        self._trained("segmentation", "layout_given_image")
        if steps == 1:
            self._trained("segmentation in one call", "one_call")
        grid = paths.layout_given_image(steps)
        inside = [resize(Example(x, np.zeros(x.shape[:2], np.int32), ()), self.size).image for x in images]
        values = Pair(np.stack(inside), np.zeros((len(images), *self.size), np.int32))

        def chunk(sampler: Sampler, given, cond, scales) -> np.ndarray:
            state = run(sampler, self.params["network"], grid[:-1], given, cond, scales, progress)
            row = jnp.asarray(grid[-2])
            p = np.asarray(sampler.probabilities(self.params["network"], state, given, row, cond, scales))
            if progress is not None:
                progress(1)
            return p

        decode = resize_maps if probabilities else decide
        found = []
        for p in self._chunks(chunk, values, _masks(values, True, False), text, (1.0, 1.0), seed, progress, first_id):
            found += [decode(one, x.shape[:2]) for one, x in zip(p, images[len(found) :], strict=False)]
        return np.stack(found) if len({answer.shape for answer in found}) == 1 else found

    def synthesize(
        self, layouts, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Progress = None,
    ) -> np.ndarray:  # fmt: skip
        """An image for each layout: uint8 (N, H, W, 3) of the model's size for int layouts (N, h, w) of any one size.

        Void pixels (VOID = -1) are unknown: they stay at level 1 and say nothing.
        """
        layouts = check_layouts(layouts, self.labels)
        if layouts.shape[1:] != self.size:
            blank = np.zeros((*layouts.shape[1:], 3), np.uint8)
            layouts = np.stack([resize(Example(blank, y, ()), self.size).layout for y in layouts])
        self._trained("synthesis", "image_given_layout")
        values = Pair(np.zeros((len(layouts), *self.size, self.image.channels), np.uint8), layouts)
        grid = paths.image_only(self._steps(steps))
        guidance = (self._guidance(guidance)[0], 1.0)  # the layout does not move: a scale of its own changes nothing
        return self._run(grid, values, _masks(values, False, True), text, guidance, seed, progress).image

    def outpaint(
        self, pair: Pair, known: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None,
        seed: int = 0, progress: Progress = None,
    ) -> Pair:  # fmt: skip
        """The unknown pixels given the known ones, of either modality or both; known pixels come back bit for bit.

        `pair` is (uint8 (N, H, W, 3), int (N, H, W)) of the model's size; what is not known may hold anything, a side
        may be None. `known` is a Pair of bool masks (N, H, W); None is all unknown. Void is never known.
        """
        pair, known = Pair(*pair), Pair(*known)
        num = next((len(side) for side in pair if side is not None), None)
        if num is None:
            raise ValueError("outpaint: expected an image, a layout or both")
        shape = (num, *self.size)
        sides = {"image": pair.image, "layout": pair.layout, "known.image": known.image, "known.layout": known.layout}
        for name, array in sides.items():
            expected = (*shape, self.image.channels) if name == "image" else shape
            if array is not None and np.shape(array) != expected:
                raise ValueError(f"outpaint: {name} has shape {np.shape(array)}, expected {expected}: the model's size")
        image, layout = np.zeros((*shape, self.image.channels), np.uint8), np.full(shape, VOID, np.int32)
        if pair.image is not None:
            image = np.stack(check_images(pair.image, self.image.channels))
        if pair.layout is not None:
            layout = check_layouts(pair.layout, self.labels)
        self._trained("outpainting", "joint", "known")

        def mask(side, given) -> np.ndarray:
            return np.zeros(shape, bool) if side is None or given is None else np.asarray(given, bool)

        masks = Pair(*map(mask, pair, known))
        grid = paths.joint(self._steps(steps))
        out = self._run(grid, Pair(image, layout), masks, text, guidance, seed, progress)
        return out._replace(image=np.where(masks.image[..., None], image, out.image))

    def _steps(self, steps: int | None) -> int:
        return self.config.sample.steps if steps is None else steps

    def _trained(self, question: str, *shares: str) -> None:
        """Refuse a question whose levels were never trained."""
        for share in shares:
            if getattr(self.built.levels, share) == 0:
                raise ValueError(f"{question} was not trained: config.levels.{share} of this run is 0")

    def _run(self, grid, values: Pair, known: Pair, text, guidance: Scales, seed, progress) -> Pair:
        """The pairs (uint8, int32) at the end of a path, in chunks."""

        def chunk(sampler: Sampler, given, cond, scales) -> Pair:
            state = run(sampler, self.params["network"], grid, given, cond, scales, progress)
            return Pair(to_uint8(state.image), np.asarray(state.layout))

        parts = self._chunks(chunk, values, known, text, self._guidance(guidance), seed, progress)
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def _guidance(self, guidance: Scales) -> tuple[float, float]:
        if guidance is None:
            guidance = self.config.sample.guidance
        scales = (guidance, guidance) if np.isscalar(guidance) else tuple(guidance)
        if len(scales) != 2:
            raise ValueError(f"guidance is {guidance}, expected one scale or two, of the image and of the layout")
        return float(scales[0]), float(scales[1])

    def _chunks(
        self, function: Callable, values: Pair, known: Pair, text: Texts, guidance: tuple[float, float], seed: int,
        progress: Progress, first_id: int = 0,
    ) -> Iterator:  # fmt: skip
        """The results of `function` on chunks of one fixed size, one after the other; the last chunk is padded with
        copies, which are cut off its result. `progress` is told 0 once everything is checked."""
        num, size = len(values.image), self.config.sample.chunk
        if num < 1:
            raise ValueError("nothing to do: expected at least one example")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}, expected 0 to {2**32 - 1}")
        tokens, drop = self._tokens(text, num)
        guided = text is not None and guidance != (1.0, 1.0)
        sampler = dataclasses.replace(self.built.sampler, guided=guided)
        if progress is not None:
            progress(0)
        for first in range(0, num, size):
            ids = np.arange(first, first + size)
            rows = np.minimum(ids, num - 1)
            given = given_values(
                example_keys(seed, first_id + ids),
                Pair(to_state(values.image[rows]), values.layout[rows]),
                pair_map(lambda m, rows=rows: m[rows], known),
            )
            cond = self._condition(None if tokens is None else tokens[rows], drop)
            result = function(sampler, given, cond, Pair(*guidance))
            count = min(size, num - first)
            yield jax.tree.map(lambda a, count=count: np.asarray(a)[:count], result)

    def _tokens(self, text: Texts, num: int) -> tuple[np.ndarray | None, bool]:
        """Token ids (num, T), and whether the text is dropped because there is none. Warns of unseen words."""
        if self.specs.vocabulary is None:
            if text is not None:
                raise ValueError("this model was trained without text")
            return None, True
        if text is None:
            return np.zeros((num, self.specs.vocabulary.length), np.int32), True
        texts = [text] * num if isinstance(text, str) else list(text)
        if len(texts) != num:
            raise ValueError(f"{len(texts)} captions for {num} examples: expected one, or one for each")
        tokens = self.specs.vocabulary.encode(texts)
        unseen = self.unseen_words(texts)
        if unseen:
            warnings.warn(f"{UNSEEN_WORDS}: {', '.join(unseen)}", stacklevel=5)
        return tokens, False

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
    params = configs.restore_params(workdir, built, config, specs)
    # Restored arrays are bound to their device, what a path starts from is not: its second piece would compile anew.
    return Model(config, specs, built, jax.tree.map(lambda p: jnp.asarray(np.asarray(p)), params))


def _masks(values: Pair, image: bool, layout: bool) -> Pair:
    return Pair(np.full(values.image.shape[:3], image), np.full(values.layout.shape, layout))
