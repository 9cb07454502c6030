"""Which classes captions name: those that they were made of, in any form of the words."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.data.builders.camvid import CAPTIONS, LABELS
from gcdiff.data.builders.cityscapes import NOUNS
from gcdiff.data.captions import NAMED_FROM, ClassCaptions, named_classes, read_lines
from gcdiff.data.labels import CITYSCAPES, COCO_STUFF
from gcdiff.types import VOID

CITY = ClassCaptions((*NOUNS, None))
NAMES = ("road", "traffic_light", "light", "bus", "person")


@pytest.mark.parametrize(("names", "made"), [(CITYSCAPES.names, CITY), (LABELS.names, CAPTIONS)])
def test_a_caption_names_the_classes_that_it_was_made_of(names, made):
    rng = np.random.default_rng(0)
    for _ in range(30):
        layout = rng.choice(rng.choice([*range(len(names)), VOID], 5), (12, 16))
        shares = np.array([(layout == k).mean() for k in range(len(names))])
        wanted = (shares >= NAMED_FROM) & [noun is not None for noun in made.nouns]
        np.testing.assert_array_equal(named_classes([made.caption(layout, rng)], names, made.nouns), [wanted])


@pytest.mark.parametrize("names", [CITYSCAPES.names, LABELS.names, COCO_STUFF.names])
def test_a_name_is_that_of_one_class(names):
    np.testing.assert_array_equal(named_classes(names, names), np.eye(len(names), dtype=bool))


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("car", "cars"), ("bus", "buses"), ("sky", "skies"), ("bench", "benches"), ("toy", "toys"), ("house", "houses"),
        ("traffic light", "Traffic  lights"), ("wine_glass", "wine glasses"), ("person", "People"), ("man", "men"),
        ("woman", "women"), ("child", "children"), ("knife", "knives"), ("sheep", "sheep"),
        ("fire truck", "FIRE TRUCKS"),
    ],
)  # fmt: skip
def test_the_singular_and_the_plural_name_a_class_whichever_its_name_is(one, several):
    for name in (one, several):
        assert named_classes([f"two {several}.", f"A {one}, or so"], (name, "else")).tolist() == [[True, False]] * 2


def test_words_are_whole_and_the_longest_counts():
    captions = [
        "A ROAD with two traffic lights, buses and people.",
        "lighthouse by the roadside",
        "one light; a busker and a superbus",
    ]
    np.testing.assert_array_equal(named_classes(captions, NAMES), [[1, 1, 0, 1, 1], [0] * 5, [0, 0, 1, 0, 0]])
    named = named_classes(["two sign posts", "a sign"], ("sign", "sign post"))
    np.testing.assert_array_equal(named, [[0, 1], [1, 0]])
    cloths = named_classes(["clothes", "a cloth", "cloths"], ("cloth", "clothes"))
    np.testing.assert_array_equal(cloths, [[0, 1], [1, 0], [1, 0]])


def test_a_noun_names_a_class_beside_its_name():
    named = named_classes(
        ["Vehicles", "a vehicle and a car", "void"], ("person", "car", "void"), (None, "Vehicle", None)
    )
    np.testing.assert_array_equal(named, [[0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_captions_of_a_jsonl_file_are_its_texts_and_not_its_lines(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"file_name": "0.png", "text": ["one", "two"]}\n\n{"file_name": "1.png", "text": ["three"]}\n')
    assert read_lines(path) == ("one", "two", "three")
    path.rename(tmp_path / "captions.txt")
    with pytest.raises(ValueError, match="captions.txt: JSON, expected one caption per line"):
        read_lines(tmp_path / "captions.txt")
    path.write_text('{"file_name": "0.png"}\n')
    with pytest.raises(ValueError, match=f"^{path}: line 1: expected "):
        read_lines(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="empty, expected captions"):
        read_lines(path)


def test_json_is_not_read_line_by_line_as_captions(tmp_path):
    for text in ('[{"file_name": "a.png", "text": ["a sky"]}]', '{\n"a.png": "a sky"\n}'):
        (tmp_path / "captions.json").write_text(text)
        with pytest.raises(ValueError, match="captions.json: JSON, expected one caption per line"):
            read_lines(tmp_path / "captions.json")
    with pytest.raises(FileNotFoundError, match="a folder, expected a file"):
        read_lines(tmp_path)
