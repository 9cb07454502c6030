"""What fills in the unknown: an image for a layout, and the rest of a pair given some of its pixels."""

from __future__ import annotations

import numpy as np

from gcdiff import paths
from gcdiff.api import windows as tiling
from gcdiff.api.base import window_ids
from gcdiff.api.evidence import layout_caps
from gcdiff.api.question import Progress, Question, Scales, Texts, begun_once
from gcdiff.api.stage import Stage
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.pictures import check_images, check_layouts
from gcdiff.types import VOID, Pair


class Fills(Stage):
    """p(x given y, text), and p(unknown pixels given the known ones)."""

    def synthesize(
        self, layouts, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Progress = None, *, confidence=None, evidence: bool = False, region_confidence=None, upsample=None,
    ) -> np.ndarray:  # fmt: skip
        """An image for each layout: uint8 (N, H, W, 3) of the model's size for int layouts (N, h, w) of any one size.

        Void pixels (VOID = -1) are unknown: they stay at level 1 and say nothing. `confidence` (a number, or a map
        (N, H, W)) in [0, 1] says how closely to follow a layout; with `evidence` the layout is a noisy observation of
        which each pixel is right with that keep-probability. `region_confidence` (a number, one for each class, or a
        map) keeps or forgets whole regions. `gcdiff.api.evidence` says which is which. With `upsample` the images have
        the stage's size: it is given the layouts at that size, and the image that this model draws for them reduced.
        """
        if upsample is not None:
            if evidence or confidence is not None or region_confidence is not None:
                raise ValueError("confidence and evidence hold for one size of layouts: expected none with upsample")
            stage, progress = self.stage(upsample), begun_once(progress)
            layouts = stage._fitted(check_layouts(layouts, self.labels))
            small = stage.reduce_layouts(layouts)
            low = Pair(self.synthesize(small, text, steps, guidance, seed, progress), small)
            caps = np.where(layouts == VOID, 1.0, 0.0)
            return stage._images(layouts, caps, stage._read(text), steps, guidance, seed, progress, lowres=low)
        layouts = self._fitted(check_layouts(layouts, self.labels))
        if evidence and confidence is None:
            raise ValueError("evidence needs a confidence: how often a pixel of the layouts is right")
        process = self.config.process.layout
        if (evidence and process != "uniform") or (confidence is not None and process == "bits"):
            raise ValueError(f"{'evidence' if evidence else 'confidence'} has no meaning for process.layout={process}")
        schedule, classes = self.built.process.layout.schedule, self.labels.num_classes
        layout_levels = layout_caps(layouts, schedule, confidence, region_confidence, seed, classes)
        if confidence is not None and not self.built.levels.image_given_layout:
            raise ValueError("confidence needs levels per modality; this model was trained on the diagonal only")
        return self._images(layouts, layout_levels, text, steps, guidance, seed, progress, evidence)

    def _fitted(self, layouts: np.ndarray) -> np.ndarray:
        """Layouts int32 (N, h, w) at the model's size."""
        if layouts.shape[1:] == self.size:
            return layouts
        blank = np.zeros((*layouts.shape[1:], 3), np.uint8)
        return np.stack([resize(Example(blank, y, ()), self.size).layout for y in layouts])

    def _images(
        self, layouts, levels, text, steps, guidance, seed, progress, fed: bool = False, lowres: Pair | None = None
    ) -> np.ndarray:
        """An image for each layout of the model's size, whose pixels stand at no higher level than `levels`."""
        values = Pair(np.zeros((len(layouts), *self.size, self.image.channels), np.uint8), layouts)
        caps = Pair(np.ones(layouts.shape, np.float32), levels)
        question = Question(values, caps, text, seed, fed=fed, lowres=lowres)
        guidance = self._runner().guidance(guidance, text)
        # The layout does not move: what would guide its output changes nothing.
        guidance = guidance._replace(text=Pair(guidance.text.image, 1.0), image=1.0)
        if self._by_levels("synthesis", "image_given_layout"):
            return self._run(paths.image_only(self._steps(steps)), question, guidance, progress).image
        return self._repaint(question, guidance, steps, 1, progress).image

    def outpaint(
        self, pair: Pair, known: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None,
        seed: int = 0, progress: Progress = None, *, resamples: int | None = None, upsample=None,
    ) -> Pair:  # fmt: skip
        """The unknown pixels given the known ones, of either modality or both; known pixels come back bit for bit.

        `pair` is (uint8 (N, H, W, 3), int (N, H, W)); what is not known may hold anything, a side may be None. `known`
        is a Pair of bool masks (N, H, W); None is all unknown. Void is never known. What is larger than the model is
        filled by overlapping windows, each finished window known to the next. `resamples` asks for RePaint with so many
        repetitions of each step; None is for levels, or for RePaint with one where the model was trained on the
        diagonal only. With `upsample` the pair has the stage's size or a larger one: this model is given it reduced,
        the stage all known pixels as they are.
        """
        if upsample is None:
            values, masks = self._canvas(pair, known)
            return self._outpaint(values, masks, text, steps, guidance, seed, progress, resamples)
        stage, progress = self.stage(upsample), begun_once(progress)
        values, masks = stage._canvas(pair, known)
        small = stage._reduce_known(values, masks)
        low = self._outpaint(*small, text, steps, guidance, seed, progress, resamples)
        return stage._outpaint(values, masks, stage._read(text), steps, guidance, seed, progress, resamples, low)

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

    def _outpaint(
        self, values: Pair, masks: Pair, text, steps, guidance, seed, progress, resamples, lowres: Pair | None = None
    ) -> Pair:
        """What is not known of a checked canvas; a stage is given the low-resolution canvas too."""
        if resamples is not None:
            self._trained("RePaint", "joint")
        elif not self._by_levels("outpainting", "joint", "known"):
            resamples = 1
        scales = self._runner().guidance(guidance, text)

        def fill(values: Pair, given: Pair, ids, told: Progress, low: Pair | None) -> Pair:
            caps = Pair(*(np.where(m, 0.0, 1.0) for m in given))
            question = Question(values, caps, text, seed, ids, lowres=low)
            if resamples is not None:
                return self._repaint(question, scales, steps, resamples, told)
            return self._run(paths.joint(self._steps(steps)), question, scales, told)

        return self._fill(values, masks, fill, begun_once(progress), lowres)

    def _fill(self, values: Pair, masks: Pair, fill, progress: Progress, lowres: Pair | None) -> Pair:
        """A canvas filled window by window; what is finished is known to the windows that follow."""
        values, masks = (Pair(*(np.array(a) for a in pair)) for pair in (values, masks))
        num, canvas, size = len(values.image), values.layout.shape[1:], self.size
        factor = 1 if lowres is None else self.factor
        # A stage's windows lie where windows of its low-resolution pairs lie.
        for i, small in enumerate(tiling.windows(*(tuple(s // factor for s in sides) for sides in (canvas, size)))):
            at = (slice(None), *(slice(factor * s.start, factor * s.stop) for s in small))
            low = None if lowres is None else Pair(*(side[:, *small] for side in lowres))
            given = Pair(masks.image[at], masks.layout[at])
            ids = window_ids(np.arange(num), i)
            out = fill(Pair(values.image[at], values.layout[at]), given, ids, progress, low)
            values.image[at] = np.where(given.image[..., None], values.image[at], out.image)
            values.layout[at] = np.where(given.layout, values.layout[at], out.layout)
            masks.image[at] = masks.layout[at] = True
        return values
