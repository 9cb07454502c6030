"""The dataset factory, on a run of random weights: what is written, resumed, refused and read back."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_models import STREETS, random_model

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.data.dataset import Example
from gcdiff.data.prepared import Prepared
from gcdiff.evaluation.nearest import Neighbours
from gcdiff.factory import place as places
from gcdiff.factory.captions import Balanced, pool, rare_weights
from gcdiff.factory.finish import finish, table
from gcdiff.factory.judge import Audit, Judge, Judged
from gcdiff.factory.panoptic import panoptic_png, segment_ids, segments
from gcdiff.jobs.folder import opened
from gcdiff.training.export import save_export
from gcdiff.types import VOID, ImageSpec, LabelSpec, Pair

LINES = ("a foggy street with two red cars", "a nighttime street with one bus")
LABELS = LabelSpec(("a", "b", "c"), ((0, 0, 0), (9, 8, 7), (9, 8, 7)))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("factory")
    (folder / "tiny.py").write_text(STREETS)
    model = random_model(configs.load_file(str(folder / "tiny.py"), []))
    describe = lambda out: configs.save_run(out, model.config, model.specs)  # noqa: E731
    save_export(folder / "run", model.params, describe)
    return folder / "run"


def generate(run: Path, out: Path, *words, num: int = 6) -> int:
    command = ["generate", "--workdir", run, "--out", out, "--num", num, *words]
    return cli.main([str(word) for word in command])


@pytest.fixture(scope="module")
def made(run) -> Path:
    """Some pairs, of which others were refused: the least agreement is the middle one of an unfiltered set."""
    folder = run.parent
    assert generate(run, folder / "all", num=8) == 0
    least = sorted(row["agreement"] for row in rows(folder / "all"))[4]
    assert generate(run, folder / "made", "--min-agreement", least) == 0
    return folder / "made"


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def again(made: Path, run: Path, out: Path, *words) -> int:
    """The command of `made` into another folder."""
    least = json.loads((made / "generate.json").read_text())["min_agreement"]
    return generate(run, out, "--min-agreement", least, *words)


def test_an_example_depends_on_the_seed_and_its_number_alone(made, run):
    log = rows(made)
    assert [row["number"] for row in log] == list(range(len(log))) and len(log) > 6
    kept = [row for row in log if row["verdict"] == "kept"]
    assert len(kept) == 6 and kept[-1] is log[-1]
    model, row = gcdiff.load(run), kept[-1]
    pair = model.sample([row["caption"]], seed=0, first_id=row["number"])
    name = f"{row['number']:06d}.png"
    np.testing.assert_array_equal(read(made / "images" / name), pair.image[0])
    np.testing.assert_array_equal(read(made / "layouts" / name), pair.layout[0])
    p = model.segment(pair.image, probabilities=True)[0]
    own = np.take_along_axis(p, pair.layout[0][..., None], -1)[..., 0]
    np.testing.assert_array_equal(read(made / "confidence" / name), np.rint(255 * own))
    with pytest.raises(ValueError, match="first_id is 3: expected neither start"):
        model.sample(size=(16, 48), first_id=3)


@pytest.mark.slow
def test_what_is_stopped_goes_on_to_the_same_files(made, run, tmp_path, monkeypatch, capsys):
    """By Ctrl-C between the files of an example; and, killed, with the last line cut short and a file half written."""
    whole, save, left = contents(made), places.Place._save, 8

    def saving(*arguments):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(places.Place, "_save", saving)
        assert again(made, run, tmp_path / "stopped") == 130
        (tmp_path / "empty").mkdir()
        left = 3
        assert generate(run, tmp_path / "empty", num=2) == 130  # within its first example
        assert list((tmp_path / "empty").iterdir()) == []
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "stopped" / "report.json").exists() and len(rows(tmp_path / "stopped")) < len(rows(made))
    assert again(made, run, tmp_path / "stopped") == 0
    assert contents(tmp_path / "stopped") == whole

    killed = tmp_path / "killed"
    shutil.copytree(made, killed)
    lines = (killed / "examples.jsonl").read_text().splitlines(True)
    (killed / "examples.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    for name in ("report.json", "panoptic.json", f"layouts/{rows(made)[-1]['number']:06d}.png"):
        (killed / name).unlink()
    (killed / ".gcdiff-images-000009.png").write_bytes(b"half a pic")
    assert again(made, run, killed) == 0
    assert contents(killed) == whole

    (killed / places.REPORT).write_text("of another whole")
    (killed / "images" / f"{next(r for r in rows(made) if r['verdict'] == 'kept')['number']:06d}.png").unlink()
    assert again(made, run, killed, "--max-tries", "20") == 0  # how long it may take is no part of what is made
    assert contents(killed) == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num", "5"], "was begun with num 6, now it is 5: expected the same, or another folder"),
        (["--seed", "1"], "was begun with seed 0, now it is 1"),
        (["--steps", "2"], "was begun with steps 3, now it is 2"),
        (["--config.sample.layout_step=psi"], "was begun with sample {"),
        (["--balance", "rare"], "was begun with balance None, now it is 'rare'"),
    ],
)
def test_another_command_into_the_same_folder_is_refused(words, message, made, run, capsys):
    before = contents(made)
    assert again(made, run, made, *words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("gcdiff generate:")
    assert contents(made) == before


def test_other_weights_into_the_same_folder_are_refused(made, run, tmp_path, capsys):
    model = gcdiff.load(run)
    leaves, tree = jax.tree.flatten(model.params)
    other = jax.tree.unflatten(tree, [*leaves[:-1], leaves[-1] + 1])
    save_export(tmp_path / "run", other, lambda out: configs.save_run(out, model.config, model.specs))
    assert again(made, tmp_path / "run", made) == 2
    assert "was begun with weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num", "0"], "--num is 0, expected at least 1"),
        (["--min-agreement", "2"], "--min-agreement is 2.0, expected 0 to 1"),
        (["--captions", "nowhere.txt"], "nowhere.txt: no such file"),
        (
            ["--min-agreement", "1", "--max-tries", "1"],
            "0 of 6 pairs kept when 6 were drawn: expected a larger --max-t",
        ),
    ],
)
def test_bad_input_gives_one_line(words, message, run, tmp_path, capsys):
    assert generate(run, tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert (tmp_path / "out").exists() == ("kept" in message)


def test_a_folder_of_something_else_is_left_alone(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert generate(run, tmp_path) == 2
    assert "is not empty and was not written by gcdiff generate" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_gcdiff_prepare_folder_reads_the_same_pixels_and_captions(made, tmp_path):
    out = tmp_path / "prepared"
    assert cli.main(["prepare", "folder", "--source", str(made), "--out", str(out), "--heldout", "0.2"]) == 0
    kept, prepared = {f"{r['number']:06d}": r for r in rows(made) if r["verdict"] == "kept"}, []
    for split in ("train", "heldout"):
        data = Prepared(out, split)
        for i in range(len(data)):
            name, example = data.record(i).key, data[i]
            prepared.append(name)
            np.testing.assert_array_equal(example.image, read(made / "images" / f"{name}.png"))
            np.testing.assert_array_equal(example.layout, read(made / "layouts" / f"{name}.png"))
            assert example.captions == (kept[name]["caption"],)
    assert sorted(prepared) == sorted(kept) and Prepared(out, "train").labels.names == data.labels.names
    assert Prepared(out, "train").licence == (made / "DATA_LICENCE.txt").read_text().strip()


def test_panoptic_segments_decode_to_the_layouts(made):
    panoptic = json.loads((made / "panoptic.json").read_text())
    assert [i["file_name"] for i in panoptic["images"]] == sorted(p.name for p in (made / "images").iterdir())
    names = {c["id"]: c["name"] for c in panoptic["categories"] if c["isthing"] == 0}
    table = json.loads((made / "labels.json").read_text())["names"]
    assert len(names) == len(table)
    for image, annotation in zip(panoptic["images"], panoptic["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        rgb = read(made / "panoptic" / annotation["file_name"]).astype(np.int64)
        ids, layout = rgb @ (1, 256, 256**2), np.full(rgb.shape[:2], -1)
        assert (image["height"], image["width"]) == ids.shape
        assert len({s["id"] for s in annotation["segments_info"]}) == len(annotation["segments_info"])
        for segment in annotation["segments_info"]:
            inside, (x, y, width, height) = ids == segment["id"], segment["bbox"]
            assert segment["area"] == inside.sum() > 0 and segment["iscrowd"] == 0
            box = np.zeros_like(inside)
            box[y : y + height, x : x + width] = True
            assert not (inside & ~box).any()
            assert inside[y].any() and inside[y + height - 1].any()
            assert inside[:, x].any() and inside[:, x + width - 1].any()
            layout[inside] = table.index(names[segment["category_id"]])
        np.testing.assert_array_equal(layout, read(made / "layouts" / annotation["file_name"]))


def test_segments_of_void_and_of_colours_that_repeat():
    layout = np.array([[0, 1, VOID], [2, 1, VOID]])
    ids = segment_ids(LABELS)
    assert len(set(ids.tolist())) == 3 and (ids > 0).all() and ids[1] == 9 + 256 * 8 + 256**2 * 7
    pixels = np.asarray(panoptic_png(layout, LABELS)).astype(int) @ (1, 256, 256**2)
    np.testing.assert_array_equal(pixels, [[ids[0], ids[1], 0], [ids[2], ids[1], 0]])
    assert segments(layout, LABELS) == [(0, 1, 0, 0, 1, 1), (1, 2, 1, 0, 1, 2), (2, 1, 0, 1, 1, 1)]
    modelled = LabelSpec(LABELS.names, LABELS.palette, void="class", void_id=2)
    assert segment_ids(modelled)[2] == 0 and [s[0] for s in segments(layout, modelled)] == [0, 1]


def test_tables_and_report_count_what_is_there(made, run):
    report, log = json.loads((made / "report.json").read_text()), rows(made)
    kept = [row for row in log if row["verdict"] == "kept"]
    assert report["kept"] == 6 and report["drawn"] == len(log) == 6 + report["refused"]["agreement"]
    assert report["agreement"]["kept"] == pytest.approx(np.mean([r["agreement"] for r in kept]), abs=1e-6)
    assert report["agreement"]["kept"] > report["agreement"]["drawn"] and report["min_agreement"] is not None
    with (made / "index.csv").open() as file:
        table = list(csv.DictReader(file))
    names = json.loads((made / "labels.json").read_text())["names"]
    assert [row["caption"] for row in table] == [row["caption"] for row in kept]
    for row in table:
        areas = np.bincount(read(made / row["layout"]).ravel(), minlength=len(names))
        assert [int(row[f"area of {name}"]) for name in names] == areas.tolist()
        assert float(row["confidence"]) == pytest.approx(read(made / row["certainty"]).mean() / 255, abs=1e-2)
    data = configs.splits(gcdiff.load(run).config).train
    car = np.mean([np.any(data[i].layout == names.index("car")) for i in range(len(data))])
    assert report["classes"]["car"]["training"] == pytest.approx(car, abs=1e-6)


def test_captions_of_a_file_are_taken_in_turn(run, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("\n".join((*LINES, "a zebra")) + "\n")
    assert generate(run, tmp_path / "out", "--captions", tmp_path / "lines.txt", num=4) == 0
    assert capsys.readouterr().err.count("words this model has never seen: zebra\n") == 1
    assert [row["caption"] for row in rows(tmp_path / "out")] == [*LINES, "a zebra", LINES[0]]


def test_the_audit_of_a_run_counts_and_replaces(run, tmp_path, monkeypatch):
    """With a limit that refuses the images whose ratio is below the middle one's of eight."""
    limits, of = Pair(0.0, 0.0), Audit.of
    monkeypatch.setattr(sys.modules["gcdiff.cli.generate"], "HELDOUT", 8)
    monkeypatch.setattr(Audit, "of", lambda *arguments: dataclasses.replace(of(*arguments), limits=limits))
    assert generate(run, tmp_path / "first", "--audit", num=8) == 0
    limits = Pair(sorted(row["ratios"][0] for row in rows(tmp_path / "first"))[4] + 1e-5, 0.0)
    assert generate(run, tmp_path / "gated", "--audit", "0", num=6) == 0
    log, report = rows(tmp_path / "gated"), json.loads((tmp_path / "gated" / "report.json").read_text())
    assert report["kept"] == 6 and report["refused"]["image"] == len(log) - 6 > 0
    for row in log:
        assert (row["verdict"] == "image") == (row["ratios"][0] < limits.image)
    assert report["audit"]["training_examples"] == {"image": 64, "layout": 64}
    assert len(list((tmp_path / "gated" / "images").iterdir())) == 6


def test_agreement_is_that_of_the_layout_with_the_segmentation():
    layout = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    p = np.full((2, 1, 4, 2), 0.25)
    np.put_along_axis(p, np.array([[[0, 0, 1, 0]], [[0, 0, 0, 0]]])[..., None], 0.75, -1)
    one, two = Judge(0.6)(Pair(np.zeros((2, 1, 4, 3), np.uint8), layout), p)
    assert one.agreement == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-6) and one.verdict == "agreement"
    assert two.agreement == 1 and two.verdict == "kept" and two.confidence == 0.75
    assert one.certainty.tolist() == [[191, 191, 191, 64]]
    assert Judge(one.agreement)(Pair(None, layout), p)[0].verdict == "kept"  # at least A


def test_the_audit_refuses_copies_and_at_most_its_quantile_of_held_out_examples():
    rng = np.random.default_rng(0)

    def some(num):
        pixels = rng.integers(0, 256, (num, 4, 4, 3)), rng.integers(0, 3, (num, 4, 4))
        return [Example(x.astype(np.uint8), y.astype(np.int32), ()) for x, y in zip(*pixels, strict=True)]

    train, heldout = some(60), some(50)
    audit = Audit.of(train, heldout, 0.1)
    new = Pair(np.stack([e.image for e in heldout]), np.stack([e.layout for e in heldout]))
    verdicts = audit.verdicts(audit.ratios(new, np.arange(50)))
    assert verdicts.count("image") <= 5 and verdicts.count("layout") <= 5 and verdicts.count("kept") >= 40
    noisy = np.clip(train[7].image.astype(int) + 2, 0, 255).astype(np.uint8)
    pairs = Pair(np.stack([noisy, heldout[0].image]), np.stack([heldout[0].layout, train[3].layout]))
    p = np.zeros((2, 4, 4, 3))
    np.put_along_axis(p, pairs.layout[..., None], 1.0, -1)
    judged = Judge(0.5, audit)(pairs, p)
    assert judged[0].verdict == "image" and judged[0].ratios[0] < 0.1
    assert judged[1].verdict in ("image", "layout") and judged[1].ratios[1] == 0
    with pytest.raises(ValueError, match="0 held-out examples have image and layout, expected 2"):
        Audit.of(train, [], 0.1)


def test_a_gate_that_cannot_refuse_says_so():
    """Held-out layouts that all equal training ones, and images that are nearer to each other than to these."""
    rng = np.random.default_rng(0)
    layout = [rng.integers(0, 3, (4, 4)).astype(np.int32) for _ in range(4)]
    train = [Example(np.full((4, 4, 3), 0, np.uint8), y, ()) for y in layout]
    heldout = [Example(np.full((4, 4, 3), 200 + i, np.uint8), y, ()) for i, y in enumerate(layout)]
    audit = Audit.of(train, heldout, 0.1)
    assert audit.limits == Pair(1.0, 0.0)  # never above 1: what is nearer to held-out examples is no copy
    report = {"kept": 1, "drawn": 1, "acceptance": 1.0, "refused": {}, "agreement": {"kept": None}}
    report |= {"classes": {"a": {"generated": 1.0}}, "audit": {"limits": audit.limits._asdict()}}
    assert "no layout is refused as a copy" in table(report) and "no image is refused" not in table(report)


def test_nearest_neighbours_in_blocks_are_those_of_all_at_once(monkeypatch):
    monkeypatch.setattr("gcdiff.evaluation.distances.ELEMENTS", 100)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 2, 3, 3)).astype(np.uint8)
    queries = rng.integers(0, 256, (5, 2, 3, 3)).astype(np.uint8)
    every = np.sqrt(((queries[:, None].astype(float) - images) ** 2).mean((2, 3, 4)))
    layouts = rng.integers(-1, 3, (20, 2, 3))
    asked = rng.integers(-1, 3, (5, 2, 3))
    layouts[:, 0, 0], layouts[0] = 254, 254  # the last class, and an example that has a layout
    neighbours = Neighbours(Example(x, y.astype(np.int32), ()) for x, y in zip(images, layouts, strict=True))
    assert neighbours.counts == Pair(20, 20)
    closest = neighbours.nearest(Pair(queries, asked))
    np.testing.assert_array_equal(closest.image.ids, every.argmin(1))
    np.testing.assert_allclose(closest.image.distances, every.min(1), rtol=1e-12)
    among = neighbours.nearest(Pair(images, layouts), np.arange(20)).image
    others = np.sqrt(((images[:, None].astype(float) - images) ** 2).mean((2, 3, 4)))
    np.testing.assert_array_equal(among.ids, np.where(np.eye(20), np.inf, others).argmin(1))
    both = (asked[:, None] != VOID) & (layouts != VOID)
    wrong = ((asked[:, None] != layouts) & both).sum((2, 3))
    share = np.where(both.sum((2, 3)) >= 3, wrong / np.maximum(both.sum((2, 3)), 1), np.inf)
    np.testing.assert_array_equal(closest.layout.ids, np.where(np.isinf(share.min(1)), -1, share.argmin(1)))
    np.testing.assert_allclose(closest.layout.distances, share.min(1))
    assert Neighbours(()).nearest(Pair(queries, asked)).layout.ids.tolist() == [-1] * 5


def test_neighbours_leave_out_what_is_missing(monkeypatch):
    monkeypatch.setattr("gcdiff.evaluation.distances.ELEMENTS", 12)
    white, void, ones = np.full((2, 2, 3), 255, np.uint8), np.full((2, 2), VOID), np.ones((2, 2), np.int32)
    some = [Example(0 * white, ones, (), False), Example(white, void, ()), Example(white, 2 * ones, ())]
    neighbours = Neighbours(iter(some))
    assert neighbours.counts == Pair(2, 2)
    distances = neighbours.distances(Pair(0 * white[None], ones[None]))
    assert distances.image.tolist() == [255] and distances.layout.tolist() == [0]


def test_rare_classes_are_asked_for_as_often_as_others():
    shows = np.zeros((1000, 3), bool)
    shows[:, 0], shows[:100, 1], shows[:40, 2] = True, True, True
    weights = rare_weights(shows)
    assert weights[0] == pytest.approx(25) and weights[50] == pytest.approx(10) and weights[500] == 1
    shares = weights @ shows / weights.sum()
    assert shares.tolist() == pytest.approx([1, 1600 / 2500, 1000 / 2500])
    captions = Balanced(shows, [(f"{i}",) if i % 2 else () for i in range(1000)], seed=3)
    drawn = np.array([int(captions(i)) for i in range(2000)])
    assert (drawn % 2 == 1).all() and captions(7) == captions(7)
    assert np.mean(drawn < 40) == pytest.approx(0.4, abs=0.05)
    rarest = np.zeros((1000, 1), bool)
    rarest[0] = True
    assert rare_weights(rarest).max() == 50  # a caption is not repeated without bound
    with pytest.raises(ValueError, match="no caption with a known class"):
        Balanced(np.zeros((2, 3), bool), [("a",), ("b",)], 0)


def test_void_is_no_class_of_the_frequencies_and_the_tables(tmp_path):
    """A rare void decides no weight: layouts say the same where void is a class as where it is missing."""
    rng = np.random.default_rng(0)
    names, palette = ("a", "b", "void"), ((1, 0, 0), (0, 1, 0), (0, 0, 0))
    as_class = LabelSpec(names, palette, void="class", void_id=2)
    layouts = rng.integers(0, 2, (60, 1, 1)).repeat(6, 1).repeat(8, 2).astype(np.int32)
    layouts[7, :2] = 2
    said = [f"{i}" for i in range(60)]

    class Some(list):
        labels = as_class

    def some(void):
        data = Some(Example(np.zeros(1), np.where(z == 2, void, z), (s,)) for z, s in zip(layouts, said, strict=True))
        data.labels = as_class if void == 2 else as_class.labelled
        return pool(data, True)

    pooled, wanted = some(2), some(VOID)
    np.testing.assert_array_equal(pooled.shows, wanted.shows)
    assert pooled.captions == wanted.captions and pooled.shows.shape == (60, 2)
    weights = rare_weights(pooled.shows)
    assert weights[7] == weights[layouts[:, 5, 0] == layouts[7, 5, 0]].max()

    with opened(tmp_path / "out", places.FORMAT, {}, lambda folder, entry: True) as folder:
        place = places.Place.of(folder, as_class, ImageSpec())
        row = place.add(0, "one", np.zeros((6, 8, 3), np.uint8), layouts[7], Judged("kept"))
        report = finish(place, [row], (6, 8), "free", {}, pooled.shows.mean(axis=0), None)
    with (tmp_path / "out" / "index.csv").open() as file:
        row = next(csv.DictReader(file))
    areas = {name: int(row[name]) for name in row if name.startswith("area of ")}
    assert areas == {f"area of {name}": int((layouts[7] == k).sum()) for k, name in enumerate("ab")}
    assert list(report["classes"]) == ["a", "b"]
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["names"] == list(names)
