"""The model of a run: one method for each direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api.base import UNSEEN_WORDS, constant_caps
from gcdiff.api.fill import Fills
from gcdiff.api.runner import Progress, Question, Scales, Texts
from gcdiff.api.segment import Segments
from gcdiff.codecs import check_images, check_layouts
from gcdiff.likelihood import LEGS, LOG_SNR_MAX, Chunk, Likelihood, Report, bound, report, total
from gcdiff.types import Pair

__all__ = ["UNSEEN_WORDS", "Model", "load"]

LAST_STEPS = (LOG_SNR_MAX, 10.0, 8.0, 6.0, 4.0, 2.0)
LEG_SHARES = {leg: leg.removesuffix("_only") for leg in LEGS}
"""The share of training levels that each leg of a likelihood needs."""
PATHS = ("joint", "layout_first", "image_only", "layout_only")


class Model(Segments, Fills):
    """A trained model. `labels` and `image` say what its layouts and images mean; `size` is (height, width).

    Wherever a method takes them: `text` is one caption for all, one for each, or None for no text. `steps` and
    `guidance` are the run's recommended values where None; `guidance` is one scale of the text, one for the image and
    one for the layout, or a `gcdiff.Guidance`; 1 is none. Example i depends on `seed` (0 to 2^32 - 1) and i alone.
    """

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
        pair = self._run(grid, Question(values, constant_caps(values, 1, 1), text, seed), guidance, progress)
        return Pair(None if name == "layout_only" else pair.image, None if name == "image_only" else pair.layout)

    def _edit(self, start: Pair, strength, text, steps, guidance, seed, progress) -> Pair:
        values = Pair(
            np.stack(check_images(start.image, self.image.channels)), check_layouts(start.layout, self.labels)
        )
        for name, array in zip(Pair._fields, values, strict=True):
            if array.shape[1:3] != self.size:
                raise ValueError(f"start: {name} has shape {array.shape}, expected the model's size {self.size}")
        pair: Any = (strength, strength) if np.isscalar(strength) else tuple(strength)
        levels = float(pair[0]), float(pair[1])
        self._trained("an edit", "independent" if levels[0] != levels[1] else "joint")
        grid = paths.partial(self._steps(steps), *levels)
        caps = constant_caps(values, float(levels[0] > 0), float(levels[1] > 0))
        out = self._run(grid, Question(values, caps, text, seed), guidance, progress)
        return out._replace(image=out.image if levels[0] > 0 else values.image)

    @property
    def likelihood_legs(self) -> tuple[str, ...]:
        """The laws whose bounds this model was trained for, by their legs in `gcdiff.likelihood.LEGS`."""
        return tuple(leg for leg, share in LEG_SHARES.items() if getattr(self.built.levels, share) > 0)

    def likelihood(
        self, pair: Pair, text: Texts = None, draws: int = 8, seed: int = 0, progress: Progress = None, *,
        log_snr_max: float | None = None,
    ) -> Report:  # fmt: skip
        """Upper bounds on -log p of pairs (uint8 (N, H, W, 3), int (N, H, W)) of the model's size, with their errors.

        In bits per dimension of the image and bits per labelled pixel of the layout, of every law that was trained:
        p(x, y), p(x), p(y), p(x | y), p(y | x); and the signed gaps between the three paths to p(x, y), which an exact
        model does not have. `draws` are the random levels per example and leg. Void pixels stay unknown and are not
        counted. No guidance is applied. `log_snr_max` is where the last step begins: any gives a bound, and a network
        that is poor at little noise is charged for it; None takes the one of `LAST_STEPS` that is least for the first
        chunk. `progress` is told n after n more legs of a draw.
        """
        values = Pair(np.stack(check_images(pair.image, self.image.channels)), check_layouts(pair.layout, self.labels))
        for name, array in zip(Pair._fields, values, strict=True):
            if array.shape[1:3] != self.size:
                raise ValueError(f"likelihood: {name} has shape {array.shape}, expected the model's size {self.size}")
        self._warn_of_unseen(text)
        question = Question(values, constant_caps(values, 1, 1), text, seed)
        chunks = [Chunk(g.values, g.keys, c, count) for g, c, count in self._runner().chunks(question, progress)]
        measure, params = Likelihood(self.built.process, self.built.network.apply), self.params["network"]
        legs = self.likelihood_legs
        if log_snr_max is None:
            tried = {end: bound(measure, params, chunks[:1], legs[:1], 4, end)[legs[0]] for end in LAST_STEPS}
            log_snr_max = min(tried, key=lambda end: total(tried[end]).value)
        return report(bound(measure, params, chunks, legs, draws, log_snr_max, progress), log_snr_max)


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
