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
from gcdiff.config.data import Specs, Splits, embeddings
from gcdiff.config.rundir import load_run
from gcdiff.data.dataset import Example
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
from gcdiff.text.tokenizer import PAD
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.export import WEIGHTS, is_export, restore_export
from gcdiff.training.joint_task import JointTask, LossConfig, TrainBatch, init_params, training_params
from gcdiff.training.lowres import LowResInput
from gcdiff.training.optim import Optim
from gcdiff.training.settings import MeshSizes, TrainConfig
from gcdiff.training.snapshots import average_of
from gcdiff.training.transfer import Names, transfer
from gcdiff.types import Pair

ANOTHER_ORDER = 0x9E3779B9
"""Added to the seed of the data for each other order of them."""


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


def train_batches(config: ConfigDict, specs: Specs) -> Callable[[Any], TrainBatch]:
    """What makes training batches of the pipeline's: captions as token ids, or as features where an encoder has made
    them, nothing but padding where there is no caption."""
    encode = _caption_reader(config, specs)
    return lambda batch: TrainBatch(batch.image, batch.layout, encode(batch.captions), batch.has_image)


def _caption_reader(config: ConfigDict, specs: Specs) -> Callable[[Sequence[str]], Any]:
    vocabulary, stored = specs.vocabulary, embeddings(config)

    def ids(captions: Sequence[str]) -> np.ndarray:
        tokens = np.full((len(captions), vocabulary.length), PAD, np.int32)
        tokens[[caption != "" for caption in captions]] = vocabulary.encode([c for c in captions if c])
        return tokens

    if stored is not None:
        return lambda captions: stored.batch(captions, config.text.length)
    return ids if vocabulary is not None else lambda captions: None


def build_task(config: ConfigDict, specs: Specs, data: Splits, initial=None, devices=None) -> JointTask:
    """The training task, with its fixed batches of held-out and of training examples, evenly spread."""
    from gcdiff.data.pipeline import whole

    if config.text.encoder == "given":
        raise ValueError(
            "config.text.encoder is given: data bring captions that nothing encodes, expected learned, pretrained or "
            "none"
        )

    to_batch = train_batches(config, specs)

    def some(dataset) -> TrainBatch:
        indices = np.linspace(0, len(dataset) - 1, min(config.data.heldout, len(dataset))).astype(int)
        batch = to_batch(whole(dataset, indices, data.heldout_transform))
        if not batch.has_image.any():
            raise ValueError(f"{dataset.name}: none of {len(indices)} examples has an image, expected some that have")
        return jax.tree.map(lambda a: a[batch.has_image], batch)  # numbers are about images

    built = build(config, specs, devices)
    return JointTask(
        process=built.process,
        network=built.network,
        text_encoder=built.text_encoder,
        loss=LossConfig(**config.loss),
        levels=built.levels,
        drop_text=config.text.drop,
        drop_text_given_image=config.text.drop_given_image,
        photometric=config.data.photometric,
        image=specs.image,
        labels=specs.labels,
        heldout=some(data.heldout),
        seen=some(data.train),
        sampler=built.sampler,
        settings=built.settings,
        path=paths.above(sample_path(config, config.sample.steps), label_floor(config)),
        label_precision=config.data.label_precision,
        chunk=config.sample.chunk,
        initial=initial,
        lowres=built.lowres,
    )


def examples(data: Splits, num: int):
    """At most `num` held-out examples, evenly spread, those without an image left out: images uint8 (N, h, w, C),
    layouts int32 (N, H, W), captions ("" for none)."""
    found = gathered(data, "heldout", num)
    return Example(
        np.stack([e.image for e in found]),
        np.stack([e.layout for e in found]),
        tuple(e.captions[0] if e.captions else "" for e in found),
    )


def gathered(data: Splits, split: str, num: int) -> list[Example]:
    """At most `num` examples of a split, 'train' or 'heldout', evenly spread, whole and at the network's size. Those
    without an image are left out."""
    dataset, found = getattr(data, split), []
    for i in np.unique(np.linspace(0, len(dataset) - 1, min(num, len(dataset))).astype(int)):
        example = dataset[int(i)]
        if example.has_image:
            found.append(example if data.heldout_transform is None else data.heldout_transform(example, None))
    if not found:
        which = "held-out" if split == "heldout" else "training"
        raise ValueError(f"{dataset.name}: none of the {which} examples has an image, expected some that have")
    return found


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
        params = average_of(workdir / "snapshots", stored, profiles, ema)
    else:
        raise ValueError(f"{workdir} keeps no averages to choose from: its config.optim.ema_profiles is ()")
    return {name: params[name] for name in shapes}


def initial_from(workdir: Path, config: ConfigDict, specs: Specs):
    """(a function from fresh parameters to those started from another run's weights, what was taken)."""
    old_config, old_specs = load_run(workdir)
    old = restore_params(workdir, build(old_config, old_specs), old_config, old_specs)
    names = Names(specs.labels, specs.vocabulary), Names(old_specs.labels, old_specs.vocabulary)
    fresh = jax.jit(lambda: initial_params(build(config, specs), config, specs))()
    params, report = transfer(fresh, old, *names)
    return lambda _: jax.tree.map(jnp.asarray, params), f"weights of {workdir}: {report}"


def batches(config: ConfigDict, specs: Specs, data: Splits):
    """A function from a first step, and the number of an order, to an iterator over training batches from there on."""
    from gcdiff.data.pipeline import batches as pipeline

    to_batch = train_batches(config, specs)

    def start(step: int, order: int = 0):
        options = {"start": step, "threads": config.data.threads, "finish": to_batch}
        options["share"] = jax.process_index(), jax.process_count()
        seed = (config.train.seed + order * ANOTHER_ORDER) % 2**32
        return pipeline(data.train, config.train.batch_size, seed, data.train_transform, **options)

    return start


def train_config(config: ConfigDict) -> TrainConfig:
    """The part of the config that the training loop reads."""
    train = {k: v for k, v in config.train.items() if k != "batch_size"}
    return TrainConfig(**train, optim=Optim(**config.optim), mesh=MeshSizes(**config.mesh))
