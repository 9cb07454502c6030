"""From images to layouts: segmentation in one call or several, samples, windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gcdiff import parallel, paths
from gcdiff.api import windows as tiling
from gcdiff.api.base import window_ids
from gcdiff.api.question import Listener, Question, Texts
from gcdiff.api.runner import Round
from gcdiff.api.stage import Stage
from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.guidance import NO_GUIDANCE
from gcdiff.pictures import check_images, decide, resize_maps
from gcdiff.samplers.sample import as_arrays
from gcdiff.samplers.walk import walk
from gcdiff.types import Pair


class Segments(Stage):
    """p(y given x)."""

    def segment(
        self, images, steps: int | None = None, probabilities: bool = False, text: Texts = None, seed: int = 0,
        progress: Listener = None, *, first_id: int = 0, samples: int = 0, windows: bool = False, upsample=None,
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

        >>> model.segment(images).shape
        (2, 32, 64)
        >>> model.segment(images, probabilities=True).shape
        (2, 32, 64, 10)
        >>> model.segment(images, samples=2).shape
        (2, 2, 32, 64)
        """
        images = check_images(images, self.image.channels)
        if samples and (probabilities or windows):
            raise ValueError("samples are drawn at the model's size: expected neither probabilities nor windows")
        if windows and text is not None and not isinstance(text, str) and len(text) != len(images):
            raise ValueError(f"{len(text)} captions for {len(images)} examples: expected one, or one for each")
        stage = None if upsample is None else self.stage(upsample)
        question = Question.of(text, steps, NO_GUIDANCE, seed, progress).but(ids=first_id + np.arange(len(images)))
        if samples:
            return self._draw_layouts(images, samples, question, stage)
        self._warn_of_unseen(text)
        models = (self,) if stage is None else (self, stage)
        if stage is not None:
            for model in models:
                model._trained("segmentation", "layout_given_image")
        elif not self._by_levels("segmentation", "layout_given_image"):
            return self._segment_by_repaint(images, probabilities or windows, question)
        question = question.but(steps=1 if steps is None else steps)
        if question.steps == 1:
            for model in models:
                model._trained("segmentation in one call", "one_call")
        maps = self._maps_by_windows if windows else self._maps
        decode = None if probabilities else (lambda p, size: p.argmax(-1).astype(np.int32)) if windows else decide
        answers = []
        for p, image in zip(maps(images, question, stage), images, strict=False):  # fewer where it is stopped
            size = image.shape[:2]
            answers.append((resize_maps(p, size) if not windows else p) if decode is None else decode(p, size))
        return _stacked(answers)

    def _maps(self, images: list[np.ndarray], question: Question, stage) -> Iterator[np.ndarray]:
        """Class probabilities float32 (h, w, K) of images, one by one, at the size of the model or the stage."""
        for model in (self,) if stage is None else (self, stage):
            question.watch.expect(model.cost(len(images), question.steps))
        return self._answers((self if stage is None else stage)._inside(images), question, stage)

    def _maps_by_windows(self, images: list[np.ndarray], question: Question, stage) -> Iterator[np.ndarray]:
        """Class probabilities float32 (h, w, K) of images, one by one, at their own sizes, averaged over windows."""
        head = self if stage is None else stage
        for image in images:
            parts = len(tiling.cover(image.shape[:2], head.size)[1])
            for model in {id(m): m for m in (self, head)}.values():
                question.watch.expect(model.cost(parts, question.steps))
        for i, image in enumerate(images):

            def inside_windows(inside: np.ndarray, i: int = i) -> Iterator[np.ndarray]:
                ids = np.array([window_ids(question.ids[i], window) for window in range(len(inside))])
                text = question.texts(np.full(len(inside), i))
                return self._answers(inside, question.but(text=text, ids=ids), stage)

            if question.watch.stopped:
                return
            yield tiling.average(inside_windows, image, head.size, self.labels.num_classes)

    def _answers(self, inside: np.ndarray, question: Question, stage) -> Iterator[np.ndarray]:
        """Class probabilities of images of the size of the model or, with one, of the stage."""
        if stage is None:
            return self._probabilities(inside, question)
        return self._finer_probabilities(stage, inside, question)

    def _segment_by_repaint(self, images: list[np.ndarray], more: bool, question: Question):
        if more:
            raise ValueError("probabilities need levels per modality; this model was trained on the diagonal only")
        question.watch.expect(self.cost(len(images), self._steps(question)))
        drawn = self._repaint(self._about_images(self._inside(images), question), 1).layout
        return _stacked([self._outside(y, x) for x, y in zip(images, drawn, strict=False)])

    def _about_images(self, images: np.ndarray, question: Question, **what) -> Question:
        """A question about given images of the model's size, whose layouts are unknown."""
        values = Pair(images, np.zeros((len(images), *self.size), np.int32))
        return question.about(values, 0.0, 1.0, question.ids, **what)

    def _inside(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([resize(Example(x, np.zeros(x.shape[:2], np.int32), ()), self.size).image for x in images])

    def _probabilities(
        self, images: np.ndarray, question: Question, lowres: Pair | None = None
    ) -> Iterator[np.ndarray]:
        """Class probabilities float32 (h, w, K) of images of the model's size, one by one."""
        grid = self.built.defaults.walked(paths.layout_given_image(self._steps(question)))
        runner, watch, params = self._runner(), question.watch, self.params["network"]
        sampler, settings = runner.sampler(NO_GUIDANCE)
        question = self._about_images(images, question, lowres=lowres)

        def marginals(part: Round) -> np.ndarray:
            def law() -> np.ndarray:
                last = walked.carry.state, part.given, walked.row, part.condition, as_arrays(settings)
                return parallel.to_host(sampler.probabilities(params, *last))

            def preview() -> Pair:
                here = images[part.first : part.first + part.count]
                return Pair(here, law()[: part.count].argmax(-1).astype(np.int32))

            for walked in walk(sampler, params, grid[:-1], part.given, part.condition, settings, self._pace(watch)):
                if walked.count and not watch.step(walked.count, preview, part.first):
                    return law()
            p = law()
            watch.step(
                1,
                lambda: Pair(images[part.first :][: part.count], p[: part.count].argmax(-1).astype(np.int32)),
                part.first,
            )
            return p

        for maps in runner.parts(marginals, question):
            yield from maps

    def _finer_probabilities(self, stage, images: np.ndarray, question: Question) -> Iterator[np.ndarray]:
        """Class probabilities of images of a stage's size, one by one: this model's of a round, then the stage's."""
        for first in range(0, len(images), self.round_size):
            rows = np.arange(first, min(first + self.round_size, len(images)))
            part = question.but(text=question.texts(rows), ids=question.ids[rows])
            small = stage.reduce_images(images[rows])
            low = Pair(small, np.stack(list(self._probabilities(small, part))))
            if question.watch.stopped:
                yield from (p.repeat(stage.factor, 0).repeat(stage.factor, 1) for p in low.layout)
                return
            yield from stage._probabilities(images[rows], stage._read(part), low)

    def _outside(self, layout: np.ndarray, image: np.ndarray) -> np.ndarray:
        """A layout of the model's size at the size of an image."""
        blank = np.zeros((*layout.shape, self.image.channels), np.uint8)
        return resize(Example(blank, layout, ()), image.shape[:2]).layout

    def _draw_layouts(self, images: list[np.ndarray], samples: int, question: Question, stage):
        ids = question.ids[0] * samples + np.arange(len(images) * samples)
        question = question.but(text=question.texts(np.arange(len(images)).repeat(samples)), ids=ids)
        head, low = self if stage is None else stage, None
        for model in {id(m): m for m in (self, head)}.values():
            question.watch.expect(model.cost(len(ids), model._steps(question)))
        inside = head._inside(images).repeat(samples, axis=0)
        if stage is not None:
            small = stage.reduce_images(inside)
            low = Pair(small, self._drawn(small, question))
            question = stage._read(question)
        if question.watch.stopped:
            out = low.layout.repeat(stage.factor, 1).repeat(stage.factor, 2)
        else:
            out = head._drawn(inside, question, low)
        whole = len(out) // samples  # all images, unless it was stopped
        answers = [
            np.stack([self._outside(y, x) for y in drawn])
            for x, drawn in zip(images, out[: whole * samples].reshape(whole, samples, *head.size), strict=False)
        ]
        return _stacked(answers)

    def _drawn(self, images: np.ndarray, question: Question, lowres: Pair | None = None) -> np.ndarray:
        """One layout drawn for each image of the model's size."""
        self._trained("segmentation", "layout_given_image")
        question = self._about_images(images, question, lowres=lowres)
        return self._run(paths.layout_given_image(self._steps(question)), question).layout


def _stacked(answers: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """One array, where all answers are of one shape."""
    return np.stack(answers) if len({answer.shape for answer in answers}) == 1 else answers
