"""The data of a run that have moved: what they are looked for by is named, and the option that says where they are."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from gcdiff.cli.rundata import data_of
from gcdiff.config import default


@pytest.mark.parametrize("name", ["prepared", "camvid"])
def test_data_that_are_not_found_name_the_option_and_the_place(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for root, given, said in (
        ("prepared/mine", None, f"prepared/mine: no such folder, looked for in {tmp_path}: "),
        ("prepared/mine", "gone", f"gone: no such folder, looked for in {tmp_path}: "),
        (str(tmp_path / "gone"), None, f"{tmp_path / 'gone'}: no such folder: "),
        ("here", None, f", looked for in {tmp_path}: "),
    ):
        config = default()
        config.data.update(name=name, root=root)
        with pytest.raises(FileNotFoundError) as caught:
            data_of(Namespace(root=given, workdir=Path("runs/mine")), config, 4)
        assert said in str(caught.value) and "\n" not in str(caught.value)
        assert str(caught.value).endswith("expected --root DIR, where the data of runs/mine are now")


def test_embedded_data_have_no_place():
    config = default()
    assert len(data_of(Namespace(root=None, workdir=Path("run")), config, 4).heldout) == 4
