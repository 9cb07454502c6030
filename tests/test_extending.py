"""docs/extending.md, followed to the letter in a copy of the package: what it adds works, and refuses what it must."""

from __future__ import annotations

import os
import subprocess
import sys

import extended
import pytest

USE = """
import jax, jax.numpy as jnp, numpy as np
from gcdiff import config as configs
from gcdiff.api.model import Model
from gcdiff.codecs import CODECS
from gcdiff.losses.diffusion import image_weight
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES
from gcdiff.samplers.steps import IMAGE_STEPS, Dials, ImageState
from gcdiff.schedules import Schedule

# The step is the identity where s = t, and keeps the marginal elsewhere.
process, key = GaussianProcess(Schedule("cosine"), "x0"), jax.random.key(0)
clean, noisy = jnp.full((40, 40, 3), 0.5), jax.random.normal(key, (40, 40, 3))
half, low = jnp.full((40, 40), 0.5), jnp.full((40, 40), 0.2)
step = IMAGE_STEPS["fresh"]
at = ImageState(clean, clean, noisy)
np.testing.assert_array_equal(step(process, key, at, half, half, half, Dials()), noisy)
drawn = step(process, key, at, low, half, half, Dials())
snr = process.log_snr(jnp.float32(0.2))
np.testing.assert_allclose(drawn.mean(), 0.5 * jax.nn.sigmoid(snr) ** 0.5, atol=0.02)

# Labels of the process stay longer than those of the uniform one.
late, uniform = (LAYOUT_PROCESSES[name](5, Schedule("cosine")) for name in ("late", "uniform"))
assert (late.keep(low) > uniform.keep(low)).all()
assert late.keep(jnp.float32(1.0)) == 0 and late.keep(jnp.float32(0.0)) == 1

assert np.isfinite(image_weight("soft", "v", jnp.array([-9.0, 0.0, 9.0]))).all()

# All of it in one model: it trains, its conditioning starts at zero and is heard once it is trained.
def build(**fields):
    c = configs.default()
    c.data.update(name="streets", size=(16, 32), num=16, heldout=4)
    c.network.update(dim=8, stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8)
    c.text.update(features=8, layers=1)
    c.sample.update(steps=2, chunk=4)
    fields = {"sample.image_step": "fresh", "process.layout": "late", "loss.image_weight": "soft", **fields}
    c = configs.with_fields(c, {"data.codec": "opponent", "data.brightness": True, **fields})
    data = configs.splits(c)
    specs = configs.build_specs(c, data.train)
    return c, specs, configs.build_task(c, specs, data)

c, specs, task = build()
assert not np.any(jax.jit(lambda key: task.init(key)["network"]["brightness"]["kernel"])(key))
rng = np.random.default_rng(0)
shapes = jax.eval_shape(task.init, key)
params = jax.tree.map(lambda p: (0.3 * rng.normal(size=p.shape)).astype(np.float32), shapes)
def loss_of(heard):  # with the gradient of this part alone, which compiles faster
    return task.step({**params, "network": {**params["network"], "brightness": heard}}, task.heldout, key)[0]
loss, slope = jax.jit(jax.value_and_grad(loss_of))(params["network"]["brightness"])
assert np.isfinite(loss) and np.any(slope["kernel"])
model = Model(c, specs, configs.build(c, specs), params)
dark, light = (model.given(brightness=b).sample("a street", seed=1) for b in (-1.0, 1.0))
silent = model.sample("a street", seed=1)
assert np.any(dark.image != light.image) and np.any(silent.image != light.image)
try:
    model.check_likelihood()
except ValueError as error:
    assert "not those of images" in str(error)
else:
    raise AssertionError("a likelihood of states was taken for one of images")

without = build(**{"data.brightness": False})
try:
    Model(without[0], specs, configs.build(*without[:2]), params).given(brightness=0.5)
except ValueError as error:
    assert str(error) == "this model was trained without brightness"
else:
    raise AssertionError("a conditioning was said of a model without it")
# The world of the page is drawn, and read by its oracle.
from gcdiff.worlds.table import WORLDS
nights = WORLDS["nights"].dataset()("train", 20)
images, layouts = (np.stack([getattr(nights[i], side) for i in range(20)]) for side in ("image", "layout"))
reader = WORLDS["nights"].oracle()
np.testing.assert_array_equal(reader.labels(reader.read(images)), layouts)
assert layouts.any() and configs.splits(build(**{"data.name": "nights"})[0]).train.name == "nights"

# The metric of the page stands in the report, with real images in the model's place once as on the real side.
from measured import examples, material, plan, subject
from gcdiff.evaluation.evaluator import evaluate
from gcdiff.evaluation.page import page
from gcdiff.evaluation.results import table
heldout = examples("heldout", 12)
def measured(given):
    return evaluate(subject(given), material(heldout, heldout), plan("contrast"), {}, lambda said: None)
(row,) = measured(heldout).rows
assert row.model == row.real and 0 < row.real.low <= row.real.value <= row.real.high
np.testing.assert_allclose(row.real.value, np.mean([image.std() for image in heldout.images]))
(flat,) = measured(heldout._replace(images=heldout.images // 2 + 64)).rows
assert flat.model.high < flat.real.low
for text in (table([row]), page(measured(heldout), material(heldout, heldout).labels)):
    assert "standard deviation within an image" in text

# The data set of the page is prepared by the command, read back, and a bad file of it is named.
import contextlib, io, json, pathlib
from PIL import Image
from gcdiff import cli
from gcdiff.data.prepared import Prepared
masks = rng.random((5, 8, 12)) < 0.4
drawings = rng.integers(0, 256, (5, 8, 12, 3)).astype(np.uint8)
source = pathlib.Path("source")
for i, (drawing, mask) in enumerate(zip(drawings, masks)):
    file = source / ("train" if i < 3 else "val") / f"{i}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack([drawing, np.repeat(255 * mask[..., None], 3, -1).astype(np.uint8)])).save(file)
def prepare(out):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        return cli.main(["prepare", "halves", "--source", "source", "--out", out]), said.getvalue()
assert prepare("out")[0] == 0
written = [example for split in ("train", "val") for example in map(Prepared("out", split).__getitem__, range(2))]
for i, example in zip((0, 1, 3, 4), written):
    np.testing.assert_array_equal(example.image, drawings[i])
    np.testing.assert_array_equal(example.layout, masks[i])
    assert example.captions == ("A sheet of paper with ink.",)
Image.fromarray(drawings[0][:, :11]).save(source / "val" / "4.png")
status, said = prepare("again")
assert status == 2 and said.endswith("4.png: size 11x8, expected two halves of one width\\n"), said
print("used")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return extended.extend(tmp_path_factory.mktemp("extended"))


def test_what_the_page_adds_works(place):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), str(extended.ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", USE], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "used\n", done.stderr[-3000:]


def test_a_conditioning_touches_its_module_the_door_the_network_and_the_config():
    page = extended.PAGE.read_text()
    start = page.index("## A conditioning")
    files = {path for _, path, _, _ in extended.BLOCK.findall(page[start : page.index("## A task")]) if path}
    assert files == {
        "gcdiff/conditions/brightness.py",
        "gcdiff/types.py",
        "gcdiff/conditions/conditions.py",
        "gcdiff/models/conditioning.py",
        "gcdiff/config/fields.py",
        "gcdiff/config/parts.py",
    }
