"""What every direction of a model shares: its parts, what it was trained for, and running a question."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gcdiff import config as configs
from gcdiff import parallel, paths
from gcdiff.api.question import Progress, Question, Scales, Texts
from gcdiff.api.runner import Runner, round_size
from gcdiff.pictures import check_images, check_layouts
from gcdiff.samplers.repaint import run_repaint
from gcdiff.samplers.sample import run
from gcdiff.text.pretrained import PretrainedCaptions
from gcdiff.types import ImageSpec, LabelSpec, Pair

UNSEEN_WORDS = "words this model has never seen"


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A trained model's parts. `labels` and `image` say what its layouts and images mean; `size` is (height, width)."""

    config: Any
    specs: configs.Specs
    built: configs.Built
    params: Any

    @classmethod
    def restored(cls, workdir: str | Path, ema: float | None = None, encoder: str | Path | None = None) -> Self:
        """The model of a run directory, with its averaged (EMA) weights, or an average of another length; or of an
        export.

        Raises FileNotFoundError, with one line, for a directory that is no run or holds no checkpoint.
        """
        workdir = Path(workdir)
        config, specs = configs.load_run(workdir)
        built = configs.build(config, specs, encoder=encoder)
        params = parallel.to_host(configs.restore_params(workdir, config, specs, ema))
        if (mesh := built.sampler.mesh) is None:
            # Restored arrays are bound to their device, what a path starts from is not: its second piece would compile
            # anew.
            params = jax.tree.map(jnp.asarray, params)
        return cls(config, specs, built, parallel.place(params, mesh, parallel.WHOLE))

    @property
    def labels(self) -> LabelSpec:
        return self.specs.labels

    @property
    def image(self) -> ImageSpec:
        return self.specs.image

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.config.data.size)

    @property
    def encoder(self) -> str | Path | None:
        """Where the pretrained text encoder is, if it is not where it was when captions were encoded."""
        text = self.built.conditions.text
        return text.captions.elsewhere if text is not None and isinstance(text.captions, PretrainedCaptions) else None

    @property
    def mesh(self) -> Mesh | None:
        """The devices that it runs on; None for a single one."""
        return self.built.sampler.mesh

    @property
    def round_size(self) -> int:
        """How many examples it works on side by side, a chunk of config.sample.chunk on each device."""
        return round_size(self.config.sample.chunk, self.mesh)

    def unseen_words(self, text: Texts) -> list[str]:
        """The words of captions that this model has never seen, sorted: it takes them all for one unknown word."""
        if text is None or self.specs.vocabulary is None:
            return []
        return self.specs.vocabulary.unknown([text] if isinstance(text, str) else list(text))

    def _warn_of_unseen(self, text: Texts) -> None:
        unseen = self.unseen_words(text)
        if unseen:
            warnings.warn(f"{UNSEEN_WORDS}: {', '.join(unseen)}", stacklevel=4)

    def _checked(self, pair, question: str) -> Pair:
        """A pair (uint8 (N, H, W, C), int32 (N, H, W)) of the model's size; else ValueError, in one line."""
        pair = Pair(*pair)
        for name, array in zip(Pair._fields, pair, strict=True):
            if array is None or np.shape(array)[1:3] != self.size:
                shape = None if array is None else np.shape(array)
                raise ValueError(f"{question}: {name} has shape {shape}, expected (N, H, W) of the model's {self.size}")
        if len(pair.image) != len(pair.layout):
            raise ValueError(f"{question}: {len(pair.image)} images and {len(pair.layout)} layouts, expected as many")
        return Pair(np.stack(check_images(pair.image, self.image.channels)), check_layouts(pair.layout, self.labels))

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
        return Runner(self.built, self.params, self.config.sample.chunk)

    def _run(self, grid: np.ndarray, question: Question, guidance: Scales, progress: Progress) -> Pair:
        """The pairs (uint8, int32) at the end of a path."""
        return self._walk(run, (grid,), {}, question, guidance, progress)

    def _repaint(self, question: Question, guidance: Scales, steps, resamples: int, progress: Progress) -> Pair:
        if self._steps(steps) < 2:
            raise ValueError(f"steps is {self._steps(steps)}, expected at least 2 for RePaint")
        grid = paths.joint(self._steps(steps))
        return self._walk(run_repaint, (grid,), {"resamples": resamples}, question, guidance, progress)

    def _walk(self, walk, grid, options, question: Question, guidance: Scales, progress: Progress) -> Pair:
        self._warn_of_unseen(question.text)
        runner, floor = self._runner(), configs.label_floor(self.config)
        question, grid = question.above(floor), (paths.above(grid[0], floor),)
        sampler, settings = runner.sampler(runner.guidance(guidance, question.text))

        def pairs(given, cond) -> Pair:
            state = walk(sampler, self.params["network"], *grid, given, cond, settings, progress=progress, **options)
            image, layout = parallel.to_host(state)
            return Pair(self.built.codec.decode(image), np.asarray(self.built.process.layout.decode(layout)))

        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *runner(pairs, question, progress))


def window_ids(ids, window: int):
    """The ids, a number or an array, of the same examples in another window: of their own, whatever else is drawn."""
    return ids + (window << 20)


def constant_caps(values: Pair, image: float, layout: float) -> Pair:
    """One highest level for all pixels of a side."""
    return Pair(np.full(values.image.shape[:3], image, np.float32), np.full(values.layout.shape, layout, np.float32))
