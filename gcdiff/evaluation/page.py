"""A report as one self-contained HTML page: pictures are embedded, nothing is loaded, all text is escaped."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from gcdiff.evaluation import svg
from gcdiff.evaluation.measure import Measure
from gcdiff.evaluation.metrics import METRICS
from gcdiff.evaluation.results import BRACKETS, GOALS, Findings, Gallery, Row, Sweep, counted, ends, shown
from gcdiff.evaluation.style import CSS
from gcdiff.types import LabelSpec

TILES = {
    ("segmentation", "miou"): "Segmentation, mIoU",
    ("pairs", "miou"): "Drawn pairs agree, mIoU",
    ("synthesis", "miou"): "Images show their layouts, mIoU",
    ("captions", "f1"): "Images show their captions, F1",
    ("fidelity", "frechet"): "Fréchet distance",
    ("layouts", "fsd"): "Fréchet distance of layouts",
    ("captions", "class_recall"): "Semantic recall",
}
"""The headline numbers at the top of the page: the first five of these that were measured."""
CURVES = {
    "pairs": ("miou",),
    "captions": ("f1", "class_recall", "class_precision"),
    "fidelity": ("frechet", "kid", "precision", "recall"),
    "layouts": ("fsd",),
}
"""The numbers of a sweep that are drawn; its table has all."""
ARROWS = {"higher": "↑", "lower": "↓", "real": "=", "": ""}
KINDS = {"best": "Best", "median": "In the middle", "worst": "Worst"}


def page(findings: Findings, labels: LabelSpec) -> str:
    """The HTML page of a report, well-formed as XML too."""
    title = f"gcdiff: {findings.made.get('run', 'a model')} measured"
    parts = [
        ("cases", "Cases", "".join(map(gallery, findings.galleries))),
        ("summary", "Numbers", summary(findings)),
        ("mistakes", "Segmentation, class by class", _mistakes(findings, labels)),
        ("classes", "Classes", _classes(findings)),
        ("sweeps", "Sweeps", "".join(map(sweep, findings.sweeps))),
        ("conventions", "Conventions", _conventions(findings.rows)),
        ("made", "How it was made", _made(findings.made)),
    ]
    parts = [(name, head, body) for name, head, body in parts if body]
    links = "".join(f'<a href="#{name}">{escape(head)}</a>' for name, head, _ in parts)
    sections = "".join(f'<section id="{name}"><h2>{escape(head)}</h2>{body}</section>' for name, head, body in parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header><div>
<h1>{escape(title)}</h1>
<p class="soft">{escape(_subtitle(findings.made))}</p>
<nav>{links}</nav>
{_tiles(findings.rows)}
</div></header>
<main>{sections}</main>
<footer>Every number with its 95 % interval, where it has one. {BRACKETS}
The real examples are measured by the same code as the model.</footer>
</body>
</html>
"""


def _subtitle(made: Mapping[str, Any]) -> str:
    parts = [f"step {made['step']}"] if made.get("step") is not None else []
    parts += [str(made[name]) for name in ("data set", "size", "date") if name in made]
    return " · ".join(parts)


def _tiles(rows: Sequence[Row]) -> str:
    by_name = {(row.metric, row.name): row for row in rows if row.model}
    tiles = []
    for key in [key for key in TILES if key in by_name][:5]:
        row = by_name[key]
        real = f"real {shown(row.real.value)}" if row.real else GOALS[row.goal]
        assert row.model is not None
        tiles.append(
            f'<div class="tile"><span class="name">{escape(TILES[key])}</span><b>{shown(row.model.value)}</b>'
            f'<span>{ends(row.model, "to")}</span><span class="beside">{escape(real)}</span></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def summary(findings: Findings) -> str:
    """The HTML table of all numbers, real beside the model's, and a list of what is left out."""
    lines, metric = [], None
    for row in findings.rows:
        if row.metric != metric:
            metric = row.metric
            head = f"{escape(METRICS[metric].title)} <small>real: {escape(row.beside)}</small>"
            lines.append(f'<tr class="group"><th colspan="5">{head}</th></tr>')
        first = row.model or row.real
        assert first is not None
        goal = f' <i class="goal" title="{GOALS[row.goal]}">{ARROWS[row.goal]}</i>' if row.goal else ""
        plot = svg.strip(*(None if m is None else _range(m) for m in (row.model, row.real)))
        lines.append(
            f"<tr><td>{escape(row.title)}{goal}</td>"
            f'<td class="model">{_number(row.model)}</td><td class="real">{_number(row.real)}</td>'
            f'<td class="plot">{plot}</td><td class="count">{escape(counted(first))}</td></tr>'
        )
    head = '<th>number</th><th>model</th><th>real</th><th class="plot"></th><th class="count">examples</th>'
    key = (
        '<p class="key"><span><i style="background:var(--model)"></i>model</span>'
        '<span><i style="border:2px solid var(--real)"></i>real: what to reach</span>'
        "<span>bars: 95 % intervals</span>"
        "<span>↑ higher is better, ↓ lower is better, = best as the real</span></p>"
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    left = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in findings.left_out.items())
    left = f"<h3>Left out</h3><dl>{left}</dl>" if left else ""
    return f'{key}<div class="card numbers">{body}</div>{left}'


def _number(measure: Measure | None) -> str:
    if measure is None:
        return '<span class="soft">–</span>'
    value = f'<data class="value" value="{_exact(measure.value)}">{shown(measure.value)}</data>'
    return f"{value}<small>{ends(measure, 'to')}</small>"


def _range(measure: Measure) -> svg.Range:
    """A value with its interval for a chart, which shows those of 95 % alone."""
    return (measure.value, measure.low, measure.high) if measure.is_95 else (measure.value, math.nan, math.nan)


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def gallery(content: Gallery) -> str:
    """The HTML of a gallery: its cases in three columns, best, in the middle, worst."""
    columns = []
    for kind, head in KINDS.items():
        cards = "".join(_case(case) for case in content.cases if case.kind == kind)
        if cards:
            columns.append(f"<div><h4>{head}</h4>{cards}</div>")
    if not columns:
        return ""
    said = f'<p class="soft">Ordered by the {escape(content.score)}.</p>'
    return f'<h3>{escape(content.title)}</h3>{said}<div class="cases">{"".join(columns)}</div>'


def _case(case) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(title)} of example {case.id}" src="{data_uri(picture)}" '
        f'width="{picture.shape[1]}" height="{picture.shape[0]}"/><figcaption>{escape(title)}</figcaption></figure>'
        for title, picture in case.pictures
    )
    height, width = case.pictures[0][1].shape[:2]
    form = "pictures wide" if width >= 1.6 * height else "pictures"
    caption = f"<p>{escape(case.caption)}</p>" if case.caption else ""
    score = f'<data value="{_exact(case.score)}">{shown(case.score)}</data>'
    return (
        f'<div class="card case"><div class="score"><b>{score}</b><span class="soft">example {case.id}</span></div>'
        f'<div class="{form}" style="--columns:{len(case.pictures)}">{figures}</div>{caption}</div>'
    )


def data_uri(picture: np.ndarray) -> str:
    """A picture uint8 (H, W, 3) as a data URI of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _mistakes(findings: Findings, labels: LabelSpec) -> str:
    cards = []
    if findings.confusion is not None:
        text = "Each row: what the pixels of a class are called, in per cent of them."
        drawn = svg.confusion(findings.confusion, labels.names, labels.palette)
        cards.append(
            f'<div class="card wide"><h3 style="margin-top:0">Confusion</h3><p class="soft">{text}</p>{drawn}</div>'
        )
    if findings.reliability is not None:
        text = "Points on the dashed line mean what they say; below it the model is too sure."
        drawn = svg.reliability(findings.reliability)
        cards.append(
            f'<div class="card"><h3 style="margin-top:0">Reliability</h3><p class="soft">{text}</p>{drawn}</div>'
        )
    return f'<div class="two">{"".join(cards)}</div>' if cards else ""


def _classes(findings: Findings) -> str:
    if not findings.classes or not findings.classes[0].numbers:
        return ""
    names = list(findings.classes[0].numbers)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = []
    for row in findings.classes:
        cells = "".join(
            f'<td><span class="value">{shown(m)}</span><small>{shown(r)}</small></td>' for m, r in row.numbers.values()
        )
        chip = '<span class="chip" style="background:rgb({},{},{})"></span>'.format(*row.color)
        lines.append(f"<tr><td>{chip}{escape(row.name)}</td>{cells}</tr>")
    text = '<p class="soft">The model, and under it the real.</p>'
    table = f"<table><thead><tr><th>class</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'{text}<div class="card">{table}</div>'


def sweep(result: Sweep) -> str:
    """The HTML of a sweep: curves over the values of a setting, and a table."""
    if not result.points:
        return ""
    places, curves, lines = [p.value for p in result.points], [], []
    rows = {(row.metric, row.name): row for point in result.points for row in point.rows}  # a point may lack some
    models = [{(row.metric, row.name): row.model for row in point.rows} for point in result.points]
    for key in [(m, name) for m, metric in METRICS.items() for name in metric.goals if (m, name) in rows]:
        row, measures = rows[key], [point.get(key) for point in models]
        ranges = [(math.nan,) * 3 if m is None else _range(m) for m in measures]
        level = None if row.real is None else _range(row.real)
        title = f"{row.metric}: {row.title}"
        if row.name in CURVES.get(row.metric, ()):
            curves.append(f'<div class="card">{svg.curve(title, result.dial, places, ranges, level)}</div>')
        cells = "".join(f"<td>{_number(m)}</td>" for m in measures)
        lines.append(f'<tr><td>{escape(title)}</td>{cells}<td class="real">{_number(row.real)}</td></tr>')
    head = "".join(f"<th>{escape(result.dial)} {value:g}</th>" for value in places)
    table = f"<table><thead><tr><th>number</th>{head}<th>real</th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
    text = f"{result.examples} pairs for each value, with the same seed; everything else as the run recommends."
    return (
        f'<h3>Over {escape(result.dial)}</h3><p class="soft">{text}</p><div class="curves">{"".join(curves)}</div>'
        f'<div class="card">{table}</div>'
    )


def _conventions(rows: Sequence[Row]) -> str:
    """The HTML of the conventions in which comparable numbers agree, metric by metric; equal ones together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        first = row.model or row.real
        assert first is not None
        details = {**first.convention, "of": ", ".join(f"{n} {name}" for name, n in first.counts.items())}
        body = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in details.items())
        groups.setdefault((row.metric, body), []).append(row.title)
    parts = []
    for metric in dict.fromkeys(name for name, _ in groups):
        bodies = "".join(
            f"<p><b>{escape(', '.join(titles))}</b></p><dl>{body}</dl>"
            for (name, body), titles in groups.items()
            if name == metric
        )
        parts.append(f"<details><summary>{escape(METRICS[metric].title)}</summary>{bodies}</details>")
    return f'<div class="card">{"".join(parts)}</div>' if parts else ""


def _made(made: Mapping[str, Any]) -> str:
    body = "".join(f"<dt>{escape(name)}</dt><dd>{_detail(name, value)}</dd>" for name, value in made.items())
    return f'<div class="card"><dl>{body}</dl></div>' if body else ""


def _detail(name: str, value: Any) -> str:
    said = escape(str(value))
    return f"<code>{said}</code>" if name == "command" else said
