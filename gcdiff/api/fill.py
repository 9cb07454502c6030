"""Synthesis of images for layouts, and outpainting: the unknown pixels of a pair given the known ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gcdiff import paths
from gcdiff.api import windows as tiling
from gcdiff.api.base import window_ids
from gcdiff.api.evidence import layout_caps
from gcdiff.api.question import Listener, Question, Scales, Texts, Watch
from gcdiff.api.stage import Stage
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.pictures import check_images, check_layouts, enlarge
from gcdiff.types import VOID, Pair


class Fills(Stage):
    """p(x given y, text), and p(unknown pixels given the known ones)."""

    def synthesize(
        self, layouts, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Listener = None, *, confidence=None, evidence: bool = False, region_confidence=None, upsample=None,
    ) -> np.ndarray:  # fmt: skip
        """An image for each layout: uint8 (N, H, W, 3) of the model's size for int layouts (N, h, w) of any one size.

        Void pixels (VOID = -1) are unknown: they stay at level 1 and say nothing. `confidence` (a number, or a map
        (N, H, W)) in [0, 1] says how closely to follow a layout; with `evidence` the layout is a noisy observation of
        which each pixel is right with that keep-probability. `region_confidence` (a number, one for each class, or a
        map) keeps or forgets whole regions. `gcdiff.api.evidence` describes the three. With `upsample` the images have
        the stage's size: it is given the layouts at that size, and the image that this model draws for them reduced.

        >>> model.synthesize(layouts, text="a nighttime street").shape
        (2, 32, 64, 3)
        >>> model.synthesize(layouts, confidence=0.7).dtype
        dtype('uint8')
        """
        question = Question.of(text, steps, guidance, seed, progress)
        if upsample is not None:
            if evidence or confidence is not None or region_confidence is not None:
                raise ValueError("confidence and evidence hold for one size of layouts: expected none with upsample")
            return self._synthesize_upsampled(layouts, upsample, question)
        layouts = self._fitted(check_layouts(layouts, self.labels))
        if evidence and confidence is None:
            raise ValueError("evidence needs a confidence: how often a pixel of the layouts is right")
        noise = self.built.defaults.noise
        if (evidence and noise != "uniform") or (confidence is not None and noise == "bits"):
            raise ValueError(f"{'evidence' if evidence else 'confidence'} has no meaning for process.layout={noise}")
        schedule, classes = self.built.process.layout.schedule, self.labels.num_classes
        levels = layout_caps(layouts, schedule, confidence, region_confidence, seed, classes)
        if confidence is not None and not self.built.levels.image_given_layout:
            raise ValueError("confidence needs levels per modality; this model was trained on the diagonal only")
        question.watch.expect(self.cost(len(layouts), self._steps(question)))
        return self._images(layouts, levels, question, fed=evidence)

    def _synthesize_upsampled(self, layouts, upsample, question: Question) -> np.ndarray:
        """Images of the size of a stage, which is given the images that this model draws for the layouts reduced."""
        stage = self.stage(upsample)
        layouts = stage._fitted(check_layouts(layouts, self.labels))
        small = stage.reduce_layouts(layouts)
        for model in (self, stage):
            question.watch.expect(model.cost(len(layouts), model._steps(question)))
        low = Pair(self._images(small, np.where(small == VOID, 1.0, 0.0), question), small)
        if question.watch.stopped:
            return enlarge(low.image, stage.factor)
        return stage._images(layouts, np.where(layouts == VOID, 1.0, 0.0), stage._read(question), lowres=low)

    def _fitted(self, layouts: np.ndarray) -> np.ndarray:
        """Layouts int32 (N, h, w) at the model's size."""
        if layouts.shape[1:] == self.size:
            return layouts
        blank = np.zeros((*layouts.shape[1:], 3), np.uint8)
        return np.stack([resize(Example(blank, y, ()), self.size).layout for y in layouts])

    def _images(self, layouts: np.ndarray, levels: np.ndarray, question: Question, **what) -> np.ndarray:
        """An image for each layout of the model's size, whose pixels stand at no higher level than `levels`."""
        values = Pair(np.zeros((len(layouts), *self.size, self.image.channels), np.uint8), layouts)
        scales = self._runner().guidance(question)
        # The layout does not move: what would guide its output changes nothing.
        scales = scales._replace(text=Pair(scales.text.image, 1.0), image=1.0)
        question = question.but(guidance=scales).about(values, 1.0, levels, **what)
        if self._by_levels("synthesis", "image_given_layout"):
            return self._run(paths.image_only(self._steps(question)), question).image
        return self._repaint(question, 1).image

    def outpaint(
        self, pair: Pair, known: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None,
        seed: int = 0, progress: Listener = None, *, resamples: int | None = None, upsample=None,
    ) -> Pair:  # fmt: skip
        """The unknown pixels given the known ones, of either modality or both; known pixels come back bit for bit.

        `pair` is (uint8 (N, H, W, 3), int (N, H, W)); what is not known may hold anything, a side may be None. `known`
        is a Pair of bool masks (N, H, W); None is all unknown. Void is never known. What is larger than the model is
        filled by overlapping windows, each finished window known to the next. `resamples` asks for RePaint with so many
        repetitions of each step; None is for levels, or for RePaint with one where the model was trained on the
        diagonal only. With `upsample` the pair has the stage's size or a larger one: this model is given it reduced,
        the stage all known pixels as they are.

        >>> left = np.broadcast_to(np.arange(64) < 32, (2, 32, 64))
        >>> pair = model.outpaint(gcdiff.Pair(images, layouts), known=gcdiff.Pair(left, left))
        >>> np.array_equal(pair.image[:, :, :32], images[:, :, :32])
        True
        """
        question = Question.of(text, steps, guidance, seed, progress)
        if upsample is None:
            canvas = self._canvas(pair, known)
            self._expect(canvas, question)
            return self._outpaint(canvas, question, resamples)
        stage = self.stage(upsample)
        canvas = stage._canvas(pair, known)
        small = stage._reduce_known(*canvas)
        self._expect(small, question)
        stage._expect(canvas, question)
        low = self._outpaint(small, question, resamples)
        if question.watch.stopped:
            return stage._put_known(canvas, low)
        return stage._outpaint(canvas, stage._read(question), resamples, low)

    def _canvas(self, pair: Pair, known: Pair) -> tuple[Pair, Pair]:
        """A pair and masks as they are given to `outpaint`, complete and checked."""
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
        return Pair(image, layout), masks._replace(layout=masks.layout & (layout != VOID))

    def _expect(self, canvas: tuple[Pair, Pair], question: Question) -> None:
        """Enter the steps of an outpainting, over all its windows."""
        num, *size = canvas[0].layout.shape
        parts = len(tiling.windows(tuple(size), self.size))
        question.watch.expect(parts * self.cost(num, self._steps(question)))

    def _put_known(self, canvas: tuple[Pair, Pair], low: Pair) -> Pair:
        """A low-resolution answer at this stage's size, with the known pixels of the canvas in it."""
        (image, layout), masks = canvas
        small = Pair(enlarge(low.image, self.factor), low.layout.repeat(self.factor, 1).repeat(self.factor, 2))
        return Pair(np.where(masks.image[..., None], image, small.image), np.where(masks.layout, layout, small.layout))

    def _outpaint(
        self, canvas: tuple[Pair, Pair], question: Question, resamples: int | None, lowres: Pair | None = None
    ) -> Pair:
        """The unknown pixels of a checked canvas, drawn; a stage is given the low-resolution canvas too."""
        if resamples is not None:
            self._trained("RePaint", "joint")
        elif not self._by_levels("outpainting", "joint", "known"):
            resamples = 1
        question = question.but(guidance=self._runner().guidance(question))

        def fill(values: Pair, given: Pair, ids: np.ndarray, low: Pair | None) -> Pair:
            image, layout = (np.where(mask, 0.0, 1.0) for mask in given)
            part = question.about(values, image, layout, ids, lowres=low)
            if resamples is not None:
                return self._repaint(part, resamples)
            return self._run(paths.joint(self._steps(part)), part)

        return self._fill(canvas, fill, question.watch, lowres)

    def _fill(self, canvas: tuple[Pair, Pair], fill: Callable, watch: Watch, lowres: Pair | None) -> Pair:
        """A canvas filled window by window; what is finished is known to the windows that follow. Where it is stopped,
        what is not drawn is black and void."""
        values, masks = (Pair(*(np.array(a) for a in pair)) for pair in canvas)
        (num, *size), factor = values.layout.shape, 1 if lowres is None else self.factor
        # A stage's windows lie where windows of its low-resolution pairs lie.
        for i, small in enumerate(tiling.windows(*(tuple(s // factor for s in sides) for sides in (size, self.size)))):
            at = (slice(None), *(slice(factor * s.start, factor * s.stop) for s in small))
            low = None if lowres is None else Pair(*(side[:, *small] for side in lowres))
            given = Pair(masks.image[at], masks.layout[at])
            out = fill(Pair(values.image[at], values.layout[at]), given, window_ids(np.arange(num), i), low)
            some = (slice(len(out.image)), *at[1:])  # all, unless it was stopped
            for side, known in zip((0, 1), (given.image[..., None], given.layout), strict=True):
                values[side][some] = np.where(known[: len(out.image)], values[side][some], out[side])
                masks[side][some] = True
            if watch.stopped:
                values.image[~masks.image], values.layout[~masks.layout] = 0, VOID
                break
        return values
