"""Training on eight simulated devices, in one other process: the losses of one device, whatever is cut.

What that process runs is `main`, below; it prints its findings as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff import parallel
from gcdiff.training.loop import Interrupted, TrainConfig, train
from gcdiff.training.optim import Optim
from gcdiff.training.settings import MeshSizes
from gcdiff.training.state import create_state, gradient

sys.path.insert(0, str(Path(__file__).parent))
from test_joint_task import tiny  # noqa: E402
from test_loop import Regression, batches, lines, send_signal_at  # noqa: E402

MESHES = {"data": MeshSizes(8, 1), "fully sharded": MeshSizes(1, 8), "both": MeshSizes(4, 2)}
RUNS = [(name, accumulate) for name in MESHES for accumulate in (1, 2, 4)]
"""What is cut, and into how many parts a batch."""
FEW = [("data", 1), ("both", 4)]
"""Those of `make test`; `handed over` begins with ("both", 1)."""
WIDE = Regression(1024)  # the first matrix is large enough to be cut


def losses(folder, task, source, steps, mesh, accumulate=1, devices=None):
    """The losses of a run's steps."""
    settings = TrainConfig(
        steps=steps, accumulate=accumulate, mesh=mesh, log_every=1, evaluate_every=0, sample_every=0, keep=1,
        optim=Optim(learning_rate=1e-2, warmup=3),
    )  # fmt: skip
    train(task, source, folder, settings, devices=devices)
    return [line["train/loss"] for line in lines(folder) if "train/loss" in line]


def joint_gradients():
    """The largest difference of the gradients of a joint task, on one device and on a mesh, over the largest of all."""
    task = tiny("uniform", stem=4, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(True,))
    params = jax.tree.map(
        lambda a: np.random.default_rng(a.size).normal(size=a.shape).astype(np.float32) * 0.1,
        jax.eval_shape(task.init, jax.random.key(0)),
    )
    drawn = jax.jit(task.draw)(jax.tree.map(lambda a: np.repeat(a, 2, axis=0), task.heldout), jax.random.key(1))

    def of(mesh):
        return jax.jit(lambda params, drawn: gradient(task, params, drawn, 1, mesh)[1])(params, drawn)

    one, mesh = of(None), of(parallel.device_mesh(4, 2))
    ratio = max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(mesh), strict=True))
    return float(ratio / max(np.abs(a).max() for a in jax.tree.leaves(one)))


def main(runs) -> None:
    results = {"joint": joint_gradients()}
    places = iter(Path(tempfile.mkdtemp()) / str(i) for i in range(20))
    wide = lambda start: batches(start, size=64)  # noqa: E731
    results["one"] = losses(next(places), WIDE, wide, 20, MeshSizes(), devices=jax.devices()[:1])
    for name, accumulate in runs:
        results[f"{name}, {accumulate}"] = losses(next(places), WIDE, wide, 20, MESHES[name], accumulate)
    place = next(places)  # begun on eight devices, and gone on with on one
    with contextlib.suppress(Interrupted):
        losses(place, WIDE, send_signal_at(11, size=64), 20, MESHES["both"])
    results["handed over"] = losses(place, WIDE, wide, 20, MeshSizes(), devices=jax.devices()[:1])
    print(json.dumps(results))


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def results(request):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, __file__, request.param], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_losses_are_those_of_one_device(results):
    assert len(set(results["one"])) == 20
    cut = [name for name in results if name.split(",")[0] in MESHES]
    assert len(cut) in (len(FEW), len(RUNS))
    for name in cut:
        np.testing.assert_allclose(results[name], results["one"], rtol=2e-5, err_msg=name)


def test_a_run_goes_on_with_other_devices(results):
    np.testing.assert_allclose(results["handed over"], results["one"], rtol=2e-5)


def test_a_joint_model_has_the_same_gradient(results):
    assert 0 < results["joint"] < 1e-5


def test_the_state_is_cut_with_its_averages_and_its_optimiser():
    state = jax.eval_shape(lambda: create_state(WIDE, Optim(), 0))
    specs = [parallel.cut(a.shape, 8) for a in jax.tree.leaves(state)]
    assert sum(spec != parallel.WHOLE for spec in specs) == 4  # one matrix, its average, the optimiser's two of it


if __name__ == "__main__":
    main(FEW if sys.argv[1] == "few" else RUNS)
