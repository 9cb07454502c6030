"""Every data set in its true directory layout, read back equal, and one line for every fault."""

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
from gcdiff.data.builders.mm_celeba_hq import MMCelebAHQ
from gcdiff.data.labels import CELEBA, CITYSCAPES, COCO_STUFF, NUM_COCO_THINGS
from gcdiff.data.source import refuse


def listed(source):
    """All examples by name, after the splits were listed without a fault."""
    return {item.key: item for items in source.splits(refuse).values() for item in items}


def keys(source):
    return {split: [item.key for item in items] for split, items in source.splits(refuse).items()}


def first_fault(source) -> str:
    """What is said of the first example that is wrong, in the listing or when it is read."""

    def look():
        for item in listed(source).values():
            source.read(item)

    return message(look)


@pytest.fixture
def faces(tmp_path):
    return tmp_path, miniatures.celeba(tmp_path)


@pytest.fixture
def cities(tmp_path):
    return tmp_path, miniatures.cityscapes(tmp_path)


@pytest.fixture
def things(tmp_path):
    return tmp_path, miniatures.coco(tmp_path)


def test_parts_of_faces_are_painted_in_the_order_of_the_classes(faces, tmp_path_factory):
    root, layouts = faces
    source = MMCelebAHQ(root)
    assert list(CELEBA.names[1:]) == miniatures.PARTS and source.labels == CELEBA
    merged = tmp_path_factory.mktemp("merged")
    miniatures.celeba(merged, merged=True)
    for of in (source, MMCelebAHQ(merged)):
        items = listed(of)
        assert list(items) == list(layouts)
        for key, layout in layouts.items():
            sides = of.read(items[key])
            np.testing.assert_array_equal(sides.layout, layout)
            assert sides.layout.dtype == np.int32 and sides.image.shape == (16, 16, 3)
            np.testing.assert_array_equal(sides.image, np.asarray(Image.open(root / f"CelebA-HQ-img/{key}.jpg")))


def test_the_splits_of_faces(faces):
    root, _ = faces
    official = {"train": ["3", "2001"], "val": ["2002", "23999"], "test": ["24000", "29999"]}
    assert keys(MMCelebAHQ(root)) == official
    (root / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    expected = f"{root}/CelebA-HQ-to-CelebA-mapping.txt: no such file, which the official split needs; --split-by ids"
    assert first_fault(MMCelebAHQ(root)).startswith(expected)
    by_ids = keys(MMCelebAHQ(root, split_by="ids"))
    assert {s: k for s, k in by_ids.items() if k} == {
        "train": ["3", "2001", "2002", "23999"],
        "test": ["24000", "29999"],
    }


def test_a_mapping_that_lacks_a_face_or_is_none(faces):
    root, _ = faces
    path = root / "CelebA-HQ-to-CelebA-mapping.txt"
    lines = path.read_text().splitlines()
    miniatures.text(path, *(line for line in lines if not line.startswith("2001 ")))
    assert first_fault(MMCelebAHQ(root)) == f"{path}: no line for image 2001"
    miniatures.text(path, *lines, "7 seven")
    assert first_fault(MMCelebAHQ(root)).startswith(f"{path}: line 8 is '7 seven', expected the numbers")


def test_the_captions_of_faces(faces):
    root, _ = faces
    both = ("She is face 3.", "This is face 3.")
    assert listed(MMCelebAHQ(root))["3"].captions == both
    assert listed(MMCelebAHQ(root, "none"))["3"].captions == ()
    miniatures.jsonl(
        root / "c.jsonl", {f"{i}.jpg": [f"She is face {i}.", f"This is face {i}."] for i in miniatures.FACES}
    )
    assert listed(MMCelebAHQ(root, root / "c.jsonl"))["3"].captions == both
    miniatures.jsonl(root / "c.jsonl", {"3.jpg": ["one"], "3.png": ["another"]})
    assert first_fault(MMCelebAHQ(root, root / "c.jsonl")).startswith(f"{root}/c.jsonl: 3.png has captions under")
    (root / "celeba-caption" / "3.txt").write_bytes("\ufeffShe is\u2028face\x853.\r\n\r\nThis is face 3.".encode())
    assert listed(MMCelebAHQ(root))["3"].captions == ("She is\u2028face\x853.", both[1])
    assert first_fault(MMCelebAHQ(root, root / "x")).startswith(
        f"{root}/x: no such folder, expected text files, a .jsonl"
    )
    (root / "celeba-caption" / "2001.txt").write_text("\n")
    assert first_fault(MMCelebAHQ(root)) == f"{root}/celeba-caption/2001.txt: empty, expected one caption per line"
    (root / "celeba-caption" / "2001.txt").unlink()
    source = MMCelebAHQ(root)
    assert [key for key, item in listed(source).items() if not item.captions] == ["2001"]
    assert source.note == f"{root}/celeba-caption: no captions for 1 of 6 images."
    for file in (root / "celeba-caption").iterdir():
        file.rename(file.with_suffix(".caption"))
    said = f"{root}/celeba-caption: no captions for 3.jpg, nor for any other image"
    assert first_fault(MMCelebAHQ(root)) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"file_name": "2001.jpg", "text": "a string"}', "line 2: text of 2001.jpg is a string, expected a list of"),
        ('{"file_name": "2001.jpg", "text": []}', "line 2: text of 2001.jpg is [], expected a list of captions"),
        ('{"file_name": "2001.jpg", "text": ["a", 3]}', "line 2: text of 2001.jpg is ['a', 3], expected a list of"),
        ('{"file_name": "3.jpg", "text": ["again"]}', "line 2: file_name '3.jpg' for the second time"),
        ('{"file": "2001.jpg"}', 'line 2: expected {"file_name": "...", "text": ["...", ...]}'),
        ('{"file_name": "2001.jpg", ', "line 2: not JSON ("),
    ],
)
def test_captions_that_are_wrong(faces, line, said):
    root, _ = faces
    miniatures.text(root / "c.jsonl", '{"file_name": "3.jpg", "text": ["one"]}', line)
    source = MMCelebAHQ(root, root / "c.jsonl")
    assert first_fault(source).startswith(f"{root}/c.jsonl: {said}")
    read_keys = [item.key for items in source.splits(lambda fault: None).values() for item in items]
    for number in ("3", "2001"):  # with --skip-bad an example whose line is wrong is left out
        assert (number in read_keys) is (f'"file_name": "{number}.jpg", "text"' not in line)


def test_faults_of_faces(faces):
    root, _ = faces
    masks = root / "CelebAMask-HQ-mask-anno"

    def said() -> str:
        return first_fault(MMCelebAHQ(root))

    odd = masks / "0" / "00003_beard.png"
    miniatures.save(odd, np.zeros((8, 8), np.uint8))
    assert said() == f"{odd}: expected the name of a part, as 00000_skin.png"
    odd.unlink()
    odd = masks / "0" / "00003_skin.png"
    miniatures.save(odd, np.zeros((8, 6), np.uint8))
    parts = sorted(masks.glob("0/00003_*"), key=lambda f: miniatures.PARTS.index(f.stem[6:]))
    assert said() == f"{parts[1]}: size 8x8, expected 6x8 like {odd}"
    odd.write_bytes(b"not a picture")
    assert said().startswith(f"{odd}: not a readable image (")
    for file in parts:
        file.unlink()
    assert said() == f"{root}/CelebA-HQ-img/3.jpg: no partner, expected {odd}"
    image = root / "CelebA-HQ-img" / "3.jpg"
    miniatures.save(masks / "preprocessed" / "3.png", np.full((8, 8), 19, np.uint8))
    for i in list(miniatures.FACES)[1:]:
        (root / "CelebA-HQ-img" / f"{i}.jpg").unlink()
    assert said() == f"{masks}/preprocessed/3.png: label 19 at row 0, column 0, expected 0 to 18 or 255 (void)"
    miniatures.save(masks / "preprocessed" / "3.png", np.zeros((8, 8), np.uint8))
    miniatures.save(image, np.zeros((16, 20, 3), np.uint8))
    assert said() == f"{image}: size 20x16, expected a multiple of 8x8, the size of {masks}/preprocessed/3.png"
    image.rename(root / "CelebA-HQ-img" / "face.jpg")
    assert said() == f"{root}/CelebA-HQ-img/face.jpg: expected a number for a name"
    (root / "CelebA-HQ-img" / "face.jpg").unlink()
    miniatures.save(root / "CelebA-HQ-img" / "4.jpg", np.zeros((16, 16, 3), np.uint8))
    assert said() == f"{root}/CelebA-HQ-img/4.jpg: no partner, expected {masks}/preprocessed/4.png"
    shutil.rmtree(masks)
    assert said() == f"{masks}: expected the folder preprocessed, or the folders 0 to 14"
    assert "split_by is 'age', expected official, ids" in message(MMCelebAHQ, root, split_by="age")


def test_label_ids_of_cities_become_the_classes_of_the_benchmark(cities):
    root, layouts = cities
    missing, as_class = Cityscapes(root), Cityscapes(root, void="class")
    assert missing.labels.num_classes == 19 and as_class.labels == CITYSCAPES
    assert missing.labels.names == CITYSCAPES.names[:19] and missing.labels.palette == CITYSCAPES.palette[:19]
    items = listed(missing)
    assert set(items) == set(layouts)
    for key, layout in layouts.items():
        if layout is None:
            assert missing.read(items[key]).layout is None
        else:
            np.testing.assert_array_equal(missing.read(items[key]).layout, layout)
            np.testing.assert_array_equal(as_class.read(items[key]).layout, np.where(layout < 0, 19, layout))
        assert missing.read(items[key]).image.shape == (10, 20, 3)


def test_the_splits_of_cities(cities):
    root, _ = cities
    train = [f"{city}_000000_0000{i}" for city in ("aachen", "ulm") for i in (19, 20)]
    val, test = ([f"{city}_000000_0000{i}" for i in (19, 20)] for city in ("munster", "berlin"))
    assert keys(Cityscapes(root)) == {"train": train, "val": val, "test": test}
    assert keys(Cityscapes(root, train_val=True)) == {"train": train + val, "test": test}
    assert "nothing is held out" in Cityscapes(root, train_val=True).note and not Cityscapes(root).note
    shutil.rmtree(root / "leftImg8bit" / "val")
    assert list(keys(Cityscapes(root))) == ["train", "test"]


def test_captions_of_cities_are_made_or_read(cities):
    root, layouts = cities
    for void in ("missing", "class"):
        made = Cityscapes(root, void=void).class_captions
        assert len(made.nouns) == Cityscapes(root, void=void).labels.num_classes
        whole = np.arange(19, dtype=np.int32).repeat(20).reshape(19, 20)
        whole[0] = -1 if void == "missing" else 19
        said = made.caption(whole, np.random.default_rng(0))
        assert said.startswith("An image of an urban street view with ") and said.count(",") == 16
        assert "Traffic lights" in said and "People" in said and "Roads" not in said
    captions = {f"{key}_leftImg8bit.png": [key] for key, layout in layouts.items() if layout is not None}
    miniatures.jsonl(root / "c.jsonl", captions)
    source = Cityscapes(root, captions=root / "c.jsonl")
    assert source.class_captions is None
    assert {k: i.captions for k, i in listed(source).items()} == {k: (k,) * (v is not None) for k, v in layouts.items()}
    captions.pop("ulm_000000_000019_leftImg8bit.png")
    miniatures.jsonl(root / "c.jsonl", captions)
    assert first_fault(source) == f"{root}/c.jsonl: no captions for ulm_000000_000019_leftImg8bit.png"


def test_faults_of_cities(cities):
    root, _ = cities
    image = root / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    labels = root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png"
    ids = np.full((10, 20), 7, np.uint8)
    ids[3, 4] = 34
    miniatures.save(labels, ids)
    expected = f"{labels}: label 34 at row 3, column 4, expected a label id, 0 to 33 or 255"
    assert first_fault(Cityscapes(root)) == expected
    miniatures.save(labels, ids[5:])
    assert first_fault(Cityscapes(root)) == f"{labels}: size 20x5, expected 20x10 like its image {image}"
    labels.unlink()
    assert first_fault(Cityscapes(root)) == f"{image}: no partner, expected {labels}"
    image.rename(image.with_name("other_leftImg8bit.png"))
    miniatures.save(labels, ids)
    faults = []
    Cityscapes(root).splits(faults.append)
    other = image.with_name("other_leftImg8bit.png")
    assert faults == [
        f"{other}: no partner, expected {labels.with_name('other_gtFine_labelIds.png')}",
        f"{labels}: no partner, expected {image}",
    ]
    shutil.rmtree(root / "gtFine")
    assert first_fault(Cityscapes(root)) == f"{root}/gtFine/train: no such folder"
    shutil.rmtree(root / "leftImg8bit")
    assert first_fault(Cityscapes(root)) == f"{root}/leftImg8bit/train: no such folder"
    assert message(Cityscapes, root, void="sky") == "void is 'sky', expected missing, class"


def test_the_values_of_things_and_stuff_become_classes_without_gaps(things):
    root, layouts = things
    source = CocoStuff(root)
    items = listed(source)
    assert list(items) == list(layouts) and keys(source)["val"] == ["000000000139", "000000000285"]
    for key, layout in layouts.items():
        sides = source.read(items[key])
        np.testing.assert_array_equal(sides.layout, layout)
        assert sides.image.shape == (*layout.shape, 3)
    assert items["000000000009"].captions == tuple(f"caption {n} of 9." for n in range(5))
    names = COCO_STUFF.names
    assert (len(names), NUM_COCO_THINGS, len(set(COCO_STUFF.palette))) == (171, 80, 171)
    one_pixel = root / "one.png"
    for value, name in {0: "person", 12: "stop sign", 89: "toothbrush", 91: "banner", 181: "wood"}.items():
        miniatures.save(one_pixel, np.full((1, 1), value, np.uint8))
        item = items["000000000009"]._replace(image=None, layout=(one_pixel,))
        assert names[source.read(item).layout[0, 0]] == name
    (root / "images").mkdir()
    (root / "train2017").rename(root / "images" / "train2017")
    assert keys(source)["train"] == ["000000000009", "000000000025", "000000000030"]


def test_faults_of_things(things):
    root, layouts = things
    layout = root / "stuffthingmaps/train2017/000000000009.png"
    for value in (11, 90, 182, 254):
        miniatures.save(layout, np.full(layouts["000000000009"].shape, value, np.uint8))
        said = first_fault(CocoStuff(root))
        assert said.startswith(
            f"{layout}: label {value} at row 0, column 0, expected a value of 0 to 181 but 11, 25, 28"
        )
    miniatures.save(layout, np.zeros(layouts["000000000009"].shape, np.uint8))
    path = root / "annotations" / "captions_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 285]
    path.write_text(json.dumps(content))
    assert first_fault(CocoStuff(root)) == f"{path}: no captions for 000000000285.jpg"
    path.write_text("{")
    assert first_fault(CocoStuff(root)).startswith(f"{path}: not a file of COCO captions (JSONDecodeError")
    path.write_text('{"annotations": [{"image_id": 139}]}')
    assert first_fault(CocoStuff(root)).startswith(f"{path}: not a file of COCO captions (KeyError: 'caption')")
    path.unlink()
    assert first_fault(CocoStuff(root)) == f"{path}: no such file"  # of the other split there are captions
    image = root / "train2017" / "000000000025.jpg"
    image.write_bytes(image.read_bytes()[:200])
    shutil.rmtree(root / "val2017")
    assert first_fault(CocoStuff(root)).startswith(f"{image}: not a readable image (")
    image.unlink()
    expected = f"{root}/stuffthingmaps/train2017/000000000025.png: no partner, expected {image}"
    assert first_fault(CocoStuff(root)) == expected
    assert first_fault(CocoStuff(root / "x")) == f"{root}/x/train2017: no such folder"


def test_things_without_captions_and_with_maps_among_the_annotations(things):
    root, layouts = things
    for split in ("train", "val"):
        (root / "annotations" / f"captions_{split}2017.json").unlink()
        (root / "stuffthingmaps" / f"{split}2017").rename(root / "annotations" / f"{split}2017")
    copy = root / "annotations" / "train2017" / "000000000009_labelTrainIds.png"
    miniatures.save(copy, np.full(layouts["000000000009"].shape, 77, np.uint8))
    (root / "stuffthingmaps").rmdir()
    source = CocoStuff(root)
    assert source.note == f"No captions: {root}/annotations/captions_train2017.json is not there."
    for of in (source, CocoStuff(root, "none")):
        items = listed(of)
        assert list(items) == list(layouts) and not any(item.captions for item in items.values())
        for key, layout in layouts.items():
            np.testing.assert_array_equal(of.read(items[key]).layout, layout)


def test_streets_of_cambridge(tmp_path):
    layouts = miniatures.camvid(tmp_path)
    source = CamVidSource(tmp_path)
    items = listed(source)
    assert list(items) == list(layouts) and list(source.splits(refuse)) == ["train", "val", "test"]
    for key, layout in layouts.items():
        np.testing.assert_array_equal(source.read(items[key]).layout, layout)
