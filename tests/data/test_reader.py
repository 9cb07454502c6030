"""Folders of images, layouts and masks: what is read, and one line for every bad file."""

import numpy as np
from PIL import Image
from refusals import message

from gcdiff.cli.places import say_unread
from gcdiff.data.label_maps import read_layouts
from gcdiff.data.reader import image_files, read_image, read_masks
from gcdiff.types import VOID, LabelSpec


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def spec(num: int, void: str = "missing") -> LabelSpec:
    return LabelSpec(tuple("abc"[:num]), ((0, 0, 0),) * num, void=void)


def test_images_go_by_their_names(tmp_path):
    write(tmp_path / "b.png", np.full((4, 5), 9, np.uint8))
    write(tmp_path / "a.jpg", np.zeros((6, 7, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    files = image_files(tmp_path)
    assert list(files) == ["a", "b"]
    assert [(read_image(f).shape, read_image(f).dtype) for f in files.values()] == [
        ((6, 7, 3), np.uint8),
        ((4, 5, 3), np.uint8),
    ]
    write(tmp_path / "a.jpg.png", np.zeros((6, 7), np.uint8))  # comes between the two of one name
    write(tmp_path / "a.png", np.zeros((6, 7), np.uint8))
    assert message(image_files, tmp_path).startswith(f"{tmp_path}/a.png: same name as a.jpg")


def test_the_output_of_a_command_is_a_folder_of_images_and_one_of_layouts(tmp_path):
    write(tmp_path / "overview.png", np.zeros((50, 50), np.uint8))
    write(tmp_path / "images" / "x.png", np.zeros((4, 5, 3), np.uint8))
    write(tmp_path / "layouts" / "x.png", np.ones((4, 5), np.uint8))
    assert image_files(tmp_path) == {"x": tmp_path / "images" / "x.png"}
    assert list(read_layouts(tmp_path, spec(2))) == ["x"]


def test_layouts_of_a_table(tmp_path):
    values = np.array([[0, 1, 255]], np.uint8)
    write(tmp_path / "grey.png", values)
    palette = Image.fromarray(values, mode="P")
    palette.putpalette([9] * 768)
    palette.save(tmp_path / "palette.png")
    layouts = read_layouts(tmp_path, spec(2))
    assert list(layouts) == ["grey", "palette"]
    for layout in layouts.values():
        np.testing.assert_array_equal(layout, [[0, 1, VOID]])
    assert read_layouts(tmp_path, spec(3, "class"))["grey"].tolist() == [[0, 1, 2]]
    assert "label 1 at row 0, column 1" in message(read_layouts, tmp_path, spec(1))


def test_layouts_are_brought_to_one_size_by_majority(tmp_path):
    write(tmp_path / "a.png", np.array([[0, 1, 255, 255], [1, 1, 0, 255]], np.uint8))
    write(tmp_path / "b.png", np.array([[1]], np.uint8))
    layouts = read_layouts(tmp_path, spec(2), (1, 2))
    assert {name: layout.tolist() for name, layout in layouts.items()} == {"a": [[1, VOID]], "b": [[1, 1]]}


def test_deep_images_are_refused(tmp_path):
    write(tmp_path / "deep.png", np.zeros((2, 2), np.uint16))
    expected = f"{tmp_path}/deep.png: mode I;16, expected an image of 8 bits a channel"
    assert message(read_image, tmp_path / "deep.png") == expected


def test_masks_are_white_where_known(tmp_path):
    write(tmp_path / "m.png", np.array([[0, 255, 200]], np.uint8))
    assert read_masks(tmp_path)["m"].tolist() == [[False, True, True]]
    write(tmp_path / "n.png", np.array([[0, 1, 1]], np.uint8))
    assert "brightest value 1" in message(read_masks, tmp_path)


def test_images_are_read_as_they_are_seen(tmp_path):
    stored = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for turn, seen in ((1, stored), (3, stored[::-1, ::-1]), (6, stored.transpose(1, 0, 2)[:, ::-1])):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), seen)
    Image.fromarray(stored).save(tmp_path / "x.jpg", exif=b"Exif\0\0no such thing")
    assert read_image(tmp_path / "x.jpg").shape == stored.shape


def test_masks_that_could_mean_two_things_are_refused(tmp_path):
    half = np.repeat([[0, 255]], 2, axis=0).astype(np.uint8)
    white = np.full((2, 2, 3), 255, np.uint8)
    for picture, said in (
        (np.dstack([white, half]), "has transparent pixels, expected an opaque mask"),
        (np.dstack([white[..., 0], half]), "has transparent pixels, expected an opaque mask"),
        (half // 255 * 2, "brightest value 2, expected a mask in black (0) and white (255)"),
        (half // 2 + np.uint8(9), "brightest value 136, expected"),
        (half, ""),
        (
            np.array([[0, 100, 255]], np.uint8),
            "value 100 at row 0, column 1, expected a mask in black (0) and white (255)",
        ),
        (
            np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8),
            "colour (255, 0, 0) at row 0, column 1, expected a mask in black (0) and white (255)",
        ),
        (np.array([[[0, 255, 0], [255, 0, 0]]], np.uint8), "colour (0, 255, 0) at row 0, column 0, expected"),
    ):
        write(tmp_path / "m.png", picture)
        if said:
            assert message(read_masks, tmp_path).startswith(f"{tmp_path}/m.png: {said}")
        else:
            np.testing.assert_array_equal(read_masks(tmp_path)["m"], half > 0)
    write(tmp_path / "m.png", np.dstack([half, half, half, np.full((2, 2), 255, np.uint8)]))
    np.testing.assert_array_equal(read_masks(tmp_path)["m"], half > 0)  # its alpha says nothing


def test_pictures_of_other_endings_are_named(tmp_path, capsys):
    for name in ("a.png", "b.tga", "c.PPM"):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / name)
    assert list(image_files(tmp_path)) == ["a"]
    say_unread(tmp_path, "images", (".png",))
    assert capsys.readouterr().err == f"{tmp_path}: b.tga, c.PPM: not read, expected names ending in .png\n"
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "a.png")
    say_unread(tmp_path, "images", (".png",))
    assert list(image_files(tmp_path)) == ["a"] and capsys.readouterr().err == ""


def test_a_picture_that_is_too_large_and_a_file_in_place_of_a_folder(tmp_path, monkeypatch):
    write(tmp_path / "x.png", np.zeros((20, 20), np.uint8))
    assert message(image_files, tmp_path / "x.png") == f"{tmp_path}/x.png: a file, expected a folder"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    said = message(read_image, tmp_path / "x.png")
    assert said == f"{tmp_path}/x.png: 400 pixels, expected at most 200: make it smaller, or cut it into tiles"
