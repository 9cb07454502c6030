"""The model of a run: one method for each direction."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api import windows as tiling
from gcdiff.api.evidence import layout_caps
from gcdiff.api.runner import Progress, Question, Runner, Scales, Texts
from gcdiff.codecs import check_images, check_layouts, decide, resize_maps, to_uint8
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.guidance import NO_GUIDANCE
from gcdiff.likelihood import LEGS, LOG_SNR_MAX, Chunk, Likelihood, Report, bound, report
from gcdiff.samplers.repaint import run_repaint
from gcdiff.samplers.sample import run
from gcdiff.types import VOID, ImageSpec, LabelSpec, Pair

UNSEEN_WORDS = "words this model has never seen"
LEG_SHARES = {leg: leg.removesuffix("_only") for leg in LEGS}
"""The share of training levels that each leg of a likelihood needs."""
PATHS = ("joint", "layout_first", "image_only", "layout_only")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model. `labels` and `image` say what its layouts and images mean; `size` is (height, width).

    Wherever a method takes them: `text` is one caption for all, one for each, or None for no text. `steps` and
    `guidance` are the run's recommended values where None; `guidance` is one scale of the text, one for the image and
    one for the layout, or a `gcdiff.Guidance`; 1 is none. Example i depends on `seed` (0 to 2^32 - 1) and i alone.
    """

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
        self, text: Texts = None, num: int = 1, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        path: str | None = None, progress: Progress = None, *, start: Pair | None = None,
        strength: float | tuple[float, float] = 0.5, size: tuple[int, int] | None = None,
    ) -> Pair:  # fmt: skip
        """Labelled images from text: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `path` is 'joint', 'layout_first', 'image_only' or 'layout_only' (the side that is not asked for comes back
        None). With `start`, a pair of arrays as they come back, sampling begins in the middle: each side is noised to
        the level `strength` (one, or one for each side; 0 leaves it as it is) and goes on from there. A `size` larger
        than the model's is filled window by window, each finished window known to the next.
        """
        if start is not None:
            return self._edit(start, strength, text, steps, guidance, seed, progress)
        if num < 1:
            raise ValueError(f"num is {num}, expected at least 1")
        if size is not None and tuple(size) != self.size:
            nothing = np.zeros((num, *size), bool)
            blank = Pair(np.zeros((num, *size, self.image.channels), np.uint8), None)
            return self.outpaint(blank, Pair(nothing, None), text, steps, guidance, seed, progress)
        name = path or self.config.sample.path
        if name not in PATHS:
            raise ValueError(f"path is {name!r}, expected {', '.join(PATHS[:-1])} or {PATHS[-1]}")
        needs = {"joint": ("joint",), "layout_first": ("layout", "image_given_layout")}
        self._trained(f"the path {name}", *needs.get(name, (name.removesuffix("_only"),)))
        values = Pair(np.zeros((num, *self.size, self.image.channels), np.uint8), np.zeros((num, *self.size), np.int32))
        grid = configs.sample_path(self.config, self._steps(steps), name)
        pair = self._run(grid, Question(values, _caps(values, 1, 1), text, seed), guidance, progress)
        return Pair(None if name == "layout_only" else pair.image, None if name == "image_only" else pair.layout)

    def _edit(self, start: Pair, strength, text, steps, guidance, seed, progress) -> Pair:
        values = Pair(
            np.stack(check_images(start.image, self.image.channels)), check_layouts(start.layout, self.labels)
        )
        for name, array in zip(Pair._fields, values, strict=True):
            if array.shape[1:3] != self.size:
                raise ValueError(f"start: {name} has shape {array.shape}, expected the model's size {self.size}")
        levels = (strength, strength) if np.isscalar(strength) else tuple(strength)
        self._trained("an edit", "independent" if levels[0] != levels[1] else "joint")
        grid = paths.partial(self._steps(steps), *levels)
        caps = _caps(values, float(levels[0] > 0), float(levels[1] > 0))
        out = self._run(grid, Question(values, caps, text, seed), guidance, progress)
        return out._replace(image=out.image if levels[0] > 0 else values.image)

    def segment(
        self, images, steps: int | None = None, probabilities: bool = False, text: Texts = None, seed: int = 0,
        progress: Progress = None, *, first_id: int = 0, samples: int = 0, windows: bool = False,
    ) -> np.ndarray | list[np.ndarray]:  # fmt: skip
        """The most probable layout of each image: int32 (N, H, W) for uint8 images (N, H, W, 3).

        Images may be of any size, and as a sequence of different ones; the answer is then a list. They are resized to
        the model's size and the class probabilities back, bilinearly; or, with `windows`, covered by overlapping
        windows of the model's size, whose probabilities are averaged. One call (`steps` None) gives every pixel's exact
        marginal under the model. More steps draw the layout down to the last step and decode there: less speckle, one
        possible layout. With `probabilities`, float32 (N, H, W, K) instead. With `samples`, that many layouts drawn for
        each image, int32 (N, samples, H, W). Image i is example `first_id` + i of `seed`.
        """
        images = check_images(images, self.image.channels)
        self._warn_of_unseen(text)
        if samples:
            return self._draw_layouts(images, samples, steps, text, seed, progress, first_id)
        if not self._by_levels("segmentation", "layout_given_image"):
            return self._segment_by_repaint(images, steps, probabilities or windows, text, seed, progress, first_id)
        steps = 1 if steps is None else steps
        if steps == 1:
            self._trained("segmentation in one call", "one_call")

        def answers(inside: np.ndarray):
            ids = first_id + np.arange(len(inside))
            return self._probabilities(inside, steps, text, seed, progress, ids)

        found = []
        if windows:
            for x in images:
                maps = tiling.average(answers, x, self.size, self.labels.num_classes)
                found.append(maps if probabilities else maps.argmax(-1).astype(np.int32))
        else:
            decode = resize_maps if probabilities else decide
            for x, p in zip(images, answers(self._inside(images)), strict=True):
                found.append(decode(p, x.shape[:2]))
        return np.stack(found) if len({answer.shape for answer in found}) == 1 else found

    @property
    def likelihood_legs(self) -> tuple[str, ...]:
        """The laws whose bounds this model was trained for, by their legs in `gcdiff.likelihood.LEGS`."""
        return tuple(leg for leg, share in LEG_SHARES.items() if getattr(self.built.levels, share) > 0)

    def likelihood(
        self, pair: Pair, text: Texts = None, draws: int = 8, seed: int = 0, progress: Progress = None, *,
        log_snr_max: float = LOG_SNR_MAX,
    ) -> Report:  # fmt: skip
        """Upper bounds on -log p of pairs (uint8 (N, H, W, 3), int (N, H, W)) of the model's size, with their errors.

        In bits per dimension of the image and bits per labelled pixel of the layout, of every law that was trained:
        p(x, y), p(x), p(y), p(x | y), p(y | x); and the signed gaps between the three paths to p(x, y), which an exact
        model does not have. `draws` are the random levels per example and leg. Void pixels stay unknown and are not
        counted. No guidance is applied. `progress` is told n after n more legs of a draw.
        """
        values = Pair(np.stack(check_images(pair.image, self.image.channels)), check_layouts(pair.layout, self.labels))
        for name, array in zip(Pair._fields, values, strict=True):
            if array.shape[1:3] != self.size:
                raise ValueError(f"likelihood: {name} has shape {array.shape}, expected the model's size {self.size}")
        self._warn_of_unseen(text)
        question = Question(values, _caps(values, 1, 1), text, seed)
        chunks = (Chunk(g.values, g.keys, c, count) for g, c, count in self._runner().chunks(question, progress))
        measure = Likelihood(self.built.process, self.built.network.apply)
        return report(
            bound(measure, self.params["network"], chunks, self.likelihood_legs, draws, log_snr_max, progress)
        )

    def _segment_by_repaint(self, images, steps, more: bool, text, seed, progress, first_id):
        if more:
            raise ValueError("probabilities need levels per modality; this model was trained on the diagonal only")
        values = Pair(self._inside(images), np.zeros((len(images), *self.size), np.int32))
        question = Question(values, _caps(values, 0, 1), text, seed, first_id + np.arange(len(images)))
        drawn = self._repaint(question, 1.0, steps, 1, progress).layout
        blank = np.zeros((*self.size, 3), np.uint8)
        found = [resize(Example(blank, y, ()), x.shape[:2]).layout for x, y in zip(images, drawn, strict=True)]
        return np.stack(found) if len({answer.shape for answer in found}) == 1 else found

    def _inside(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([resize(Example(x, np.zeros(x.shape[:2], np.int32), ()), self.size).image for x in images])

    def _probabilities(self, images: np.ndarray, steps: int, text, seed, progress, ids):
        """Class probabilities float32 (h, w, K) of images of the model's size, one by one."""
        values = Pair(images, np.zeros((len(images), *self.size), np.int32))
        grid, runner = paths.layout_given_image(steps), self._runner()
        sampler, settings = runner.sampler(NO_GUIDANCE)

        def chunk(given, cond) -> np.ndarray:
            state = run(sampler, self.params["network"], grid[:-1], given, cond, settings, progress)
            row = jnp.asarray(grid[-2])
            p = np.asarray(sampler.probabilities(self.params["network"], state, given, row, cond, settings))
            if progress is not None:
                progress(1)
            return p

        for part in runner(chunk, Question(values, _caps(values, 0, 1), text, seed, ids), progress):
            yield from part

    def _draw_layouts(self, images, samples: int, steps, text, seed, progress, first_id) -> np.ndarray:
        inside = self._inside(images)
        if any(x.shape[:2] != self.size for x in images):
            raise ValueError(f"samples are drawn at the model's size {self.size}: resize the images first")
        self._trained("segmentation", "layout_given_image")
        values = Pair(inside.repeat(samples, axis=0), np.zeros((len(inside) * samples, *self.size), np.int32))
        texts = text if text is None or isinstance(text, str) else [t for t in text for _ in range(samples)]
        ids = first_id * samples + np.arange(len(values.image))
        question = Question(values, _caps(values, 0, 1), texts, seed, ids)
        out = self._run(paths.layout_given_image(self._steps(steps)), question, 1.0, progress).layout
        return out.reshape(len(inside), samples, *self.size)

    def synthesize(
        self, layouts, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Progress = None, *, confidence=None, evidence: bool = False, region_confidence=None,
    ) -> np.ndarray:  # fmt: skip
        """An image for each layout: uint8 (N, H, W, 3) of the model's size for int layouts (N, h, w) of any one size.

        Void pixels (VOID = -1) are unknown: they stay at level 1 and say nothing. `confidence` (a number, or a map
        (N, H, W)) in [0, 1] says how closely to follow a layout; with `evidence` the layout is a noisy observation of
        which each pixel is right with that keep-probability. `region_confidence` (a number, one for each class, or a
        map) keeps or forgets whole regions. `gcdiff.api.evidence` says which is which.
        """
        layouts = check_layouts(layouts, self.labels)
        if layouts.shape[1:] != self.size:
            blank = np.zeros((*layouts.shape[1:], 3), np.uint8)
            layouts = np.stack([resize(Example(blank, y, ()), self.size).layout for y in layouts])
        if evidence and confidence is None:
            raise ValueError("evidence needs a confidence: how often a pixel of the layouts is right")
        schedule, classes = self.built.process.layout.schedule, self.labels.num_classes
        layout_levels = layout_caps(layouts, schedule, confidence, region_confidence, seed, classes)
        values = Pair(np.zeros((len(layouts), *self.size, self.image.channels), np.uint8), layouts)
        caps = Pair(np.ones(layouts.shape, np.float32), layout_levels)
        question = Question(values, caps, text, seed, fed=evidence)
        guidance = self._runner().guidance(guidance, text)
        # The layout does not move: what would guide its output changes nothing.
        guidance = guidance._replace(text=Pair(guidance.text.image, 1.0), image=1.0)
        if self._by_levels("synthesis", "image_given_layout"):
            return self._run(paths.image_only(self._steps(steps)), question, guidance, progress).image
        if confidence is not None:
            raise ValueError("confidence needs levels per modality; this model was trained on the diagonal only")
        return self._repaint(question, guidance, steps, 1, progress).image

    def outpaint(
        self, pair: Pair, known: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None,
        seed: int = 0, progress: Progress = None, *, resamples: int | None = None,
    ) -> Pair:  # fmt: skip
        """The unknown pixels given the known ones, of either modality or both; known pixels come back bit for bit.

        `pair` is (uint8 (N, H, W, 3), int (N, H, W)); what is not known may hold anything, a side may be None. `known`
        is a Pair of bool masks (N, H, W); None is all unknown. Void is never known. What is larger than the model is
        filled by overlapping windows, each finished window known to the next. `resamples` asks for RePaint with so many
        repetitions of each step; None is for levels, or for RePaint with one where the model was trained on the
        diagonal only.
        """
        pair, known = Pair(*pair), Pair(*known)
        given = next((side for side in pair if side is not None), None)
        if given is None:
            raise ValueError("outpaint: expected an image, a layout or both")
        shape = np.shape(given)[:3]
        sides = {"image": pair.image, "layout": pair.layout, "known.image": known.image, "known.layout": known.layout}
        for name, array in sides.items():
            expected = (*shape, self.image.channels) if name == "image" else shape
            if array is not None and np.shape(array) != expected:
                raise ValueError(f"outpaint: {name} has shape {np.shape(array)}, expected {expected}")
        if len(shape) != 3 or any(a < b for a, b in zip(shape[1:], self.size, strict=True)):
            raise ValueError(f"outpaint: shape {shape}, expected (N, H, W) with at least the model's size {self.size}")
        image, layout = np.zeros((*shape, self.image.channels), np.uint8), np.full(shape, VOID, np.int32)
        if pair.image is not None:
            image = np.stack(check_images(pair.image, self.image.channels))
        if pair.layout is not None:
            layout = check_layouts(pair.layout, self.labels)

        def mask(side, given) -> np.ndarray:
            return np.zeros(shape, bool) if side is None or given is None else np.array(given, bool)

        masks = Pair(*map(mask, pair, known))
        masks = masks._replace(layout=masks.layout & (layout != VOID))
        if resamples is None and not self._by_levels("outpainting", "joint", "known"):
            resamples = 1
        scales = self._runner().guidance(guidance, text)

        def fill(values: Pair, given: Pair, ids, told: Progress) -> Pair:
            question = Question(values, Pair(*(np.where(m, 0.0, 1.0) for m in given)), text, seed, ids)
            if resamples is not None:
                return self._repaint(question, scales, steps, resamples, told)
            return self._run(paths.joint(self._steps(steps)), question, scales, told)

        return self._fill(Pair(image, layout), masks, fill, progress)

    def _fill(self, values: Pair, masks: Pair, fill, progress: Progress) -> Pair:
        """A canvas filled window by window; what is finished is known to the windows that follow."""
        values, masks = (Pair(*(np.array(a) for a in pair)) for pair in (values, masks))
        num = len(values.image)
        for i, (rows, columns) in enumerate(tiling.windows(values.layout.shape[1:], self.size)):
            at = (slice(None), rows, columns)
            given = Pair(masks.image[at], masks.layout[at])
            told = progress if i == 0 or progress is None else lambda n: progress(n) if n else None
            out = fill(Pair(values.image[at], values.layout[at]), given, i * num + np.arange(num), told)
            values.image[at] = np.where(given.image[..., None], values.image[at], out.image)
            values.layout[at] = np.where(given.layout, values.layout[at], out.layout)
            masks.image[at] = masks.layout[at] = True
        return values

    def _warn_of_unseen(self, text: Texts) -> None:
        unseen = self.unseen_words(text)
        if unseen:
            warnings.warn(f"{UNSEEN_WORDS}: {', '.join(unseen)}", stacklevel=4)

    def _steps(self, steps: int | None) -> int:
        return self.config.sample.steps if steps is None else steps

    def _trained(self, question: str, *shares: str) -> None:
        """Refuse a question whose levels were never trained."""
        for share in shares:
            if getattr(self.built.levels, share) == 0:
                raise ValueError(f"{question} was not trained: config.levels.{share} of this run is 0")

    def _by_levels(self, question: str, *shares: str) -> bool:
        """Whether a question was trained; else it is left to RePaint, with a warning, if the diagonal was."""
        missing = [share for share in shares if getattr(self.built.levels, share) == 0]
        if not missing:
            return True
        self._trained(question, "joint")
        warnings.warn(
            f"{question} was not trained (config.levels.{missing[0]} of this run is 0): RePaint answers", stacklevel=3
        )
        return False

    def _runner(self) -> Runner:
        return Runner(self.built, self.params, self.specs.vocabulary, self.config.sample.chunk)

    def _run(self, grid: np.ndarray, question: Question, guidance: Scales, progress: Progress) -> Pair:
        """The pairs (uint8, int32) at the end of a path."""
        return self._walk(run, (grid,), {}, question, guidance, progress)

    def _repaint(self, question: Question, guidance: Scales, steps, resamples: int, progress: Progress) -> Pair:
        grid = paths.joint(self._steps(steps))
        return self._walk(run_repaint, (grid,), {"resamples": resamples}, question, guidance, progress)

    def _walk(self, walk, grid, options, question: Question, guidance: Scales, progress: Progress) -> Pair:
        self._warn_of_unseen(question.text)
        runner = self._runner()
        sampler, settings = runner.sampler(runner.guidance(guidance, question.text))

        def chunk(given, cond) -> Pair:
            state = walk(sampler, self.params["network"], *grid, given, cond, settings, progress=progress, **options)
            return Pair(to_uint8(state.image), np.asarray(self.built.process.layout.decode(state.layout)))

        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *runner(chunk, question, progress))


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


def _caps(values: Pair, image: float, layout: float) -> Pair:
    """One highest level for all pixels of a side."""
    return Pair(np.full(values.image.shape[:3], image, np.float32), np.full(values.layout.shape, layout, np.float32))
