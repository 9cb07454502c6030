"""Named metrics: real examples in the model's place get what the ceilings are, and what cannot be is said."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from measured import LABELS, examples, material, plan, subject

from gcdiff.data.builders.camvid import CamVid
from gcdiff.data.captions import nouns_of
from gcdiff.evaluation import numbers
from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.evaluation.cases import select_cases
from gcdiff.evaluation.evaluator import ASKS, evaluate
from gcdiff.evaluation.metrics import METRICS, SETS, named
from gcdiff.evaluation.readers import plain_reader
from gcdiff.evaluation.results import GOALS, table, to_dict
from gcdiff.evaluation.sides import Side, Subject, model_side
from gcdiff.types import Pair
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.table import WORLDS


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """For the audit, at a level that they can tell."""
    monkeypatch.setattr(numbers, "LEVEL", 0.05)
    monkeypatch.setattr(numbers, "LEFT", 19)


@pytest.fixture(scope="module")
def heldout():
    return examples("heldout", 40)


@pytest.fixture(scope="module")
def train():
    return examples("train", 48)


def quiet(said: str) -> None:
    pass


DRAWN = ("pairs", "captions", "fidelity", "layouts", "memorisation")


def test_real_examples_in_the_models_place_get_the_ceiling(heldout, train):
    findings = evaluate(subject(heldout), material(heldout, train), plan(*DRAWN, "synthesis"), {}, quiet)
    assert {row.metric for row in findings.rows} == {*DRAWN, "synthesis"} and not findings.left_out
    for row in findings.rows:
        assert row.model is not None and row.real is not None, row.title
        np.testing.assert_equal(row.model[:4], row.real[:4], row.title)
        assert row.model.convention == row.real.convention and row.model.convention["interval"]
    values = {(row.metric, row.name): row.model for row in findings.rows}
    assert values["pairs", "miou"].value > 0.95 and values["captions", "recall"].value > 0.9
    assert values["fidelity", "frechet"].counts == {"generated": 12, "reference": 48}


def test_a_model_that_copies_its_training_examples_is_told_from_the_real(heldout, train):
    findings = evaluate(subject(train), material(heldout, train), plan("memorisation", "captions"), {}, quiet)
    rows = {row.name: row for row in findings.rows}
    for name in ("images_copied", "layouts_copied"):
        assert rows[name].model.value == 1 and rows[name].real.value < 0.5
    assert rows["images_ratio"].model.value == 0 < 0.5 < rows["images_ratio"].real.value
    assert rows["f1"].model.high < rows["f1"].real.low  # others' images for these captions


def test_segmentations_of_the_truth_have_its_confusion_and_their_own_reliability(heldout, train):
    findings = evaluate(subject(heldout), material(heldout, train), plan("segmentation"), {}, quiet)
    rows = {row.name: row for row in findings.rows}
    assert rows["miou"].model.value == 1 >= rows["miou"].real.value > 0.95
    assert rows["expected"].model.value == pytest.approx(0.27) and rows["expected"].real is None
    assert findings.confusion.sum() == np.trace(findings.confusion[:, :-1]) == heldout.layouts.size
    held = findings.reliability[findings.reliability[:, 0] > 0]
    np.testing.assert_allclose(held, [[heldout.layouts.size, heldout.layouts.size, 0.73 * heldout.layouts.size]])
    assert [row.numbers["segmentation IoU"][0] for row in findings.classes] == [1.0] * 10


def test_without_an_oracle_the_model_reads_and_training_examples_are_its_ceiling(heldout, train):
    both = type(heldout)(*(np.concatenate(v) for v in zip(heldout[:2], train[:2], strict=True)), ("",) * 88, None)
    model = subject(both)
    itself = NamedSegmenter("the model itself", lambda x: np.stack(model.segment(x, 0)).argmax(-1))
    on, names = material(heldout, train, plain_reader(itself, LABELS.names)), ("segmentation", *DRAWN[:3])
    findings = evaluate(model, on, plan(*names), {}, quiet)
    rows = {(row.metric, row.name): row for row in findings.rows}
    assert rows["segmentation", "expected"].real.value == pytest.approx(0.27)
    assert rows["pairs", "miou"].model.convention["segmenter"] == "the model itself"
    assert "expected --features" in findings.left_out["fidelity"] and ("captions", "class_recall") in rows


def test_what_is_not_there_is_left_out_and_said(heldout, train):
    said = []
    mute = subject(heldout, captioned=False, sample="the path joint was not trained", likelihood="no bounds")
    findings = evaluate(mute, material(heldout, train), plan(*METRICS, drawn=30), {}, said.append)
    assert {row.metric for row in findings.rows} == {"segmentation", "synthesis"}
    assert set(findings.left_out) == set(METRICS) - {"segmentation", "synthesis"}
    assert findings.left_out["pairs"] == "the path joint was not trained"
    assert findings.left_out["likelihood"] == "no bounds"
    assert "takes no captions" in findings.left_out["captions"] and "larger --num" in findings.left_out["memorisation"]
    for name, why in findings.left_out.items():
        assert f"{name} is left out: {why}" in said


def test_what_a_metric_refuses_is_its_reason(heldout, train):
    lone = material(heldout, train.part(slice(1)))
    findings = evaluate(subject(heldout), lone, plan("pairs", "fidelity"), {}, quiet)
    assert {row.metric for row in findings.rows} == {"pairs"} and "does not vary" in findings.left_out["fidelity"]


def test_a_sweep_asks_for_each_value_and_measures_the_real_beside_it(heldout, train):
    asked, model = [], subject(heldout)

    def sample(captions, num, seed, dials):
        asked.append((num, seed, dict(dials)))
        pair = model.sample(captions, num, seed, dials)
        return pair._replace(layout=pair.layout if dials.get("steps") != 1 else np.zeros_like(pair.layout))

    findings = evaluate(
        model._replace(sample=sample), material(heldout, train), plan("pairs", guidance=(2.0,), steps=(1, 5)), {}, quiet
    )
    assert asked == [(12, 0, {}), (6, 0, {"guidance": 2.0}), (6, 0, {"steps": 1}), (6, 0, {"steps": 5})]
    steps = findings.sweeps[1]
    assert steps.dial == "steps" and steps.examples == 6 and [p.value for p in steps.points] == [1, 5]
    sky, right = (point.rows[0] for point in steps.points)
    assert sky.model.value < 0.1 < right.model.value == right.real.value == sky.real.value


def test_the_second_pair_of_a_caption_is_another_draw(heldout):
    """Diversity is of draws that differ in their random numbers alone: in the seed, and not in the captions."""
    asked = []

    def sample(captions, num, seed, dials):
        asked.append((tuple(captions), num, seed, dials))
        return Pair(np.full((num, 2, 2, 3), seed, np.uint8), np.full((num, 2, 2), seed))

    model = Subject(None, sample, None, None, True, {})
    again = model_side(model, None, heldout, len(heldout.ids), 0, {"again"}, 7).again
    (captions, _, first, dials), (others, num, second, same) = asked
    assert first != second and others == captions[:num] and dials == same == {}
    assert again.image.shape == (num, 2, 2, 2, 3) and (again.layout == np.array([first, second])[:, None, None]).all()


def test_findings_are_json_and_a_table(heldout, train):
    findings = evaluate(subject(heldout), material(heldout, train), plan("segmentation", "pairs"), {"seed": 0}, quiet)
    read = json.loads(json.dumps(to_dict(findings), allow_nan=False))
    assert [row["model"]["value"] for row in read["rows"]] == [row.model.value for row in findings.rows]
    assert read["made"] == {"seed": 0} and len(read["cases"]["pairs"]["cases"]) == 6
    text = table(findings.rows)
    for row in findings.rows:
        assert row.title in text and f"{row.model.value:.3f}" in text


def test_names_and_sets_are_metrics_in_their_order():
    assert named("full") == tuple(METRICS) and named("pairs, quick") == ("segmentation", "pairs")
    assert all(set(names) <= set(METRICS) for names in SETS.values())
    for wrong in ("fid", "quick,fid", "", ","):
        with pytest.raises(ValueError, match="expected some of .*segmentation.*full") as error:
            named(wrong)
        assert "\n" not in str(error.value)
    for metric in METRICS.values():
        assert metric.needs in ASKS and metric.needs in Side._fields
        assert all(goal in GOALS and title for title, goal in metric.goals.values())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 40])
def test_cases_are_the_best_the_middle_and_the_worst_and_none_twice(count):
    scores = np.random.default_rng(count).permutation(np.arange(count) / max(count, 1))
    cases = select_cases([*scores, np.nan], 2)
    of = {kind: [scores[i] for k, i in cases if k == kind] for kind in ("best", "median", "worst")}
    assert max(Counter(i for _, i in cases).values(), default=1) == 1 and len(cases) == min(count, 6)
    order = sorted(scores)
    assert of["best"] == order[::-1][: len(of["best"])] and of["worst"] == order[: len(of["worst"])]
    if count == 40:
        assert all(0.4 <= score <= 0.6 for score in of["median"])


def test_a_plain_reader_hears_the_nouns_of_the_data_sets_own_captions():
    """CamVid's captions call a sign symbol a sign, and Cityscapes' never name void."""
    captions, itself = CamVid.class_captions, NamedSegmenter("itself", lambda images: images)
    reader = plain_reader(itself, CamVid.labels.names, nouns=nouns_of(CamVid))
    layouts = np.eye(11, dtype=np.int32)[:, None] * np.arange(1, 12)[:, None, None] - 1
    said = [captions.caption(layout, np.random.default_rng(0)) for layout in layouts]
    np.testing.assert_array_equal(reader.asked(said), np.eye(11, dtype=bool))
    assert reader.classes.all() and nouns_of(Streets) == ()
    assert plain_reader(itself, ("a", "void"), nouns=("As", None)).classes.tolist() == [True, False]


@pytest.mark.parametrize("name", WORLDS)
def test_an_oracle_reads_what_is_there(name):
    from gcdiff import config as configs

    config = configs.default()
    config.data.update(name=name, size=(32, 32), num=8, heldout=8)
    drawn = configs.gathered(configs.splits(config), "heldout", 8)
    images, layouts = np.stack([e.image for e in drawn]), np.stack([e.layout for e in drawn])
    captions, reader = [e.captions[0] for e in drawn], WORLDS[name].oracle()
    reading = reader.read(images)
    assert (reader.labels(reading) == layouts).mean() > 0.97
    assert reader.scores(reading, captions)["f1"].value > 0.9
    parameters = reader.parameters(images, layouts, reading)
    assert len(parameters) == 8 and np.isfinite(parameters).all()
    wanted = reader.asked(captions)
    assert wanted.shape == (8, len(reader.classes)) and wanted.any() == reader.classes.any()
