"""The model of a run: one method for each direction."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api.base import UNSEEN_WORDS
from gcdiff.api.fill import Fills
from gcdiff.api.question import Listener, Question, Scales, Texts, Watch, two
from gcdiff.api.runner import chunk_for, round_size
from gcdiff.api.segment import Segments
from gcdiff.api.windows import windows
from gcdiff.likelihood import (
    LEGS,
    LOG_SNR_MAX,
    Chunk,
    Likelihood,
    Report,
    bound,
    grid_bound,
    least_level,
    report,
    total,
)
from gcdiff.pictures import enlarge
from gcdiff.types import Pair

__all__ = ["UNSEEN_WORDS", "Model", "load"]

LAST_STEPS = (LOG_SNR_MAX, 10.0, 8.0, 6.0, 4.0, 2.0)
LEG_SHARES = {leg: leg.removesuffix("_only") for leg in LEGS}
"""The share of training levels that each leg of a likelihood needs."""
NEEDS = {
    "joint": ("joint",),
    "layout_first": ("layout", "image_given_layout"),
    "image_first": ("image", "layout_given_image"),
    "image_only": ("image",),
    "layout_only": ("layout",),
}
"""The shares of training levels that each path of `Model.sample` needs."""
PATHS = tuple(NEEDS)


class Model(Segments, Fills):
    """A trained model. `labels` and `image` say what its layouts and images mean; `size` is (height, width).

    Wherever a method takes them: `text` is one caption for all, one for each, or None for no text. `steps` and
    `guidance` are the run's recommended values where None; `guidance` is one scale of the text (1 is none), two of
    them, for the image and for the layout, or a whole `gcdiff.Guidance`. Example i depends on `seed` (0 to 2^32 - 1)
    and i alone. All devices work, a chunk on each; what is drawn does not depend on how many they are. Of several
    processes (`jax.distributed`) all must ask the same question, and all get the whole answer.
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

        `upsample` is a super-resolution stage, a model or the directory of its run: what this model draws is drawn
        again at the stage's size, and `size` is of what comes back.

        The first one is example `first_id` of `seed`: 0 with `start`, `size` or `upsample`.
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
        `given` and `known` say which pixels of the high resolution are known, as in `outpaint`: they come back bit for
        bit.
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

    def _measure(self) -> Likelihood:
        return Likelihood(self.built.process, self.built.network.apply, mesh=self.mesh)

    @property
    def likelihood_legs(self) -> tuple[str, ...]:
        """The laws whose bounds this model was trained for, by their legs in `gcdiff.likelihood.LEGS`."""
        return tuple(leg for leg, share in LEG_SHARES.items() if getattr(self.built.levels, share) > 0)

    def check_likelihood(self, log_snr_max: float | None = None, grid: int | None = None) -> None:
        """Raise ValueError, in one line, for a model that has no likelihood, or none with a last step from there or on
        such a grid."""
        if self.built.conditions.lowres is not None:
            raise ValueError("a super-resolution stage has no likelihood: it is given a part of what it would measure")
        if not self.built.codec.likelihood:
            raise ValueError("likelihoods of this model's states are not those of images: its config.data.codec")
        self._measure()
        if grid is not None and grid < 1:
            raise ValueError(f"grid is {grid}, expected at least 1 step")
        if grid is not None and log_snr_max is not None:
            raise ValueError(
                f"log_snr_max is {log_snr_max} and grid is {grid}, expected one: a grid has its own last step"
            )
        if log_snr_max is not None:
            least_level(self.built.process, log_snr_max)
        if not self.likelihood_legs:
            raise ValueError("no law has a bound: the shares of config.levels on straight paths are all 0")
        if self.built.defaults.label_precision < 1:
            raise ValueError("bounds need labels of precision 1: this model knows no layout at level 0")

    def sampling(self, **fields) -> Model:
        """The same model with other fields of config.sample: `model.sampling(image_step="dpm++", path="layout_first")`.

        Raises ValueError for a field that does not exist or a value that cannot be.
        """
        config = configs.with_fields(self.config, {f"sample.{name}": value for name, value in fields.items()})
        return dataclasses.replace(self, config=config, built=configs.resampled(self.built, config, self.specs))

    def likelihood(
        self, pair: Pair, text: Texts = None, draws: int = 8, seed: int = 0, progress: Listener = None, *,
        log_snr_max: float | None = None, grid: int | None = None,
    ) -> Report:  # fmt: skip
        """Upper bounds on -log p of pairs (uint8 (N, H, W, 3), int (N, H, W)) of the model's size, with their errors.

        In bits per dimension of the image and bits per labelled pixel of the layout, of every law that was trained:
        p(x, y), p(x), p(y), p(x | y), p(y | x); and the signed gaps between the three paths to p(x, y), which an exact
        model does not have. `draws` are the random levels per example and leg. Void pixels stay unknown and are not
        counted. No guidance is applied. `log_snr_max` is where the last step begins: any gives a bound, and a network
        that is poor at little noise is charged for it; None takes the one of `LAST_STEPS` that is least for the first
        chunk (with few examples the bound is then a little optimistic). `progress` is told n after n more legs of a
        draw.

        None of `grid` is continuous time; a number is the bound of ancestral sampling in so many equal steps of every
        leg. A draw is then two steps, the last one and a random one of the others, and `progress` counts steps. On a
        grid an exact model too lies above -log p and has gaps, which fall as 1/grid.
        """
        self.check_likelihood(log_snr_max, grid)
        values, legs = self._checked(pair, "likelihood"), self.likelihood_legs
        self._warn_of_unseen(text)
        question = Question.of(text, None, None, seed, progress).about(values, 1.0, 1.0)
        measure, params, watch, runner = self._measure(), self.params["network"], question.watch, self._runner()
        size = round_size(chunk_for(len(question), self.built.defaults.chunk, self.mesh), self.mesh)
        # On a grid a draw is two steps, unless there is but one.
        watch.expect(-(-len(question) // size) * draws * len(legs) * min(grid or 1, 2))

        def chunks(asked: Question) -> Iterator[Chunk]:
            return (Chunk(r.given.values, r.given.keys, r.condition, r.count) for r in runner.rounds(asked))

        if grid is not None:
            # Each leg goes through the chunks anew.
            bounds = {
                leg: grid_bound(measure, params, chunks(question), paths.PATHS[leg](grid), draws, 1, watch.step)
                for leg in legs
            }
            return report(bounds, None, grid)
        if log_snr_max is None:
            first = next(chunks(question.but(watch=Watch())))
            first = first._replace(count=min(first.count, self.built.defaults.chunk))  # on however many devices
            tried = {end: bound(measure, params, [first], legs[:1], 4, end)[legs[0]] for end in LAST_STEPS}
            log_snr_max = min(tried, key=lambda end: total(tried[end]).value)
        return report(bound(measure, params, chunks(question), legs, draws, log_snr_max, watch.step), log_snr_max)


def load(workdir: str | Path, ema: float | None = None, encoder: str | Path | None = None) -> Model:
    """The model of a run directory, with its averaged (EMA) weights, or of an export: a `Model`, or what another task
    than the joint one says.

    `ema` chooses another length of the average, as its standard deviation over the length of the training, of a run
    that was trained with config.optim.ema_profiles; lengths that its stored averages do not give raise ValueError.
    `encoder` is the directory or hub id of the pretrained text encoder, where it is not the one the run remembers; it
    is read when the first caption is asked for.
    Raises FileNotFoundError, with one line, for a directory that is no run or holds no checkpoint.
    """
    config, _ = configs.load_run(Path(workdir))
    return configs.model_class(config).restored(workdir, ema, encoder)
