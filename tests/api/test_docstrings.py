"""Every public class, function, method and property of the Python API has a true example in its docstring.

Public is what `gcdiff` and `gcdiff.api` export, the types that their methods take and return, and what README.md and
the pages of docs/ import or name. docs/extending.md is followed by tests/test_extending.py.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
from official_weights import TINY, random_weights
from tiny_models import random_model

import gcdiff
import gcdiff.api
from gcdiff import config as configs
from gcdiff.api.question import Progress
from gcdiff.api.windows import windows
from gcdiff.data.builders.camvid import CamVidSource
from gcdiff.data.prepare import prepare
from gcdiff.likelihood import Report, Stopped
from gcdiff.text.encoder import TextEncoder, load_encoder
from gcdiff.text.images import ImageEncoder, load_image_encoder
from gcdiff.training.checkpoint import save_ema
from gcdiff.types import ChannelGroup

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "extending.md")]
TAKEN_AND_RETURNED = (ChannelGroup, ImageEncoder, Progress, Report, Stopped, TextEncoder, windows)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def python_of(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))


def named_by_the_pages() -> Iterator[Any]:
    """The functions and classes that pages import, and those whose full name they give."""
    for page in PAGES:
        for module, names in re.findall(r"^from (gcdiff[\w.]*) import ([\w, ]+)$", python_of(page), re.MULTILINE):
            yield from (getattr(importlib.import_module(module), name) for name in names.split(", "))
        for full in re.findall(r"`(gcdiff(?:\.\w+)+)", page.read_text()):
            module, _, name = full.rpartition(".")
            if importlib.util.find_spec(full if module == "gcdiff" else module) is None:
                continue
            thing = getattr(importlib.import_module(module), name, None)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield thing


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, those of gcdiff's own base classes among them."""
    for base in cls.__mro__:
        for name, value in vars(base).items():
            value = getattr(value, "__func__", value)
            public = not name.startswith("_") and base.__module__.startswith("gcdiff")
            if public and (inspect.isfunction(value) or isinstance(value, property)):
                yield f"{base.__module__}.{base.__qualname__}.{name}", value


def public() -> dict[str, Any]:
    """All that needs an example, by its full name."""
    exported = [getattr(package, name) for package in (gcdiff, gcdiff.api) for name in package.__all__]
    things: dict[str, Any] = {"gcdiff": gcdiff, "gcdiff.api": gcdiff.api}
    for thing in (*exported, *TAKEN_AND_RETURNED, *named_by_the_pages()):
        if inspect.isclass(thing):
            things |= dict(members(thing))
        if callable(thing):
            things[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return things


PUBLIC = public()


def save_run(workdir: Path, config: str) -> None:
    """A run of one of the configs, with a tiny network of random weights."""
    c = configs.load_file(str(ROOT / "configs" / config))
    c.data.update(num=64, heldout=4)
    if c.network.kind == "transformer":
        c.network.update(dim=16, heads=2, depth=1, final_dim=8)
    else:
        c.network.update(dim=16, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,))
    c.text.update(features=16, layers=1)
    c.sample.steps = 2
    model = random_model(c)
    configs.save_run(workdir, c, model.specs)
    save_ema(workdir / "checkpoints", 1, model.params, {"step": 1})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with all that examples read."""
    place = tmp_path_factory.mktemp("examples")
    save_run(place / "runs" / "demo", "streets.py")
    save_run(place / "runs" / "streets_sr", "streets_sr.py")
    for name, fixture in (("t5", "t5_gated"), ("clip", "clip_gelu")):
        shutil.copytree(ROOT / "tests" / "text" / "fixtures" / fixture, place / "encoders" / name)
    miniatures.camvid(place / "camvid", size=(40, 50))
    prepare(CamVidSource(place / "camvid"), place / "prepared" / "camvid")
    return place


@pytest.fixture(scope="module")
def names(place) -> dict[str, Any]:
    """What the examples share."""
    model = gcdiff.load(place / "runs" / "demo")
    examples = [configs.splits(model.config).heldout[i] for i in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        encoders = load_encoder("encoders/t5"), load_image_encoder("encoders/clip")
    return {
        "gcdiff": gcdiff,
        "np": np,
        "model": model,
        "stage": gcdiff.load(place / "runs" / "streets_sr"),
        "images": np.stack([example.image for example in examples]),
        "layouts": np.stack([example.layout for example in examples]),
        "encoder": encoders[0],
        "image_encoder": encoders[1],
        "weights": random_weights(TINY),
        "config": TINY,
    }


def test_the_public_names_are_found():
    for name in ("api.model.load", "api.segment.Segments.segment", "api.base.Base.size", "types.Text.without"):
        assert f"gcdiff.{name}" in PUBLIC
    for name in ("evaluation.kernel.kernel_distance", "evaluation.features.save_features"):  # imported, and named
        assert f"gcdiff.{name}" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_docstring_is_true(name, place, names, monkeypatch):
    doc = inspect.cleandoc(PUBLIC[name].__doc__ or "")
    assert ">>> " in doc, f"{name} has no example in its docstring"
    if ">>> import torch" in doc:
        pytest.importorskip("torch")
    monkeypatch.chdir(place)
    example = doctest.DocTestParser().get_doctest(doc, dict(names), name, name, 0)
    failures: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=failures.append)
    assert result.failed == 0, "".join(failures)


def test_the_python_of_the_readme_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    variables: dict[str, Any] = {}
    exec(compile(python_of(ROOT / "README.md"), "README.md", "exec"), variables)
    assert variables["pair"].image.shape == variables["images"].shape == (4, 32, 64, 3)
