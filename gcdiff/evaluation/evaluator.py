"""Evaluate a model: metrics of real examples and of the model, and sweeps over its sampling settings.

A model is a set of functions here (`gcdiff.evaluation.sides.Subject`); no run directory and no config is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from gcdiff.evaluation import void
from gcdiff.evaluation.calibration import BINS
from gcdiff.evaluation.cases import class_rows, galleries
from gcdiff.evaluation.metrics import GENERATIVE, METRICS, Metric
from gcdiff.evaluation.numbers import Featured, Shared, featured
from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.results import Findings, Point, Row, Sweep
from gcdiff.evaluation.sides import Examples, Seen, Side, Subject, model_side, real_side, seen
from gcdiff.types import LabelSpec

ASKS = {
    "segmented": "segment",
    "pairs": "sample",
    "again": "sample",
    "synthesized": "synthesize",
    "likelihood": "likelihood",
}
"""The function of a `Subject` that gives each field of a `Side`."""


class Plan(NamedTuple):
    """The metrics of an evaluation, and on how many examples they are measured.

    metrics: names in METRICS. drawn: how many pairs are drawn; bounded: of how many examples there are bounds. sweeps:
    the values of each sampling setting ("guidance", "steps"). swept: how many pairs are drawn for each value.
    """

    metrics: tuple[str, ...]
    drawn: int
    bounded: int
    seed: int
    sweeps: Mapping[str, Sequence[float]]
    swept: int


class Material(NamedTuple):
    """The data of an evaluation, and the networks or oracles that measure with them.

    extract: Seen -> (features (N, D), their convention), None without; standardised: whether features have units of
    their own. reference: features of training examples made before, instead of `train`'s. clip: CLIP's towers. show,
    colors: an image (h, w, C) and a layout (H, W) as pictures uint8 (H, W, 3).
    """

    heldout: Examples
    train: Examples
    labels: LabelSpec
    reader: Reader
    extract: Callable[[Seen], tuple[Any, Mapping[str, Any]]] | None
    standardised: bool
    reference: Featured | None
    clip: tuple[Any, Any] | None
    show: Callable[[Any], Any]
    colors: Callable[[Any], Any]


def evaluate(
    subject: Subject, material: Material, plan: Plan, made: Mapping[str, Any], say: Callable[[str], None]
) -> Findings:
    """Compute all numbers of a plan.

    `say` is called with a line about each step; `made` describes the run in the findings. A metric that the model, the
    data or the plan do not allow is left out, with its reason. Void is left out of all, also where it is a class of the
    model's (`gcdiff.evaluation.void`).
    """
    subject, material = void.of_subject(subject, material.labels), _without_void(material)
    shared, left_out = _shared(subject, material, plan, say), {}
    chosen = {}
    for name in plan.metrics:
        metric = METRICS[name]
        reason = metric.missing(shared) or subject.why.get(ASKS[metric.needs], "")
        if reason:
            left_out[name] = reason
            say(f"{name} is left out: {reason}")
        else:
            chosen[name] = metric
    needs = {metric.needs for metric in chosen.values()}
    m, counts = material, (plan.drawn, plan.bounded)
    say("real examples, the ceilings")
    real = real_side(subject, m.reader, m.heldout, m.train, *counts, needs)
    ceilings = _numbers(chosen, real, shared, left_out)
    if needs:
        say("the model")
    model = model_side(subject, m.reader, m.heldout, *counts, needs, plan.seed)
    rows = _rows(chosen, _numbers(chosen, model, shared, left_out), ceilings)
    sweeps = tuple(_sweep(subject, material, plan, shared, chosen, dial, say) for dial in plan.sweeps)
    reliability = None
    if model.segmented is not None and model.segmented.reliability is not None:
        table = model.segmented.reliability.total[:-1]
        reliability = table.reshape(-1, BINS, 3).sum(0)
    return Findings(
        rows,
        left_out,
        class_rows(model, real, shared, m.labels.palette),
        None if model.segmented is None else model.segmented.confusion.total,
        reliability,
        galleries(model, shared, m.show, m.colors),
        sweeps,
        made,
    )


def _without_void(m: Material) -> Material:
    heldout, train = (void.of_examples(some, m.labels) for some in (m.heldout, m.train))
    return m._replace(heldout=heldout, train=train, labels=m.labels.labelled, reader=void.of_reader(m.reader, m.labels))


def _shared(subject: Subject, material: Material, plan: Plan, say: Callable[[str], None]) -> Shared:
    m = material
    features = None if m.extract is None else partial(_featured, m.extract, m.standardised)
    rest = m.heldout.part(slice(plan.drawn, None))
    reference = m.reference
    if features is not None and reference is None and "fidelity" in plan.metrics:
        say(f"features of {len(m.train.ids)} training examples")
        reference = features(seen(m.train, m.reader))
    return Shared(m.labels.names, m.reader, m.train, rest, subject.captioned, features, reference, m.clip)


def _featured(extract: Callable, standardised: bool, some: Seen) -> Featured:
    values, convention = extract(some)
    return featured(values, some.examples.ids, convention, standardised)


def _numbers(chosen: Mapping[str, Metric], side: Side, shared: Shared, left_out: dict[str, str]) -> dict:
    """The numbers of a side by metric. A metric that raises ValueError goes to `left_out`, with its message."""
    numbers = {}
    for name, metric in chosen.items():
        if getattr(side, metric.needs) is None:
            continue
        try:
            numbers[name] = metric.numbers(side, shared)
        except ValueError as error:
            left_out[name] = str(error)
    return numbers


def _rows(chosen: Mapping[str, Metric], model: Mapping, real: Mapping) -> tuple[Row, ...]:
    """The numbers of both sides, in the order of the metrics and of their goals."""
    rows = []
    for name, metric in chosen.items():
        mine, theirs = model.get(name, {}), real.get(name, {})
        for number, (title, goal) in metric.goals.items():
            if number in mine or number in theirs:
                rows.append(Row(name, number, title, goal, mine.get(number), theirs.get(number), metric.beside))
    return tuple(rows)


def _sweep(
    subject: Subject,
    material: Material,
    plan: Plan,
    shared: Shared,
    chosen: Mapping[str, Metric],
    dial: str,
    say: Callable[[str], None],
) -> Sweep:
    """The generative metrics at each value of one sampling setting `dial`, the others being the run's own."""
    metrics = {name: metric for name, metric in chosen.items() if name in GENERATIVE}
    few, ignored = material.heldout.part(slice(plan.swept)), {}
    ceilings = _numbers(metrics, Side(pairs=seen(few, material.reader)), shared, ignored)
    points = []
    for value in plan.sweeps[dial] if metrics else ():
        assert subject.sample is not None, "no generative metric is chosen without it"
        say(f"{dial} {value:g}")
        pair = subject.sample(few.captions if subject.captioned else None, len(few.ids), plan.seed, {dial: value})
        side = Side(pairs=seen(few._replace(images=pair.image, layouts=pair.layout), material.reader))
        points.append(Point(value, _rows(metrics, _numbers(metrics, side, shared, ignored), ceilings)))
    return Sweep(dial, len(few.ids), tuple(points))
