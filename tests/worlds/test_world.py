"""What holds for every world in the table; and a new world, from its drawing to an evaluation that reads it."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from argparse import Namespace
from typing import NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest

from gcdiff import config as configs
from gcdiff.cli.extract import material_of
from gcdiff.data.dataset import Example
from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.evaluation.readers import Reader, plain_reader
from gcdiff.evaluation.sides import Examples
from gcdiff.types import VOID, LabelSpec
from gcdiff.worlds.oracles import OracleFeatures, oracle_segmenter
from gcdiff.worlds.table import WORLDS, Entry
from gcdiff.worlds.world import World, scene_seed

# A world as docs/extending.md has it: its scene, appearance, captions, data set and oracle.

LABELS = LabelSpec(names=("night", "moon"), palette=((10, 10, 40), (250, 240, 200)))


class Night(NamedTuple):
    """All there is to know about one example: where the moon stands, its radius in pixels, the example."""

    place: tuple[float, float]
    radius: float
    example: Example


class Nights(World[Night]):
    """Nights with a moon, or with none where it is new; the caption says which."""

    name, labels, size = "nights", LABELS, (16, 16)

    def draw(self, rng: np.random.Generator) -> Night:
        place, radius = tuple(rng.uniform(0, self.size)), rng.choice([0.0, 3.0])
        rows, columns = np.indices(self.size)
        layout = (np.hypot(rows - place[0], columns - place[1]) < radius).astype(np.int32)
        image = np.rint(np.clip(40 + 180 * layout[..., None] + rng.normal(0, 5, (*self.size, 3)), 0, 255))
        captions = ("night with a moon",) if layout.any() else ("night",)
        return Night(place, radius, Example(image.astype(np.uint8), layout, captions))


def night_reader() -> Reader:
    """The oracle of nights: what is brighter than half of the way from night to moon is moon."""

    def labels(images: np.ndarray) -> np.ndarray:
        return (images.mean(-1) > 130).astype(np.int32)

    return plain_reader(NamedSegmenter("oracle of nights", labels), LABELS.names, truth=True)


NIGHTS = Entry(f"{__name__}:Nights", f"{__name__}:night_reader")
TABLE = {**WORLDS, "nights": NIGHTS}


@pytest.fixture(autouse=True)
def _nights_are_a_world(monkeypatch):
    monkeypatch.setitem(WORLDS, "nights", NIGHTS)


def world(name: str, *arguments, **options) -> World:
    return TABLE[name].dataset()(*arguments, **options)


def arrays(examples: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([e.image for e in examples]), np.stack([e.layout for e in examples])


def same(a: Example, b: Example) -> bool:
    return np.array_equal(a.image, b.image) and np.array_equal(a.layout, b.layout) and a.captions == b.captions


@pytest.mark.parametrize("name", TABLE)
def test_an_example_depends_on_split_seed_index_and_size_alone(name):
    few, many = world(name, "train", 10, seed=3), world(name, "train", 2**32, seed=3)
    assert (len(few), len(many), few.name) == (10, 2**32, name)
    many[9]  # in another order
    assert same(few[7], many[np.int64(7)]) and same(few[7], few.truth(7).example)
    for other in (world(name, "heldout", 10, seed=3)[7], world(name, "train", 10, seed=4)[7], few[8]):
        assert (other.image != few[7].image).any()


@pytest.mark.parametrize("name", TABLE)
def test_examples_have_the_types_and_the_size_they_should_have(name):
    usual = world(name, "train", 2)
    for data in (usual, world(name, "train", 2, size=(64, 64))):
        height, width = data.size
        for i in range(2):
            image, layout, captions, has_image = data[i]
            assert (image.dtype, image.shape) == (np.uint8, (height, width, data.image.channels))
            assert (layout.dtype, layout.shape) == (np.int32, (height, width)) and has_image
            assert layout.min() >= 0 and layout.max() < data.labels.num_classes
            assert captions and all(isinstance(caption, str) and caption for caption in captions)
    assert usual.size == type(usual).size and data.size == (64, 64) and data.licence


@pytest.mark.parametrize("name", TABLE)
def test_bad_arguments_are_named_in_one_line(name):
    for arguments, word in ((("test", 5), "split"), (("train", 0), "num"), (("train", 2**32 + 1), "num")):
        with pytest.raises(ValueError, match=f"^{word} of {name} is .*, expected .*$"):
            world(name, *arguments)
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=f"^seed of {name} is {seed}, expected .*$"):
            world(name, "train", 5, seed)
    for index in (5, -1):
        with pytest.raises(IndexError, match=f"^index of {name} is {index}, expected 0 to 4$"):
            world(name, "train", 5)[index]


def test_no_two_splits_seeds_or_indices_share_a_scene():
    ends = list(itertools.product((0, 1, 2**31 - 1), (0, 1, 2**32 - 1)))
    train, heldout = ([scene_seed(split, *pair) for pair in ends] for split in ("train", "heldout"))
    assert max(train) < 2**63 <= min(heldout) and max(heldout) < 2**64
    assert len({*train, *heldout}) == 2 * len(ends)


@pytest.mark.parametrize("name", TABLE)
def test_the_oracle_reads_its_own_clean_layouts(name):
    data, reader = world(name, "heldout", 12), TABLE[name].oracle()
    examples = [data[i] for i in range(12)]
    images, layouts = arrays(examples)
    labels = reader.labels(reader.read(images))
    assert (labels == layouts).mean() > 0.99 and labels.dtype.kind == "i" and labels.min() >= VOID
    np.testing.assert_array_equal(oracle_segmenter(name)(images), labels)
    wanted = reader.asked([e.captions[0] for e in examples])
    assert wanted.shape == (12, data.labels.num_classes) and reader.classes.shape == wanted.shape[1:]
    shown = np.stack([[(layout == k).any() for k in range(data.labels.num_classes)] for layout in layouts])
    assert (wanted == shown)[:, reader.classes].all()  # captions name all that is there of what they name at all


CONFIG = """from gcdiff.config import default


def get_config():
    c = default()
    c.data.update(name={name!r}, size=(32, 32), num=20, heldout=3)
    return c
"""


@pytest.mark.parametrize("name", TABLE)
def test_a_config_file_names_a_world(name, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(CONFIG.format(name=name))
    config = configs.load_file(str(file))
    data = configs.splits(config)
    assert same(data.train[5], world(name, "train", 20, size=(32, 32))[5]) and len(data.train) == 20
    assert same(data.heldout[1], world(name, "heldout", 3, size=(32, 32))[1]) and len(data.heldout) == 3
    assert data.train_transform(data.train[0], np.random.default_rng(0)).image.shape == (32, 32, 3)
    specs = configs.build_specs(config, data.train)
    assert (specs.labels, specs.licence) == (data.train.labels, data.train.licence)
    assert specs.vocabulary is not None
    assert set(re.findall("[a-z]+", data.train[0].captions[0].lower())) <= set(specs.vocabulary.words)


@pytest.mark.parametrize("name", TABLE)
def test_an_evaluation_is_read_by_the_oracle(name):
    data = world(name, "heldout", 4)
    images, layouts = arrays([data[i] for i in range(4)])
    real = Examples(images, layouts, tuple(data[i].captions[0] for i in range(4)), np.arange(4))
    model = Mock(labels=data.labels, image=data.image)
    arguments, subject = Namespace(features=None, segmenter=None), Mock()
    material = material_of(arguments, model, None, name, (), real, real, subject)
    assert material.reader.truth and material.reader.name == TABLE[name].oracle().name
    reading = material.reader.read(images)
    assert (material.reader.labels(reading) == layouts).mean() > 0.99


def test_a_name_that_is_not_in_the_table_is_no_data_set(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(CONFIG.format(name="days"))
    with pytest.raises(ValueError, match="data.name is 'days', expected one of .*'streets', .*'nights', 'camvid'"):
        configs.load_file(str(file))


def test_an_oracle_without_parameters_has_no_features():
    with pytest.raises(ValueError, match="the oracle of nights reads no parameters"):
        OracleFeatures("nights")


def test_what_is_drawn_is_known():
    nights = world("nights", "train", 50)
    for i in range(50):
        place, radius, example = nights.truth(i)
        assert example.layout.any() == (radius > 0) == (example.captions == ("night with a moon",))
        if radius:
            middle = np.argwhere(example.layout).mean(0)
            assert np.hypot(*(middle - place)) < radius


def test_the_table_is_light():
    """A config is read without a world's arrays, oracles or scores."""
    code = "import sys, gcdiff.config; print(*(m for m in sys.modules if m.startswith(('gcdiff.worlds.', 'scipy.nd'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "gcdiff.worlds.table"
