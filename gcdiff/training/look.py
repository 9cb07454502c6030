"""Evaluation of a joint model while it trains: numbers and pictures of held-out examples by its averaged parameters.

The functions take a `gcdiff.training.joint_task.JointTask`. They compute chunk by chunk on the devices of its sampler's
mesh, and what they give does not depend on how many these are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from gcdiff import parallel
from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.pictures import colorize, display, overlay, sheet, void_left_out
from gcdiff.rng import stream
from gcdiff.samplers.sample import PLAIN, example_keys, given_values
from gcdiff.samplers.walk import run
from gcdiff.training.task import split_numbers
from gcdiff.types import Condition, Pair, pair_map

RANGES = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""The ranges of the level by which held-out losses are given."""
SHOWN = 8
"""How many examples a sheet shows at most."""


def numbers(task: Any, params: Any) -> dict[str, float | np.ndarray]:
    """Numbers of the held-out batch by name, and how much worse they are than those of training examples (`..._gap`).

    Both losses by ranges of the level, at levels evenly spread over each, and the mIoU of one-call segmentation;
    `losses/...` are the losses of the examples (N,), whose means the losses are.
    """
    out = _numbers(task, params, task.heldout)
    if task.seen is not None:
        seen, _ = split_numbers(_numbers(task, params, task.seen))
        gaps = {name: out[name] - value for name, value in seen.items()}
        out["image_gap"] = sum(v for k, v in gaps.items() if k.startswith("image")) / len(RANGES)
        out["layout_gap"] = sum(v for k, v in gaps.items() if k.startswith("layout")) / len(RANGES)
        if task.segments:
            out["segmentation_gap"] = -gaps["segmentation_miou"]
    return out


def _numbers(task: Any, params: Any, batch: TrainBatch) -> dict[str, Any]:
    out, devices = {}, _devices(task)
    for low, high in RANGES:
        t = low + (high - low) * (np.arange(len(batch.image), dtype=np.float32) + 0.5) / len(batch.image)
        losses = []
        for i, (part, rows, count) in enumerate(_rounds(task, batch)):
            keys = jax.vmap(functools.partial(stream, 0, "heldout"))(i * devices + np.arange(devices))
            part, levels, keys = parallel.place((part, t[rows], keys), task.mesh, BATCH)
            values = parallel.to_host(_losses_at(task, params, part, levels, keys))
            losses.append(pair_map(lambda a, count=count: a[:count], values))
        for side, values in zip(Pair._fields, zip(*losses, strict=True), strict=True):
            each = np.concatenate(values)
            out[f"{side}_{low:g}_{high:g}"] = float(each.mean(dtype=np.float64))
            out[f"losses/{side}_{low:g}_{high:g}"] = each
    if task.segments:
        truth, labels = (void_left_out(y, task.labels) for y in (batch.layout, segment(task, params, batch)))
        out["segmentation_miou"] = mean_iou(confusion(truth, labels, task.labels.num_classes))
    return out


@jax.jit(static_argnums=0)
def _losses_at(task: Any, params: Any, batch: TrainBatch, t: Array, keys: Array) -> Pair:
    """Both losses (B,) on the diagonal at levels t (B,), by a key for the chunk of each device."""

    def of_chunk(params: Any, batch: TrainBatch, t: Array, keys: Array) -> Pair:
        return task.losses(params, task.diagonal(batch, t, keys[0]))

    return parallel.on_each(task.mesh, of_chunk, (WHOLE, BATCH, BATCH, BATCH), BATCH)(params, batch, t, keys)


def segment(task: Any, params: Any, batch: TrainBatch) -> np.ndarray:
    """The most probable layout of each image after one call without text, int32 (B, H, W)."""
    sampler, row, layouts = dataclasses.replace(task.sampler, branches=()), np.ones(2, np.float32), []
    for part, rows, count in _rounds(task, batch):
        known = Pair(np.ones(part.image.shape[:3], bool), np.zeros(part.layout.shape, bool))
        keys = example_keys(0, rows)
        given = given_values(keys, Pair(part.image, part.layout), known).placed(task.mesh)
        condition = _condition(task, params, part, keys)
        condition = condition if condition.text is None else condition.without("text")
        state = sampler.begin(given, row).state
        p = sampler.probabilities(params["network"], state, given, row, condition, PLAIN)
        layouts.append(parallel.to_host(p)[:count].argmax(axis=-1))
    return np.concatenate(layouts).astype(np.int32)


def pictures(task: Any, params: Any) -> dict[str, np.ndarray]:
    """One sheet, uint8 (H, W, 3): pairs drawn for held-out captions, the held-out pairs, and their segmentation."""
    batch, shown = next(_rounds(task, task.heldout))[0], min(SHOWN, task.chunk, len(task.heldout.image))
    known = Pair(np.zeros(batch.image.shape[:3], bool), np.zeros(batch.layout.shape, bool))
    keys = example_keys(0, np.arange(len(batch.image)))
    given = given_values(keys, Pair(batch.image, batch.layout), known).placed(task.mesh)
    condition = _condition(task, params, batch, keys)
    state = parallel.to_host(run(task.sampler, params["network"], task.path, given, condition, task.settings))
    first = jax.tree.map(lambda a: a[:shown], batch)
    real = display(task.codec.decode(first.image), task.image)
    rows = {
        **task.conditions.pictures(first, task.image, task.labels),
        "drawn: image": display(task.codec.decode(state.image), task.image)[:shown],
        "drawn: layout": colorize(np.asarray(task.process.layout.decode(state.layout))[:shown], task.labels),
        "held out": real,
        "held out: labels": colorize(first.layout, task.labels),
    }
    if task.segments:
        segmented = segment(task, params, task.heldout)[:shown]
        rows["held out, segmented in one call"] = overlay(real, segmented, task.labels)
    return {"pairs": sheet([list(row) for row in rows.values()], list(rows))}


def _condition(task: Any, params: Any, batch: TrainBatch, keys: Array) -> Condition:
    return task.conditions.sampling(params, keys, task.conditions.of_examples(batch), task.mesh)


def _rounds(task: Any, batch: TrainBatch) -> Iterator[tuple[TrainBatch, np.ndarray, int]]:
    """A batch in rounds, a chunk on every device, the last one padded: (examples, their rows, how many count)."""
    num, size = len(batch.image), _devices(task) * task.chunk
    for first in range(0, num, size):
        rows = np.minimum(np.arange(first, first + size), num - 1)
        yield jax.tree.map(lambda a, rows=rows: a[rows], batch), rows, min(size, num - first)


def _devices(task: Any) -> int:
    return 1 if task.mesh is None else task.mesh.size
