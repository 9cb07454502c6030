"""From images to layouts: segmentation in one call or several, samples, windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gcdiff import config as configs
from gcdiff import parallel, paths
from gcdiff.api import windows as tiling
from gcdiff.api.base import constant_caps, window_ids
from gcdiff.api.question import Progress, Question, Texts, begun_once
from gcdiff.api.stage import Stage
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.guidance import NO_GUIDANCE
from gcdiff.pictures import check_images, decide, resize_maps
from gcdiff.samplers.sample import run
from gcdiff.types import Pair


class Segments(Stage):
    """p(y given x)."""

    def segment(
        self, images, steps: int | None = None, probabilities: bool = False, text: Texts = None, seed: int = 0,
        progress: Progress = None, *, first_id: int = 0, samples: int = 0, windows: bool = False, upsample=None,
    ) -> np.ndarray | list[np.ndarray]:  # fmt: skip
        """The most probable layout of each image: int32 (N, H, W) for uint8 images (N, H, W, 3).

        Images may be of any size, and as a sequence of different ones; the answer is then a list. They are resized to
        the model's size and the class probabilities back, bilinearly; or, with `windows`, covered by overlapping
        windows of the model's size, whose probabilities are averaged. One call (`steps` None) gives every pixel's exact
        marginal under the model. More steps draw the layout down to the last step and decode there: less speckle, one
        possible layout. With `probabilities`, float32 (N, H, W, K) instead. With `samples`, that many layouts drawn for
        each image, int32 (N, samples, H, W). Image i is example `first_id` + i of `seed`. With `upsample` all that is
        of the stage's size: this model segments the images reduced, and hands over its probabilities (of each pixel one
        draw); with `samples` the layouts that it draws.
        """
        images = check_images(images, self.image.channels)
        if samples and (probabilities or windows):
            raise ValueError("samples are drawn at the model's size: expected neither probabilities nor windows")
        if windows and text is not None and not isinstance(text, str) and len(text) != len(images):
            raise ValueError(f"{len(text)} captions for {len(images)} examples: expected one, or one for each")
        stage, progress = None if upsample is None else self.stage(upsample), begun_once(progress)
        if samples:
            return self._draw_layouts(images, samples, steps, text, seed, progress, first_id, stage)
        self._warn_of_unseen(text)
        if stage is not None:
            for model in (self, stage):
                model._trained("segmentation", "layout_given_image")
        elif not self._by_levels("segmentation", "layout_given_image"):
            return self._segment_by_repaint(images, steps, probabilities or windows, text, seed, progress, first_id)
        steps = 1 if steps is None else steps
        for model in (self,) if stage is None else (self, stage):
            if steps == 1:
                model._trained("segmentation in one call", "one_call")

        def answers(inside: np.ndarray, told: Texts, ids: np.ndarray) -> Iterator[np.ndarray]:
            if stage is None:
                return self._probabilities(inside, steps, told, seed, progress, ids)
            return self._finer_probabilities(stage, inside, steps, told, seed, progress, ids)

        found, head = [], self if stage is None else stage
        if windows:
            for i, x in enumerate(images):
                told = text if text is None or isinstance(text, str) else text[i]

                def inside_windows(inside: np.ndarray, told: Texts = told, one: int = first_id + i):
                    ids = np.array([window_ids(one, window) for window in range(len(inside))])
                    return answers(inside, told, ids)

                maps = tiling.average(inside_windows, x, head.size, self.labels.num_classes)
                found.append(maps if probabilities else maps.argmax(-1).astype(np.int32))
        else:
            decode = resize_maps if probabilities else decide
            maps = answers(head._inside(images), text, first_id + np.arange(len(images)))
            found = [decode(p, x.shape[:2]) for x, p in zip(images, maps, strict=True)]
        return _stacked(found)

    def _segment_by_repaint(self, images, steps, more: bool, text, seed, progress, first_id):
        if more:
            raise ValueError("probabilities need levels per modality; this model was trained on the diagonal only")
        values = Pair(self._inside(images), np.zeros((len(images), *self.size), np.int32))
        question = Question(values, constant_caps(values, 0, 1), text, seed, first_id + np.arange(len(images)))
        drawn = self._repaint(question, NO_GUIDANCE, steps, 1, progress).layout
        return _stacked([self._outside(y, x) for x, y in zip(images, drawn, strict=True)])

    def _inside(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([resize(Example(x, np.zeros(x.shape[:2], np.int32), ()), self.size).image for x in images])

    def _probabilities(self, images: np.ndarray, steps: int, text, seed, progress, ids, lowres: Pair | None = None):
        """Class probabilities float32 (h, w, K) of images of the model's size, one by one."""
        values = Pair(images, np.zeros((len(images), *self.size), np.int32))
        grid = paths.above(paths.layout_given_image(steps), configs.label_floor(self.config))
        runner = self._runner()
        sampler, settings = runner.sampler(NO_GUIDANCE)

        def marginals(given, cond) -> np.ndarray:
            state = run(sampler, self.params["network"], grid[:-1], given, cond, settings, progress)
            p = parallel.to_host(sampler.probabilities(self.params["network"], state, given, grid[-2], cond, settings))
            if progress is not None:
                progress(1)
            return p

        question = Question(values, constant_caps(values, 0, 1), text, seed, ids, lowres=lowres)
        for part in runner(marginals, question, progress):
            yield from part

    def _finer_probabilities(self, stage, images: np.ndarray, steps: int, text, seed, progress, ids):
        """Class probabilities of images of a stage's size, one by one: this model's of a round, then the stage's."""
        for first in range(0, len(images), self.round_size):
            rows = slice(first, first + self.round_size)
            told = text if text is None or isinstance(text, str) else text[rows]
            small = stage.reduce_images(images[rows])
            low = Pair(small, np.stack(list(self._probabilities(small, steps, told, seed, progress, ids[rows]))))
            yield from stage._probabilities(images[rows], steps, stage._read(told), seed, progress, ids[rows], low)

    def _outside(self, layout: np.ndarray, image: np.ndarray) -> np.ndarray:
        """A layout of the model's size at the size of an image."""
        blank = np.zeros((*layout.shape, self.image.channels), np.uint8)
        return resize(Example(blank, layout, ()), image.shape[:2]).layout

    def _draw_layouts(self, images, samples: int, steps, text, seed, progress, first_id, stage):
        texts = text if text is None or isinstance(text, str) else [t for t in text for _ in range(samples)]
        ids = first_id * samples + np.arange(len(images) * samples)
        head, low = self if stage is None else stage, None
        inside = head._inside(images).repeat(samples, axis=0)
        if stage is not None:
            small = stage.reduce_images(inside)
            low = Pair(small, self._drawn(small, steps, texts, seed, progress, ids))
            texts = stage._read(texts)
        out = head._drawn(inside, steps, texts, seed, progress, ids, low)
        found = [
            np.stack([self._outside(y, x) for y in drawn])
            for x, drawn in zip(images, out.reshape(len(images), samples, *head.size), strict=True)
        ]
        return _stacked(found)

    def _drawn(self, images: np.ndarray, steps, text, seed, progress, ids, lowres: Pair | None = None) -> np.ndarray:
        """One layout drawn for each image of the model's size."""
        self._trained("segmentation", "layout_given_image")
        values = Pair(images, np.zeros((len(images), *self.size), np.int32))
        question = Question(values, constant_caps(values, 0, 1), text, seed, ids, lowres=lowres)
        return self._run(paths.layout_given_image(self._steps(steps)), question, NO_GUIDANCE, progress).layout


def _stacked(answers: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """One array, where all answers are of one shape."""
    return np.stack(answers) if len({answer.shape for answer in answers}) == 1 else answers
