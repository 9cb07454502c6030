"""Scores of micrographs of cells: near one on true renders, low where captions, layouts or stains do not belong."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.worlds.cells.appearance import render
from gcdiff.worlds.cells.data import Cells
from gcdiff.worlds.cells.scores import agreement, caption_scores, layout_scores


@pytest.fixture(scope="module")
def micrographs():
    data = Cells("heldout", 96, seed=1)
    return [data.truth(i) for i in range(96)]


@pytest.fixture(scope="module")
def captions(micrographs):
    return [m.example.captions[i % 2] for i, m in enumerate(micrographs)]


def test_true_renders_score_one(micrographs, captions):
    images = np.stack([m.example.image for m in micrographs])
    scores = caption_scores(images, captions)
    for part in scores:
        assert part.precision.value == part.recall.value == part.f1.value == 1
    assert scores.all.shuffled.high < 0.7 and scores.count.shuffled.value < 0.5
    assert scores.count.f1.examples == 96 > scores.stain.f1.examples == sum("tain" in c for c in captions)


def test_wrong_stains_are_noticed_and_nothing_else(micrographs, captions):
    other = [render(m.scene.layout, 1 - m.stain, m.bias, np.random.default_rng(0)) for m in micrographs]
    scores = caption_scores(np.stack(other), captions)
    assert scores.stain.f1.value == scores.stain.precision.value == 0
    assert scores.count.f1.value == scores.size.f1.value == scores.dividing.f1.value == 1
    assert 0 < scores.all.f1.value < 1


def test_layouts_have_no_stain(micrographs, captions):
    scores = layout_scores(np.stack([m.scene.layout for m in micrographs]), captions)
    assert scores.all.f1.value == scores.count.f1.value == 1
    assert scores.stain.f1.examples == 0 and np.isnan(scores.stain.f1.value)


def test_precision_and_recall_tell_what_was_not_asked_from_what_is_missing():
    """Four layouts of no, one and one dividing cell: facts counted by hand."""
    data = Cells("train", 100)  # the first has a cell that divides
    kinds = {}
    for i in range(100):
        scene = data.truth(i).scene
        kinds.setdefault((scene.cells, scene.attributes.dividing), scene.layout)
    shown = np.stack([kinds[1, True], kinds[1, True], kinds[1, False], kinds[0, False]])
    captions = ["a micrograph of one cell that is dividing", "one cell", "one cell that is dividing", "no cells"]
    scores = layout_scores(shown, captions)
    assert (scores.dividing.precision.value, scores.dividing.recall.value) == (0.5, 0.5)
    assert scores.count.f1.value == 1 and scores.size.f1.examples == 0


def test_agreement_of_pairs_and_of_strangers(micrographs):
    few = [m for m in micrographs if m.scene.cells][:32]
    images, layouts = (np.stack([getattr(m.example, side) for m in few]) for side in ("image", "layout"))
    assert agreement(images, layouts).value >= 0.995
    strangers = agreement(images, np.roll(layouts, 1, 0))
    assert strangers.value < 0.5 and strangers.low < strangers.value < strangers.high
    assert agreement(images, np.where(np.arange(32) < 16, layouts, -1)).value >= 0.99


def test_bad_input(micrographs, captions):
    images = np.stack([m.example.image for m in micrographs])
    with pytest.raises(ValueError, match="captions"):
        caption_scores(images, captions[:-1])
    with pytest.raises(ValueError, match="caption of cells"):
        caption_scores(images[:2], ["cells by the sea", captions[0]])
