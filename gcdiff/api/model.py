"""The model of a run: one method for each direction."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api.base import UNSEEN_WORDS
from gcdiff.api.fill import Fills
from gcdiff.api.likelihoods import Likelihoods
from gcdiff.api.question import Listener, Question, Scales, Texts, two
from gcdiff.api.segment import Segments
from gcdiff.api.windows import windows
from gcdiff.api.worse import allowed
from gcdiff.pictures import enlarge
from gcdiff.types import Pair

__all__ = ["UNSEEN_WORDS", "Model", "load"]

NEEDS = {
    "joint": ("joint",),
    "layout_first": ("layout", "image_given_layout"),
    "image_first": ("image", "layout_given_image"),
    "image_only": ("image",),
    "layout_only": ("layout",),
}
"""The shares of training levels that each path of `Model.sample` needs."""
PATHS = tuple(NEEDS)


class Model(Segments, Fills, Likelihoods):
    """A trained model. `labels` and `image` describe its layouts and images; `size` is (height, width).

    Wherever a method takes them: `text` is one caption for all, one for each, or None for no text. `steps` and
    `guidance` are the run's recommended values where None; `guidance` is one scale of the text (1 is none), two of
    them, for the image and for the layout, or a whole `gcdiff.Guidance`. Example i depends on `seed` (0 to 2^32 - 1)
    and i alone. All devices work, a chunk on each; what is drawn does not depend on how many they are. Of several
    processes (`jax.distributed`) all must call the method with the same arguments, and all get the whole answer.

    >>> model = gcdiff.load("runs/demo")
    >>> model.size, model.labels.num_classes
    ((32, 64), 10)
    >>> model.segment(images).shape
    (2, 32, 64)
    """

    def sample(
        self, text: Texts = None, num: int = 1, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        path: str | None = None, progress: Listener = None, *, start: Pair | None = None,
        strength: float | tuple[float, float] = 0.5, size: tuple[int, int] | None = None, upsample=None,
        first_id: int = 0,
    ) -> Pair:  # fmt: skip
        """Labelled images from text: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `path` is 'joint', 'layout_first', 'image_first', 'image_only' or 'layout_only' (the side that is not asked for
        comes back None). With `start`, a pair of arrays as they come back, sampling begins in the middle: each side is
        noised to the level `strength` (one, or one for each side; 0 leaves it as it is) and goes on from there. A
        `size` larger than the model's is filled window by window, each finished window known to the next.

        `upsample` is a super-resolution stage, a model or what `gcdiff.load` takes: what this model draws is drawn
        again at the stage's size, and `size` is of what comes back.

        The first one is example `first_id` of `seed`: 0 with `start`, `size` or `upsample`.

        >>> pair = model.sample("a foggy street with two red cars", num=2, seed=1)
        >>> pair.image.shape, pair.layout.shape
        ((2, 32, 64, 3), (2, 32, 64))
        >>> night = model.sample("a nighttime street", start=pair, strength=(0.8, 0))  # the layouts stay
        >>> np.array_equal(night.layout, pair.layout)
        True
        >>> model.sample("a nighttime street", size=(32, 96)).image.shape
        (1, 32, 96, 3)
        """
        if first_id and (start is not None or size is not None or upsample is not None):
            raise ValueError(f"first_id is {first_id}: expected neither start nor size nor upsample beside it")
        if start is not None and (num != 1 or path is not None or size is not None):
            raise ValueError("start says how many, where from and how large: expected no num, path or size beside it")
        if size is not None and path not in (None, "joint"):
            raise ValueError(f"path is {path!r}, expected joint for a size larger than the model's")
        if start is None and num < 1:
            raise ValueError(f"num is {num}, expected at least 1")
        question = Question.of(text, steps, guidance, seed, progress)
        stage = None if upsample is None else self.stage(upsample)
        if stage is None and size is not None and (size[0] < self.size[0] or size[1] < self.size[1]):
            raise ValueError(f"size is {tuple(size)}, expected at least the model's size {self.size}")
        if stage is not None and path in ("image_only", "layout_only"):
            raise ValueError(f"path is {path!r}, expected one that ends in a pair: a stage is given both sides")
        if stage is not None and size is not None:
            size = stage._base_size(tuple(size))
        if start is not None:
            answer = functools.partial(self._edit, start, strength)
            num, shape = len(Pair(*start).image), self.size
        elif size is not None and tuple(size) != self.size:
            shape = tuple(size)
            blank = Pair(np.zeros((num, *shape, self.image.channels), np.uint8), None)
            canvas = self._canvas(blank, Pair(np.zeros((num, *shape), bool), None))
            answer = functools.partial(self._outpaint, canvas, resamples=None)
        else:
            answer = functools.partial(self._draw, num, path, first_id=first_id)
            shape = self.size
        question.watch.expect(len(windows(shape, self.size)) * self.cost(num, self._steps(question)))
        if stage is None:
            return answer(question=question)
        # What this model draws is drawn again at the stage's size.
        parts = len(windows(shape, self.size))
        question.watch.expect(parts * stage.cost(num, stage._steps(question)))
        low = answer(question=question)
        if question.watch.stopped:
            return Pair(enlarge(low.image, stage.factor), low.layout.repeat(stage.factor, 1).repeat(stage.factor, 2))
        return stage._upsample(low, stage._read(question))

    def _draw(
        self, num: int, path: str | None, question: Question, lowres: Pair | None = None, first_id: int = 0
    ) -> Pair:
        """Pairs of the model's size with nothing known."""
        name = path or self.built.defaults.path
        if name not in PATHS:
            raise ValueError(f"path is {name!r}, expected {', '.join(PATHS[:-1])} or {PATHS[-1]}")
        self._trained(f"the path {name}", *NEEDS[name])
        values = Pair(np.zeros((num, *self.size, self.image.channels), np.uint8), np.zeros((num, *self.size), np.int32))
        grid = self.built.defaults.grid(question.steps, name)
        pair = self._run(grid, question.about(values, 1.0, 1.0, first_id + np.arange(num), lowres=lowres))
        return Pair(None if name == "layout_only" else pair.image, None if name == "image_only" else pair.layout)

    def upsample(
        self, pair: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Listener = None, *, given: Pair | None = None, known: Pair | None = None,
    ) -> Pair:  # fmt: skip
        """Low-resolution pairs drawn again by this super-resolution stage: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `pair` is (uint8 (N, h, w, 3), int (N, h, w), or shares of the classes float (N, h, w, K) of which one label is
        drawn for each pixel), of `lowres_size` or larger; noise of the level config.sample.lowres_level is put on it.
        `given` and `known` are pairs of the high resolution and masks of their known pixels, as in `outpaint`: those
        come back bit for bit.

        >>> stage.upsample(gcdiff.Pair(images, layouts), "a foggy street").image.shape
        (2, 64, 128, 3)
        """
        if (given is None) != (known is None):
            raise ValueError("upsample: given and known say together what is known, expected both or neither")
        question, low = Question.of(text, steps, guidance, seed, progress), self._checked_lowres(pair)
        parts = len(windows(low.layout.shape[1:3], self.lowres_size))
        question.watch.expect(parts * self.cost(len(low.image), self._steps(question)))
        return self._upsample(low, question, None if given is None else (given, known))

    def _upsample(self, low: Pair, question: Question, known: tuple[Pair, Pair] | None = None) -> Pair:
        """Checked low-resolution pairs drawn again; `known` is a pair at the high resolution and its masks."""
        size = tuple(self.factor * side for side in low.layout.shape[1:3])
        if known is None and size == self.size:
            return self._draw(len(low.image), None, question, low)
        shape = (len(low.image), *size)
        nothing = Pair(np.zeros((*shape, self.image.channels), np.uint8)), Pair()
        canvas = self._canvas(*(nothing if known is None else known))
        if canvas[0].layout.shape != shape:
            raise ValueError(f"upsample: given has shape {canvas[0].layout.shape}, expected {shape} for these pairs")
        return self._outpaint(canvas, question, None, low)

    def _edit(self, start: Pair, strength: float | tuple[float, float], question: Question) -> Pair:
        """Pairs noised to a level of each side and drawn from there."""
        values, (image, layout) = self._checked(start, "start"), two("strength", strength)
        edges = {image == 0: "layout_given_image", layout == 0: "image_given_layout", image == layout: "joint"}
        self._trained("an edit", edges.get(True, "independent"))
        grid = paths.partial(self._steps(question), image, layout)
        if layout == 0:
            grid[:, 1] = 1.0  # its labels are held by their caps, and its void stays unknown
        out = self._run(grid, question.about(values, float(image > 0), float(layout > 0)))
        whole = slice(len(out.image))  # all, unless it was stopped
        return Pair(out.image if image > 0 else values.image[whole], out.layout if layout > 0 else values.layout[whole])

    def sampling(self, **fields) -> Model:
        """The same model with other fields of config.sample: `model.sampling(image_step="dpm++", path="layout_first")`.

        Raises ValueError for a field that does not exist or a value that cannot be, and for autoguidance without a
        worse model (`against`).

        >>> model.sampling(steps=5, path="layout_first").sample("a nighttime street").layout.shape
        (1, 32, 64)
        """
        config = configs.with_fields(self.config, {f"sample.{name}": value for name, value in fields.items()})
        built = configs.resampled(self.built, config, self.specs)
        allowed(built.settings.guidance, self.worse, "autoguidance" in fields)
        return dataclasses.replace(self, config=config, built=built)


def load(workdir: str | Path, ema: float | None = None, encoder: str | Path | None = None) -> Model:
    """The model of a run directory, with its averaged (EMA) weights, of an export, or of a shipped model by its name: a
    `Model`, or the class that the run's task names. A folder goes before a shipped model of the same name.

    `ema` chooses another length of the average, as its standard deviation over the length of the training, of a run
    that was trained with config.optim.ema_profiles; lengths that its stored averages do not give raise ValueError.
    `encoder` is the directory or hub id of the pretrained text encoder, where it is not the one the run remembers; it
    is read when the first caption is asked for.
    Raises FileNotFoundError, with one line, for a directory that is no run or holds no checkpoint, and for an unknown
    name.

    >>> model = gcdiff.load("runs/demo")
    >>> model.size, model.labels.num_classes
    ((32, 64), 10)
    """
    config, _ = configs.load_run(Path(workdir))
    return configs.model_class(config).restored(workdir, ema, encoder)
