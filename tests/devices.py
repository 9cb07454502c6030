"""A tiny model with random weights and questions to it, for processes with several devices; as a script it answers.

    python tests/devices.py OUT COUNT...                  on the first COUNT devices there are, for each COUNT
    python tests/devices.py OUT --join PORT NUMBER        as process NUMBER of two, on the devices of both

OUT is the start of the names of the .npz files that are written.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

from gcdiff import config as configs
from gcdiff import parallel
from gcdiff.api import Model
from gcdiff.text.encoder import load_encoder
from gcdiff.text.images import load_image_encoder
from gcdiff.types import VOID, Pair

SIZE, NUM, TEXT = (16, 32), 13, "a foggy street with one red car"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (NUM, *SIZE, 3)).astype(np.uint8)
LAYOUTS = RNG.integers(VOID, 10, (NUM, *SIZE)).astype(np.int32)
KNOWN = Pair(RNG.random(LAYOUTS.shape) < 0.5, RNG.random(LAYOUTS.shape) < 0.5)
TEXTS = Path(__file__).parent / "text" / "fixtures"


def config():
    c = configs.default()
    c.data.update(name="streets", size=SIZE, num=16, heldout=NUM)
    c.network.update(dim=8, stem=2, mults=(1,), blocks=(1,), heads=1, head_dim=8, final_dim=8)
    c.text.update(features=8, layers=1)
    c.sample.update(steps=3, chunk=4)
    return c


def model(c, specs) -> Model:
    """Random weights everywhere, so that answers depend on everything that is given."""
    built, rng = configs.build(c, specs), np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: configs.initial_params(built, c, specs))
    params = jax.tree.map(lambda p: (0.3 * rng.normal(size=p.shape)).astype(np.float32), shapes)
    return Model(c, specs, built, parallel.place(params, built.sampler.mesh, parallel.WHOLE))


def answers(everything: bool = True) -> dict[str, np.ndarray]:
    """What is answered on the devices of `gcdiff.parallel.chunk_mesh`."""
    c = config()
    data = configs.splits(c)
    specs = configs.build_specs(c, data.train)
    m = model(c, specs)
    found = {"sample": m.sample(TEXT, NUM, guidance=2.0, seed=3)}
    if everything:
        found["outpaint"] = m.outpaint(Pair(IMAGES, LAYOUTS), KNOWN, TEXT, guidance=2.0)
        found["repaint"] = m.outpaint(Pair(IMAGES, LAYOUTS), KNOWN, steps=2, resamples=2)
        found["segment"] = m.segment(IMAGES, probabilities=True)
        report = m.likelihood(Pair(IMAGES, LAYOUTS), TEXT, draws=2)
        found["likelihood"] = np.array(jax.tree.leaves(report.to_dict()))
        task = configs.build_task(c, specs, data)
        found["evaluate"] = np.array(list(task.evaluate(m.params, 0).values()))
        captions = ["a car", "two foggy streets with red cars", "a red tram"] * 7
        found["text"] = load_encoder(TEXTS / "t5_relu").encode(captions)
        found["images"] = load_image_encoder(TEXTS / "clip_gelu").encode(list(IMAGES))
    return {f"{name}.{i}": np.asarray(a) for name, of in found.items() for i, a in enumerate(jax.tree.leaves(of))}


def main(out: str, *arguments: str) -> None:
    if arguments[0] == "--join":
        port, number = arguments[1:]
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(number))
        np.savez(f"{out}{number}.npz", **answers(everything=False))
        return
    for count in map(int, arguments):
        mesh = parallel.device_mesh(devices=jax.devices()[:count]) if count > 1 else None
        parallel.chunk_mesh = lambda mesh=mesh: mesh
        np.savez(f"{out}{count}.npz", **answers(everything=count == 8))


if __name__ == "__main__":
    main(*sys.argv[1:])
