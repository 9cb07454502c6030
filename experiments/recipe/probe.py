"""What a trained model predicts in one call, by levels: errors on held-out scenes, and what captions say of colours.

    python experiments/recipe/probe.py RUN [RUN ...]

Of 96 held-out street scenes with a car, with the caption that names its colour, one call of the network each:

    image(t)    mean square error of the clean image, in units of the data's variance, pair at levels (t, t)
    layout(t)   nats a pixel of the clean layout, pair at levels (t, t)
    given(t)    mean square error of the clean image, layout given: levels (t, 0)
    cars(t)     the same over the pixels of cars alone
    colour(t)   the share of the cars' error at (t, 0) without a caption that the caption takes away; all cars of a
                scene have one colour, so that a reader who heeds the caption takes away most of it at t = 1

One line a run, JSON. The levels: T.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gcdiff
from gcdiff.cli.files import cache_compilations
from gcdiff.types import Pair
from gcdiff.worlds.streets.appearance import LABELS
from gcdiff.worlds.streets.data import Streets

T = (0.1, 0.3, 0.5, 0.8, 1.0)
NUM, SEED = 96, 11


def scenes() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8, layouts, and captions of scenes whose cars are all of one colour."""
    world, found = Streets("heldout", 4096, seed=SEED), []
    for i in range(len(world)):
        truth = world.truth(i)
        if len({t.color for t in truth.scene.things if t.color}) == 1:
            found.append(truth.example)
        if len(found) == NUM:
            break
    images, layouts = np.stack([e.image for e in found]), np.stack([e.layout for e in found])
    return images, layouts, [e.captions[1] for e in found]


def probe(model) -> dict[str, list[float]]:
    """The numbers of a model at the levels T."""
    images, layouts, captions = scenes()
    clean = np.asarray(model.built.codec.encode(images), np.float32)
    process, built = model.built.process, model.built
    cars = layouts == LABELS.names.index("car")
    text = {name: built.conditions.text.read(value, NUM) for name, value in (("said", captions), ("none", None))}

    @jax.jit
    def call(params, ids, image, layout, levels, key):
        maps = Pair(*(jnp.broadcast_to(t, layout.shape) for t in levels))
        levels = process.clip_levels(maps)
        noisy = process.corrupt(key, Pair(image, layout), levels)
        condition = built.conditions.condition(params, {"text": (ids, None)})
        output = process.denoiser(built.network.apply, params["network"])(noisy, levels, condition)
        estimate = process.to_clean(output, noisy, levels)
        nats = process.layout.loss(output.layout, layout, noisy.layout, levels.layout)
        return jnp.square(estimate.image - image).mean(-1), nats

    def run(ids, t_image, t_layout):
        parts = []
        for i in range(0, NUM, 16):
            rows = slice(i, i + 16)
            levels = np.float32(t_image), np.float32(t_layout)
            parts.append(call(model.params, ids[rows], clean[rows], layouts[rows], levels, jax.random.key(i)))
        return tuple(np.concatenate([np.asarray(p[k]) for p in parts]) for k in range(2))

    variance, out = float(np.square(clean - clean.mean((0, 1, 2))).mean()), {}
    for t in T:
        joint, nats = run(text["said"], t, t)
        given, _ = run(text["said"], t, 0.0)
        without, _ = run(text["none"], t, 0.0)
        values = {
            "image": joint.mean() / variance,
            "layout": nats.mean(),
            "given": given.mean() / variance,
            "cars": given[cars].mean() / variance,
            "colour": 1 - given[cars].mean() / without[cars].mean(),
        }
        for name, value in values.items():
            out.setdefault(name, []).append(round(float(value), 5))
    return out


def main() -> None:
    for run in sys.argv[1:]:
        cache_compilations(Path(run))
        print(json.dumps({"run": Path(run).name, **probe(gcdiff.load(run))}), flush=True)


if __name__ == "__main__":
    main()
