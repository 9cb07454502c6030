"""Prepared data as data sets: what is read back, one line for every fault, what training is given of it."""

import json
import os
import pickle
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import miniatures
import numpy as np
import pytest
from refusals import message

from gcdiff import cli, config
from gcdiff.data import pipeline
from gcdiff.data.builders.camvid import CAPTIONS, CamVid, CamVidSource
from gcdiff.data.builders.folder import Folder
from gcdiff.data.builders.mm_celeba_hq import MMCelebAHQ
from gcdiff.data.dataset import Example
from gcdiff.data.labels import CELEBA
from gcdiff.data.prepare import prepare
from gcdiff.data.prepared import Prepared
from gcdiff.types import VOID

CAMVID = os.environ.get("GCDIFF_CAMVID", "")


@pytest.fixture
def streets(tmp_path):
    miniatures.camvid(tmp_path / "source", size=(40, 50))
    prepare(CamVidSource(tmp_path / "source"), tmp_path / "out", per_shard=2)
    return tmp_path / "out"


def splits(root, size, **fields):
    c = config.default()
    c.data.update(name="prepared", root=str(root), size=size, **fields)
    return config.splits(c)


def equal(a: Example, b: Example) -> bool:
    same = a.captions == b.captions and a.has_image == b.has_image
    return same and np.array_equal(a.image, b.image) and np.array_equal(a.layout, b.layout)


def test_examples_by_index_for_many_readers(streets):
    data = Prepared(streets)
    examples = list(data)
    assert len(examples) == len(data) == 3 and data.size == (40, 50)
    copy = pickle.loads(pickle.dumps(data))
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda i: copy[i % 3], range(60)))
    assert all(equal(example, examples[i % 3]) for i, example in enumerate(copies))
    with pytest.raises(IndexError, match="example 3 of train, expected 0 to 2"):
        data[3]
    with pytest.raises(IndexError):
        data[-1]


@pytest.mark.parametrize("damage", ["record", "footer", "short", "gone"])
def test_a_damaged_shard_is_named(streets, damage):
    shard = streets / "camvid-train.array_record-00001-of-00002"
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 60 if damage == "record" else -(1 << 16) + 60] ^= 0xFF
    shard.write_bytes(bytes(data[:-1] if damage == "short" else data))
    if damage == "gone":
        shard.unlink()
        assert message(Prepared, streets) == f"{shard}: no such file"
    elif damage == "short":
        assert message(Prepared, streets) == f"{shard}: {len(data) - 1} bytes, expected {len(data)}"
    else:
        damaged = Prepared(streets)
        assert damaged[1].layout.shape == (40, 50)
        assert message(damaged.__getitem__, 2).startswith(f"{shard}: damaged (")


def test_a_directory_that_is_none(streets, tmp_path):
    expected = f"{tmp_path}/prepared.json: no such file, expected a directory that gcdiff prepare has written"
    assert message(Prepared, tmp_path) == expected
    assert message(Prepared, streets, "dev") == f"{streets} has no split 'dev', expected train, val, test"
    spec = json.loads((streets / "prepared.json").read_text())
    (streets / "prepared.json").write_text(json.dumps(spec | {"version": 9}))
    assert message(Prepared, streets) == f"{streets}/prepared.json: version 9, expected 1"
    for content in ("{", "[]", json.dumps({"version": 1})):
        (streets / "prepared.json").write_text(content)
        assert message(Prepared, streets).startswith(f"{streets}/prepared.json: damaged (")


def test_training_is_given_crops_with_the_captions_of_what_is_left(streets):
    data = splits(streets, (10, 10), scale=(0.3, 0.5), flip=True)
    assert (data.train.split, data.heldout.split) == ("train", "val")
    for i in range(20):
        example = data.train_transform(data.train[i % 3], np.random.default_rng(i))
        assert example.image.shape == (10, 10, 3) and example.layout.shape == (10, 10)
        named = set(
            example.captions[0].removeprefix("An image of an urban street view with ").rstrip(".").split(" and ")
        )
        present = {CAPTIONS.nouns[label] for label in np.unique(example.layout) if label != VOID}
        assert set(", ".join(named).split(", ")) == present
    bare = data.train[0]._replace(captions=())
    assert data.train_transform(bare, np.random.default_rng(0)).captions == ()
    unlabelled = data.train[0]._replace(layout=np.full((40, 50), VOID, np.int32))
    assert data.train_transform(unlabelled, np.random.default_rng(0)).captions == unlabelled.captions
    assert data.heldout_transform(data.heldout[0], None).layout.shape == (10, 10)


def test_batches_of_examples_that_lack_sides(tmp_path):
    miniatures.folder(tmp_path / "source", num=24, size=(8, 8))
    prepare(Folder(tmp_path / "source"), tmp_path / "out")
    data = splits(tmp_path / "out", (4, 4), flip=True)
    assert data.heldout.split == "heldout"
    stream = pipeline.batches(data.train, 8, 0, data.train_transform)
    batch = next(stream)
    stream.close()
    assert batch.image.shape == (8, 4, 4, 3) and batch.layout.shape == (8, 4, 4)
    everything = pipeline.whole(data.train, range(len(data.train)), data.train_transform)
    lacks = np.array([[not e.has_image, (e.layout == VOID).all(), not e.captions] for e in data.train])
    assert lacks.any(axis=0).all()
    np.testing.assert_array_equal((everything.image == 0).all((1, 2, 3)), lacks[:, 0])
    np.testing.assert_array_equal((everything.layout == VOID).all((1, 2)), lacks[:, 1])
    np.testing.assert_array_equal([caption == "" for caption in everything.captions], lacks[:, 2])


def test_data_that_hold_nothing_out_say_so(tmp_path):
    miniatures.camvid(tmp_path / "source")
    prepare(CamVidSource(tmp_path / "source", ("train",)), tmp_path / "out")
    with pytest.warns(UserWarning, match="no layouts that are held out: held-out numbers are of training examples"):
        assert splits(tmp_path / "out", (6, 8)).heldout.split == "train"


def test_a_network_of_one_level_does_not_read_what_is_missing(tmp_path):
    miniatures.folder(tmp_path / "source", num=24, size=(8, 8))
    prepare(Folder(tmp_path / "source"), tmp_path / "out")
    c = config.default()
    c.data.update(name="prepared", root=str(tmp_path / "out"), size=(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config.splits(c)
    c.network.level_inputs = "image"
    with pytest.warns(UserWarning, match="4 training examples have no image and 4 no layout, which .*level_inputs=im"):
        config.splits(c)


def test_numbers_are_about_images(streets):
    class Imageless(Prepared):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(has_image=False)

    data = splits(streets, (6, 8))._replace(heldout=Imageless(streets, "val"))
    with pytest.raises(ValueError, match="camvid: none of the held-out examples has an image"):
        config.examples(data, 2)


def test_left_stays_left_in_a_mirrored_face(tmp_path):
    """The left parts in one half of the picture, the right ones in the other: mirrored, too."""
    sides = {"l_eye": 0, "l_brow": 0, "l_ear": 0, "r_eye": 1, "r_brow": 1, "r_ear": 1, "nose": 0}
    miniatures.celeba(tmp_path / "source", merged=True, faces={0: 1, 1: 200000}, size=16)
    layout = np.full((16, 16), CELEBA.names.index("skin"), np.uint8)
    for row, (part, side) in enumerate(sides.items()):
        layout[2 * row, 8 * side + 3] = CELEBA.names.index(part)
    miniatures.save(tmp_path / "source/CelebAMask-HQ-mask-anno/preprocessed/0.png", layout)
    prepare(MMCelebAHQ(tmp_path / "source"), tmp_path / "out")
    data = splits(tmp_path / "out", (16, 16), flip=True)
    assert data.heldout.split == "test"
    flipped = 0
    for seed in range(20):
        example = data.train_transform(data.train[0], np.random.default_rng(seed))
        for part, side in sides.items():
            where = np.argwhere(example.layout == CELEBA.names.index(part))
            assert len(where) == 1
            mirrored = where[0, 1] % 8 != 3
            assert (where[0, 1] >= 8) == (side != mirrored if part == "nose" else side)
        flipped += not np.array_equal(example.image, data.train[0].image)
        assert np.array_equal(example.image, data.train[0].image[:, :: -1 if mirrored else 1])
    assert 4 < flipped < 16


def run(capsys, *words):
    """(exit status, stdout, stderr) of gcdiff prepare."""
    try:
        status = cli.main(["prepare", *map(str, words)])
    except SystemExit as error:
        status = error.code
    return (status, *capsys.readouterr())


def test_the_command(tmp_path, capsys):
    miniatures.cityscapes(tmp_path / "source")
    out = tmp_path / "out"
    common = ["cityscapes", "--source", tmp_path / "source", "--out", out, "--size", 10, 10]
    status, said, progress = run(capsys, *common, "--train-val", "--void", "class")
    assert status == 0 and progress.splitlines()[-1].startswith("example 8/8")
    assert said.splitlines()[1].split() == ["train", "6", "0", "0", "0", "6"]
    assert said.splitlines()[2].split() == ["test", "2", "0", "2", "2", "0"]
    assert "nothing is held out" in said and "Cityscapes: for non-commercial" in said
    assert said.endswith(f"written to {out}: look at {out}/contact_sheet.png\n")
    assert (out / "contact_sheet.png").stat().st_size > 500
    assert Prepared(out).labels.num_classes == 20 and len(Prepared(out)) == 6
    status, said, wrong = run(capsys, *common)
    assert (status, said) == (2, "")
    expected = "begun with void 'class', now it is 'missing': expected the same, or another folder"
    assert wrong == f"gcdiff prepare: {out} was {expected}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--void", "class"], "--void is of cityscapes, expected none for camvid"),
        (["--captions", "x"], "--captions is of mm_celeba_hq and cityscapes and coco_stuff, expected none for camvid"),
        (["--subset", "101"], "subset is 101, expected 1 to 100 per cent"),
        (["--source", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_the_command_refuses(tmp_path, capsys, words, said):
    miniatures.camvid(tmp_path / "source", each=1)
    out = tmp_path / "out"
    status, _, wrong = run(capsys, "camvid", "--source", tmp_path / "source", "--out", out, *words)
    assert (status, wrong) == (2, f"gcdiff prepare: {said}\n") and not out.exists()


def test_unknown_arguments_of_the_command(tmp_path, capsys):
    status, _, wrong = run(capsys, "camvid", "--source", tmp_path, "--out", tmp_path, "--config.sample.steps=3")
    assert status == 2 and "unknown argument --config.sample.steps=3" in wrong


def test_an_interrupt_is_one_line(tmp_path, capsys, monkeypatch):
    miniatures.camvid(tmp_path / "source")
    read, count = CamVidSource.read, 0

    def interrupted(self, item):
        nonlocal count
        count += 1
        if count == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, item)

    monkeypatch.setattr(CamVidSource, "read", interrupted)
    words = ["camvid", "--source", tmp_path / "source", "--out", tmp_path / "out"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background are started without
    try:
        status, said, wrong = run(capsys, *words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130 and not said
    expected = "gcdiff prepare: interrupted; the same command goes on from the shards that are finished"
    assert wrong.splitlines()[-1] == expected
    assert run(capsys, *words)[0] == 0
    assert len(Prepared(tmp_path / "out", "test")) == 3


@pytest.mark.skipif(not CAMVID, reason="GCDIFF_CAMVID names no folder of CamVid")
def test_camvid_through_the_whole_chain(tmp_path, capsys):
    words = ["camvid", "--source", CAMVID, "--out", tmp_path, "--limit", 40]
    assert run(capsys, *words)[0] == 0
    report = json.loads(Path(tmp_path, "report.json").read_text())
    assert {split: counts["examples"] for split, counts in report["splits"].items()} == dict.fromkeys(
        ("train", "val", "test"), 40
    )
    shares = {name: counts["share"] for name, counts in report["splits"]["train"]["classes"].items()}
    assert shares["road"] + shares["building"] > 0.4 and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    data, direct = Prepared(tmp_path, "val"), CamVid(CAMVID, ("val",), Prepared(tmp_path, "val").size)
    for i in range(0, 40, 7):
        np.testing.assert_array_equal(data[i].image, direct[i].image)
        np.testing.assert_array_equal(data[i].layout, direct[i].layout)
    loaded = splits(tmp_path, (24, 32), scale=(0.5, 1.0), flip=True)
    stream = pipeline.batches(loaded.train, 4, 0, loaded.train_transform)
    batch = next(stream)
    stream.close()
    assert batch.image.shape == (4, 24, 32, 3) and all(c.startswith("An image of an urban") for c in batch.captions)
