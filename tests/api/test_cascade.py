"""Laws of base and super-resolution stage in one call, on tiny networks with random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import gcdiff
from gcdiff import cli
from gcdiff import config as configs
from gcdiff.api.model import Model
from gcdiff.grids import all_known, area, majority
from gcdiff.types import VOID, Pair

TEXT = "a foggy street with one red car"


def tiny(size, **data) -> Model:
    """A model of random weights: what it draws depends on all that it is given."""
    c = configs.default()
    c.data.update(name="streets", size=size, num=16, heldout=4, **data)
    c.network.update(dim=16, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.text.update(features=16, layers=1)
    c.process.output = "x0"
    c.sample.update(steps=2, chunk=4)
    configs.check(c)
    specs = configs.build_specs(c, configs.splits(c).train)
    built, rng = configs.build(c, specs), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: configs.initial_params(built, c, specs))
    return Model(c, specs, built, jax.tree.map(lambda s: (0.2 * rng.normal(size=s.shape)).astype(np.float32), shapes))


BASE, STAGE = tiny((16, 32)), tiny((32, 64), lowres=2)
RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (6, 32, 64, 3)).astype(np.uint8)
LAYOUTS = RNG.integers(0, 10, (6, 32, 64)).astype(np.int32)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_one_call_is_the_base_and_then_the_stage():
    pair = BASE.sample(TEXT, num=6, seed=3, upsample=STAGE)
    assert pair.image.shape == (6, 32, 64, 3) and pair.image.dtype == np.uint8
    assert pair.layout.shape == (6, 32, 64) and pair.layout.dtype == np.int32
    low = BASE.sample(TEXT, num=6, seed=3)
    same(pair, STAGE.upsample(low, TEXT, seed=3))
    same(jax.tree.map(lambda a: a[:1], pair), BASE.sample(TEXT, num=1, seed=3, upsample=STAGE))
    assert np.any(pair.image != BASE.sample(TEXT, num=6, seed=4, upsample=STAGE).image)
    # What is given is heard, each side of it, and so are the level of its noise and the text.
    for other in (low._replace(image=255 - low.image), low._replace(layout=9 - low.layout)):
        assert np.any(pair.image != STAGE.upsample(other, TEXT, seed=3).image)
    assert np.any(pair.image != STAGE.sampling(lowres_level=0.7).upsample(low, TEXT, seed=3).image)
    assert np.any(pair.image != STAGE.upsample(low, "a nighttime street", seed=3).image)


def test_shares_that_are_certain_are_labels_and_others_are_drawn_from():
    low = Pair(IMAGES[:2, :16, :32], LAYOUTS[:2, :16, :32])
    certain = low._replace(layout=np.eye(10, dtype=np.float32)[low.layout])
    same(STAGE.upsample(low, seed=1), STAGE.upsample(certain, seed=1))
    doubtful = low._replace(layout=np.full((2, 16, 32, 10), 0.1))
    assert np.any(STAGE.upsample(low, seed=1).image != STAGE.upsample(doubtful, seed=1).image)


def test_known_pixels_come_back_bit_for_bit_and_the_base_knows_whole_blocks(monkeypatch):
    known = Pair(RNG.random((3, 32, 64)) < 0.8, np.broadcast_to(np.arange(64) < 21, (3, 32, 64)))
    layouts = LAYOUTS[:3].copy()
    layouts[:, :3] = VOID
    asked = []
    plain = Model._outpaint

    def listen(self, canvas, *rest):
        out = plain(self, canvas, *rest)
        asked.append((*canvas, out, rest))
        return out

    monkeypatch.setattr(Model, "_outpaint", listen)
    out = BASE.outpaint(Pair(IMAGES[:3], layouts), known, TEXT, upsample=STAGE)
    kept = known.layout & (layouts != VOID)
    np.testing.assert_array_equal(out.image[known.image], IMAGES[:3][known.image])
    np.testing.assert_array_equal(out.layout[kept], layouts[kept])
    assert out.layout.min() >= 0
    (values, masks, low, _), (_, _, _, rest) = asked
    np.testing.assert_array_equal(masks.image, all_known(known.image, 2))
    np.testing.assert_array_equal(masks.layout, all_known(kept, 2))
    np.testing.assert_allclose(values.image, area(IMAGES[:3].astype(np.float32), 2), atol=0.5)
    np.testing.assert_array_equal(low.layout[masks.layout], majority(layouts, 2)[masks.layout])
    same(rest[-1], low)  # the stage is given what the base drew
    same(out, STAGE.upsample(low, TEXT, given=Pair(IMAGES[:3], layouts), known=known))
    half = Pair(np.broadcast_to(np.arange(64) < 32, (3, 32, 64)), None)
    out = BASE.outpaint(Pair(IMAGES[:3]), half, upsample=STAGE)
    np.testing.assert_array_equal(out.image[:, :, :32], IMAGES[:3, :, :32])


def test_a_layout_is_given_to_both_and_an_image_too():
    images = BASE.synthesize(LAYOUTS, TEXT, seed=2, upsample=STAGE)
    assert images.shape == (6, 32, 64, 3)
    np.testing.assert_array_equal(images[:1], BASE.synthesize(LAYOUTS[:1], TEXT, seed=2, upsample=STAGE))
    # Two layouts that the base cannot tell apart.
    finer = LAYOUTS.repeat(2, axis=1).repeat(2, axis=2)[:, :32, :64]
    changed = finer.copy()
    changed[:, ::2, ::2] = (changed[:, ::2, ::2] + 1) % 10
    np.testing.assert_array_equal(majority(finer, 2), majority(changed, 2))
    drawn = [BASE.synthesize(y, TEXT, upsample=STAGE) for y in (finer, changed)]
    assert np.any(drawn[0] != drawn[1])

    p = BASE.segment(IMAGES, probabilities=True, upsample=STAGE)
    assert p.shape == (6, 32, 64, 10) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    whole = BASE.segment(IMAGES, seed=5, upsample=STAGE)
    np.testing.assert_array_equal(BASE.segment(IMAGES[4:5], seed=5, first_id=4, upsample=STAGE), whole[4:5])
    assert BASE.segment(IMAGES[:2], samples=2, upsample=STAGE).shape == (2, 2, 32, 64)
    larger = BASE.segment([np.zeros((40, 90, 3), np.uint8)], windows=True, upsample=STAGE)
    assert larger[0].shape == (40, 90)


def test_a_larger_canvas_is_filled_where_windows_lie_over_the_bases():
    pair = BASE.sample(TEXT, size=(32, 102), upsample=STAGE)
    assert pair.image.shape == (1, 32, 102, 3) and pair.layout.shape == (1, 32, 102)
    low = BASE.sample(TEXT, size=(16, 51))
    same(pair, STAGE.upsample(low, TEXT))
    with pytest.raises(ValueError, match="size 32x103 is not divisible by the factor 2"):
        BASE.sample(TEXT, size=(32, 103), upsample=STAGE)


def test_an_edit_goes_on_at_the_high_resolution():
    start = Pair(IMAGES[:2, :16, :32], LAYOUTS[:2, :16, :32])
    pair = BASE.sample(TEXT, start=start, strength=0.4, upsample=STAGE)
    same(pair, STAGE.upsample(BASE.sample(TEXT, start=start, strength=0.4), TEXT))


def test_another_number_compiles_nothing_and_progress_begins_once():
    from gcdiff.conditions import conditions
    from gcdiff.samplers.sample import Sampler

    BASE.sample(TEXT, upsample=STAGE)
    programs = (Sampler.piece, Sampler.begin, conditions._sampling)
    before, heard = [p._cache_size() for p in programs], []
    BASE.sample(TEXT, num=5, steps=13, seed=2, upsample=STAGE.sampling(lowres_level=0.05), progress=heard.append)
    assert [p._cache_size() for p in programs] == before
    assert [p.done for p in heard].count(0) == 1
    assert heard[-1].done == heard[-1].total == 4 * 13  # two chunks of the base, two of the stage


def test_what_does_not_fit_is_refused_in_one_line():
    def refused(message, call):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)

    names = (*BASE.labels.names[:-1], "zebra")
    other = dataclasses.replace(STAGE.labels, names=names)
    other = dataclasses.replace(STAGE, specs=STAGE.specs._replace(labels=other))
    low = Pair(IMAGES[:1, :16, :32], LAYOUTS[:1, :16, :32])
    refused("cannot draw alone: expected a base asked with upsample=", lambda: STAGE.sample(TEXT))
    for call in (lambda: STAGE.segment(IMAGES), lambda: STAGE.synthesize(LAYOUTS)):
        refused("cannot draw alone", call)
    refused("has no likelihood", lambda: STAGE.likelihood(Pair(IMAGES, LAYOUTS)))
    refused("super-resolution stage itself, expected a base", lambda: STAGE.sample(upsample=STAGE))
    refused("no super-resolution stage, its config.data.lowres is 0", lambda: BASE.sample(upsample=BASE))
    refused("no super-resolution stage: its config.data.lowres is 0", lambda: BASE.upsample(low))
    refused("class 9 of the stage is 'zebra', expected 'bus' as in the base", lambda: BASE.sample(upsample=other))
    wide = tiny((32, 96), lowres=2)
    refused(r"the stage's low-resolution size is \(16, 48\), expected", lambda: BASE.sample(upsample=wide))
    refused(
        "path is 'image_only', expected one that ends in a pair", lambda: BASE.sample(path="image_only", upsample=STAGE)
    )
    refused("expected none with upsample", lambda: BASE.synthesize(LAYOUTS, confidence=0.5, upsample=STAGE))
    refused(
        r"image has shape \(1, 8, 32, 3\), expected .N, h, w. of at least",
        lambda: STAGE.upsample(low._replace(image=low.image[:, :8])),
    )
    refused(
        "expected labels or shares of 10 that sum to 1",
        lambda: STAGE.upsample(low._replace(layout=np.ones((1, 16, 32, 10)))),
    )
    refused(
        "expected labels or shares of 10 that sum to 1",
        lambda: STAGE.upsample(low._replace(layout=np.full((1, 16, 32, 10), np.nan))),
    )
    refused(
        "layouts hold label .., expected 0..9 or void", lambda: STAGE.upsample(low._replace(layout=low.layout + 10))
    )
    finer = Pair(None, np.zeros((1, 32, 70), int))
    refused(
        r"given has shape \(1, 32, 70\), expected \(1, 32, 64\)",
        lambda: STAGE.upsample(low, given=finer, known=Pair(None, finer.layout == 0)),
    )
    refused("expected both or neither", lambda: STAGE.upsample(low, given=finer))
    refused("sample.lowres_level is 1.5", lambda: STAGE.sampling(lowres_level=1.5))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Folders whose names stand for the two models."""
    models = {}
    for name, model in (("base", BASE), ("stage", STAGE)):
        configs.save_run(tmp_path / name, model.config, model.specs)
        models[str(tmp_path / name)] = model
    monkeypatch.setattr(Model, "restored", classmethod(lambda cls, workdir, *_, **__: models[str(workdir)]))
    monkeypatch.setenv("GCDIFF_TRACEBACK", "")
    return tmp_path


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_the_command_line_goes_on_with_a_stage(runs, capsys):
    def run(command, out, *rest):
        both = ["--workdir", str(runs / "base"), "--upsample", str(runs / "stage"), "--out", str(runs / out)]
        assert cli.main([command, *both, "--text", TEXT, *rest]) == 0, capsys.readouterr().err

    run("sample", "samples", "--num", "2", "--lowres-level", "0.1")
    expected = BASE.sample(TEXT, num=2, upsample=STAGE.sampling(lowres_level=0.1))
    for i in range(2):
        np.testing.assert_array_equal(read(runs / f"samples/images/0000{i}.png"), expected.image[i])
        np.testing.assert_array_equal(read(runs / f"samples/layouts/0000{i}.png"), expected.layout[i])
    assert "step 4/4" in capsys.readouterr().err
    run("segment", "segmented", "--images", str(runs / "samples"))
    segmented = BASE.segment(expected.image, text=TEXT, upsample=STAGE)
    np.testing.assert_array_equal(read(runs / "segmented/layouts/00001.png"), segmented[1])
    run("synthesize", "synthesized", "--layouts", str(runs / "samples"))
    (runs / "masks").mkdir()
    known = np.arange(64) < 32
    Image.fromarray(np.tile(known * np.uint8(255), (32, 1))).save(runs / "masks/00001.png")
    run("outpaint", "out", "--images", str(runs / "samples"), "--known", str(runs / "masks"))
    np.testing.assert_array_equal(read(runs / "out/images/00001.png")[:, known], expected.image[1][:, known])


def test_a_stage_is_measured_behind_its_base(runs, capsys):
    base, stage = ["--workdir", str(runs / "base")], ["--workdir", str(runs / "stage")]
    assert cli.main(["evaluate", *base, "--upsample", str(runs / "stage"), "--num", "2"]) == 0
    scores = json.loads((runs / "stage" / "evaluation.json").read_text())
    assert scores["examples"] == 2 and 0 <= scores["segmentation"]["miou"]["value"] <= 1
    for arguments, message in (
        (["evaluate", *stage], "answers behind a base alone: expected the base's --workdir, with --upsample"),
        (["evaluate", *stage, "--likelihood"], "a super-resolution stage has no likelihood"),
        (["evaluate", *base, "--upsample", stage[1], "--likelihood"], "--likelihood is of one run"),
        (["sample", *stage, "--out", str(runs / "o")], "cannot draw alone"),
        (["sample", *base, "--out", str(runs / "o"), "--upsample", base[1]], "that run is no super-resolution stage"),
        (["sample", *base, "--out", str(runs / "o"), "--lowres-level", "0.1"], "--lowres-level is 0.1, expected"),
    ):
        capsys.readouterr()
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0]
    assert not (runs / "o").exists() and gcdiff.load(runs / "stage") is STAGE
