"""Held-out numbers while training: at which levels, against what, and what a segmentation hears."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler
from gcdiff.schedules import Schedule
from gcdiff.training import look
from gcdiff.types import Condition, LabelSpec, Pair, Text

LABELS = LabelSpec(("road", "sky"), ((0, 0, 0), (9, 9, 9)))


def batch(num, image):
    return TrainBatch(np.full((num, 2, 2, 3), image, np.float32), np.zeros((num, 2, 2), np.int32))


def test_losses_are_at_the_levels_of_their_range_and_a_gap_is_what_held_out_ones_have_above_the_others(monkeypatch):
    """With losses of t + x and t + 2 x for images of x: 1 where held out, 0 where seen."""

    def losses(task, params, batch, t, keys):
        x = batch.image.mean(axis=(1, 2, 3))
        return Pair(t + x, t + 2 * x)

    def segment(task, params, batch):
        return np.where(np.arange(2) < batch.image.mean(), 1, batch.layout)  # half wrong where held out

    monkeypatch.setattr(look, "_losses_at", losses)
    monkeypatch.setattr(look, "segment", segment)
    task = SimpleNamespace(mesh=None, chunk=4, segments=True, heldout=batch(6, 1.0), seen=batch(3, 0.0), labels=LABELS)
    actual = look.numbers(task, None)
    for low, high in look.RANGES:
        for side, extra in (("image", 1), ("layout", 2)):
            each = actual[f"losses/{side}_{low:g}_{high:g}"] - extra
            np.testing.assert_allclose(each, low + (high - low) * (np.arange(6) + 0.5) / 6, atol=1e-6)
            assert actual[f"{side}_{low:g}_{high:g}"] == pytest.approx(each.mean() + extra)
    assert [actual["image_gap"], actual["layout_gap"]] == pytest.approx([1, 2])
    assert actual["segmentation_miou"] == 0.25 and actual["segmentation_gap"] == 0.75


def test_a_segmentation_sees_the_image_and_hears_no_caption():
    def says(variables, noisy, log_snr, condition):
        """Class 1 where the image is bright and nothing is said, else class 0."""
        silent = ~condition.text.mask.any(axis=1)[:, None, None]
        one = (noisy.image.mean(axis=-1) > 0) & silent
        return Pair(noisy.image, 9.0 * jnp.stack([~one, one], axis=-1))

    process = JointProcess(GaussianProcess(Schedule("cosine"), "x0"), UniformProcess(2, Schedule("cosine")))
    text = Text(np.zeros((4, 2, 3), np.float32), np.ones((4, 2), bool))
    conditions = SimpleNamespace(sampling=lambda *a: Condition(text), of_examples=lambda batch: {})
    task = SimpleNamespace(mesh=None, chunk=4, sampler=Sampler(process, says), conditions=conditions)
    examples = batch(6, 0.5)._replace(image=np.sign(np.arange(24).reshape(6, 2, 2, 1) % 3 - 0.5).repeat(3, -1))
    actual = look.segment(task, {"network": {}}, examples)
    np.testing.assert_array_equal(actual, examples.image[..., 0] > 0)
