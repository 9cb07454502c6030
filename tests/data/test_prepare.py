"""From a source to a directory: what is written is what was read, and stopping changes nothing but the time."""

import json
import shutil

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff.data.builders.camvid import CamVidSource
from gcdiff.data.builders.cityscapes import Cityscapes
from gcdiff.data.builders.coco_stuff import CocoStuff
from gcdiff.data.builders.folder import Folder
from gcdiff.data.builders.mm_celeba_hq import MMCelebAHQ
from gcdiff.data.prepare import Options, prepare, table
from gcdiff.data.prepare.plan import draw
from gcdiff.data.prepared import Prepared
from gcdiff.data.reader import read_image
from gcdiff.data.source import refuse
from gcdiff.types import VOID

SOURCES = {
    "mm_celeba_hq": (miniatures.celeba, MMCelebAHQ),
    "cityscapes": (miniatures.cityscapes, lambda root: Cityscapes(root, void="class")),
    "coco_stuff": (miniatures.coco, CocoStuff),
    "camvid": (miniatures.camvid, CamVidSource),
    "folder": (miniatures.folder, Folder),
}


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def stop_after(count):
    """A progress that is interrupted, as by a key, after so many examples."""

    def progress(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def streets(tmp_path):
    miniatures.camvid(tmp_path / "source")
    return CamVidSource(tmp_path / "source"), tmp_path / "out"


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_written_is_what_was_read(name, tmp_path):
    draws, builder = SOURCES[name]
    draws(tmp_path / "source")
    source = builder(tmp_path / "source")
    listed = source.splits(refuse)
    prepare(source, tmp_path / "out", per_shard=2)
    for split, items in listed.items():
        data = Prepared(tmp_path / "out", split)
        assert (data.name, data.labels, data.licence, len(data)) == (name, source.labels, source.licence, len(items))
        for i, item in enumerate(items):
            example, sides = data[i], source.read(item)
            assert data.record(i).key == item.key and example.has_image == (sides.image is not None)
            shape = (sides.layout if sides.layout is not None else sides.image[..., 0]).shape
            layout = np.full(shape, VOID, np.int32) if sides.layout is None else sides.layout
            np.testing.assert_array_equal(example.layout, layout)
            assert example.layout.dtype == np.int32 and example.image.dtype == np.uint8
            image = np.zeros((*shape, 3)) if sides.image is None else sides.image
            if name == "mm_celeba_hq":  # brought to the mask's size by area
                means = image.reshape(shape[0], 2, shape[1], 2, 3).mean((1, 3))
                np.testing.assert_allclose(example.image, means, atol=1.01)
            else:
                np.testing.assert_array_equal(example.image, image)
            if source.class_captions is None:
                assert example.captions == item.captions
            else:
                assert len(example.captions) == (sides.layout is not None)


def test_tensorflow_datasets_reads_it_without_tensorflow(tmp_path):
    miniatures.folder(tmp_path / "source")
    prepare(Folder(tmp_path / "source"), tmp_path / "out", per_shard=4)
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(tmp_path / "out")
    for split in ("train", "heldout"):
        data, same = Prepared(tmp_path / "out", split), builder.as_data_source(split)
        assert len(same) == len(data)
        for i, stored in enumerate(same):
            example, record = data[i], data.record(i)
            assert stored["key"].decode() == record.key and stored["has_image"] == record.has_image
            assert tuple(c.decode() for c in stored["captions"]) == example.captions
            np.testing.assert_array_equal(stored["image"], example.image)
            ids = stored["layout"][..., 0].astype(np.int32)
            np.testing.assert_array_equal(np.where(ids == 255, VOID, ids), example.layout)
            assert stored["has_layout"] == record.has_layout


def test_an_interrupted_preparation_goes_on_to_the_same_bytes(streets, tmp_path):
    source, out = streets
    options = Options(size=(6, 8), subset=50, subset_of="captions")
    prepare(source, tmp_path / "whole", options, per_shard=2)
    expected = contents(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, options, progress=stop_after(1), per_shard=2)
    assert not out.exists()  # nothing was finished: nothing is left
    for count in (3, 4, 8):
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, options, progress=stop_after(count), per_shard=2)
        assert set(contents(out)) <= set(expected)
        assert message(Prepared, out, "train") == (
            f"{out}: the preparation is not finished; run the same gcdiff prepare again to go on"
        )
    log = out / "shards.jsonl"
    log.write_text(log.read_text()[:-40])  # killed while it wrote a line
    (out / ".gcdiff-camvid-val.array_record-00000-of-00002").write_bytes(b"half a shard")
    done = []
    prepare(source, out, options, progress=lambda n, total: done.append((n, total)), per_shard=2)
    assert contents(out) == expected
    assert done[0][0] > 1 and done[-1] == (9, 9)
    again = []
    prepare(source, out, options, progress=lambda n, total: again.append((n, total)), per_shard=2)
    assert again == [(9, 9)] and contents(out) == expected


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_shard_that_is_not_what_it_was_is_written_again(streets, damage):
    source, out = streets
    prepare(source, out, per_shard=2)
    expected, shard = contents(out), out / "camvid-test.array_record-00001-of-00002"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes({"flipped": bytes(data), "cut": bytes(data[:-9]), "gone": b""}[damage])
    if damage == "gone":
        shard.unlink()
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, progress=stop_after(9), per_shard=2)
    assert (out / "prepared.json").exists()  # another shard was not replaced yet
    prepare(source, out, per_shard=2)
    assert contents(out) == expected


def test_other_options_and_other_data_are_refused(streets, tmp_path):
    source, out = streets
    prepare(source, out, Options(size=(6, 8)), per_shard=2)
    expected = contents(out)
    said = message(prepare, source, out, Options(size=(6, 6)), per_shard=2)
    assert said == f"{out} was begun with size [6, 8], now it is [6, 6]: expected the same, or another folder"
    (tmp_path / "source" / "val" / "val0.png").unlink()
    (tmp_path / "source" / "valannot" / "val0.png").unlink()
    said = message(prepare, source, out, Options(size=(6, 8)), per_shard=2)
    assert said == f"{out} was begun when the source listed other examples: expected the same, or another folder"
    assert contents(out) == expected
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of mine")
    said = message(prepare, source, tmp_path / "mine")
    assert said == f"{tmp_path}/mine is not empty and was not written by gcdiff prepare, expected an empty folder"
    (out / "shards.jsonl").write_text("{")
    assert message(prepare, source, out).startswith(f"{out}/shards.jsonl: damaged, expected what gcdiff prepare")


def test_a_fault_stops_it_and_mended_it_goes_on(streets, tmp_path):
    source, out = streets
    prepare(source, tmp_path / "whole", per_shard=2)
    bad = tmp_path / "source" / "trainannot" / "train2.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:-60])
    assert message(prepare, source, out, per_shard=2).startswith(f"{bad}: not a readable image (")
    assert sorted(contents(out)) == ["camvid-train.array_record-00000-of-00002", "shards.jsonl"]
    bad.write_bytes(good)
    prepare(source, out, per_shard=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_skip_bad_leaves_out_and_lists(streets, tmp_path):
    source, out = streets
    root = tmp_path / "source"
    miniatures.save(root / "trainannot" / "train1.png", np.full((12, 16), 12, np.uint8))
    (root / "test" / "test0.png").unlink()
    report = prepare(source, out, skip_bad=True, per_shard=2)
    assert report["faults"] == [
        f"{root}/testannot/test0.png: no partner, expected {root}/test/test0.png",
        f"{root}/trainannot/train1.png: label 12 at row 0, column 0, expected 0 to 10 or 11 (void)",
    ]
    assert {name: split["examples"] for name, split in report["splits"].items()} == {"train": 2, "val": 3, "test": 2}
    assert json.loads((out / "splits.json").read_text())["train"] == ["train0", "train2"]
    assert json.loads((out / "report.json").read_text()) == report
    assert table(report).splitlines()[4:6] == [f"left out: {fault}" for fault in report["faults"]]
    assert [Prepared(out, "train").record(i).key for i in range(2)] == ["train0", "train2"]
    whole = contents(out)
    prepare(source, out, skip_bad=True, per_shard=2)
    assert contents(out) == whole
    miniatures.save(root / "test" / "test0.png", np.zeros((12, 16, 3), np.uint8))
    assert "listed other examples" in message(prepare, source, out, skip_bad=True, per_shard=2)
    (root / "test" / "test0.png").unlink()
    (root / "testannot" / "test0.png").unlink()
    said = message(prepare, source, out, per_shard=2)  # without: the shard that lacks one is made again
    assert said == report["faults"][1] and contents(out) == whole
    for i in range(3):
        miniatures.save(root / "valannot" / f"val{i}.png", np.full((12, 16), 12, np.uint8))
    other = prepare(source, tmp_path / "other", skip_bad=True)
    assert set(other["splits"]) == {"train", "test"} and len(other["faults"]) == 5
    assert other["faults"][0].startswith(f"every example of val is faulty; the first: {root}/valannot/val0.png: label")
    assert len(Prepared(tmp_path / "other", "test")) == 2
    for i in range(3):
        miniatures.save(root / "trainannot" / f"train{i}.png", np.full((12, 16), 12, np.uint8))
    said = message(prepare, source, tmp_path / "none", skip_bad=True)
    assert said.startswith(f"every example of train is faulty; the first: {root}/trainannot/train0.png: label 12")


def test_the_report_counts_what_there_is(tmp_path):
    layouts = miniatures.folder(tmp_path / "source")
    report = prepare(Folder(tmp_path / "source"), tmp_path / "out")
    splits = [report["splits"][split] for split in ("train", "heldout")]

    def total(field):
        return sum(split[field] for split in splits)

    assert (total("examples"), total("without_image"), total("without_layout")) == (12, 2, 2)
    assert (total("without_captions"), total("captions")) == (4, 16)
    assert total("with_void") == sum(layout is not None and (layout == VOID).any() for layout in layouts.values())
    heldout = json.loads((tmp_path / "out" / "splits.json").read_text())["heldout"]
    pixels = np.concatenate([layouts[key].ravel() for key in heldout])
    for label, name in enumerate(("sky", "left", "right")):
        share = (pixels == label).sum() / (pixels != VOID).sum()
        assert splits[1]["classes"][name]["share"] == pytest.approx(share, abs=1e-6)
    assert splits[1]["void"] == pytest.approx((pixels == VOID).mean(), abs=1e-6)
    assert splits[1]["sizes"] == {"6x8": len(heldout)}
    lines = table(report).splitlines()
    assert " ".join(lines[0].split()) == "split examples without image without layout without captions with void"
    assert lines[1].split()[:2] == ["train", "11"]


def test_subsets_lie_within_one_another():
    names = [f"{i}" for i in range(1000)]
    drawn = {percent: draw(names, percent, 3) for percent in (25, 50, 100)}
    assert [len(d) for d in drawn.values()] == [250, 500, 1000]
    assert set(drawn[25]) < set(drawn[50]) < set(drawn[100]) == set(names)
    assert drawn[25] == draw(names[::-1], 25, 3) != draw(names, 25, 4)
    assert message(draw, names[:3], 1, 0) == "1 per cent of 3 examples is none, expected a larger subset"


@pytest.mark.parametrize("of", ["examples", "captions", "layouts"])
def test_a_subset_of_the_training_examples(of, tmp_path):
    layouts = miniatures.folder(tmp_path / "source", num=24)
    prepare(Folder(tmp_path / "source"), tmp_path / "all")
    prepare(Folder(tmp_path / "source"), tmp_path / "half", Options(subset=50, subset_of=of, seed=0))
    whole, half = Prepared(tmp_path / "all"), Prepared(tmp_path / "half")
    subset = json.loads((tmp_path / "half" / "subset.json").read_text())
    assert (subset["percent"], subset["of"], subset["seed"], subset["split"]) == (50, of, 0, "train")
    drawn, records = set(subset["keys"]), [whole.record(i) for i in range(len(whole))]
    has = {"examples": lambda r: True, "captions": lambda r: r.captions, "layouts": lambda r: r.has_layout}[of]
    eligible = [r.key for r in records if has(r)]
    assert drawn <= set(eligible) and len(drawn) == round(0.5 * len(eligible))
    expected = []
    for record in records:
        if record.key in drawn:
            expected.append(record)
        elif of == "captions":
            expected.append(record._replace(captions=()))
        elif of == "layouts" and record.has_image:
            expected.append(record._replace(has_layout=False))
    records = [half.record(i) for i in range(len(half))]
    assert [(r.key, r.captions, r.has_image, r.has_layout) for r in records] == [
        (r.key, r.captions, r.has_image, r.has_layout) for r in expected
    ]
    for i, record in enumerate(records):
        assert (half[i].layout == VOID).all() == (not record.has_layout)
        assert half[i].image.any() == record.has_image
    assert (
        contents(tmp_path / "all")["folder-heldout.array_record-00000-of-00001"]
        == (contents(tmp_path / "half")["folder-heldout.array_record-00000-of-00001"])
    )
    assert len(layouts) == 24 and not (tmp_path / "all" / "subset.json").exists()


def test_captions_made_of_layouts_outlive_the_layouts(streets, tmp_path):
    source, out = streets
    prepare(source, tmp_path / "all")
    prepare(source, out, Options(subset=34, subset_of="layouts"))
    some, whole = Prepared(out), Prepared(tmp_path / "all")
    assert [some[i].captions for i in range(3)] == [whole[i].captions for i in range(3)]
    assert sum((some[i].layout == VOID).all() for i in range(3)) == 2


def test_sizes_and_limits(streets, tmp_path):
    source, _ = streets
    root = tmp_path / "source"
    pictures = {}
    for resize, layout in (("area", "majority"), ("lanczos", "nearest")):
        options = Options(size=(6, 8), resize=resize, layout=layout, limit=2)
        prepare(source, tmp_path / resize, options)
        data = Prepared(tmp_path / resize, "val")
        assert len(data) == 2 and data.size == (6, 8)
        pictures[resize] = data[1]
    image = np.asarray(Image.open(root / "val" / "val1.png")).astype(float)
    ids = np.asarray(Image.open(root / "valannot" / "val1.png")).astype(np.int32)
    np.testing.assert_allclose(pictures["area"].image, image.reshape(6, 2, 8, 2, 3).mean((1, 3)), atol=1.01)
    lanczos = Image.open(root / "val" / "val1.png").resize((8, 6), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(pictures["lanczos"].image, np.asarray(lanczos))
    cells = np.where(ids == 11, VOID, ids).reshape(6, 2, 8, 2)
    np.testing.assert_array_equal(pictures["lanczos"].layout, cells[:, 1, :, 1])  # of equally near ones the last
    votes = np.stack([(cells == label).sum((1, 3)) for label in range(VOID, 11)], axis=-1)
    np.testing.assert_array_equal(pictures["area"].layout, votes.argmax(-1) + VOID)
    for fields, said in (
        ({"size": (0, 8)}, "size is 0 8, expected a height and a width from 1 on"),
        ({"limit": 0}, "limit is 0, expected at least 1"),
        ({"subset": 0}, "subset is 0, expected 1 to 100 per cent"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"resize": "cubic"}, "resize is 'cubic', expected area, lanczos"),
    ):
        assert message(Options, **fields) == said


def test_jpegs_keep_their_bytes_where_their_size_stays(tmp_path):
    root = tmp_path / "source"
    miniatures.coco(root)
    turned, exif = root / "train2017" / "000000000009.jpg", Image.Exif()
    kept, exif[0x0112] = turned.read_bytes(), 3
    prepare(CocoStuff(root), tmp_path / "own")
    Image.open(turned).save(turned, exif=exif)
    prepare(CocoStuff(root), tmp_path / "turned")
    seen = read_image(turned)
    np.testing.assert_array_equal(Prepared(tmp_path / "turned")[0].image, seen)
    turned.write_bytes(kept)
    prepare(CocoStuff(root), tmp_path / "other", Options(size=(8, 8)))
    own, other = Prepared(tmp_path / "own"), Prepared(tmp_path / "other")
    assert own.size is None and other.size == (8, 8)
    assert own.record(0).image == (root / "train2017" / "000000000009.jpg").read_bytes()
    assert own.record(2).image.startswith(b"\x89PNG")  # a grey JPEG, which others would read as one channel
    assert other.record(0).image.startswith(b"\x89PNG")


def test_a_split_that_is_not_there_has_no_subset(streets, tmp_path):
    _, out = streets
    shutil.rmtree(tmp_path / "source" / "train")
    said = message(prepare, CamVidSource(tmp_path / "source", ("val",)), out, Options(subset=25))
    assert said == "camvid has no split train, expected one to draw a subset from"
    assert not out.exists()


def test_black_and_white_masks_are_refused_and_classes_without_a_pixel_named(tmp_path):
    miniatures.text(tmp_path / "source" / "labels.json", json.dumps({"names": ["background", "lesion", "scar"]}))
    for value, said in ((255, "for black and white masks of lesion write .ids.: .*, or save them with 1"), (1, "")):
        for i in range(3):
            miniatures.save(tmp_path / "source" / "images" / f"{i}.png", np.zeros((4, 4, 3), np.uint8))
            layout = np.where(np.arange(16).reshape(4, 4) < 4 + i, value, 0).astype(np.uint8)
            miniatures.save(tmp_path / "source" / "layouts" / f"{i}.png", layout)
        if said:
            with pytest.raises(ValueError, match=f"hold 0 and 255 alone, which are background and void: {said}$"):
                prepare(Folder(tmp_path / "source"), tmp_path / "refused")
        else:
            report = prepare(Folder(tmp_path / "source"), tmp_path / "out")
            assert "train: all are 4x4 (HxW); 0 % of the pixels of layouts are void; no pixel of scar" in table(report)
