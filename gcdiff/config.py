"""The only reader of a ConfigDict: every field has its default here, and everything is built and validated here."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gcdiff.data.dataset import Dataset
from gcdiff.levels import LevelShares
from gcdiff.models.unet import JointUNet
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import NO_GUIDANCE, Sampler
from gcdiff.samplers.steps import IMAGE_STEPS
from gcdiff.schedules import Schedule
from gcdiff.text.learned import LearnedTextEncoder
from gcdiff.text.tokenizer import Vocabulary
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.joint_task import JointTask, LossConfig, TrainBatch, init_params
from gcdiff.training.loop import TrainConfig
from gcdiff.training.optim import Optim
from gcdiff.training.transfer import Names, transfer
from gcdiff.types import ImageSpec, LabelSpec, Pair


def default() -> ConfigDict:
    """A config with every field there is; an experiment changes some of them."""
    network = {
        f.name: f.default
        for f in dataclasses.fields(JointUNet)
        if f.name not in ("parent", "name", "control", "image_channels", "num_classes", "hide_unknown_image", "dtype")
    }
    optim, train = _defaults(Optim), _defaults(TrainConfig)
    train.pop("optim")
    config = {
        "name": "",
        "data": {
            "name": "streets",
            "root": "",  # where the files are; empty for embedded data
            "size": (32, 64),  # height, width of what the network sees
            "num": 100_000,  # examples of an embedded world
            "heldout": 128,  # held-out examples looked at while training
            "flip": False,
            "scale": (1.0, 1.0),  # random crops: the share of the full frame's side that is kept
            "photometric": 0.0,  # variation of the colours of images that are wholly given (they carry no loss)
        },
        "process": {
            "image_schedule": "cosine",
            "image_shift": 0.0,
            "layout_schedule": "cosine",
            "layout_shift": 0.0,
            "output": "v",  # what the image head predicts: eps, x0, v, preconditioned
        },
        "network": {**network, "dtype": "float32"},
        "text": {
            "encoder": "learned",
            "length": 32,
            "features": 128,
            "layers": 2,
            "drop": 0.1,
            "drop_given_image": 0.75,
        },
        "loss": _defaults(LossConfig),
        "levels": {"kind": "free", **_defaults(LevelShares)},
        "optim": optim,
        "train": {**train, "batch_size": 32},
        "sample": {
            "steps": 50,
            "path": "joint",
            "image_step": "ddim",
            "guidance": (1.0, 1.0),  # text guidance of the image and of the layout
            "chunk": 16,
        },
    }
    return ConfigDict(config)


def _defaults(cls) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}


def load_file(path: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The config of a file FILE.py or FILE.py:ARG (its get_config(ARG)), with overrides ('train.steps', '100')."""
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(f"--config {file}: there is no such file")
    spec = importlib.util.spec_from_file_location("gcdiff_config_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config {file}: expected a function get_config in it")
    config = module.get_config(argument) if argument else module.get_config()
    for field, text in overrides:
        override(config, field, text)
    check(config)
    return config


def override(config: ConfigDict, field: str, text: str) -> None:
    """Set one dotted field from text; the type of the present value is kept."""
    *parents, name = field.split(".")
    node = config
    for part in parents:
        node = node.get(part) if isinstance(node, ConfigDict) else None
    if not isinstance(node, ConfigDict) or name not in node or isinstance(node[name], ConfigDict):
        raise ValueError(f"--config.{field}: there is no such field; fields near it: {_near(config, parents)}")
    old = node[name]
    try:
        value = text if isinstance(old, str) else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        value = tuple(value)
    if old is not None and type(value) is not type(old):
        raise ValueError(f"--config.{field}={text}: expected {type(old).__name__}, as in {old!r}")
    with node.unlocked():
        node[name] = value


def _near(config: ConfigDict, parents: Sequence[str]) -> str:
    node = config
    for part in parents:
        if part not in node or not isinstance(node[part], ConfigDict):
            break
        node = node[part]
    return ", ".join(sorted(node.keys()))


def check(config: ConfigDict) -> None:
    """Raise ValueError, naming the field, for a field that does not exist and for a value that cannot be."""
    known = default()
    for field in _leaves(config.to_dict()):
        node = known.to_dict()
        for part in field.split("."):
            if not isinstance(node, dict) or part not in node:
                raise ValueError(f"config.{field}: there is no such field")
            node = node[part]
    choices = {
        "process.output": ("eps", "x0", "v", "preconditioned"),
        "text.encoder": ("learned", "none"),
        "levels.kind": ("free", "shared"),
        "sample.path": ("joint", "layout_first"),
        "sample.image_step": tuple(IMAGE_STEPS),
        "network.dtype": ("float32", "bfloat16"),
        "data.name": tuple(DATASETS),
    }
    for field, allowed in choices.items():
        section, name = field.split(".")
        if config[section][name] not in allowed:
            raise ValueError(f"config.{field} is {config[section][name]!r}, expected one of {allowed}")
    for field in ("train.batch_size", "train.steps", "sample.steps", "sample.chunk", "data.heldout"):
        section, name = field.split(".")
        if config[section][name] < 1:
            raise ValueError(f"config.{field} is {config[section][name]}, expected at least 1")
    if config.sample.chunk < 4:
        raise ValueError(f"config.sample.chunk is {config.sample.chunk}, expected at least 4")
    network = config.network
    for name in ("blocks", "attention", "cross_attention"):
        if len(network[name]) != len(network.mults):
            raise ValueError(
                f"config.network.{name} has {len(network[name])} levels, network.mults {len(network.mults)}"
            )
    stride = network.stem * 2 ** (len(network.mults) - 1)
    if any(side % stride for side in config.data.size):
        raise ValueError(
            f"config.data.size {tuple(config.data.size)} is not divisible by the network's stride {stride}"
        )


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


class Splits(NamedTuple):
    """The training examples, the held-out ones, and what brings an example to the network's size."""

    train: Dataset
    heldout: Dataset
    train_transform: Any
    heldout_transform: Any


def _streets(config: ConfigDict) -> Splits:
    from gcdiff.data.synthetic.streets import Streets

    size = tuple(config.data.size)
    train = Streets("train", config.data.num, size=size)
    heldout = Streets("heldout", config.data.heldout, size=size)
    return Splits(train, heldout, _augment(config, train.labels), None)


def _camvid(config: ConfigDict) -> Splits:
    from gcdiff.data.builders.camvid import CamVid, recaption

    train = CamVid(config.data.root, ("train", "val"))
    augment = _augment(config, train.labels)

    def transform(example, rng):
        return recaption(augment(example, rng), rng)  # a crop may have lost a class

    return Splits(train, CamVid(config.data.root, ("test",)), transform, _full_frame(config))


DATASETS = {"streets": _streets, "camvid": _camvid}


def _full_frame(config: ConfigDict):
    from gcdiff.data import transforms

    size = tuple(config.data.size)
    return lambda example, rng: transforms.resize(example, size)


def _augment(config: ConfigDict, labels: LabelSpec):
    from gcdiff.data import transforms

    size, scale = tuple(config.data.size), tuple(config.data.scale)

    def augment(example, rng):
        if scale != (1.0, 1.0):
            example = transforms.random_crop_scale(example, rng, size, scale)
        else:
            example = transforms.resize(example, size)
        return transforms.flip(example, rng, labels.swaps) if config.data.flip else example

    return augment


def splits(config: ConfigDict) -> Splits:
    """The data sets of a config."""
    return DATASETS[config.data.name](config)


class Specs(NamedTuple):
    """What a run needs to know of its data once it is trained."""

    image: ImageSpec
    labels: LabelSpec
    vocabulary: Vocabulary | None
    licence: str


class Built(NamedTuple):
    """The parts of a model that depend on the config and the specs alone."""

    process: JointProcess
    network: JointUNet
    text_encoder: LearnedTextEncoder | None
    levels: LevelShares
    sampler: Sampler


def build(config: ConfigDict, specs: Specs) -> Built:
    """Process, network, text encoder and sampler."""
    c = config
    image = GaussianProcess(Schedule(c.process.image_schedule, c.process.image_shift), c.process.output)
    layout = UniformProcess(specs.labels.num_classes, Schedule(c.process.layout_schedule, c.process.layout_shift))
    process = JointProcess(image, layout)
    fields = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in c.network.items()}
    network = JointUNet(
        **{**fields, "dtype": jnp.dtype(c.network.dtype)},
        image_channels=specs.image.channels,
        num_classes=layout.head_size,
        hide_unknown_image=c.process.output in ("v", "x0"),
    )
    text_encoder = None
    if c.text.encoder == "learned":
        text_encoder = LearnedTextEncoder(len(specs.vocabulary), c.text.features, c.text.layers)
    if c.levels.kind == "shared":
        levels = LevelShares.shared()
    else:
        levels = LevelShares(**{k: v for k, v in c.levels.items() if k != "kind"})
    sampler = Sampler(process, network.apply, c.sample.image_step)
    return Built(process, network, text_encoder, levels, sampler)


def build_specs(config: ConfigDict, train: Dataset) -> Specs:
    """The specs of a data set; the vocabulary is read off its captions (at most 5,000 examples, evenly spread)."""
    vocabulary = None
    if config.text.encoder == "learned":
        indices = np.unique(np.linspace(0, len(train) - 1, 5000).astype(int))
        vocabulary = Vocabulary.build((c for i in indices for c in train[int(i)].captions), config.text.length)
    return Specs(train.image, train.labels, vocabulary, train.licence)


def to_train_batch(batch, vocabulary: Vocabulary | None) -> TrainBatch:
    """A batch of the pipeline with its captions as token ids."""
    tokens = None if vocabulary is None else vocabulary.encode(batch.captions)
    return TrainBatch(batch.image, batch.layout, tokens)


def build_task(config: ConfigDict, specs: Specs, data: Splits, initial=None) -> JointTask:
    """The training task, with its fixed held-out batch."""
    from gcdiff.data.pipeline import whole

    built = build(config, specs)
    count = min(config.data.heldout, len(data.heldout))
    indices = np.linspace(0, len(data.heldout) - 1, count).astype(int)
    heldout = to_train_batch(whole(data.heldout, indices, data.heldout_transform), specs.vocabulary)
    guidance = Pair(*config.sample.guidance)
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
        heldout=heldout,
        sampler=dataclasses.replace(built.sampler, guided=guidance != NO_GUIDANCE),
        sample_steps=config.sample.steps,
        guidance=guidance,
        chunk=min(config.sample.chunk, count),
        initial=initial,
    )


def initial_params(built: Built, config: ConfigDict, specs: Specs):
    """Fresh parameters of a run, from nothing but its config and specs (for their shapes)."""
    size = tuple(config.data.size)
    tokens = None if specs.vocabulary is None else np.zeros((1, specs.vocabulary.length), np.int32)
    one = TrainBatch(np.zeros((1, *size, specs.image.channels), np.float32), np.zeros((1, *size), np.int32), tokens)
    return init_params(built.network, built.text_encoder, jax.random.key(0), one)


def restore_params(workdir: Path, built: Built, config: ConfigDict, specs: Specs):
    """The averaged parameters of the newest checkpoint of a run."""
    return restore_ema(workdir / "checkpoints", jax.eval_shape(lambda: initial_params(built, config, specs)))


def initial_from(workdir: Path, config: ConfigDict, specs: Specs):
    """(a function from fresh parameters to those started from another run's weights, what was taken)."""
    old_config, old_specs = load_run(workdir)
    old = restore_params(workdir, build(old_config, old_specs), old_config, old_specs)
    names = Names(specs.labels, specs.vocabulary), Names(old_specs.labels, old_specs.vocabulary)
    fresh = jax.jit(lambda: initial_params(build(config, specs), config, specs))()
    params, report = transfer(fresh, old, *names)
    return lambda _: jax.tree.map(jnp.asarray, params), f"weights of {workdir}: {report}"


def batches(config: ConfigDict, specs: Specs, data: Splits):
    """A function from a first step to an iterator over training batches from that step on."""
    from gcdiff.data.pipeline import batches as pipeline

    def start(step: int):
        stream = pipeline(data.train, config.train.batch_size, config.train.seed, data.train_transform, start=step)
        return (to_train_batch(batch, specs.vocabulary) for batch in stream)

    return start


def train_config(config: ConfigDict) -> TrainConfig:
    """The part of the config that the training loop reads."""
    train = {k: v for k, v in config.train.items() if k != "batch_size"}
    return TrainConfig(**train, optim=Optim(**config.optim))


def save_run(workdir: Path, config: ConfigDict, specs: Specs) -> None:
    """Make a run directory complete: config.json and specs.json. A run of another config is not written over."""
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "config.json"
    new = json.loads(json.dumps(config.to_dict()))
    if file.exists():
        old = json.loads(file.read_text())
        for field in _leaves(new):
            if field.split(".")[0] in ("train", "sample") and field != "train.seed":
                continue
            a, b = _at(old, field), _at(new, field)
            if a != b:
                raise ValueError(f"{workdir} was trained with {field}={a!r}, now {b!r}: choose another --workdir")
    fields = {
        "image": specs.image.to_dict(),
        "labels": specs.labels.to_dict(),
        "vocabulary": None if specs.vocabulary is None else specs.vocabulary.to_dict(),
        "licence": specs.licence,
    }
    for name, content in (("specs.json", fields), ("config.json", new)):
        _write(workdir / name, json.dumps(content, indent=1))
    _write(workdir / "DATA_LICENCE.txt", specs.licence + "\n")


def _at(tree: dict, field: str):
    for part in field.split("."):
        tree = tree.get(part, {}) if isinstance(tree, dict) else {}
    return tree


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)


def load_run(workdir: Path) -> tuple[ConfigDict, Specs]:
    """What `save_run` wrote."""
    for name in ("config.json", "specs.json"):
        if not (workdir / name).is_file():
            raise FileNotFoundError(f"{workdir} is not a run directory: there is no {name} in it")
    config = default()
    for section, value in json.loads((workdir / "config.json").read_text()).items():
        if isinstance(value, dict):
            for name, v in value.items():
                config[section][name] = tuple(v) if isinstance(v, list) else v
        else:
            config[section] = value
    fields = json.loads((workdir / "specs.json").read_text())
    vocabulary = fields["vocabulary"] and Vocabulary.from_dict(fields["vocabulary"])
    specs = Specs(
        ImageSpec.from_dict(fields["image"]), LabelSpec.from_dict(fields["labels"]), vocabulary, fields["licence"]
    )
    return config, specs
