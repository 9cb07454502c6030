"""What fills in the unknown: an image for a layout, and the rest of a pair given some of its pixels."""

from __future__ import annotations

import numpy as np

from gcdiff import paths
from gcdiff.api import windows as tiling
from gcdiff.api.base import Base, window_ids
from gcdiff.api.evidence import layout_caps
from gcdiff.api.runner import Progress, Question, Scales, Texts
from gcdiff.codecs import check_images, check_layouts
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.types import VOID, Pair


class Fills(Base):
    """p(x given y, text), and p(unknown pixels given the known ones)."""

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
        process = self.config.process.layout
        if (evidence and process != "uniform") or (confidence is not None and process == "bits"):
            raise ValueError(f"{'evidence' if evidence else 'confidence'} has no meaning for process.layout={process}")
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
        if resamples is not None:
            self._trained("RePaint", "joint")
        elif not self._by_levels("outpainting", "joint", "known"):
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
            out = fill(Pair(values.image[at], values.layout[at]), given, window_ids(np.arange(num), i), told)
            values.image[at] = np.where(given.image[..., None], values.image[at], out.image)
            values.layout[at] = np.where(given.layout, values.layout[at], out.layout)
            masks.image[at] = masks.layout[at] = True
        return values
