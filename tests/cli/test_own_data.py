"""A newcomer's chain on a folder of their own with the config that comes along: every step without another option.

The networks are made small; nothing else of the documented commands is changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcdiff import cli

ROOT = Path(__file__).parents[2]
SMALL = ("network.dim=16", "network.mults=(1,)", "network.blocks=(1,)", "network.attention=(False,)")
SMALL += ("network.cross_attention=(True,)", "network.final_dim=8", "data.size=(16,16)", "train.batch_size=4")
SMALL += ("train.steps=20", "sample.steps=3", "sample.chunk=4")
SUFFIX = ("--layout-suffix", "_mask")
CHINESE = ("一只红色的狗在绿色的草地上，天很蓝，远处有一座很高的山，山上有雪，山下有一条小河", "两只狗在草地上")


def folder(root: Path, num: int, captions: tuple[str, ...] = ()) -> Path:
    """Photos with a lesion, and masks of it in which it is white; with captions, a table that says so."""
    for part in ("img", "masks"):
        (root / part).mkdir(parents=True)
    for i in range(num):
        mask = np.zeros((30, 40), np.uint8)
        mask[8:20, 3 + i : 14 + 2 * i] = 1
        image = np.array([[200, 160, 140], [90, 40, 30]], np.uint8)[mask] + np.uint8(i)
        Image.fromarray(image).save(root / "img" / f"{i:03d}.png")
        Image.fromarray(mask * np.uint8(255)).save(root / "masks" / f"{i:03d}_mask.png")
    if captions:
        table = {"names": ["skin", "lesion"], "ids": {"0": "skin", "255": "lesion"}}
        (root / "labels.json").write_text(json.dumps(table))
        lines = ({"file_name": f"{i:03d}.png", "text": [captions[i % len(captions)]]} for i in range(num))
        (root / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return root


def train(place: Path) -> list[str]:
    command = ["train", "--config", str(ROOT / "configs/folder.py"), "--workdir", str(place / "run")]
    return [*command, f"--config.data.root={place / 'data'}", *(f"--config.{field}" for field in SMALL)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* has no layouts that are held out")
@pytest.mark.parametrize(
    ("num", "options", "captions", "split"),
    [
        (12, (), (), {"train": 11, "heldout": 1}),
        (2, (), (), {"train": 1, "heldout": 1}),
        (2, ("--heldout", "0"), (), {"train": 2}),
        (4, (), CHINESE, {"train": 3, "heldout": 1}),
    ],
    ids=["twelve", "two", "none-held-out", "chinese"],
)
def test_a_newcomers_chain(num, options, captions, split, tmp_path, capsys):
    source, out = folder(tmp_path / "mine", num, captions), tmp_path

    def run(*words) -> str:
        """What a command says on stderr."""
        assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
        return capsys.readouterr().err

    run("prepare", "folder", "--source", source, "--out", out / "data", "--size", 20, 20, *options, *SUFFIX)
    spec = json.loads((out / "data" / "prepared.json").read_text())
    assert {name: entry["examples"] for name, entry in spec["splits"].items()} == split
    said = run(*train(tmp_path))
    config = json.loads((out / "run" / "config.json").read_text())
    assert ("trained without text" in said) == (config["text"]["encoder"] == "none") == (not captions)
    model = ("--workdir", out / "run")
    run("segment", *model, "--images", source / "img", "--out", out / "segmented")
    assert len(list((out / "segmented" / "layouts").iterdir())) == num
    said = run("sample", *model, "--out", out / "samples", *(("--text", "一只鸟在草地上") if captions else ()))
    assert ("never seen: 鸟\n" in said) == bool(captions)
    run("evaluate", *model)
    assert json.loads((out / "run" / "evaluation.json").read_text())["examples"] == 1 + ("heldout" not in split)
    run("generate", *model, "--num", 2, "--out", out / "generated")
    run("prepare", "folder", "--source", out / "generated", "--out", out / "again")
    if captions:  # the same command on data that grew
        folder(tmp_path / "more", num + 1, captions)
        run("prepare", "folder", "--source", tmp_path / "more", "--out", out / "data2", *SUFFIX)
        (out / "data").rename(out / "before")
        (out / "data2").rename(out / "data")
        assert cli.main(train(tmp_path)) == 2
        assert "was trained on 3 examples" in (said := capsys.readouterr().err) and "with --init" in said
