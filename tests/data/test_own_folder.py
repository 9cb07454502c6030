"""Folders as people have them: other names of folders and files, no table of classes, and what the command says."""

import json
import os
import unicodedata
from pathlib import Path

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff import cli
from gcdiff.data.builders.folder import Folder
from gcdiff.data.builders.label_maker import make_fields
from gcdiff.data.label_table import make_table
from gcdiff.data.prepared import Prepared
from gcdiff.data.reader import files_by_name
from gcdiff.data.source import refuse
from gcdiff.pictures import legend
from gcdiff.types import VOID, LabelSpec

TABLE = {"names": ["sky", "ground"]}
LAYOUT = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


def pairs(root, image="images/{}.png", layout="layouts/{}.png", names=("a", "b", "c"), table=TABLE, values=LAYOUT):
    for name in names:
        miniatures.save(root / image.format(name), np.full((*values.shape, 3), 90, np.uint8))
        miniatures.save(root / layout.format(name), values)
    if table:
        miniatures.text(root / "labels.json", json.dumps(table))
    return root


def pairs_of(root, fault=refuse, **options):
    """The names of the pairs of a folder, by split, and of what has one side alone."""
    source = Folder(root, **options)
    items = {split: items for split, items in source.splits(fault).items()}
    for members in items.values():
        for item in members:
            assert not item.layout or item.image is None or source.read(item).layout.tolist() == LAYOUT.tolist()
    single = sorted(i.key for m in items.values() for i in m if not (i.layout and i.image))
    return {split: [i.key for i in m if i.layout and i.image] for split, m in items.items()}, single


def run(capsys, *words):
    """(exit status, stdout, stderr) of gcdiff prepare folder."""
    try:
        status = cli.main(["prepare", "folder", *map(str, words)])
    except SystemExit as error:
        status = error.code
    return (status, *capsys.readouterr())


@pytest.mark.parametrize("images", ["images", "img", "JPEGImages", "Images"])
@pytest.mark.parametrize("layouts", ["layouts", "masks", "labels", "annotations", "SegmentationClass", "Masks"])
def test_folders_of_the_usual_names(tmp_path, images, layouts):
    root = pairs(tmp_path, f"{images}/{{}}.png", f"{layouts}/{{}}.png")
    by_split, single = pairs_of(root)
    assert sorted(sum(by_split.values(), [])) == ["a", "b", "c"] and not single
    said = (
        "" if (images, layouts) == ("images", "layouts") else f"Images are read from {images}, layouts from {layouts}."
    )
    assert Folder(root).note == said


def test_of_two_folders_one_must_be_meant(tmp_path):
    root = pairs(tmp_path, layout="masks/{}.png")
    miniatures.text(root / "labels" / "a.txt", "0 .5 .5 .1 .1")  # boxes
    assert Folder(root).note == (
        "Images are read from images, layouts from masks. Not read: labels; expected images, layouts, captions.jsonl,"
        " labels.json, splits.json."
    )
    pairs(tmp_path, layout="annotations/{}.png")
    said = f"{root}: annotations and masks may be the folder of layouts, expected one, or one that is called layouts"
    assert message(Folder, root) == said
    pairs(tmp_path)
    assert Folder(root).note.startswith("Not read: annotations, labels, masks; expected")


@pytest.mark.parametrize("validation", ["validation", "valid"])
def test_splits_in_folders_of_other_names(validation, tmp_path):
    for split in ("training", validation):
        pairs(tmp_path, f"images/{split}/{{}}.png", f"annotations/{split}/{{}}.png")
    miniatures.jsonl(tmp_path / "captions.jsonl", {f"{validation}/a.png": ["of val"], "train/b.png": ["of train"]})
    keys, single = pairs_of(tmp_path)
    assert keys == {s: [f"{s}/a", f"{s}/b", f"{s}/c"] for s in ("train", "val")} and not single
    assert Folder(tmp_path).splits(refuse)["val"][0].captions == ("of val",)


@pytest.mark.parametrize(
    ("image", "layout"),
    [
        ("images/{}.jpg", "layouts/{}_mask.png"),
        ("images/{}.jpg", "masks/{}_mask.png"),
        ("images/{}.jpg", "images/{}_mask.png"),
        ("{}.jpg", "{}_mask.png"),
    ],
)
def test_layouts_by_a_suffix(tmp_path, image, layout):
    root = pairs(tmp_path, image, layout)
    for suffix in ("_mask", "_mask.png"):
        by_split, single = pairs_of(root, layout_suffix=suffix)
        assert sorted(sum(by_split.values(), [])) == ["a", "b", "c"] and not single
    assert "whose names end in _mask." in Folder(root, layout_suffix="_mask").note
    folder = "layouts" if layout.startswith("layouts") else "masks"
    if layout.split("/")[0] in ("layouts", "masks"):
        (root / folder / "a_mask.png").rename(root / folder / "a.png")
        assert message(pairs_of, root, layout_suffix="_mask").startswith(
            f"{root}/{folder}/a.png: expected a name ending in"
        )


def test_names_that_differ_in_their_unicode_form_alone(tmp_path):
    """As macOS and Linux write an accent."""
    name, other = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert name != other
    root = pairs(tmp_path, names=[name])
    pairs(tmp_path, names=["x"])
    (root / "layouts" / f"{name}.png").rename(root / "layouts" / f"{other}.png")
    miniatures.jsonl(root / "captions.jsonl", {f"{other}.png": ["a place"]})
    (root / "splits.json").write_text(json.dumps({"train": [other], "val": ["x"]}))
    assert pairs_of(root) == ({"train": [name], "val": ["x"]}, [])
    assert Folder(root).splits(refuse)["train"][0].captions == ("a place",)
    assert (
        set(files_by_name(root, "images", (".png",))) == set(files_by_name(root, "layouts", (".png",))) == {name, "x"}
    )


def test_names_that_never_pair_name_the_way(tmp_path):
    for layout, way in (
        ("layouts/{}_gt.png", "; --layout-suffix _gt pairs them"),
        ("layouts/{}0.png", "; --layout-suffix 0 pairs them"),
    ):
        root = pairs(tmp_path / way[-12:-11], layout=layout, names=("img1", "img2"))
        assert message(pairs_of, root).endswith(way)
    root = pairs(tmp_path / "case", layout="layouts/X{}.png", names=("a", "b"))
    (root / "images" / "a.png").rename(root / "images" / "xA.png")
    (root / "images" / "b.png").rename(root / "images" / "xB.png")
    assert message(pairs_of, root).endswith("not xA.png and Xa.png; they differ in upper and lower case")


def test_a_side_that_lies_in_a_folder_of_another_name_is_not_missing(tmp_path):
    root = pairs(tmp_path / "a", layout="gt/{}.png")
    assert message(pairs_of, root).startswith(
        f"{root}: there are no layouts, but gt/ holds pictures and is not read; expected"
    )
    (root / "labels.json").unlink()
    assert "gt/ holds pictures and is not read" in message(make_fields, root, "", refuse)
    root = pairs(tmp_path / "b", image="photos/{}.png")
    assert message(pairs_of, root).startswith(
        f"{root}: there are no images, but photos/ holds pictures and is not read"
    )
    root = pairs(tmp_path / "c", image="images/{}.png", layout="images/{}_gt.png")
    said = f"{root}/images: no layout, expected names ending in _mask before the ending"
    assert message(pairs_of, root, layout_suffix="_mask") == said


def test_the_tables_of_the_documentation_are_tables():
    lines = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8").split("\n")
    tables = [json.loads(line) for line in lines if line.startswith('{"names"') and line.endswith("}")]
    assert len(tables) == 3
    for table in map(make_table, tables):
        assert table.ids and set(table.ids.values()) <= set(range(VOID, table.labels.num_classes))


def test_examples_whose_files_are_wrong_are_left_out_and_not_halved(tmp_path):
    """With --skip-bad: an image does not become one without a layout because its layout is wrong."""
    names = tuple("abcdefgh")
    root, faults = pairs(tmp_path, names=names), []
    Image.fromarray(LAYOUT).save(root / "layouts" / "a.jpg")
    (root / "layouts" / "a.png").unlink()
    (root / "layouts" / "b.png").rename(root / "layouts" / "b.svg")
    miniatures.save(root / "images" / "c.jpg", np.zeros((*LAYOUT.shape, 3), np.uint8))
    lines = [{"file_name": "d.png", "text": "a string"}, {"file_name": "e.png", "text": ["one"]}]
    miniatures.text(root / "captions.jsonl", *map(json.dumps, [*lines, {"file_name": "e.jpg", "text": ["other"]}]))
    by_split, single = pairs_of(root, faults.append)
    assert sorted(sum(by_split.values(), [])) == ["f", "g", "h"] and not single
    assert [fault.partition(": ")[0].removeprefix(f"{root}/") for fault in faults] == [
        "images/c.png", "layouts/a.jpg", "layouts/b.svg", "captions.jsonl", "captions.jsonl",
    ]  # fmt: skip


def test_a_held_out_example_that_is_wrong_is_left_out(tmp_path, capsys):
    root = pairs(tmp_path / "source", names=tuple("abcdefghij"))
    heldout = Folder(root).splits(refuse)["heldout"]
    (root / "layouts" / f"{heldout[0].key}.png").write_bytes(b"no picture")
    words = ("--source", root, "--out", tmp_path / "out")
    status, _, wrong = run(capsys, *words)
    assert status == 2 and f"layouts/{heldout[0].key}.png: not a readable image" in wrong
    for _ in range(2):  # and once more, with what is there
        status, said, _ = run(capsys, *words, "--skip-bad")
        assert status == 0 and f"left out: {root}/layouts/{heldout[0].key}.png: not a readable image" in said
        assert len(Prepared(tmp_path / "out")) == 9 and list(Prepared(tmp_path / "out").spec.splits) == ["train"]
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["faults"][0].startswith("every example of heldout is faulty")


def test_masks_are_mended_in_the_table_and_the_same_command_goes_on(tmp_path, capsys):
    table = {"names": ["background", "lesion"]}
    root = pairs(tmp_path / "source", names=tuple("abcd"), table=table, values=255 * LAYOUT)
    words = ("--source", root, "--out", tmp_path / "out")
    status, _, wrong = run(capsys, *words)
    assert status == 2 and wrong.splitlines()[-1].endswith(
        'write "ids": {"0": "background", "255": "lesion"} in labels.json, or save them with 1'
    )
    miniatures.text(root / "labels.json", json.dumps(table | {"ids": {"0": "background", "255": "lesion"}}))
    assert run(capsys, *words)[0] == 0
    assert Prepared(tmp_path / "out")[0].layout.tolist() == LAYOUT.tolist()
    miniatures.text(root / "labels.json", json.dumps(table | {"ids": {"0": "lesion", "255": "background"}}))
    status, _, wrong = run(capsys, *words)
    assert status == 2 and "was begun with ids {'0': 0, '255': 1}, now it is {'0': 1, '255': 0}" in wrong


def test_masks_of_a_single_class_are_black_and_white_too(tmp_path, capsys):
    root = pairs(tmp_path / "source", table={"names": ["lesion"]}, values=255 * LAYOUT)
    status, _, wrong = run(capsys, "--source", root, "--out", tmp_path / "out")
    assert status == 2 and 'masks of lesion write "ids": {"0": "void", "255": "lesion"} in labels.json' in wrong
    for black, white in (("void", "lesion"), ("lesion", "void")):
        ids = {"0": black, "255": white}
        miniatures.text(root / "labels.json", json.dumps({"names": ["lesion"], "ids": ids}))
        assert run(capsys, "--source", root, "--out", tmp_path / black)[0] == 0
        expected = np.where((black == "void") == LAYOUT, 0, VOID)
        np.testing.assert_array_equal(Prepared(tmp_path / black)[0].layout, expected)


def test_tables_of_well_known_data_sets(tmp_path, capsys):
    voc = np.array([[0, 15, 255]], np.uint8)
    root = tmp_path / "voc"
    pairs(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", table=None, values=voc)
    miniatures.text(root / "Annotations" / "a.xml", "<annotation/>")
    miniatures.text(root / "splits.json", json.dumps({"train": ["a", "b"], "val": ["c"]}))
    status, said, _ = run(capsys, "--source", root, "--out", tmp_path / "v", "--labels", "voc")
    assert (
        status == 0 and "Images are read from JPEGImages, layouts from SegmentationClass. Not read: Annotations" in said
    )
    assert "train: all are 1x3 (HxW); 33.3 % of the pixels of layouts are void; no pixel of aeroplane, bicycle" in said
    assert Prepared(tmp_path / "v", "val")[0].layout.tolist() == [[0, 15, VOID]]
    miniatures.save(root / "JPEGImages" / "d.jpg", np.zeros((1, 3, 3), np.uint8))  # as most of VOC are: in no list
    common = ("--source", root, "--out", tmp_path / "w", "--labels", "voc")
    assert "splits.json: d is in no split" in run(capsys, *common)[2]
    status, said, _ = run(capsys, *common, "--skip-bad")
    assert status == 0 and f"left out: {root}/splits.json: d is in no split" in said
    assert len(Prepared(tmp_path / "w")) == 2
    root = tmp_path / "ade"
    for split in ("training", "validation"):
        names = f"images/{split}/{{}}.jpg", f"annotations/{split}/{{}}.png"
        pairs(root, *names, table=None, values=np.array([[0, 1, 150]], np.uint8))
    status, said, _ = run(capsys, "--source", root, "--out", tmp_path / "a", "--labels", "ade20k")
    assert status == 0 and "Images are read from images, layouts from annotations." in said
    data = Prepared(tmp_path / "a", "val")
    assert data[0].layout.tolist() == [[VOID, 0, 149]] and data.labels.names[149] == "flag"
    assert not list(root.glob("*.json"))
    status, _, wrong = run(capsys, "--source", root, "--out", tmp_path / "x", "--labels", "ade")
    assert status == 2 and "ade: no such file, expected a labels.json, or ade20k or voc" in wrong


def test_a_table_that_is_made_is_shown_and_used_again(tmp_path, capsys):
    root = pairs(tmp_path / "source", "img/{}.jpg", "masks/{}_mask.png", tuple("abcdefghijkl"), None, 255 * LAYOUT)
    words = ("--source", root, "--out", tmp_path / "out", "--layout-suffix", "_mask")
    status, said, _ = run(capsys, *words)
    assert status == 0 and said.splitlines()[:3] == [
        f"{root} has no labels.json: made from the numbers in 12 layouts, and written to {root}/labels.json;"
        " correct names and numbers there",
        "  number 0: class 0, 50 % of the pixels",
        "  number 255: class 255, 50 % of the pixels",
    ]
    assert "Images are read from img, layouts from masks whose names end in _mask." in said
    assert "train: all are 2x3 (HxW); 0 % of the pixels of layouts are void\n" in said
    assert Prepared(tmp_path / "out")[0].layout.tolist() == LAYOUT.tolist()
    status, said, _ = run(capsys, *words)
    assert status == 0 and "has no labels.json" not in said
    other = tmp_path / "other"  # as it is where the source is read only
    other.mkdir()
    (root / "labels.json").rename(other / "labels.json")
    for _ in range(2):
        status, said, _ = run(capsys, *words[:3], other, *words[4:])
        assert status == 0 and "has no labels.json" not in said and (other / "labels.json").exists()
    assert Prepared(other)[0].layout.tolist() == LAYOUT.tolist()


def test_the_contact_sheet_has_a_legend(tmp_path, capsys):
    colors = [[200, 10, 10], [10, 200, 10]]
    root = pairs(tmp_path / "source", table=TABLE | {"colors": colors, "void_color": [7, 7, 200]}, values=LAYOUT * 0)
    assert run(capsys, "--source", root, "--out", tmp_path / "out")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png"))
    for color in (*colors, [7, 7, 200]):  # also of classes without a pixel, and of void
        assert ((picture == color).all(axis=-1)).sum() >= 64
    many = LabelSpec(tuple(f"{i}\u732b" for i in range(255)), tuple((i, 255 - i, 77) for i in range(255)))
    drawn = legend(many, 400)
    assert drawn.shape[1] == 400 and drawn.dtype == np.uint8
    assert set(many.palette) <= set(map(tuple, np.unique(drawn.reshape(-1, 3), axis=0).tolist()))


@pytest.mark.parametrize(
    ("image", "layout", "suffix", "lies"),
    [("photos/{}.png", "gt/{}.png", "", "gt/, photos/"), ("train/images/{}.png", "train/labels/{}.png", "", "train/"),
     ("pics/{}.png", "pics/{}_mask.png", "_mask", "pics/")],
)  # fmt: skip
def test_folders_of_unknown_names_are_named(image, layout, suffix, lies, tmp_path):
    source = Folder(pairs(tmp_path, image, layout), layout_suffix=suffix)
    assert message(source.splits, refuse).endswith(f"; {lies} not read: expected images/ and layouts/")


def test_a_folder_within_a_split_and_a_link_to_no_file_are_named(tmp_path):
    source = Folder(pairs(tmp_path / "deep", "images/train/x/{}.png", "layouts/train/x/{}.png"))
    inner = tmp_path / "deep" / "images" / "train"
    assert message(source.splits, refuse) == f"{inner / 'x'}: a folder, expected files alone in {inner}"
    root = pairs(tmp_path / "linked")
    (root / "images" / "a.png").unlink()
    (root / "images" / "a.png").symlink_to(tmp_path / "nothing.png")
    items = [item for items in Folder(root).splits(refuse).values() for item in items]
    assert message(Folder(root).read, next(i for i in items if i.key == "a")).endswith("a.png: no such file")


def test_a_layout_beside_an_image_that_is_turned_names_the_cause(tmp_path):
    root, exif = pairs(tmp_path), Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((*LAYOUT.shape, 3), np.uint8)).save(root / "images" / "a.png", exif=exif)
    source = Folder(root, heldout=0)
    said = message(source.read, source.splits(refuse)["train"][0])
    assert said.endswith("a.png, which its EXIF turns: turn the layout, too")
    miniatures.save(root / "layouts" / "b.png", LAYOUT.T)
    assert "EXIF" not in message(source.read, source.splits(refuse)["train"][1])


def test_a_file_that_is_changed_is_read_again(tmp_path, capsys):
    """Also one that was left out as bad, and not a file that is as it was."""
    root, out = pairs(tmp_path / "in"), tmp_path / "out"
    words = "--source", root, "--out", out, "--heldout", "0", "--skip-bad"
    (root / "layouts" / "a.png").write_bytes(b"damaged")
    assert run(capsys, *words)[0] == 0 and len(Prepared(out, "train")) == 2
    miniatures.save(root / "layouts" / "a.png", LAYOUT * 0)
    (shard,) = out.glob("*.array_record*")
    _later(root / "layouts" / "a.png", shard)
    assert run(capsys, *words)[0] == 0 and len(data := Prepared(out, "train")) == 3
    assert (data[0].layout == 0).all()
    os.utime(root / "layouts" / "a.png", (0, 0))
    os.utime(shard, before := (1e9, 1e9))
    for file in (*(root / "images").iterdir(), *(root / "layouts").iterdir()):
        os.utime(file, before)
    assert run(capsys, *words)[0] == 0 and shard.stat().st_mtime == 1e9  # nothing changed: not written again


def _later(path, than):
    time = than.stat().st_mtime + 1
    os.utime(path, (time, time))


def test_other_names_of_classes_are_said_in_a_few_words(tmp_path, capsys):
    root, out = pairs(tmp_path / "in", table={"names": [f"class {i}" for i in range(2)]}), tmp_path / "out"
    assert run(capsys, "--source", root, "--out", out)[0] == 0
    miniatures.text(root / "labels.json", json.dumps(TABLE))
    status, _, said = run(capsys, "--source", root, "--out", out)
    assert status == 2 and "begun with labels: names ['class 0', 'class 1'], now it is ['sky', 'ground']: exp" in said


def test_held_out_shares_and_captions_name_the_way_out(tmp_path):
    root = pairs(tmp_path)
    said = message(Folder(root, heldout=0.9).splits, refuse)
    assert "3 examples, of which none is left" in said and "--heldout takes a smaller share, and 0 holds" in said
    miniatures.text(root / "captions.jsonl", '{"file_name": "images/a.png", "text": ["a sky"]}')
    assert message(Folder(root).splits, refuse).endswith("image nor layout, expected the name of a file in images/")


def test_files_of_both_sides_without_a_partner_are_named(tmp_path, capsys):
    root = pairs(tmp_path / "in", names=("a", "b"))
    for side, name in (("images", "IMG_1"), ("layouts", "img_1")):
        miniatures.save(root / side / f"{name}.png", LAYOUT)
    said = "1 images and 1 layouts have no partner, as IMG_1.png and img_1.png; they differ in upper and lower case."
    assert said in run(capsys, "--source", root, "--out", tmp_path / "out")[1]
    (root / "layouts" / "img_1.png").unlink()
    assert "partner" not in run(capsys, "--source", root, "--out", tmp_path / "more")[1]


@pytest.mark.parametrize("given", [0, 1, 2, 256])
def test_palettes_that_say_nothing_leave_the_numbers(given, tmp_path):
    """A palette of no or one entry, as `Image.fromarray(labels, mode="P")` leaves it, and one that is all black."""
    root = pairs(tmp_path)
    picture = Image.fromarray(LAYOUT, mode="P")
    if given:
        picture.putpalette([0, 0, 0] * given)
    for path in (root / "layouts").iterdir():
        picture.save(path)
    assert sum(map(len, pairs_of(root)[0].values())) == 3
    (root / "labels.json").unlink()
    make_table(fields := make_fields(root, "", refuse)[0])
    miniatures.text(root / "labels.json", json.dumps(fields))
    assert sum(map(len, pairs_of(root)[0].values())) == 3


def test_a_table_that_says_a_number_twice_is_refused(tmp_path):
    root = pairs(tmp_path, table=None)
    miniatures.text(root / "labels.json", '{"names": ["a", "b"], "ids": {"0": "a", "1": "b", "0": "b"}}')
    assert message(Folder, root).endswith("labels.json: has '0' twice in one table, expected it once")
