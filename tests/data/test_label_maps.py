"""Label files of every form: the classes that were meant, or one line that names the cause."""

import io
import itertools
import json
import struct
import zlib

import miniatures
import numpy as np
import pytest
from PIL import Image
from refusals import message

from gcdiff.data.label_maps import read_colored_layout, read_layout
from gcdiff.data.label_table import SHIPPED, make_table, open_table
from gcdiff.data.reader import read_image
from gcdiff.types import VOID, LabelSpec

LAYOUT = np.array([[0, 1, 2, 2], [1, 0, 2, VOID]], np.int32)
NAMES = {"names": ["sky", "ground", "thing"]}
COLORS = [[0, 0, 255], [255, 0, 0], [0, 255, 0]]


def read(path, picture, fields, **options):
    """The layout that is read of a picture, saved with the ending of `path`, by a table with some fields."""
    picture.save(path, **options)
    return read_colored_layout(path, make_table(fields))


def grey(values, dtype=np.uint8):
    return Image.fromarray(np.asarray(values, dtype))


def indexed(values, colors):
    picture = Image.fromarray(np.asarray(values, np.uint8), "P")
    picture.putpalette(list(itertools.chain.from_iterable(colors)))
    return picture


def numbered(layout, numbers):
    """A layout as numbers of a file: those of the classes, the last one for void."""
    return np.asarray(numbers)[layout]


ENDINGS = ("png", "tif", "webp", "bmp", "gif")


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_without_loss_in_every_format(ending, tmp_path):
    options = {"lossless": True} if ending == "webp" else {}
    path = tmp_path / f"x.{ending}"
    for fields, numbers in (
        (NAMES, (0, 1, 2, 255)),
        (NAMES | {"ids": {"0": "void", "1": "sky", "2": "ground", "3": "thing"}}, (1, 2, 3, 0)),
        (NAMES | {"ids": {"7": 0, "40": 1, "255": 2, "9": None}}, (7, 40, 255, 9)),
        (NAMES | {"ids": {"0": "sky", "128": "ground", "255": "thing"}, "void_id": 3}, (0, 128, 255, 3)),
    ):
        layout = read(path, grey(numbered(LAYOUT, numbers)), fields, **options)
        np.testing.assert_array_equal(layout, LAYOUT)
        assert layout.dtype == np.int32


@pytest.mark.parametrize("ending", ENDINGS)
def test_colours_without_loss_in_every_format(ending, tmp_path):
    options = {"lossless": True} if ending == "webp" else {}
    fields = NAMES | {"colors": COLORS, "void_color": [9, 9, 9]}
    picture = Image.fromarray(np.array([*COLORS, [9, 9, 9]], np.uint8)[LAYOUT])
    np.testing.assert_array_equal(read(tmp_path / f"x.{ending}", picture, fields, **options), LAYOUT)
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{ending}"), np.asarray(picture))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_numbers_above_255(ending, tmp_path):
    fields = NAMES | {"ids": {"0": "sky", "300": "ground", "65535": "thing", "1000": "void"}}
    numbers = numbered(LAYOUT, (0, 300, 65535, 1000))
    np.testing.assert_array_equal(read(tmp_path / f"x.{ending}", grey(numbers, np.uint16), fields), LAYOUT)
    small = numbered(LAYOUT, (0, 1, 2, 255))
    np.testing.assert_array_equal(read(tmp_path / f"x.{ending}", grey(small, np.uint16), NAMES), LAYOUT)
    said = message(read, tmp_path / f"x.{ending}", grey(numbers, np.uint16), NAMES)
    assert "label 300 at row 0, column 1" in said and '"ids" of labels.json' in said
    big = Image.fromarray(numbers.astype(np.uint16).astype(">u2"))
    np.testing.assert_array_equal(read(tmp_path / "x.tif", big, fields, compression="tiff_lzw"), LAYOUT)
    path = tmp_path / "x.tif"  # 32 bits
    np.testing.assert_array_equal(read(path, grey(numbers, np.int32), fields), LAYOUT)
    assert "label 70000 at row 0, column 0" in message(read, path, grey([[70000]], np.int32), fields)
    assert "label -1 at row 0, column 0" in message(read, path, grey([[-1]], np.int32), fields)
    assert "mode F of 32 bits a channel, expected" in message(read, path, grey([[1.0]], np.float32), fields)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_one_bit(ending, tmp_path):
    layout = np.array([[0, 1, 1, 0, 1, 0, 0, 1, 1]], np.int32)
    picture = Image.fromarray(layout.astype(bool))
    two = {"names": ["background", "lesion"]}
    for ids in ({}, {"ids": {"0": 0, "1": 1}}, {"ids": {"0": "background", "255": "lesion"}}):
        np.testing.assert_array_equal(read(tmp_path / f"x.{ending}", picture, two | ids), layout)
    turned = read(tmp_path / f"x.{ending}", picture, two | {"ids": {"0": "lesion", "1": "background"}})
    np.testing.assert_array_equal(turned, 1 - layout)


def test_black_and_white_masks_in_every_form(tmp_path):
    two = {"names": ["background", "lesion"], "ids": {"0": "background", "255": "lesion"}}
    layout = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    black = np.where(layout, 255, 0).astype(np.uint8)
    opaque = np.full_like(black, 255)
    for picture in (
        grey(black),
        grey(black).convert("1"),
        grey(np.dstack([black] * 3)),
        grey(np.dstack([*[black] * 3, opaque])),
        grey(np.dstack([black, opaque])),
        indexed(layout, [[0, 0, 0], [255, 255, 255]]),
        indexed(1 - layout, [[255, 255, 255], [0, 0, 0]]),
    ):
        for ending in ("png", "tif") if picture.mode != "LA" else ("png",):
            np.testing.assert_array_equal(read(tmp_path / f"x.{ending}", picture, two), layout)


def test_fewer_bits_are_not_stretched(tmp_path):
    """Pillow multiplies grey of 4 bits by 17: label 1 would be 17."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    many = LabelSpec(tuple(map(str, range(20))), ((0, 0, 0),) * 20)
    for bits, row, expected in ((4, b"\x1f", [[1, 15]]), (2, b"\x70", [[1, 3]]), (1, b"\x40", [[0, 1]])):
        header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
        parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        assert read_layout(tmp_path / "x.png", many).tolist() == expected


def test_files_that_do_not_keep_labels_are_refused_with_the_cause(tmp_path):
    picture = grey(numbered(LAYOUT, (0, 1, 2, 255)))
    for name, options, said in (
        ("x.png", {"format": "JPEG"}, "a JPEG inside, which does not keep labels as they are"),
        ("x.webp", {"quality": 90}, "a lossy WebP, which does not keep labels as they are"),
        ("x.tif", {"compression": "jpeg"}, "a TIFF compressed by jpeg, which does not keep labels as they are"),
        ("x.png", {"format": "PPM"}, "a PPM inside"),
    ):
        assert message(read, tmp_path / name, picture, NAMES, **options).startswith(f"{tmp_path / name}: {said}")
    alpha = grey(np.dstack([np.zeros((2, 4, 3)), numbered(LAYOUT, (0, 1, 2, 255))]))
    for name in ("x.png", "x.tif"):
        assert "mode RGBA with transparent pixels" in message(read, tmp_path / name, alpha, NAMES)
    alpha.save(tmp_path / "x.webp", lossless=True, exact=True)
    assert "mode RGBA with transparent" in message(read_colored_layout, tmp_path / "x.webp", make_table(NAMES))
    other = Image.new("P", picture.size, 3)
    for name in ("x.gif", "x.tif"):
        said = message(read, tmp_path / name, picture, NAMES, save_all=True, append_images=[other])
        assert said == f"{tmp_path / name}: holds 2 pictures, expected a file of one"


def test_a_tiff_with_smaller_previews_is_one_picture(tmp_path):
    picture = grey(numbered(LAYOUT, (0, 1, 2, 255)))
    layout = read(tmp_path / "x.tif", picture, NAMES, save_all=True, append_images=[picture.resize((2, 1))])
    np.testing.assert_array_equal(layout, LAYOUT)


def test_palettes_by_number_by_colour_or_refused(tmp_path):
    fields = NAMES | {"colors": COLORS}
    layout, path = np.array([[0, 1], [2, 0]]), tmp_path / "x.png"
    np.testing.assert_array_equal(read(path, indexed(layout, COLORS), fields), layout)
    np.testing.assert_array_equal(read(path, indexed(layout + 4, [[1, 1, 1]] * 4 + COLORS), fields), layout)
    assert "the colour of thing; expected one and the same" in message(
        read, path, indexed(layout, COLORS[::-1]), fields
    )
    assert "label 4 at row 0, column 0" in message(read, path, indexed(layout + 4, [[8, 9, 1]] * 7), fields)
    with_ids = fields | {"ids": {"5": "sky", "6": "ground", "7": "thing"}}
    np.testing.assert_array_equal(read(path, indexed(layout + 5, [[1, 1, 1]] * 5 + COLORS), with_ids), layout)
    assert "index 5 is sky" in message(read, path, indexed(layout + 5, [[1, 1, 1]] * 5 + COLORS[::-1]), with_ids)
    # as a program leaves grey numbers that it saves with a palette: the numbers of the palette say something else
    shuffled = indexed(np.array([2, 0, 1])[layout], [[1, 1, 1], [2, 2, 2], [0, 0, 0]])
    assert "expected one and the same" in message(read, path, shuffled, NAMES)


def test_gifs_go_by_colour_since_their_writers_renumber(tmp_path):
    layout, path = np.array([[0, 2], [2, 0]]), tmp_path / "x.gif"  # Pillow writes 2 as 1
    np.testing.assert_array_equal(read(path, indexed(layout, COLORS), NAMES | {"colors": COLORS}), layout)
    np.testing.assert_array_equal(read(path, grey(layout), NAMES), layout)
    said = message(read, path, indexed(layout, COLORS), NAMES)
    assert "x.gif: a GIF in the colours (0, 0, 255), (0, 255, 0)" in said and '"colors" in labels.json' in said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ids": []}, "ids is [], expected numbers of label files with their classes, as"),
        ({"ids": {}}, "ids is {}, expected"),
        ({"ids": {"-1": "sky"}}, "ids lists '-1', expected a number from 0 to 65535, or other"),
        ({"ids": {"65536": "sky"}}, "ids lists '65536', expected"),
        ({"ids": {"0": "sea"}}, "ids gives 'sea' for 0, expected the name or the number of a class"),
        ({"ids": {"0": 3}}, "ids gives 3 for 0, expected"),
        ({"ids": {"0": True}}, "ids gives True for 0, expected"),
        ({"ids": {"0": "sky"}, "void_id": 0}, "void_id is 0, which is sky in ids"),
        ({"ids": {"1": "sky", "01": "ground"}}, "ids lists 1 for the second time"),
        ({"ids": {"1": "sky"}, "void_id": 70000}, "void_id is 70000, expected"),
    ],
)
def test_ids_that_are_wrong(fields, said):
    assert message(make_table, NAMES | fields).startswith(said)


def test_what_ids_mean(tmp_path):
    path, some = tmp_path / "x.png", np.array([[0, 1, 5, 200, 255]])
    fields = NAMES | {"ids": {"1": "sky", "5": "thing", "other": "void"}}
    assert read(path, grey(some), fields).tolist() == [[VOID, 0, 2, VOID, VOID]]
    fields = {"names": ["sky", "rest"], "void": "class", "ids": {"1": "sky", "other": "void"}}
    assert read(path, grey(some), fields).tolist() == [[1, 0, 1, 1, 1]]
    fields = NAMES | {"ids": {"0": "sky", "1": "sky", "5": "thing", "200": -1}}
    said = message(read, path, grey(some), fields)  # 255 is void only where nothing else is
    assert said.endswith("label 255 at row 0, column 4, expected a number of ids: 0, 1, 5, 200")
    table = make_table(NAMES | {"ids": {"9": "sky"}, "void_id": 1})
    assert (table.labels.void_id, table.values[1], table.values[255]) == (255, VOID, -2)


def test_the_tables_that_are_shipped(tmp_path):
    for name in SHIPPED:
        assert open_table(name).labels.num_classes == {"voc": 21, "ade20k": 150}[name]
    voc, ade = open_table("voc"), open_table("ade20k")
    known = {0: "background", 1: "aeroplane", 15: "person", 20: "tvmonitor"}
    assert {number: voc.labels.names[voc.values[number]] for number in known} == known and voc.values[255] == VOID
    assert voc.colors[(192, 128, 128)] == 15 and voc.colors[(224, 224, 192)] == VOID
    known = {1: "wall", 13: "person", 150: "flag"}
    assert {number: ade.labels.names[ade.values[number]] for number in known} == known and ade.values[0] == VOID
    (tmp_path / "mine.json").write_text(json.dumps(NAMES))
    assert open_table(tmp_path / "mine.json").labels.names == ("sky", "ground", "thing")
    said = message(open_table, tmp_path / "x.json")
    assert said == f"{tmp_path}/x.json: no such file, expected a labels.json, or ade20k or voc"


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_in_every_format(ending, tmp_path):
    pixels = miniatures.picture(np.random.default_rng(0), (5, 7))
    if ending == "gif":
        pixels = pixels // 64 * 64
    buffer, options = io.BytesIO(), {"lossless": True} if ending == "webp" else {}
    form = Image.registered_extensions()[f".{ending}"]
    Image.fromarray(pixels).save(buffer, form, **options)
    (tmp_path / f"x.{ending}").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{ending}"), pixels)
