"""What a run is built from, given its config: model, training task, parameters, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gcdiff import parallel, paths
from gcdiff.conditions.conditions import TrainBatch, init_params
from gcdiff.conditions.lowres import LowResInput
from gcdiff.config.data import Specs
from gcdiff.guidance import Guidance
from gcdiff.levels import LevelShares
from gcdiff.models.unet import JointUNet
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES, JointProcess
from gcdiff.samplers.sample import Sampler, Settings
from gcdiff.samplers.steps import Dials
from gcdiff.schedules import Schedule
from gcdiff.text.given import GivenText
from gcdiff.text.learned import LearnedTextEncoder
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.export import WEIGHTS, is_export, restore_export
from gcdiff.training.joint_task import LossConfig, training_params
from gcdiff.training.snapshots import average_of
from gcdiff.types import Pair


class Built(NamedTuple):
    """The parts of a model that depend on the config and the specs alone."""

    process: JointProcess
    network: JointUNet
    text_encoder: LearnedTextEncoder | GivenText | None
    levels: LevelShares
    sampler: Sampler
    settings: Settings
    lowres: LowResInput | None = None  # of a super-resolution stage


def build(config: ConfigDict, specs: Specs, devices: Sequence[Any] | None = None) -> Built:
    """Process, network, text encoder and sampler, which is for all devices there are, or for some."""
    c = config
    image = GaussianProcess(Schedule(c.process.image_schedule, c.process.image_shift), c.process.output)
    schedule = Schedule(c.process.layout_schedule, c.process.layout_shift)
    layout = LAYOUT_PROCESSES[c.process.layout](specs.labels.num_classes, schedule)
    process = JointProcess(image, layout, _lowres_schedule(c) if c.data.lowres else None)
    fields = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in c.network.items()}
    network = JointUNet(
        **{**fields, "dtype": jnp.dtype(c.network.dtype)},
        image_channels=specs.image.channels,
        num_classes=layout.head_size,
        state_classes=layout.embedding_size or None,
        lowres=c.data.lowres > 0,
        hide_unknown_image=c.process.output != "eps",  # at alpha = 0 every other output means a clean image by itself
    )
    text_encoder = None
    if c.text.encoder == "learned":
        text_encoder = LearnedTextEncoder(len(specs.vocabulary), c.text.features, c.text.layers)
    elif c.text.encoder in ("given", "pretrained"):
        text_encoder = GivenText(c.text.features, c.text.length)
    if c.levels.kind == "shared":
        levels = LevelShares.shared()
    else:
        levels = LevelShares(**{k: v for k, v in c.levels.items() if k not in ("kind", "lowres_max")})
    sampling = _sampling(c, process, network.apply, parallel.chunk_mesh(devices))
    return Built(process, network, text_encoder, levels, *sampling, _lowres(c))


def _lowres_schedule(config: ConfigDict) -> Schedule:
    """The schedule of the noise on a low-resolution pair."""
    c = config.process
    return Schedule(c.lowres_schedule) if c.lowres_schedule else Schedule(c.image_schedule, c.image_shift)


def _lowres(config: ConfigDict) -> LowResInput | None:
    """What a super-resolution stage is given; None for any other model."""
    c = config
    if not c.data.lowres:
        return None
    levels = c.levels.lowres_max, c.sample.lowres_level
    return LowResInput(c.data.lowres, c.data.lowres_layout, *levels, c.data.lowres_enlarged)


def resampled(built: Built, config: ConfigDict) -> Built:
    """The same parts with the sampler of another config.sample: what does not change is not compiled anew."""
    sampler, settings = _sampling(config, built.process, built.sampler.apply_fn, built.sampler.mesh)
    return built._replace(sampler=sampler, settings=settings, lowres=_lowres(config))


def _sampling(
    config: ConfigDict, process: JointProcess, apply_fn: Callable, mesh: Mesh | None
) -> tuple[Sampler, Settings]:
    c, settings = config.sample, sample_settings(config)
    branches = settings.guidance.branches()
    corrects, threshold = c.corrector > 0, c.threshold
    options = {"threshold": threshold, "mesh": mesh}
    sampler = Sampler(process, apply_fn, c.image_step, c.layout_step, branches, corrects, c.decide, **options)
    return sampler, settings


def sample_settings(config: ConfigDict) -> Settings:
    """The guidance and the dials that a run recommends."""
    c = config.sample
    guidance = Guidance(Pair(*c.guidance), c.layout_guidance, c.image_guidance, tuple(c.interval))
    return Settings(guidance, Dials(c.eta, c.psi, c.corrector))


def sample_path(config: ConfigDict, steps: int, name: str | None = None) -> np.ndarray:
    """A path of levels by its name (None: the one the run recommends), float32 (steps + 1, 2)."""
    name = config.sample.path if name is None else name
    shares = (config.sample.share,) if name in ("layout_first", "image_first") else ()
    return paths.PATHS[name](steps, *shares)


def label_floor(config: ConfigDict) -> float:
    """The lowest level above 0 at which the model has seen layouts: 0, or that of its labels' own precision."""
    schedule = Schedule(config.process.layout_schedule, config.process.layout_shift)
    return float(schedule.level(config.data.label_precision))


def initial_params(built: Built, config: ConfigDict, specs: Specs):
    """Fresh parameters of a run, from nothing but its config and specs (for their shapes)."""
    size = tuple(config.data.size)
    tokens: Any = None if specs.vocabulary is None else np.zeros((1, specs.vocabulary.length), np.int32)
    if isinstance(built.text_encoder, GivenText):
        tokens = built.text_encoder.prepare(None, 1)
    one = TrainBatch(np.zeros((1, *size, specs.image.channels), np.float32), np.zeros((1, *size), np.int32), tokens)
    return init_params(built.process, built.network, built.text_encoder, jax.random.key(0), one)


def restore_params(workdir: Path, built: Built, config: ConfigDict, specs: Specs, ema: float | None = None):
    """The averaged parameters of the newest checkpoint of a run, or their average of length `ema` (sigma_rel); those of
    an export.

    Raises ValueError for a length where the run keeps no averages to choose from, or none that give it.
    """
    shapes = jax.eval_shape(lambda: initial_params(built, config, specs))
    if is_export(workdir):
        if ema is not None:
            raise ValueError(f"{workdir} is an export and holds one average: its length is chosen when it is made")
        return restore_export(workdir, shapes)
    if ema is None and not (workdir / "checkpoints").is_dir():
        raise FileNotFoundError(f"{workdir}: no checkpoint found, there is neither checkpoints nor {WEIGHTS} in it")
    stored = {**shapes, **jax.eval_shape(lambda: training_params(LossConfig(**config.loss)))}
    profiles = tuple(config.optim.ema_profiles)
    if ema is None:
        params = restore_ema(workdir / "checkpoints", stored)
    elif profiles:
        params = average_of(workdir / "snapshots", stored, profiles, ema, workdir / "checkpoints")
    else:
        raise ValueError(f"{workdir} keeps no averages to choose from: its config.optim.ema_profiles is ()")
    return {name: params[name] for name in shapes}
