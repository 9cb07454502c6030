"""The parts of a joint model, built from its config and specs: process, network, conditionings, sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gcdiff import parallel, paths
from gcdiff.codecs import CODECS, Codec
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions, init_params
from gcdiff.conditions.lowres import LowResInput
from gcdiff.conditions.text import TextInput
from gcdiff.config.data import Specs
from gcdiff.guidance import Guidance
from gcdiff.levels import LevelShares
from gcdiff.models.table import NETWORKS, fields_of
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES, JointProcess
from gcdiff.samplers.sample import Sampler, Settings
from gcdiff.samplers.steps import Dials
from gcdiff.schedules import Schedule
from gcdiff.text.given import GivenText
from gcdiff.text.learned import LearnedTextEncoder
from gcdiff.text.pretrained import PretrainedCaptions
from gcdiff.types import Pair


class Defaults(NamedTuple):
    """The sampling defaults of a run, and the data that it was trained for.

    size: (height, width) of its pairs; steps, path, share, chunk: those of config.sample; label_precision: how often
    the labels of its data are right; label_floor: the lowest level above 0 at which it has seen layouts; spacing: how
    much closer together steps are near level 0 (`paths.spaced`); noise: the name of the layout's process.
    """

    size: tuple[int, int]
    steps: int
    path: str
    share: float
    chunk: int
    label_precision: float
    label_floor: float
    spacing: float
    noise: str

    def grid(self, steps: int | None = None, name: str | None = None) -> np.ndarray:
        """The path of a name, levels float32 (steps + 1, 2); None for the default of the run."""
        name = self.path if name is None else name
        shares = (self.share,) if name in ("layout_first", "image_first") else ()
        return paths.PATHS[name](self.steps if steps is None else steps, *shares)

    def walked(self, path: np.ndarray) -> np.ndarray:
        """The levels at which steps along a path are taken: spaced, and none between 0 and `label_floor`."""
        return paths.above(paths.spaced(path, self.spacing), self.label_floor)


class Built(NamedTuple):
    """The parts of a model, which depend on the config and the specs alone."""

    codec: Codec
    process: JointProcess
    network: Any
    conditions: Conditions
    levels: LevelShares
    sampler: Sampler
    settings: Settings
    defaults: Defaults


def build(
    config: ConfigDict, specs: Specs, devices: Sequence[Any] | None = None, encoder: str | Path | None = None
) -> Built:
    """Build the parts of a model, with a sampler for some devices, by default for all.

    `encoder` says where the pretrained text encoder is, if it is not where it was when the captions were encoded.
    """
    c, size = config, tuple(config.data.size)
    codec = CODECS[c.data.codec](specs.image)
    *grid, channels = codec.shape(size)
    if tuple(grid) != size:
        raise ValueError(
            f"config.data.codec={c.data.codec} gives {grid[0]}x{grid[1]} states, expected data.size {size}"
        )
    schedule = Schedule(c.process.image_schedule, c.process.image_shift)
    image = GaussianProcess(schedule, c.process.output, codec.std)
    schedule = Schedule(c.process.layout_schedule, c.process.layout_shift)
    layout = LAYOUT_PROCESSES[c.process.layout](specs.labels.num_classes, schedule)
    process = JointProcess(image, layout)
    own = fields_of(c.network.kind)
    fields = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in c.network.items() if k in own}
    network = NETWORKS[c.network.kind](
        **{**fields, "dtype": jnp.dtype(c.network.dtype)},
        image_channels=channels,
        num_classes=layout.head_size,
        state_classes=layout.embedding_size or None,
        lowres=c.data.lowres > 0,
        hide_unknown_image=c.process.output != "eps",  # at alpha = 0 every other output means a clean image by itself
    )
    if c.levels.kind == "shared":
        levels = LevelShares.shared()
    else:
        levels = LevelShares(**{k: v for k, v in c.levels.items() if k not in ("kind", "lowres_max")})
    sampler = Sampler(process, network.apply, clip=codec.bounded, mesh=parallel.chunk_mesh(devices))
    sampling = _sampling(c, sampler)
    conditions = Conditions(
        text=_text(c, specs, encoder),
        lowres=_lowres(c, specs),
    )
    return Built(codec, process, network, conditions, levels, *sampling, defaults(c))


def _text(config: ConfigDict, specs: Specs, elsewhere: str | Path | None) -> TextInput | None:
    """The text conditioning; None for a model without text."""
    c = config.text
    if c.encoder == "none":
        return None
    dropped = c.drop, c.drop_given_image
    if c.encoder == "learned":
        vocabulary = specs.vocabulary
        return TextInput(LearnedTextEncoder(len(vocabulary), c.features, c.layers), *dropped, vocabulary)
    captions = None
    if specs.encoder is not None or elsewhere is not None:
        model, revision = ("", None) if specs.encoder is None else specs.encoder[:2]
        captions = PretrainedCaptions(model, revision, c.features, c.length, elsewhere)
    return TextInput(GivenText(c.features, c.length), *dropped, captions=captions)


def _lowres(config: ConfigDict, specs: Specs) -> LowResInput | None:
    """The low-resolution input of a super-resolution stage; None for any other model."""
    c = config
    if not c.data.lowres:
        return None
    own = c.process.lowres_schedule
    schedule = Schedule(own) if own else Schedule(c.process.image_schedule, c.process.image_shift)
    levels = c.levels.lowres_max, c.sample.lowres_level
    classes = specs.labels.num_classes
    return LowResInput(c.data.lowres, schedule, classes, c.data.lowres_layout, *levels, c.data.lowres_enlarged)


def resampled(built: Built, config: ConfigDict, specs: Specs) -> Built:
    """The parts with the sampler of another config.sample; what does not change is not compiled anew."""
    sampler, settings = _sampling(config, built.sampler)
    conditions = dataclasses.replace(built.conditions, lowres=_lowres(config, specs))
    return built._replace(sampler=sampler, settings=settings, conditions=conditions, defaults=defaults(config))


def _sampling(config: ConfigDict, sampler: Sampler) -> tuple[Sampler, Settings]:
    """The sampler with the steps of config.sample, and its settings."""
    c, settings = config.sample, sample_settings(config)
    sampler = dataclasses.replace(
        sampler,
        image_step=c.image_step,
        layout_step=c.layout_step,
        branches=settings.guidance.branches(),
        corrects=c.corrector > 0,
        decides=c.decide,
        threshold=c.threshold,
    )
    return sampler, settings


def sample_settings(config: ConfigDict) -> Settings:
    """The guidance and the dials of config.sample."""
    c = config.sample
    guidance = Guidance(Pair(*c.guidance), c.layout_guidance, c.image_guidance, tuple(c.interval), c.autoguidance)
    return Settings(guidance, Dials(c.eta, c.psi, c.corrector))


def defaults(config: ConfigDict) -> Defaults:
    """The sampling defaults of a config."""
    c, data = config.sample, config.data
    schedule = Schedule(config.process.layout_schedule, config.process.layout_shift)
    floor = float(schedule.level(data.label_precision))
    asked = tuple(data.size), c.steps, c.path, c.share, c.chunk
    return Defaults(*asked, data.label_precision, floor, c.spacing, config.process.layout)


def initial_params(built: Built, config: ConfigDict, specs: Specs) -> Any:
    """Initial parameters of a model from its config and specs alone, used for their shapes."""
    size = tuple(config.data.size)
    image, layout = np.zeros((1, *built.codec.shape(size)), np.float32), np.zeros((1, *size), np.int32)
    inputs = {} if built.conditions.text is None else {"text": built.conditions.text.read(None, 1)}
    one = TrainBatch(image, layout, inputs)
    return init_params(built.process, built.network, built.conditions, jax.random.key(0), one)
