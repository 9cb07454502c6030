"""A small CamVid of random labels: what is read, what is said, and one line for every bad file."""

import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff.data.builders import camvid
from gcdiff.data.builders.camvid import CAPTIONS, CamVid
from gcdiff.data.dataset import Example
from gcdiff.types import VOID

SIZE = (12, 16)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for split in camvid.SPLITS:
        for i in range(3):
            write(tmp_path / split / f"{i}.png", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
            write(tmp_path / f"{split}annot" / f"{i}.png", rng.integers(0, 12, SIZE).astype(np.uint8))
    return tmp_path


def test_the_pairs_of_two_splits(root):
    data = CamVid(root, ("train", "test"), size=SIZE)
    assert len(data) == 6 and data.size == SIZE and data.labels.num_classes == 11
    example = data[4]
    np.testing.assert_array_equal(example.image, np.asarray(Image.open(root / "test" / "1.png")))
    ids = np.asarray(Image.open(root / "testannot" / "1.png")).astype(np.int32)
    np.testing.assert_array_equal(example.layout, np.where(ids == 11, VOID, ids))
    assert example.layout.dtype == np.int32 and data[4].captions == example.captions
    with pytest.raises(IndexError):
        data[6]


def test_all_examples_have_the_size_asked_for(root):
    example = CamVid(root, ("val",), size=(6, 8))[0]
    assert example.image.shape == (6, 8, 3) and example.layout.shape == (6, 8)


def test_a_caption_names_the_classes_of_the_layout():
    layout = np.full((40, 50), 3, np.int32)
    layout[0, :2] = 8  # two pixels of 2,000: from 0.1 % on a class is named
    layout[1, :1] = 9  # one is too few
    layout[5:9] = VOID
    captions = {CAPTIONS.caption(layout, np.random.default_rng(i)) for i in range(20)}
    start = "An image of an urban street view with "
    assert captions == {f"{start}Roads and Cars.", f"{start}Cars and Roads."}
    layout[10:20] = 1
    words = CAPTIONS.caption(layout, np.random.default_rng(0)).removeprefix(start).removesuffix(".")
    assert sorted(words.replace(" and ", ", ").split(", ")) == ["Buildings", "Cars", "Roads"]
    assert CAPTIONS.caption(np.full((4, 4), VOID), np.random.default_rng(0)) == "An image of an urban street view."


def test_a_crop_is_captioned_anew():
    example = Example(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32), ("of the full frame",))
    out = CAPTIONS.recaption(example, np.random.default_rng(0))
    assert out.captions == ("An image of an urban street view with Skies.",)


def test_a_missing_partner(root):
    (root / "valannot" / "1.png").unlink()
    expected = f"{root}/val/1.png: no partner, expected {root}/valannot/1.png"
    assert message(CamVid, root, ("val",)) == expected
    (root / "val" / "1.png").unlink()
    (root / "val" / "2.png").unlink()
    assert message(CamVid, root, ("val",)) == f"{root}/valannot/2.png: no partner, expected {root}/val/2.png"


def test_another_size(root):
    write(root / "trainannot" / "2.png", np.zeros((6, 8), np.uint8))
    expected = f"{root}/trainannot/2.png: size 8x6, expected 16x12 like its image {root}/train/2.png"
    assert message(CamVid, root) == expected


def test_a_label_outside_the_table(root):
    labels = np.zeros(SIZE, np.uint8)
    labels[5, 7] = 12
    write(root / "trainannot" / "0.png", labels)
    expected = f"{root}/trainannot/0.png: label 12 at row 5, column 7, expected 0 to 10 or 11 (void)"
    assert message(CamVid, root) == expected


def test_colours_in_place_of_labels(root):
    write(root / "trainannot" / "0.png", np.zeros((*SIZE, 3), np.uint8))
    assert message(CamVid, root).startswith(f"{root}/trainannot/0.png: mode RGB, expected an index PNG")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_a_broken_png(root, folder, damage):
    file = root / folder / "1.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    content = {"truncated": file.read_bytes()[:-60], "empty": b"", "text": b"not a picture\n", "flipped": bytes(data)}
    file.write_bytes(content[damage])
    assert message(CamVid, root).startswith(f"{file}: not a readable image (")


def test_an_empty_or_missing_folder(root):
    for file in (root / "val").iterdir():
        file.unlink()
    assert message(CamVid, root) == f"{root}/val: empty, expected files ending in .png"
    assert message(CamVid, root / "nowhere") == f"{root}/nowhere/train: no such folder"
    assert message(CamVid, root, ("dev",)) == "split of camvid is 'dev', expected train, val, test"
