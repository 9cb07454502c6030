"""A labels.json for a folder without one: what it is made of, where it is written, and what is refused."""

import json

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff.data.builders.folder import Folder
from gcdiff.data.builders.label_maker import find_labels, make_fields
from gcdiff.data.source import refuse
from gcdiff.types import VOID

COLORS = [[0, 0, 255], [255, 0, 0], [0, 255, 0]]


def layouts(root, *arrays, palette=None, ending="png", side="layouts"):
    """A folder with these arrays as layouts, each with an image of its size."""
    for i, array in enumerate(arrays):
        picture = Image.fromarray(np.asarray(array, np.uint8), "P" if palette else None)
        if palette:
            picture.putpalette([value for color in palette for value in color])
        (root / side).mkdir(parents=True, exist_ok=True)
        picture.save(root / side / f"{i}.{ending}")
        miniatures.save(root / "images" / f"{i}.png", np.zeros((*picture.size[::-1], 3), np.uint8))
    return root


def made(root):
    fields, _, _ = make_fields(root, "", refuse)
    return fields


def read(root):
    """The layouts of a folder by the labels.json that is made for it."""
    path, lines = find_labels(root, root / "out", "", refuse)
    source = Folder(root, labels=path)
    items = sorted((item.key, item) for split in source.splits(refuse).values() for item in split)
    return source, [source.read(item).layout.tolist() for _, item in items], lines


def test_numbers_become_classes_and_are_shown(tmp_path):
    root = layouts(tmp_path, [[0, 1, 2, 1]], [[0, 1, 255, 1]])
    source, arrays_read, lines = read(root)
    assert source.labels.names == ("class 0", "class 1", "class 2")
    assert arrays_read == [
        [[0, 1, 2, 1]],
        [[0, 1, VOID, 1]],
    ]
    written = json.loads((root / "labels.json").read_text())
    assert written == {"names": ["class 0", "class 1", "class 2"]}
    said = f"{root} has no labels.json: made from the numbers in 2 layouts, and written to {root}/labels.json; correct"
    assert lines[0].startswith(said)
    assert lines[1:] == [
        "  number 0: class 0, 25 % of the pixels",
        "  number 1: class 1, 50 % of the pixels",
        "  number 2: class 2, 12.5 % of the pixels",
        "  number 255: void, 12.5 % of the pixels",
    ]
    assert find_labels(root, root / "out", "", refuse) == (root / "labels.json", [])  # which is read from now on


@pytest.mark.parametrize(
    ("arrays", "ids"),
    [
        (
            ([[0, 255]], [[255, 0]]),
            {"0": "class 0", "255": "class 255"},
        ),  # 255 is a class, as nothing but 0 is beside it
        (([[0, 128, 255]],), {"0": "class 0", "128": "class 128", "255": "class 255"}),
        (([[1, 2, 3]],), {"1": "class 1", "2": "class 2", "3": "class 3"}),
        (([[1, 2, 255]],), {"1": "class 1", "2": "class 2", "255": "void"}),
        (([[0, 7, 11]],), {"0": "class 0", "7": "class 7", "11": "class 11"}),
    ],
)
def test_numbers_with_gaps_and_masks_get_ids(tmp_path, arrays, ids):
    root = layouts(tmp_path, *arrays, *arrays)
    assert made(root)["ids"] == ids
    _, arrays_read, _ = read(root)
    names = [name for name in ids.values() if name != "void"]
    for layout, array in zip(arrays_read, (*arrays, *arrays), strict=True):
        classes = [ids[str(value)] for value in array[0]]
        assert layout[0] == [VOID if name == "void" else names.index(name) for name in classes]


def test_large_numbers_and_single_bits(tmp_path):
    miniatures.save(tmp_path / "a" / "layouts" / "0.png", np.array([[0, 700, 65535]], np.uint16))
    assert made(tmp_path / "a")["ids"] == {"0": "class 0", "700": "class 700", "65535": "class 65535"}
    for i, bits in enumerate(([[False, True]], [[True, True]])):
        miniatures.save(tmp_path / "b" / "layouts" / f"{i}.png", np.array(bits))
    assert made(tmp_path / "b") == {"names": ["class 0", "class 1"]}
    miniatures.save(tmp_path / "b" / "layouts" / "2.png", np.array([[0, 255]], np.uint8))  # white in eight bits
    assert made(tmp_path / "b")["ids"] == {"0": "class 0", "255": "class 255"}


def test_a_palette_gives_the_colours(tmp_path):
    palette = [*COLORS, *[[1, 2, 3]] * 252, [224, 224, 192]]
    root = layouts(tmp_path, [[0, 2, 255]], [[0, 1, 2]], palette=palette)
    fields = made(root)
    assert fields == {"names": [f"class {i}" for i in range(3)], "colors": COLORS, "void_color": [224, 224, 192]}
    assert read(root)[1] == [[[0, 2, VOID]], [[0, 1, 2]]]
    root = layouts(tmp_path / "gap", [[0, 2, 255]], [[0, 2, 2]], palette=palette)
    assert made(root)["ids"] == {"0": "class 0", "2": "class 2", "255": "void"}
    assert read(root)[1] == [[[0, 1, VOID]], [[0, 1, 1]]]
    layouts(root, [[0, 1]], palette=COLORS[::-1])
    said = message(made, root)
    assert said.startswith(f"{root}/layouts/") and "the palette gives 0 the colour" in said


def test_colours_become_classes(tmp_path):
    root = layouts(tmp_path, [[COLORS[0], COLORS[1]]], [[COLORS[2], COLORS[0]]])
    source, arrays_read, lines = read(root)
    assert source.labels.palette == ((0, 0, 255), (0, 255, 0), (255, 0, 0)) and arrays_read == [[[0, 2]], [[1, 0]]]
    assert "  colour (0, 0, 255): class 0, 50 % of the pixels" in lines
    root = layouts(tmp_path / "gif", [[0, 2], [2, 0]], [[1, 2], [2, 1]], palette=COLORS, ending="gif")
    assert read(root)[1] == [[[0, 1], [1, 0]], [[2, 1], [1, 2]]]


def test_names_of_a_list_of_classes(tmp_path):
    for name, arrays, names, ids in (
        ("whole", ([[0, 1, 255]],), ["sky", "ground", "thing"], None),
        ("masks", ([[0, 255]],), ["background", "lesion"], {"0": "background", "255": "lesion"}),
        ("from one", ([[1, 2, 3]],), ["a", "b", "c"], {"1": "a", "2": "b", "3": "c"}),
    ):
        root = layouts(tmp_path / name, *arrays, *arrays)
        miniatures.text(root / "class_names.txt", *names)
        fields = made(root)
        assert (fields["names"], fields.get("ids")) == (names, ids)
    miniatures.text(root / "class_names.txt", "a", "b")
    said = f"{root}/class_names.txt: 2 names, but the layouts hold the 3 numbers 1, 2, 3: expected as many names as"
    assert message(made, root).startswith(said)
    root = layouts(tmp_path / "colours", [[COLORS[0], COLORS[1]]])
    miniatures.text(root / "class_names.txt", "a", "b")
    assert "names, but the layouts are in 2 colours: expected class_dict.csv" in message(made, root)


def test_a_table_of_names_and_colours(tmp_path):
    root = layouts(tmp_path, [[COLORS[0], COLORS[1]]], [[COLORS[2], COLORS[0]]])
    rows = ["sky, 0,0,255", "ground,255,0,0", '"a thing",0,255,0']
    for lines in (["name,r,g,b", *rows], rows, ["r,g,b,name", "0,0,255,sky", "255,0,0,ground", "0,255,0,a thing"]):
        miniatures.text(root / "class_dict.csv", *lines)
        assert made(root) == {"names": ["sky", "ground", "a thing"], "colors": COLORS}
    assert read(root)[1] == [[[0, 1]], [[2, 0]]] and Folder(root).note == ""
    miniatures.text(root / "class_dict.csv", "name,r,g,b", "sky,0,0")
    said = f"{root}/class_dict.csv: line 2 is 'sky,0,0', expected name, red, green, blue"
    assert message(made, root) == said
    miniatures.text(root / "class_dict.csv", "name,r,g,b")
    assert message(made, root).startswith(f"{root}/class_dict.csv: empty")
    miniatures.text(root / "class_dict.csv", "a,0,0,0", "b,0,0,0")
    assert message(made, root) == f"{root}/class_dict.csv: the colour (0, 0, 0) is that of two classes"
    root = layouts(tmp_path / "masks", [[0, 255]], [[255, 0]])  # in one channel
    miniatures.text(root / "class_dict.csv", "name,r,g,b", "background,0,0,0", "lesion,255,255,255")
    assert read(root)[1] == [[[0, 1]], [[1, 0]]]


def test_what_is_no_set_of_classes_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    root = layouts(tmp_path / "photos", rng.integers(0, 256, (20, 20, 3)))
    assert message(made, root) == (
        f"{root}/layouts: more than 255 colours in layouts, as in photographs, or in label files that were resized"
        " or lossy"
    )
    soft = np.repeat([0, 40, 90, 130, 180, 230, 255], [200, 1, 1, 1, 1, 1, 200])[None]
    root = layouts(tmp_path / "soft", soft)
    assert "black and white masks with 5 values between 0 and 255, as of soft edges" in message(made, root)
    root = layouts(tmp_path / "both", [[0, 1]])
    miniatures.save(root / "layouts" / "x.png", np.zeros((2, 2, 3), np.uint8))
    assert "0.png holds numbers and " in message(made, root)
    (tmp_path / "none").mkdir()
    assert message(made, tmp_path / "none") == (
        f"{tmp_path}/none/labels.json: no such file, expected a table that names the classes"
    )
    root = layouts(tmp_path / "broken", [[0, 1]])
    (root / "layouts" / "0.png").write_bytes(b"no picture")
    assert message(made, root).startswith(f"{root}/layouts/0.png: not a readable image (")


def test_it_is_written_beside_the_data_or_where_the_output_goes(tmp_path, monkeypatch):
    from gcdiff.data.builders import label_maker

    root, write = layouts(tmp_path / "source", [[0, 1]], [[1, 0]]), label_maker._write

    def read_only(folder, content):
        if folder == root:
            raise PermissionError("read only")
        return write(folder, content)

    monkeypatch.setattr(label_maker, "_write", read_only)
    path, _ = find_labels(root, tmp_path / "out", "", refuse)
    assert path == tmp_path / "out" / "labels.json" and not (root / "labels.json").exists()
    assert find_labels(root, tmp_path / "out", "", refuse) == (path, [])


@pytest.mark.parametrize("first", ["name{0}r{0}g{0}b\n", "Class Name{0} R{0} G{0} B\n", ""])
@pytest.mark.parametrize("separator", [",", ";", "\t", " , "])
def test_a_csv_may_have_other_separators_and_headings(separator, first, tmp_path):
    lines = (f"{separator.join(map(str, (f'class {i}', *color)))}\r\n" for i, color in enumerate(COLORS))
    text = "\ufeff" + first.format(separator) + "".join(lines)
    miniatures.text(layouts(tmp_path, [[0, 1, 2]]) / "class_dict.csv", text)
    assert made(tmp_path) == {"names": ["class 0", "class 1", "class 2"], "colors": COLORS}


def test_tables_that_are_not_utf8_or_repeat_a_name_are_named(tmp_path):
    for name in ("class_dict.csv", "class_names.txt"):
        path = layouts(tmp_path / name, [[0, 1]]) / name
        path.write_bytes("é\nciel,0,0,0".encode("latin-1"))
        assert message(made, tmp_path / name) == f"{path}: not UTF-8 (byte 0), expected a text file saved as UTF-8"
    path.write_text("sky\nsky\n")
    assert message(made, path.parent) == f"{path}: 'sky' for the second time, expected names that differ"


def test_a_table_that_a_labels_json_hides_is_named(tmp_path):
    path = layouts(tmp_path, [[0, 1]]) / "class_names.txt"
    path.write_text("sky\nground\n")
    find_labels(tmp_path, tmp_path, "", refuse)
    labels, lines = find_labels(tmp_path, tmp_path, "", refuse)
    assert lines == [f"{path} is not read: {labels} is"]


def test_black_and_white_masks_through_a_jpeg_are_no_classes(tmp_path):
    mask = np.repeat([[0, 0, 3, 12, 7, 245, 250, 255, 240, 0, 255, 1]], 3, axis=0)
    assert "as of soft edges" in message(made, layouts(tmp_path, mask))
