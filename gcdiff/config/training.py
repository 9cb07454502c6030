"""What training is built from: its task, its batches, its settings, the weights it starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gcdiff import paths
from gcdiff.conditions.conditions import TrainBatch
from gcdiff.config.data import Specs, Splits, embeddings
from gcdiff.config.parts import build, initial_params, label_floor, restore_params, sample_path
from gcdiff.config.rundir import load_run
from gcdiff.text.tokenizer import PAD
from gcdiff.training.joint_task import JointTask, LossConfig
from gcdiff.training.optim import Optim
from gcdiff.training.settings import MeshSizes, TrainConfig
from gcdiff.training.transfer import Names, transfer

ANOTHER_ORDER = 0x9E3779B9
"""Added to the seed of the data for each other order of them."""


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
