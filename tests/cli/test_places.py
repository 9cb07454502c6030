"""Where pictures are read from and written to: what would be written over is refused, what is not read is named."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from gcdiff.cli.places import check_older, check_output, remove_maps, say_masks, say_unasked, say_unread
from gcdiff.types import LabelSpec


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("flag", ["images", "layouts", "known"])
def test_pictures_are_not_written_to_where_others_are_read_from(flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "in/images/a.png", "in/layouts/a.png", "in/colors/a.png", "flat/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    part = "" if flag == "known" else f"/{flag}"
    pairs = ("in", "in"), (f"in{part}", "in"), ("in/colors", "in"), ("flat", "./flat/"), ("in", "link"), ("link", "in")
    for given, out in (*pairs, *([] if flag == "known" else [("in", f"in{part}")])):
        with pytest.raises(ValueError, match=f"^--out [a-z./]+ would be written to where --{flag} {given} is read"):
            check_output(Namespace(out=Path(out), **{flag: Path(given)}))
    for given, out in (("in", "other"), ("flat", "flat/new"), ("in", "in/new"), (f"in{part}", "flat")):
        check_output(Namespace(out=Path(out), **{flag: Path(given)}))
    assert not (tmp_path / "other").exists()


def test_an_older_answer_is_replaced_where_all_of_it_is(tmp_path):
    parts = [f"{part}/{name}.png" for part in ("images", "layouts", "colors", "entropy") for name in "ab"]
    out = files(tmp_path / "out", "overview.png", *parts)
    check_older(tmp_path / "none", ["a"])
    check_older(out, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"out/images/b.png is of an older answer with other names: expected --out"):
        check_older(out, ["a"])
    remove_maps(out, ["a", "b"])
    assert not (out / "entropy").exists() and (out / "layouts/a.png").exists()
    files(out, "layouts/a.tif")
    with pytest.raises(ValueError, match="layouts/a.tif is of an older answer"):
        check_older(out, ["a", "b"])
    mine = files(tmp_path / "mine", "images/a.png", "layouts/a.png", "labels.json")
    with pytest.raises(ValueError, match="mine/images/a.png is not of an answer of gcdiff"):
        check_older(mine, ["a"])


def test_what_is_not_read_is_named(tmp_path, capsys):
    files(tmp_path, "a.png", "b.heic", ".hidden", "c.psd", "images/x.jpg", "images/y.PNG")
    say_unread(tmp_path, "images", (".png", ".jpg"))
    assert capsys.readouterr().err == ""
    for part in ("layouts", None):
        say_unread(tmp_path, part, (".png",))
        assert capsys.readouterr().err == f"{tmp_path}: b.heic, c.psd: not read, expected names ending in .png\n"
    say_unasked(tmp_path, map(str, range(7)))
    assert (
        capsys.readouterr().err
        == f"{tmp_path}: 0, 1, 2, 3, 4 and 2 more: left out, as there are no masks of these names\n"
    )


def test_black_and_white_masks_in_place_of_layouts_are_named(tmp_path, capsys):
    palette = (0, 0, 0), (1, 1, 1)
    labels, mask, void = LabelSpec(("skin", "lesion"), palette), np.array([[0, -1]]), np.array([[-1, -1]])
    for others in ([mask], [void, mask]):
        say_masks(tmp_path, others, labels)
        said = f"{tmp_path}: the layouts hold 0 and 255 alone, which are skin and void (unknown);"
        assert capsys.readouterr().err == f"{said} where lesion was meant, write 1 for it\n"
    for others in ([void], [mask, mask + 1], [mask * 0]):
        say_masks(tmp_path, others, labels)
    say_masks(tmp_path, [mask], LabelSpec(("skin",), palette[:1]))
    assert capsys.readouterr().err == ""
