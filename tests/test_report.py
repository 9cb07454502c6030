"""A report's page: pictures within it, no request outside, well-formed, and the numbers of its JSON."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from gcdiff.evaluation import svg
from gcdiff.evaluation.measure import Measure
from gcdiff.evaluation.metrics import METRICS
from gcdiff.evaluation.page import page, sweep
from gcdiff.evaluation.results import Case, ClassRow, Findings, Gallery, Point, Row, Sweep, to_dict
from gcdiff.worlds.streets.data import Streets

HOSTILE = '</script><img src=x onerror="alert(1)"> & "quoted" \u00fc'
LABELS = Streets.labels
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def measure(value: float) -> Measure:
    return Measure(value, value - 0.01, value + 0.02, {"examples": 7}, {"void": "left out", "note": HOSTILE})


@pytest.fixture(scope="module")
def findings() -> Findings:
    rng = np.random.default_rng(0)
    rows = tuple(
        Row(name, number, title, goal, measure(rng.uniform()), None if i else measure(rng.uniform()), metric.beside)
        for name, metric in METRICS.items()
        for i, (number, (title, goal)) in enumerate(metric.goals.items())
    )
    pictures = tuple((side, rng.integers(0, 256, (16, 32, 3)).astype(np.uint8)) for side in ("image", HOSTILE))
    cases = tuple(Case(kind, i, 0.1 * i, HOSTILE, pictures) for i, kind in enumerate(("best", "median", "worst")))
    classes = tuple(
        ClassRow(name, color, {"IoU": (rng.uniform(), math.nan)})
        for name, color in zip(LABELS.names, LABELS.palette, strict=True)
    )
    sweeps = (Sweep("guidance", 4, tuple(Point(v, rows[:12]) for v in (1.0, 2.0, 4.0))),)
    table = np.stack([np.arange(15), 0.9 * np.arange(15), np.arange(15) * (np.arange(15) + 0.5) / 15], -1)
    confusion = rng.integers(0, 50, (10, 11))
    made = {"run": HOSTILE, "step": 3, "seconds": 12}
    return Findings(
        rows, {"clip": HOSTILE}, classes, confusion, table, (Gallery("pairs", "Pairs", "mIoU", cases),), sweeps, made
    )


@pytest.fixture(scope="module")
def html(findings) -> str:
    return page(findings, LABELS)


@pytest.fixture(scope="module")
def tree(html):
    return ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>\n"))


def test_the_page_is_well_formed_and_asks_for_nothing(html, tree):
    assert tree.find("head/title").text.startswith("gcdiff: ")
    kinds = {element.tag for element in tree.iter()}
    assert not kinds & {"script", "link", "iframe", "object"} and {"svg", "img", "table", "style"} <= kinds
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on") and "//" not in value.replace("data:image/png;base64,", "")[:40]
            if name in ("src", "href"):
                assert value.startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"url\(|@import|https?:", html)
    ids = {element.get("id") for element in tree.iter() if element.get("id")}
    assert {a.get("href")[1:] for a in tree.iter("a")} <= ids
    assert {"summary", "cases", "mistakes", "classes", "sweeps", "conventions", "made"} <= ids


def test_text_is_escaped_and_comes_back(tree):
    texts = ["".join(element.itertext()) for element in tree.iter() if element.tag in ("p", "dd", "figcaption", "h1")]
    assert sum(HOSTILE in text for text in texts) > 5
    assert len([img for img in tree.iter("img") if img.get("src") == "x"]) == 0


def test_pictures_are_in_it(findings, tree):
    images = list(tree.iter("img"))
    shown = [picture for gallery in findings.galleries for case in gallery.cases for _, picture in case.pictures]
    assert len(images) == len(shown) > 0
    for image, picture in zip(images, shown, strict=True):
        file = io.BytesIO(base64.b64decode(image.get("src").partition(",")[2]))
        np.testing.assert_array_equal(np.asarray(Image.open(file)), picture)
        assert image.get("alt")


def test_json_and_page_say_the_same_numbers(findings, tree):
    read = json.loads(json.dumps(to_dict(findings), allow_nan=False))
    wanted = [side["value"] for row in read["rows"] for side in (row["model"], row["real"]) if side]
    section = next(s for s in tree.iter("section") if s.get("id") == "summary")
    assert [float(data.get("value")) for data in section.iter("data")] == wanted
    for data, value in zip(section.iter("data"), wanted, strict=True):
        assert abs(float(data.text) - value) <= 0.0005 or "e" in data.text
    titles = [row.find("td").text.strip() for row in section.iter("tr") if row.find("td") is not None]
    assert titles == [row["title"] for row in read["rows"]]
    assert read["confusion"] == findings.confusion.tolist() and read["left_out"] == {"clip": HOSTILE}


def test_charts_are_within_their_frames_whatever_the_numbers():
    flat = [(1.0, 1.0, 1.0)] * 3
    for values, level in (
        (flat, None),
        ([(1e-13 * i, 0.0, 5e-13) for i in range(3)], None),
        ([(math.nan,) * 3, (-3.0, -4.0, math.nan), (0.001, 0.0, 0.002)], (5e3, 4e3, 6e3)),
    ):
        drawn = ElementTree.fromstring(svg.curve("a < b", "steps", (1, 2, 3), values, level))
        width, height = map(float, drawn.get("viewBox").split()[2:])
        for element in drawn.iter():
            for name, limit in (("x1", width), ("cx", width), ("y1", height), ("y2", height), ("cy", height)):
                assert 0 <= float(element.get(name, 0)) <= limit
    assert svg.curve("nothing", "steps", (1,), [(math.nan,) * 3], None) == "" == svg.strip(None, None)
    for low in (0.0, -0.3, 5.0):
        drawn = ElementTree.fromstring(svg.strip((low, low, low), (low + 0.2, low, math.nan)))
        places = [float(c.get("cx")) for c in drawn.iter("circle")]  # the real one is drawn first
        assert len(places) == 2 and 0 <= places[1] < places[0] <= 220


def test_a_value_of_a_sweep_that_lacks_a_number_leaves_the_others_in_their_rows(findings):
    first, *rest = findings.sweeps[0].points[0].rows
    others = tuple(row._replace(model=measure(7.25)) for row in rest)
    points = (Point(1.0, others), Point(2.0, (first, *rest)))
    shown = ElementTree.fromstring(f"<div>{sweep(Sweep('guidance', 4, points))}</div>")
    table = [[cell.find("data") for cell in row][1:3] for row in shown.iter("tr") if row.find("td") is not None]
    values = [[None if data is None else float(data.get("value")) for data in cells] for cells in table]
    assert values == [[None, first.model.value], *([7.25, row.model.value] for row in rest)]


def test_a_page_without_anything_is_a_page():
    empty = Findings((), {}, (), None, None, (), (), {})
    root = ElementTree.fromstring(page(empty, LABELS).removeprefix("<!DOCTYPE html>\n"))
    assert root.tag == "html" and root.find("body") is not None and not list(root.iter("img"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_its_pictures(html, tmp_path):
    count = """<script>addEventListener("load", () => {
      const wide = [...document.images].filter(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 0).length;
      const high = [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().height > 5).length;
      const fits = document.documentElement.scrollWidth <= innerWidth;
      document.body.innerHTML = `<b id="seen">${wide} ${high} ${fits} ${document.title.slice(0, 8)}</b>`;
    })</script></body>"""
    file = tmp_path / "report.html"
    file.write_text(html.replace("</body>", count))
    for width in (1280, 400):
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
        command += [f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        seen = re.search(r'<b id="seen">(\d+) (\d+) (\w+) gcdiff: ', done.stdout)
        assert seen, done.stderr
        assert int(seen[1]) == html.count("<img") and int(seen[2]) >= 3 and seen[3] == "true"
