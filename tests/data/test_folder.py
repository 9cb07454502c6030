"""A folder of one's own, complete or not: what is read, how it is split, and one line for every fault."""

import json
import shutil

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff.data.builders.folder import Folder
from gcdiff.data.source import refuse
from gcdiff.types import VOID

TABLE = {"names": ["a", "b"]}


def keys(root, **options):
    splits = Folder(root, **options).splits(refuse)
    return {split: [item.key for item in items] for split, items in splits.items()}


def table(root, **fields):
    miniatures.text(root / "labels.json", json.dumps(fields))
    return Folder(root)


def one(root, layout, **fields):
    """The layout that is read of one example, whose image is of the same size."""
    miniatures.save(root / "layouts" / "x.png", np.asarray(layout, np.uint8))
    source = table(root, **(TABLE | fields))
    (item,) = [i for items in source.splits(lambda fault: None).values() for i in items if i.key == "x"]
    return source.read(item._replace(image=None)).layout


def test_what_an_incomplete_folder_has(tmp_path):
    layouts = miniatures.folder(tmp_path)
    source = Folder(tmp_path)
    items = {i.key: i for group in source.splits(refuse).values() for i in group}
    assert set(items) == set(layouts) and source.labels.swaps == ((1, 2),)
    for i, (key, layout) in enumerate(layouts.items()):
        sides = source.read(items[key])
        assert (sides.image is None) == (i % 6 == 5)
        assert items[key].captions == ((f"scene {i}", f"number {i}") if i % 3 != 1 else ())
        if layout is None:
            assert sides.layout is None
        else:
            np.testing.assert_array_equal(sides.layout, layout)


def test_void_in_indices_and_colours(tmp_path):
    pad = tmp_path / "layouts" / "y.png"
    miniatures.save(pad, np.zeros((1, 1), np.uint8))
    assert one(tmp_path, [[0, 1, 255]]).tolist() == [[0, 1, VOID]]
    assert one(tmp_path, [[0, 1, 7]], void_id=7).tolist() == [[0, 1, VOID]]
    assert one(tmp_path, [[0, 1, 1]], void="class").tolist() == [[0, 1, 1]]
    assert one(tmp_path, [[0, 1, 9]], void="class", void_id=9).tolist() == [[0, 1, 1]]
    black, red, grey = [0, 0, 0], [255, 0, 0], [8, 8, 8]
    colors = {"colors": [black, red]}
    assert one(tmp_path, [[black, red, grey]], **colors, void_color=grey).tolist() == [[0, 1, VOID]]
    assert one(tmp_path, [[black, red, red]], **colors, void="class").tolist() == [[0, 1, 1]]
    expected = f"{tmp_path}/layouts/x.png: colour (8, 8, 8) at row 0, column 1, expected a colour of the table"
    assert message(one, tmp_path, [[black, grey, [7, 8, 8]]], **colors) == expected
    assert "label 2 at row 0, column 1, expected 0 to 1 or 255 (void); other" in message(one, tmp_path, [[0, 2]])
    assert "mode RGBA with transparent pixels, expected an index PNG" in message(one, tmp_path, np.zeros((2, 2, 4)))


def test_a_held_out_share_is_seeded_and_of_complete_examples(tmp_path):
    miniatures.folder(tmp_path, num=40)
    first, again, other = (keys(tmp_path, heldout=0.25, seed=seed) for seed in (0, 0, 1))
    assert first == again and first["heldout"] != other["heldout"]
    assert sorted(first["train"] + first["heldout"]) == [f"scene.{i:03d}" for i in range(40)]
    complete = [i for i in range(40) if i % 6 != 5 and i % 4 != 3]
    assert len(first["heldout"]) == round(0.25 * len(complete))
    assert {int(key[-3:]) for key in first["heldout"]} <= set(complete)
    assert message(Folder, tmp_path, heldout=1.0) == "heldout is 1.0, expected a share from 0 (none) to below 1"
    whole = keys(tmp_path, heldout=0.0)
    assert list(whole) == ["train"] and len(whole["train"]) == 40


def test_splits_by_folders(tmp_path):
    for split in ("train", "val"):
        miniatures.save(tmp_path / "images" / split / "1.png", np.zeros((2, 2, 3), np.uint8))
        miniatures.save(tmp_path / "layouts" / split / "1.png", np.zeros((2, 2), np.uint8))
    miniatures.jsonl(tmp_path / "captions.jsonl", {"val/1.png": ["of val"]})
    table(tmp_path, **TABLE)
    assert keys(tmp_path) == {"train": ["train/1"], "val": ["val/1"]}
    assert Folder(tmp_path).splits(refuse)["val"][0].captions == ("of val",)
    miniatures.save(tmp_path / "images" / "2.png", np.zeros((2, 2, 3), np.uint8))
    expected = f"{tmp_path}/images/train: a folder, expected files alone, or folders alone: train, val, test, heldout"
    assert message(keys, tmp_path) == expected
    (tmp_path / "images" / "2.png").unlink()
    miniatures.save(tmp_path / "layouts" / "1.png", np.zeros((2, 2), np.uint8))
    shutil.rmtree(tmp_path / "layouts" / "train")
    shutil.rmtree(tmp_path / "layouts" / "val")
    expected = (
        f"{tmp_path}/layouts/1.png: in no split, expected a folder of train, val, test, heldout, as others are in"
    )
    miniatures.jsonl(tmp_path / "captions.jsonl", {})
    assert message(keys, tmp_path) == expected


def test_splits_by_a_list(tmp_path):
    miniatures.folder(tmp_path, num=4)
    path = tmp_path / "splits.json"
    lists = {"train": ["scene.000.png", "scene.001"], "val": ["scene.002", "scene.003"]}

    def written(**content):
        path.write_text(json.dumps(content))
        return tmp_path

    expected = {"train": ["scene.000", "scene.001"], "val": ["scene.002", "scene.003"]}
    assert keys(written(**lists)) == expected
    assert message(keys, written(train=lists["train"])) == f"{path}: scene.002 is in no split"
    said = message(keys, written(train=["scene.000", "scene.002"], val=["scene.002"]))
    assert said == f"{path}: scene.002 is in train and in val"
    assert message(keys, written(train=["x"])) == f"{path}: x in train has neither image nor layout"
    assert message(keys, written(dev=[])) == f"{path}: splits dev, expected some of train, val, test, heldout"
    path.write_text("[1]")
    assert message(keys, tmp_path).startswith(f"{path}: not lists of names by split (")


def test_faults_of_a_folder(tmp_path):
    assert message(Folder, tmp_path) == f"{tmp_path}/labels.json: no such file, expected a table that names the classes"
    table(tmp_path, **TABLE)
    assert message(keys, tmp_path) == f"{tmp_path}: expected files in images/ or layouts/"
    image = tmp_path / "images" / "x.png"
    miniatures.save(image, np.zeros((2, 2, 3), np.uint8))
    assert message(keys, tmp_path).startswith(f"{tmp_path}: 1 example, of which none is left")
    miniatures.save(tmp_path / "images" / "y.png", np.zeros((2, 2, 3), np.uint8))
    miniatures.save(tmp_path / "layouts" / "x.png", np.zeros((2, 3), np.uint8))
    source = Folder(tmp_path)
    (item,) = [i for items in source.splits(refuse).values() for i in items if i.key == "x"]
    expected = f"{tmp_path}/layouts/x.png: size 3x2, expected 2x2 like its image {image}"
    assert message(source.read, item) == expected
    miniatures.jsonl(tmp_path / "captions.jsonl", {"z.png": ["of nothing"]})
    said = f"{tmp_path}/captions.jsonl: z.png has neither image nor layout, expected the name of a file in images/"
    assert message(keys, tmp_path) == said
    miniatures.jsonl(tmp_path / "captions.jsonl", {"x.png": ["one"], "x.jpg": ["another"]})
    assert message(keys, tmp_path) == f"{tmp_path}/captions.jsonl: x.jpg has captions under another ending, too"
    (tmp_path / "captions.jsonl").unlink()
    miniatures.save(tmp_path / "images" / "x.jpg", np.zeros((2, 2, 3), np.uint8))
    assert message(keys, tmp_path).startswith(f"{image}: same name as x.jpg, expected names that differ")
    (tmp_path / "images" / "x.jpg").rename(tmp_path / "layouts" / "x.jpg")
    assert message(keys, tmp_path).startswith(
        f"{tmp_path}/layouts/x.jpg: a JPEG, which does not keep labels as they are"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "has no names, expected names and"),
        ({**TABLE, "colours": []}, "has ['colours'], expected names and"),
        ({"names": "a"}, "names is 'a', expected a list of names"),
        ({**TABLE, "colors": [[0, 0, 0], [0, 0, 0]]}, "the colour (0, 0, 0) is that of two classes"),
        ({**TABLE, "colors": [[0, 0, 0], [0, 256, 0]]}, "[0, 256, 0] is no colour"),
        ({**TABLE, "colors": [[0, 0, 0]]}, "2 class names but 1 colours"),
        ({**TABLE, "swaps": [["a", "c"]]}, "swaps has 'c', expected names of classes, each of them once"),
        ({**TABLE, "swaps": [["a", "a"]]}, "swaps has 'a', expected names of classes, each of them once"),
        ({**TABLE, "swaps": ["a", "b"]}, "swaps is ['a', 'b'], expected pairs of names"),
        ({**TABLE, "void": "unknown"}, "void is 'unknown', expected 'missing' or 'class'"),
        ({**TABLE, "void_id": 1}, "void_id is 1, expected 2 to 255"),
        ({**TABLE, "void_id": 0, "void": "class"}, "void_id is 0, expected 1 to 255"),
        ({**TABLE, "void_color": [128, 0, 0]}, "void_color is (128, 0, 0), expected none with void as a class"),
    ],
)
def test_tables_that_are_wrong(tmp_path, fields, said):
    assert message(table, tmp_path, **fields).startswith(f"{tmp_path}/labels.json: {said}")


def test_a_table_that_is_no_json(tmp_path):
    (tmp_path / "labels.json").write_text("{names: }")
    assert message(Folder, tmp_path).startswith(f"{tmp_path}/labels.json: not JSON (")
    (tmp_path / "labels.json").write_bytes(b'\xef\xbb\xbf{"names": ["a"]}\r\n')  # as Windows writes it
    assert Folder(tmp_path).labels.names == ("a",)


def palette_png(path, layout, colors):
    image = Image.fromarray(np.asarray(layout, np.uint8), "P")
    image.putpalette([value for color in colors for value in color])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_a_palette_that_contradicts_the_table_is_refused(tmp_path):
    """As an editor orders the colours of a picture that it saves with a palette."""
    colors, layout = [[0, 0, 255], [255, 0, 0], [0, 255, 0]], [[0, 1], [2, 0]]
    given = {"names": ["sky", "ground", "thing"], "colors": colors}
    path = tmp_path / "layouts" / "x.png"
    miniatures.save(tmp_path / "images" / "x.png", np.zeros((2, 2, 3), np.uint8))
    miniatures.save(tmp_path / "images" / "y.png", np.zeros((2, 2, 3), np.uint8))
    for order, fields, said in (
        (colors, given, ""),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], given, ""),  # colours of its own
        (colors[::-1], {"names": given["names"]}, ""),  # where the table has none
        (
            [colors[2], colors[1], colors[0]],
            given,
            "index 0 is sky, but the palette gives it (0, 255, 0), the colour of thing",
        ),
    ):
        palette_png(path, layout, order)
        source = table(tmp_path, **fields)
        (item,) = [i for items in source.splits(refuse).values() for i in items if i.layout]
        if said:
            assert message(source.read, item).startswith(f"{path}: {said}; expected one and the same")
        else:
            assert source.read(item).layout.tolist() == layout


def test_names_that_never_pair_are_refused_with_one_of_each_side(tmp_path):
    table(tmp_path, **TABLE)
    for i in range(4):
        miniatures.save(tmp_path / "images" / f"{i}.png", np.zeros((2, 2, 3), np.uint8))
        miniatures.save(tmp_path / "layouts" / f"{i}_mask.png", np.zeros((2, 2), np.uint8))
    said = f"{tmp_path}: 0 of 4 images and 4 layouts are pairs, expected the same name before the ending, not"
    assert message(keys, tmp_path) == f"{said} 0.png and 0_mask.png; --layout-suffix _mask pairs them"
    (tmp_path / "layouts" / "0_mask.png").rename(tmp_path / "layouts" / "0.png")
    assert sum(map(len, keys(tmp_path).values())) == 7  # a side may be missing of any example


def test_what_lies_in_a_folder_and_is_not_read_is_named(tmp_path):
    miniatures.folder(tmp_path)
    assert Folder(tmp_path).note == ""
    (tmp_path / "masks").mkdir()
    miniatures.text(tmp_path / "metadata.jsonl", "{}")
    assert Folder(tmp_path).note.startswith("Not read: masks, metadata.jsonl; expected images, layouts, captions.jsonl")


def test_a_message_says_the_cause_and_the_way_out(tmp_path):
    said = message(table, tmp_path, names=[f"c{i}" for i in range(256)])
    assert said.endswith("names has 256 classes, expected at most 255: one of the 256 values of a file is void's")
    assert 'write "ids": {"0": "void", "1": "wall", ...}' in message(table, tmp_path, names=["wall"], void_id=0)
    for name in ("x", "y"):
        miniatures.save(tmp_path / "images" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    said = message(one, tmp_path, np.ones((2, 2, 3)))
    assert said.endswith('in three equal channels, list them in "ids" of labels.json, or save one channel')
