"""The demo: its pictures hold what they say, nothing of them is cut, and its command pauses, goes on and finishes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
STREETS = ROOT / "experiments" / "streets"
sys.path.insert(0, str(STREETS))
import demo  # noqa: E402
from history import curve, training_seconds  # noqa: E402
from measure import car_captions, draw_reference, heldout, reference  # noqa: E402
from sheet import FACTOR, HEAD, MEANINGS, TEXT, TITLE, Head, Page, Row, sheet, wrapped  # noqa: E402
from tiny_models import random_model  # noqa: E402

from gcdiff.config import load_file  # noqa: E402
from gcdiff.pictures import colorize  # noqa: E402
from gcdiff.worlds.streets.appearance import LABELS  # noqa: E402
from gcdiff.worlds.streets.captions import parse_caption  # noqa: E402

LONG = "a nighttime street with two black cars, one white car, three trees, two people, one sign and one pole"


@pytest.fixture(scope="module")
def scenes():
    return heldout(8)


def drawn(scenes, curve=None):
    rows = [
        Row("text to pair", {"image, drawn": scenes.images, "layout": colorize(scenes.layouts, LABELS)}, [LONG] * 8),
        Row("layout to image", {"image, drawn": scenes.images}),
    ]
    numbers = {name: (0.5, 0.25, 0.75) for name in MEANINGS}
    return sheet(Head("A model", LONG * 8), rows, LABELS, numbers, "recorded", curve)


@pytest.mark.parametrize("width", [60, 200, 2000])
def test_wrapped_lines_fit_and_hold_every_letter(width):
    for font in (HEAD, TITLE, TEXT):
        lines = wrapped(f"{LONG} {'x' * 50}", font, width)
        assert all(0 < font.getlength(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == f"{LONG}{'x' * 50}".replace(" ", "")


def test_every_class_has_its_name_and_colour_in_the_legend(scenes, monkeypatch):
    """Also classes that no example holds."""
    written = texts(monkeypatch)
    blank = scenes._replace(images=np.full_like(scenes.images, 128), layouts=np.zeros_like(scenes.layouts))
    picture = np.asarray(drawn(blank))
    for name, color in zip(LABELS.names, LABELS.palette, strict=True):
        (box,) = [box for box, words in written if words == name]
        beside = picture[round(box[1]) : round(box[3]), round(box[0]) - 30 : round(box[0])]
        assert (beside == color).all(axis=-1).sum() > 100


def test_texts_lie_inside_the_picture_and_on_nothing_else(scenes, monkeypatch):
    written = texts(monkeypatch)
    chart = Image.new("RGB", (1260, 490), (1, 2, 3))
    picture = drawn(scenes, chart)
    boxes = [box for box, _ in written]
    assert all(x0 >= 0 and y0 >= 0 and x1 <= picture.width and y1 <= picture.height for x0, y0, x1, y1 in boxes)
    for i, (a0, b0, a1, b1) in enumerate(boxes):
        assert all(x0 >= a1 or x1 <= a0 or y0 >= b1 or y1 <= b0 for x0, y0, x1, y1 in boxes[:i])
    said = "".join(words for _, words in written).replace(" ", "")
    assert said.count("nighttime") == 16  # eight captions, and eight times above them
    assert all(meaning in [words for _, words in written] for meaning in MEANINGS.values())
    assert (np.asarray(picture) == (1, 2, 3)).all(axis=-1).sum() == 1260 * 490


def test_a_pixel_is_a_square_of_four_or_more(scenes):
    """The first image stands in the picture, enlarged, with nothing over it."""
    picture, big = np.asarray(drawn(scenes)), scenes.images[0].repeat(FACTOR, 0).repeat(FACTOR, 1)
    assert FACTOR >= 4
    height, width = big.shape[:2]
    windows = (
        picture[y : y + height, x : x + width]
        for y, x in zip(*np.nonzero((picture == big[0, 0]).all(axis=-1)), strict=True)
    )
    assert any(np.array_equal(window, big) for window in windows)


def texts(monkeypatch) -> list:
    """The boxes and words of the texts that a page enters from now on."""
    written, enter = [], Page.text

    def text(self, *arguments, **named):
        before = len(self.parts)
        height = enter(self, *arguments, **named)
        for left, top, words, font, _ in self.parts[before:]:
            x0, y0, x1, y1 = font.getbbox(words)
            written.append(((left + x0, top + y0, left + x1, top + y1), words))
        return height

    monkeypatch.setattr(Page, "text", text)
    return written


def test_numbers_that_are_not_there_have_no_line(scenes, monkeypatch):
    written = texts(monkeypatch)
    row = Row("layout to image", {"image": scenes.images})
    numbers = {"colors": (None, None, None), "f1": (0.5, None, None), "seconds_a_pair": 0.2}
    sheet(Head("A model", "about"), [row], LABELS, numbers, "recorded")
    words = [words for _, words in written]
    assert MEANINGS["f1"] in words and MEANINGS["colors"] not in words and "0.500" in words


def test_the_log_of_a_run_gives_its_time_and_its_curve():
    log = [{"step": 4, "time/step": 2.0}, {"step": 4, "eval/segmentation_miou": 0.5, "eval/image_0_0.25": 1.0}]
    log += [{"step": 10, "time/step": 1.0}]
    log[1] |= {"eval/layout_0_0.25": 0.0, "eval/image_gap": 9.0}
    assert training_seconds(log) == 4 * 2.0 + 6 * 1.0
    assert curve(log[:1]) is None and curve(log).size == (1260, 490)


def test_captions_with_cars_are_of_other_scenes():
    captions = car_captions(4, 256)
    assert len(captions) == 4 and all(parse_caption(caption).car_colors for caption in captions)


def test_the_reference_holds_what_is_read_of_its_scenes():
    np.testing.assert_allclose(draw_reference(8), reference()[:8], rtol=1e-5)
    assert reference().shape == (2048, 24)


TINY = """network.dim=16 network.final_dim=8 network.heads=2 network.depth=1 text.features=16 text.layers=1
data.heldout=8 sample.steps=2 train.batch_size=4 train.log_every=1 train.steps=4 optim.warmup=2"""


@pytest.fixture(scope="module")
def model():
    """A model of random weights in the size of the demo's scenes."""
    fields = [tuple(field.split("=")) for field in TINY.split()]
    return random_model(load_file(str(ROOT / "configs" / "streets.py"), fields))


@pytest.mark.slow
def test_the_shipped_model_is_shown_first_and_once(model, tmp_path, monkeypatch, capsys):
    card = {"command": "gcdiff train", "numbers": {"f1": [0.9, 0.8, 0.95], "pairs": 256, "frechet": [3.0, 2.0, 4.0]}}
    monkeypatch.setattr(demo, "shipped_model", lambda: model)
    monkeypatch.setattr(demo, "shipped_card", lambda: card)
    demo.first(tmp_path)
    said = capsys.readouterr().out
    assert said.index(f"The picture will be {tmp_path / 'first.png'}") < said.index("recorded")
    assert "0.900   0.800 to 0.950" in said and MEANINGS["frechet"] in said and MEANINGS["colors"] not in said
    picture = Image.open(tmp_path / "first.png")
    assert picture.width > 8 * FACTOR * 64
    monkeypatch.setattr(demo, "shipped_model", lambda: pytest.fail("asked again"))
    demo.first(tmp_path)
    assert "first.png (from before)" in capsys.readouterr().out


@pytest.mark.parametrize("error", [FileNotFoundError("nothing of that name"), ValueError("damaged")])
def test_without_a_shipped_model_its_part_is_one_line(tmp_path, monkeypatch, capsys, error):
    def load(name):
        raise error

    monkeypatch.setattr(demo.gcdiff, "load", load)
    demo.first(tmp_path)
    (said,) = capsys.readouterr().out.splitlines()
    assert str(error) in said and "begins with the training" in said and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "4"], "--pairs is 4, expected more than 7 and at most 256"),
        (["--times", "0"], "--times is 0, expected more than 0"),
        (["--pause-minutes", "nan"], "--pause-minutes is nan, expected more than 0"),
        (["--config.train.step=4"], "train.step: there is no such field"),
        (["--steps", "4"], "--steps"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as error:
        demo.main(["--workdir", str(tmp_path / "run"), *words])
    assert error.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_pauses_goes_on_and_finishes(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--workdir", str(run), "--pairs", "8", "--times", "1.5"]
    words += [f"--config.{field}" for field in TINY.split()]
    assert demo.main([*words, "--pause-minutes", "1e-9"]) == 0
    assert "paused at step 1 of 6: the same command goes on from there" in capsys.readouterr().out
    assert json.loads((run / "demo.json").read_text())["step"] == 1
    assert demo.main(words) == 0
    said = capsys.readouterr()
    assert "going on from step 1" in said.err and "paused at" not in said.out
    table = json.loads((run / "demo.json").read_text())
    assert (table["step"], table["steps"], table["examples"]["colors"]) == (6, 6, 64)
    assert set(MEANINGS) <= set(table) and all(len(table[name]) == 3 for name in MEANINGS)
    for name in ("demo.png", "curve.png"):
        assert str(run / name) in said.out and Image.open(run / name).width > 400
