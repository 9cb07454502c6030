"""The base class of a model: its parts, its properties, the checks of arguments, and the walk down a path of levels."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gcdiff import config as configs
from gcdiff import parallel, paths, shipped
from gcdiff.api.question import Question, Texts, Watch
from gcdiff.api.runner import Round, Runner, chunk_for, round_size
from gcdiff.api.worse import allowed, check_worse
from gcdiff.guidance import Guidance
from gcdiff.pictures import check_images, check_layouts
from gcdiff.samplers.repaint import walk_repaint
from gcdiff.samplers.sample import as_arrays
from gcdiff.samplers.walk import Pace, walk
from gcdiff.text.pretrained import PretrainedCaptions
from gcdiff.training.export import WORSE, is_export
from gcdiff.types import ImageSpec, LabelSpec, Pair, pair_map

UNSEEN_WORDS = "words this model has never seen"


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A trained model's parts. `labels` and `image` describe its layouts and images; `size` is (height, width);
    `conditions` are values of further conditionings for all that it draws, set by `given`; `worse` is a worse model of
    the same pairs, for autoguidance, set by `against`."""

    config: Any
    specs: configs.Specs
    built: configs.Built
    params: Any
    conditions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    worse: Self | None = None

    @classmethod
    def restored(cls, workdir: str | Path, ema: float | None = None, encoder: str | Path | None = None) -> Self:
        """The model of a run directory, with its averaged (EMA) weights, or an average of another length; of an
        export; or of a shipped model by its name. `gcdiff.load` calls it. Where there is a folder `worse` in it, with
        an export, that is the worse model of autoguidance.

        Raises FileNotFoundError, with one line, for a directory that is no run or holds no checkpoint.

        >>> gcdiff.Model.restored("runs/demo").size
        (32, 64)
        """
        model, worse = cls._alone(workdir, ema, encoder), shipped.find(workdir) / WORSE
        if is_export(worse):
            return model.against(worse)
        if (scale := model.built.settings.guidance.auto) != 1.0:
            said = f"config.sample.autoguidance is {scale} and there is no {WORSE} in {workdir}"
            warnings.warn(f"{said}: drawn without autoguidance", stacklevel=3)
        return model

    @classmethod
    def _alone(cls, workdir: str | Path, ema: float | None = None, encoder: str | Path | None = None) -> Self:
        """`restored`, without a worse model."""
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
        """The classes of layouts: names, colours, the meaning of void.

        >>> model.labels.names[:4]
        ('sky', 'building', 'road', 'sidewalk')
        """
        return self.specs.labels

    @property
    def image(self) -> ImageSpec:
        """The channels of images.

        >>> model.image.channels
        3
        """
        return self.specs.image

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pairs that the network was trained for.

        >>> model.size
        (32, 64)
        """
        return self.built.defaults.size

    @property
    def encoder(self) -> str | Path | None:
        """The directory or hub id of the pretrained text encoder that `gcdiff.load` was given, else None.

        >>> model.encoder is None
        True
        """
        text = self.built.conditions.text
        return text.captions.elsewhere if text is not None and isinstance(text.captions, PretrainedCaptions) else None

    @property
    def mesh(self) -> Mesh | None:
        """The devices that it runs on; None for a single one.

        >>> model.mesh is None  # on one device
        True
        """
        return self.built.sampler.mesh

    @property
    def round_size(self) -> int:
        """The largest number of examples in a round, a chunk of config.sample.chunk on each device.

        >>> model.round_size  # on one device
        16
        """
        return round_size(self.built.defaults.chunk, self.mesh)

    def unseen_words(self, text: Texts) -> list[str]:
        """The words of captions that this model has never seen, sorted: it takes them all for one unknown word.

        >>> model.unseen_words("a foggy street with a purple car")
        ['purple']
        """
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

    def _steps(self, question: Question) -> int:
        return self.built.defaults.steps if question.steps is None else question.steps

    def cost(self, num: int, steps: int) -> int:
        """The number of steps that `num` examples take, over all rounds: the `total` of their progress.

        >>> model.cost(num=40, steps=25)  # three rounds on one device
        75
        """
        return steps * -(-num // round_size(chunk_for(num, self.built.defaults.chunk, self.mesh), self.mesh))

    def _trained(self, question: str, *shares: str) -> None:
        """Raise ValueError, in one line, where one of these shares of the training levels is 0."""
        for share in shares:
            if getattr(self.built.levels, share) == 0:
                raise ValueError(f"{question} was not trained: config.levels.{share} of this run is 0")

    def _by_levels(self, question: str, *shares: str) -> bool:
        """Whether the levels of these shares were trained. False, with a warning, leaves the answer to RePaint; that
        needs the diagonal, without which ValueError is raised."""
        missing = [share for share in shares if getattr(self.built.levels, share) == 0]
        if not missing:
            return True
        self._trained(question, "joint")
        warnings.warn(
            f"{question} was not trained (config.levels.{missing[0]} of this run is 0): RePaint answers", stacklevel=3
        )
        return False

    def _runner(self) -> Runner:
        return Runner(self.built, self.params, self.conditions)

    def given(self, **values: Any) -> Self:
        """The same model with values of further conditionings, by name, for all that it draws from then on.

        Raises ValueError for a conditioning that it was trained without.

        >>> model.given(brightness=[0.5])
        Traceback (most recent call last):
        ValueError: this model was trained without brightness
        """
        names = {field.name for field in dataclasses.fields(self.built.conditions)} - {"text", "lowres"}
        for name in values:
            if name not in names or getattr(self.built.conditions, name) is None:
                raise ValueError(f"this model was trained without {name}")
        return dataclasses.replace(self, conditions={**self.conditions, **values})

    def against(self, worse: Self | str | Path) -> Self:
        """The same model with a worse one, a model or what `gcdiff.load` takes, that autoguidance leads away from.

        It is used where config.sample.autoguidance, or `auto` of a `gcdiff.Guidance`, is not 1. A smaller model of the
        same data that was trained for a tenth of the time is a good choice. Raises ValueError for one of other pairs,
        of other noise or with other conditionings.

        >>> guided = model.against("runs/demo").sampling(autoguidance=1.5)
        >>> guided.sample("a foggy street", steps=2).image.shape
        (1, 32, 64, 3)
        """
        other = type(self)._alone(worse, encoder=self.encoder) if isinstance(worse, str | Path) else worse
        check_worse(self, other)
        return dataclasses.replace(self, worse=dataclasses.replace(other, worse=None))

    def _run(self, grid: np.ndarray, question: Question) -> Pair:
        """The pairs (uint8, int32) at the end of a path."""
        return self._walk(walk, grid, question)

    def _repaint(self, question: Question, resamples: int) -> Pair:
        if self._steps(question) < 2:
            raise ValueError(f"steps is {self._steps(question)}, expected at least 2 for RePaint")
        grid = paths.joint(self._steps(question))
        return self._walk(functools.partial(walk_repaint, resamples=resamples), grid, question)

    def _walk(self, walk: Callable, grid: np.ndarray, question: Question) -> Pair:
        """Pairs at the end of a walk. Of an answer that was stopped: finished rounds as they are, and the clean
        estimates of a round that was being drawn. Examples of later rounds are left out."""
        self._warn_of_unseen(question.text)
        floor, watch = self.built.defaults.label_floor, question.watch
        question, grid, runner = question.above(floor), self.built.defaults.walked(grid), self._runner()
        guidance = allowed(runner.guidance(question), self.worse, isinstance(question.guidance, Guidance))
        if guidance.auto != 1.0:
            runner = dataclasses.replace(runner, worse=self.worse.given(**self.conditions)._runner())
        sampler, settings = runner.sampler(guidance)
        params, traced, end = runner.network, as_arrays(settings), np.float32(grid[-1]).tolist()

        def answer(part: Round) -> Pair:
            rows = np.minimum(np.arange(part.first, part.first + len(part.given.keys)), len(question) - 1)

            def preview() -> Pair:
                clean = sampler.preview(params, walked.carry.state, part.given, walked.row, part.condition, traced)
                image, layout = parallel.to_host(clean)
                clean = Pair(self.built.codec.decode(image), np.asarray(layout))
                known = pair_map(lambda caps: caps[rows] == 0, question.caps)
                known = known._replace(image=known.image[..., None])
                values = pair_map(lambda values: values[rows], question.values)
                return pair_map(np.where, known, values, clean)

            def shown() -> Pair:
                return pair_map(lambda side: side[: part.count], preview())

            steps = walk(sampler, params, grid, part.given, part.condition, settings, self._pace(watch))
            for walked in steps:
                if walked.count and not watch.step(walked.count, shown, part.first) and walked.row.tolist() != end:
                    return preview()
            image, layout = parallel.to_host(walked.carry.state)
            return Pair(self.built.codec.decode(image), np.asarray(self.built.process.layout.decode(layout)))

        return runner(answer, question)

    def _pace(self, watch: Watch) -> Pace | None:
        """Short pieces where progress is watched; not on several processes, which must all take the same ones."""
        return Pace() if watch.listener is not None and jax.process_count() == 1 else None


def window_ids(ids, window: int):
    """The ids, a number or an array, of the same examples in another window: of their own, whatever else is drawn."""
    return ids + (window << 20)
