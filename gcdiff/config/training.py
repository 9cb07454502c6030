"""The task and the training batches of a joint model, and the training settings of any task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.conditions import Conditions
from gcdiff.config.data import Specs, Splits, embeddings
from gcdiff.config.parts import build
from gcdiff.data.dataset import Dataset
from gcdiff.data.pipeline import Batch
from gcdiff.training.joint_task import JointTask, LossConfig
from gcdiff.training.optim import Optim
from gcdiff.training.settings import MeshSizes, TrainConfig


def joint_batches(config: ConfigDict, specs: Specs) -> Callable[[Any], TrainBatch]:
    """The function from the pipeline's batches to those of a joint model, with the inputs of its conditionings."""
    built = build(config, specs)
    codec, conditions = built.codec, _reading(built.conditions, config)

    def collate(batch: Batch) -> TrainBatch:
        return TrainBatch(codec.encode(batch.image), batch.layout, conditions.collate(batch), batch.has_image)

    return collate


def _reading(conditions: Conditions, config: ConfigDict) -> Conditions:
    """The conditionings, reading the stored features of captions where the config names some."""
    stored = embeddings(config)
    if stored is None:
        return conditions
    text = dataclasses.replace(conditions.text, captions=lambda captions: stored.batch(captions, config.text.length))
    return dataclasses.replace(conditions, text=text)


def joint_task(
    config: ConfigDict, specs: Specs, data: Splits, initial: Callable | None = None, devices: Sequence | None = None
) -> JointTask:
    """Build the task of a joint model, with fixed batches of held-out and of training examples, evenly spread.

    `initial` replaces fresh parameters; `devices` are those of numbers and pictures, all by default.
    """
    from gcdiff.data.pipeline import whole

    if config.text.encoder == "given":
        raise ValueError(
            "config.text.encoder is given: data bring captions that nothing encodes, expected learned, pretrained or "
            "none"
        )

    to_batch = joint_batches(config, specs)

    def some(dataset: Dataset) -> TrainBatch:
        indices = np.linspace(0, len(dataset) - 1, min(config.data.heldout, len(dataset))).astype(int)
        batch = to_batch(whole(dataset, indices, data.heldout_transform))
        if not batch.has_image.any():
            raise ValueError(f"{dataset.name}: none of {len(indices)} examples has an image, expected some that have")
        return jax.tree.map(lambda a: a[batch.has_image], batch)  # numbers are about images

    built = build(config, specs, devices)
    return JointTask(
        process=built.process,
        network=built.network,
        conditions=built.conditions,
        loss=LossConfig(**config.loss),
        levels=built.levels,
        photometric=config.data.photometric,
        codec=built.codec,
        image=specs.image,
        labels=specs.labels,
        heldout=some(data.heldout),
        seen=some(data.train),
        sampler=built.sampler,
        settings=built.settings,
        path=built.defaults.walked(built.defaults.grid()),
        label_precision=config.data.label_precision,
        chunk=config.sample.chunk,
        initial=initial,
    )


def train_config(config: ConfigDict) -> TrainConfig:
    """The part of the config that the training loop reads."""
    train = {k: v for k, v in config.train.items() if k != "batch_size"}
    return TrainConfig(**train, optim=Optim(**config.optim), mesh=MeshSizes(**config.mesh))
