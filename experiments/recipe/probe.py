"""What a trained model predicts in one call, by noise: errors on held-out scenes, and what captions say of them.

    python experiments/recipe/probe.py RUN [RUN ...]

Of 96 held-out street scenes whose cars are of one colour, with the caption that names it, one call of the network each.
Noise is told by log-SNRs and not by levels, so that recipes with different schedules are compared at the same noise:

    image     mean square error of the clean image, in units of the data's variance, both sides at this log-SNR
    layout    nats a pixel of the clean layout, the same
    text      by how many nats a pixel the caption lowers that
    given     mean square error of the clean image, layout given
    cars      the same over the pixels of cars alone
    colour    the share of the cars' error without a caption, layout given, that the caption takes away; a reader who
              heeds the caption takes away most of it where nothing is known of the image

One line a run, JSON. The log-SNRs: LOG_SNR, of which the last is -inf: nothing is known.
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

LOG_SNR = (3.7, 1.3, 0.0, -1.0, -2.0, -3.0, -4.0, -np.inf)
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


def level(schedule, log_snr: float) -> float:
    """The level of a log-SNR."""
    return 1.0 if log_snr == -np.inf else float(schedule.level(1 / (1 + np.exp(-log_snr))))


def probe(model) -> dict[str, list[float]]:
    """The numbers of a model at LOG_SNR."""
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
    for noise in LOG_SNR:
        image_t, layout_t = (level(side.schedule, noise) for side in (process.image, process.layout))
        joint, nats = run(text["said"], image_t, layout_t)
        _, silent = run(text["none"], image_t, layout_t)
        given, _ = run(text["said"], image_t, 0.0)
        without, _ = run(text["none"], image_t, 0.0)
        values = {
            "image": joint.mean() / variance,
            "layout": nats.mean(),
            "text": silent.mean() - nats.mean(),
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
