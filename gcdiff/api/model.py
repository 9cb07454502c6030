"""The model of a run: one method for each direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api.base import UNSEEN_WORDS, constant_caps
from gcdiff.api.fill import Fills
from gcdiff.api.question import Progress, Question, Scales, Texts, begun_once, two
from gcdiff.api.segment import Segments
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
        path: str | None = None, progress: Progress = None, *, start: Pair | None = None,
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
        if upsample is not None:
            return self._upsampled(upsample, text, num, steps, guidance, seed, path, progress, start, strength, size)
        if start is not None and (num != 1 or path is not None or size is not None):
            raise ValueError("start says how many, where from and how large: expected no num, path or size beside it")
        if size is not None and path not in (None, "joint"):
            raise ValueError(f"path is {path!r}, expected joint for a size larger than the model's")
        if start is not None:
            return self._edit(start, strength, text, steps, guidance, seed, progress)
        if num < 1:
            raise ValueError(f"num is {num}, expected at least 1")
        if size is not None and tuple(size) != self.size:
            nothing = np.zeros((num, *size), bool)
            blank = Pair(np.zeros((num, *size, self.image.channels), np.uint8), None)
            return self.outpaint(blank, Pair(nothing, None), text, steps, guidance, seed, progress)
        return self._draw(num, path, text, steps, guidance, seed, progress, first_id=first_id)

    def _draw(
        self, num: int, path: str | None, text, steps, guidance, seed, progress, lowres: Pair | None = None,
        first_id: int = 0,
    ) -> Pair:  # fmt: skip
        """Pairs of the model's size with nothing known."""
        name = path or self.config.sample.path
        if name not in PATHS:
            raise ValueError(f"path is {name!r}, expected {', '.join(PATHS[:-1])} or {PATHS[-1]}")
        self._trained(f"the path {name}", *NEEDS[name])
        values = Pair(np.zeros((num, *self.size, self.image.channels), np.uint8), np.zeros((num, *self.size), np.int32))
        grid = configs.sample_path(self.config, self._steps(steps), name)
        ids = first_id + np.arange(num)
        question = Question(values, constant_caps(values, 1, 1), text, seed, ids, lowres=lowres)
        pair = self._run(grid, question, guidance, progress)
        return Pair(None if name == "layout_only" else pair.image, None if name == "image_only" else pair.layout)

    def _upsampled(self, upsample, text, num, steps, guidance, seed, path, progress, start, strength, size) -> Pair:
        """`sample` here, then at the size of a stage."""
        stage, progress = self.stage(upsample), begun_once(progress)
        if path in ("image_only", "layout_only"):
            raise ValueError(f"path is {path!r}, expected one that ends in a pair: a stage is given both sides")
        if size is not None:
            size = stage._base_size(tuple(size))
        low = self.sample(text, num, steps, guidance, seed, path, progress, start=start, strength=strength, size=size)
        return stage.upsample(low, stage._read(text), steps, guidance, seed, progress)

    def upsample(
        self, pair: Pair, text: Texts = None, steps: int | None = None, guidance: Scales = None, seed: int = 0,
        progress: Progress = None, *, given: Pair | None = None, known: Pair | None = None,
    ) -> Pair:  # fmt: skip
        """Low-resolution pairs drawn again by this super-resolution stage: Pair(uint8 (N, H, W, 3), int32 (N, H, W)).

        `pair` is (uint8 (N, h, w, 3), int (N, h, w), or shares of the classes float (N, h, w, K) of which one label is
        drawn for each pixel), of `lowres_size` or larger; noise of the level config.sample.lowres_level is put on it.
        `given` and `known` say which pixels of the high resolution are known, as in `outpaint`: they come back bit for
        bit.
        """
        if (given is None) != (known is None):
            raise ValueError("upsample: given and known say together what is known, expected both or neither")
        low = self._checked_lowres(pair)
        size = tuple(self.factor * side for side in low.layout.shape[1:3])
        if known is None and size == self.size:
            path = self.config.sample.path
            return self._draw(len(low.image), path, text, steps, guidance, seed, progress, low)
        shape = (len(low.image), *size)
        nothing = Pair(np.zeros((*shape, self.image.channels), np.uint8)), Pair()
        values, masks = self._canvas(*(nothing if given is None else (given, known)))
        if values.layout.shape != shape:
            raise ValueError(f"upsample: given has shape {values.layout.shape}, expected {shape} for these pairs")
        return self._outpaint(values, masks, text, steps, guidance, seed, progress, None, low)

    def _edit(self, start: Pair, strength, text, steps, guidance, seed, progress) -> Pair:
        values, (image, layout) = self._checked(start, "start"), two("strength", strength)
        edges = {image == 0: "layout_given_image", layout == 0: "image_given_layout", image == layout: "joint"}
        self._trained("an edit", edges.get(True, "independent"))
        grid = paths.partial(self._steps(steps), image, layout)
        if layout == 0:
            grid[:, 1] = 1.0  # its labels are held by their caps, and its void stays unknown
        caps = constant_caps(values, float(image > 0), float(layout > 0))
        out = self._run(grid, Question(values, caps, text, seed), guidance, progress)
        return Pair(out.image if image > 0 else values.image, out.layout if layout > 0 else values.layout)

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
        if self.config.data.label_precision < 1:
            raise ValueError("bounds need labels of precision 1: this model knows no layout at level 0")

    def sampling(self, **fields) -> Model:
        """The same model with other fields of config.sample: `model.sampling(image_step="dpm++", path="layout_first")`.

        Raises ValueError for a field that does not exist or a value that cannot be.
        """
        config = configs.with_fields(self.config, {f"sample.{name}": value for name, value in fields.items()})
        return Model(config, self.specs, configs.resampled(self.built, config, self.specs), self.params)

    def likelihood(
        self, pair: Pair, text: Texts = None, draws: int = 8, seed: int = 0, progress: Progress = None, *,
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
        question = Question(values, constant_caps(values, 1, 1), text, seed)
        measure, params = self._measure(), self.params["network"]

        def chunks(told: Progress):
            return (Chunk(g.values, g.keys, c, count) for g, c, count in self._runner().rounds(question, told))

        if grid is not None:
            # Each leg goes through the chunks anew; the first tells of their beginning.
            of_leg = {leg: chunks(progress if leg == legs[0] else None) for leg in legs}
            found = {
                leg: grid_bound(measure, params, of_leg[leg], paths.PATHS[leg](grid), draws, 1, progress)
                for leg in legs
            }
            return report(found, None, grid)
        if log_snr_max is None:
            first = next(chunks(None))
            first = first._replace(count=min(first.count, self.config.sample.chunk))  # on however many devices
            tried = {end: bound(measure, params, [first], legs[:1], 4, end)[legs[0]] for end in LAST_STEPS}
            log_snr_max = min(tried, key=lambda end: total(tried[end]).value)
        return report(bound(measure, params, chunks(progress), legs, draws, log_snr_max, progress), log_snr_max)


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
