"""Void as the last class of a model is left out of an evaluation, as void that is missing is."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from measured import LABELS, examples, material, plan, subject

from gcdiff.cli import extract
from gcdiff.data.builders.cityscapes import NOUNS
from gcdiff.data.captions import ClassCaptions
from gcdiff.data.labels import CITYSCAPES
from gcdiff.evaluation import numbers
from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.evaluation.evaluator import evaluate
from gcdiff.evaluation.readers import plain_reader
from gcdiff.evaluation.segmenter import segmentation
from gcdiff.evaluation.sides import Examples
from gcdiff.pictures import colorize
from gcdiff.types import VOID, LabelSpec, Pair
from gcdiff.worlds.streets.oracle import Oracle

BUS = LABELS.num_classes - 1
AS_CLASS = dataclasses.replace(LABELS, void="class")
"""The streets with their last class for void."""
MISSING = AS_CLASS.labelled
DRAWN = ("pairs", "captions", "layouts", "synthesis", "diversity", "memorisation")


def quiet(said: str) -> None:
    pass


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """For the audit, at a level that they can tell."""
    monkeypatch.setattr(numbers, "LEVEL", 0.05)
    monkeypatch.setattr(numbers, "LEFT", 19)


@pytest.fixture(scope="module")
def heldout() -> Examples:
    streets = examples("heldout", 40)
    assert (streets.layouts == BUS).any(axis=(1, 2)).sum() >= 4
    return streets


def missing(layouts: np.ndarray) -> np.ndarray:
    return np.where(layouts == BUS, VOID, layouts)


def world(given: Examples, as_class: bool):
    """A model that draws the given examples and errs in a stripe of its segmentations, and what it is measured on."""
    form = (lambda layouts: layouts) if as_class else missing
    spec = AS_CLASS if as_class else MISSING
    best = {image.tobytes(): layout for image, layout in zip(given.images, given.layouts, strict=True)}

    def segment(images, first):
        answers = np.stack([best[image.tobytes()] for image in images])
        answers[:, :3] = 0
        maps = 0.7 * np.eye(BUS)[np.minimum(answers, BUS - 1)] + 0.3 / BUS
        return np.pad(maps, ((0, 0), (0, 0), (0, 0), (0, int(as_class))))

    def sample(captions, num, seed, dials):
        return Pair(given.images[seed : num + seed], form(given.layouts[seed : num + seed]))

    def synthesize(layouts, captions, seed):
        np.testing.assert_array_equal(layouts, form(given.layouts[: len(layouts)]))
        return given.images[: len(layouts)]

    reader = plain_reader(NamedSegmenter("oracle", lambda x: form(Oracle().read(x).labels)), spec.names, truth=True)
    model = subject(given)._replace(segment=segment, sample=sample, synthesize=synthesize)
    on = material(given._replace(layouts=form(given.layouts)), given._replace(layouts=form(given.layouts)), reader)
    return model, on._replace(labels=spec)


def test_void_as_a_class_gets_the_numbers_of_void_that_is_missing(heldout):
    ours, wanted = (
        evaluate(*world(heldout, as_class), plan("segmentation", *DRAWN, guidance=(2.0,)), {}, quiet)
        for as_class in (True, False)
    )
    assert ours.left_out == wanted.left_out == {} and {row.metric for row in ours.rows} == {"segmentation", *DRAWN}
    for one, other in zip(
        [*ours.rows, *ours.sweeps[0].points[0].rows], [*wanted.rows, *wanted.sweeps[0].points[0].rows], strict=True
    ):
        assert one._replace(model=None, real=None) == other._replace(model=None, real=None)
        np.testing.assert_equal(one.model, other.model, one.title)
        np.testing.assert_equal(one.real, other.real, one.title)
    np.testing.assert_array_equal(ours.confusion, wanted.confusion)
    np.testing.assert_array_equal(ours.reliability, wanted.reliability)
    assert [row.name for row in ours.classes] == list(LABELS.names[:-1])
    np.testing.assert_equal([row.numbers for row in ours.classes], [row.numbers for row in wanted.classes])
    for one, other in zip(ours.galleries, wanted.galleries, strict=True):
        np.testing.assert_equal([case[1:] for case in one.cases], [case[1:] for case in other.cases])


def test_an_answer_of_void_is_wrong_where_a_pixel_is_labelled(heldout):
    model, on = world(heldout, True)
    void = 0.9 * np.eye(BUS + 1)[BUS] + 0.1 / (BUS + 1)
    model = model._replace(segment=lambda images, first: np.broadcast_to(void, (*images.shape[:3], BUS + 1)))
    findings = evaluate(model, on, plan("segmentation"), {}, quiet)
    rows, pixels = {row.name: row.model.value for row in findings.rows if row.model}, (heldout.layouts != BUS).sum()
    assert rows["miou"] == rows["accuracy"] == 0
    assert findings.confusion[:, -1].sum() == findings.confusion.sum() == pixels
    assert rows["expected"] == pytest.approx(void.max()) and findings.reliability[:, 0].sum() == pixels
    assert rows["negative_log_likelihood"] == pytest.approx(-np.log(void.min()))


def test_a_model_is_asked_with_void_as_its_class_and_a_missing_layout_stays_missing(heldout):
    layouts, asked = np.array(heldout.layouts), []
    layouts[1] = VOID
    model, on = world(heldout, True)

    def likelihood(some):
        asked.append(some.layouts)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(
            model._replace(likelihood=likelihood),
            on._replace(train=heldout._replace(layouts=layouts)),
            plan("likelihood"),
            {},
            quiet,
        )
    np.testing.assert_array_equal(asked[0], layouts[:4])


def test_segmentation_alone_leaves_void_out(heldout):
    one_hot = np.eye(BUS + 1)[heldout.layouts]
    one_hot[:, :3] = np.eye(BUS + 1)[BUS]
    scores = segmentation(zip(one_hot, heldout.layouts, strict=True), AS_CLASS)
    wanted = segmentation(zip(one_hot, missing(heldout.layouts), strict=True), MISSING)
    assert list(scores["iou"]) == list(LABELS.names[:-1]) and scores["miou"].value < 1
    np.testing.assert_equal(scores, wanted)


def test_classes_of_cityscapes_own_captions_are_asked_for_and_void_by_nobody(monkeypatch):
    """Captions in the data set's words, and a segmenter without a class for void: what is right has no false alarm."""
    rng, made = np.random.default_rng(0), ClassCaptions((*NOUNS, None))
    layouts = rng.integers(0, 20, (24, 4, 1, 1)).repeat(4, 2).repeat(16, 3).reshape(24, 16, 16).astype(np.int32)
    images = layouts[..., None].astype(np.uint8).repeat(3, -1)
    captions = tuple(made.caption(layout, rng) for layout in layouts)
    given = Examples(images, layouts, captions, np.arange(24))

    class Network:
        name = "network"

        def __init__(self, source, names):
            assert names == CITYSCAPES.names[:19]

        def __call__(self, some):
            return np.where(some[..., 0] < 19, some[..., 0].astype(np.int32), VOID)

    monkeypatch.setattr("gcdiff.evaluation.pytorch.TransformersSegmenter", Network)
    model = SimpleNamespace(labels=CITYSCAPES, segment=lambda some: some[..., 0].astype(np.int32))
    for segmenter in ("here", None):
        reader = extract._reader(SimpleNamespace(segmenter=segmenter), model, "prepared", made.nouns)
        np.testing.assert_array_equal(reader.classes, np.arange(20) < 19)
        on = material(given, given, reader)._replace(labels=CITYSCAPES, colors=lambda y: colorize(y, CITYSCAPES))
        findings = evaluate(subject(given), on, plan("captions", drawn=24), {}, quiet)
        rows = {row.name: row.model.value for row in findings.rows}
        assert rows == {"class_recall": 1, "class_precision": 1, "class_f1": 1, "class_recall_any": 1}
        asked = {row.name: row.numbers["caption precision"][0] for row in findings.classes}
        assert asked["sky"] == asked["person"] == 1


def test_the_labelled_classes_of_a_spec():
    assert LABELS.labelled is LABELS
    assert CITYSCAPES.labelled.names == CITYSCAPES.names[:19] and CITYSCAPES.labelled.void == "missing"
    spec = LabelSpec(("a", "b"), ((1, 2, 3), (4, 5, 6)), void="class", void_id=0)
    assert spec.labelled == LabelSpec(("a",), ((1, 2, 3),), void_color=(4, 5, 6))
