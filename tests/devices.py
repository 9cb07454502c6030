"""A small model with random weights and questions to it, for processes with several devices; as a script it answers.

    python tests/devices.py OUT                   every question, on all devices
    python tests/devices.py OUT PORT NUMBER       the first one, as process NUMBER of two, on the devices of both

OUT is the .npz file that is written.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff import config as configs
from gcdiff import parallel
from gcdiff.api import Model
from gcdiff.evaluation.features import JaxFeatures
from gcdiff.samplers.sample import Sampler
from gcdiff.text.encoder import load_encoder
from gcdiff.text.images import load_image_encoder
from gcdiff.types import VOID, Pair

SIZE, NUM, CLASSES, TEXT = (16, 32), 13, 10, "a foggy street with one red car"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (NUM, *SIZE, 3)).astype(np.uint8)
LAYOUTS = RNG.integers(VOID, CLASSES, (NUM, *SIZE)).astype(np.int32)
KNOWN = Pair(RNG.random(LAYOUTS.shape) < 0.5, RNG.random(LAYOUTS.shape) < 0.5)
CAPTIONS = ["a car", "two foggy streets with red cars", "a red tram"] * 7
TEXTS = Path(__file__).parent / "text" / "fixtures"


@dataclasses.dataclass(frozen=True)
class Small:
    """In the place of a network, and quickly compiled: every pixel sees its own, the mean of all, and the text."""

    def init(self, features: int = 8):
        sizes = {"inside": (3 + CLASSES + 2, 16), "words": (features, 16), "image": (16, 3), "layout": (16, CLASSES)}
        return {name: np.zeros(size, np.float32) for name, size in sizes.items()}

    def apply(self, variables, noisy, log_snr, condition):
        p, text = variables["params"], condition.text
        levels = [jnp.broadcast_to(jnp.tanh(level / 8), noisy.layout.shape)[..., None] for level in log_snr]
        x = jnp.concatenate([noisy.image, jax.nn.one_hot(noisy.layout, CLASSES), *levels], axis=-1)
        words = (text.tokens * text.mask[..., None]).sum(axis=1)
        h = x @ p["inside"] + (words @ p["words"])[:, None, None]
        h = jnp.tanh(h + h.mean(axis=(1, 2), keepdims=True))
        return Pair(h @ p["image"], h @ p["layout"])


def _colors(params, images):
    return jnp.tanh(params * images).mean((1, 2))


def answers(everything: bool = True) -> dict[str, np.ndarray]:
    """The answers on all devices there are; what `progress` received, and how many programs a path took."""
    c = configs.default()
    c.data.update(name="streets", size=SIZE, num=16, heldout=NUM)
    c.text.update(features=8, layers=1)
    c.sample.update(steps=12, chunk=4)
    data, network = configs.splits(c), Small()
    specs = configs.build_specs(c, data.train)
    built = configs.build(c, specs)
    built = built._replace(network=network, sampler=dataclasses.replace(built.sampler, apply_fn=network.apply))
    tokens = np.zeros((1, specs.vocabulary.length), np.int32)
    shapes = jax.eval_shape(built.conditions.text.encoder.init, jax.random.key(0), tokens)["params"]
    rng = np.random.default_rng(1)  # random weights everywhere: answers depend on everything that is given
    shapes = {"network": network.init(), "text": shapes}
    params = jax.tree.map(lambda p: (0.5 * rng.normal(size=p.shape)).astype(np.float32), shapes)
    params = parallel.place(params, built.sampler.mesh, parallel.WHOLE)
    model = Model(c, specs, built, params)
    heard, programs = [], Sampler.piece._cache_size()
    results = {"sample": model.sample(TEXT, NUM, guidance=2.0, seed=3, progress=heard.append)}
    results |= {"progress": np.array([heard[0].done, heard[-1].done, heard[-1].total])}
    results |= {"programs": Sampler.piece._cache_size() - programs}
    if everything:
        pair = Pair(IMAGES, LAYOUTS)
        results["outpaint"] = model.outpaint(pair, KNOWN, TEXT, guidance=2.0)
        results["segment"] = model.segment(IMAGES, probabilities=True)
        results["bounds"] = np.array(jax.tree.leaves(model.likelihood(pair, TEXT, draws=2, grid=4).to_dict()))
        task = configs.build_task(c, specs, data)
        task = dataclasses.replace(task, network=network, sampler=built.sampler)
        results["evaluate"] = np.concatenate([np.ravel(v) for v in task.evaluate(params, 0).values()])
        results["text"] = load_encoder(TEXTS / "t5_relu").encode(CAPTIONS)
        colors = JaxFeatures("colours", _colors, 2.0, SIZE)
        results["features"] = np.concatenate([colors(IMAGES), colors(IMAGES[:5])])
        results["vectors"] = load_image_encoder(TEXTS / "clip_gelu").encode(list(IMAGES))
    return {f"{name}.{i}": np.asarray(a) for name, of in results.items() for i, a in enumerate(jax.tree.leaves(of))}


def main(out: str, *arguments: str) -> None:
    if arguments:
        port, number = arguments
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(number))
    np.savez(out, **answers(everything=not arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
