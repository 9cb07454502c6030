"""The paper's recipe (Park et al. 2023) as a config, for any network of its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gcdiff.config.fields import default
from gcdiff.config.tasks import check
from gcdiff.models.official import DEFAULTS, fields

BASE = {
    "dim": 128,
    "dim_mults": (1, 2, 4, 8),
    "num_resnet_blocks": (2, 4, 8, 8),
    "layer_attns": (False, True, True, True),
    "layer_cross_attns": (False, True, True, True),
}
"""The arguments of the released base network's constructor: 697 million parameters."""
STAGE = {**BASE, "layer_attns": False, "layer_cross_attns": (False, False, False, True), "lowres_cond": True}
"""The released super-resolution network: 717 million parameters."""


def gcdp(settings: Mapping[str, Any], size: tuple[int, int]) -> ConfigDict:
    """The paper's config for images of (height, width), with the network of the released constructor's `settings`.

    Both modalities share one noise level, which the network reads once, and it predicts eps; 300,000 steps of 8
    examples; 100 ancestral steps with dynamic thresholding, text guidance 3 for a base. The data set is not named.
    """
    c, options = default(), {**DEFAULTS, **settings}
    chosen = {name: value for name, value in fields(settings).items() if name in c.network}
    c.data.update(name="", size=tuple(size), flip=True)
    with c.ignore_type():
        c.network.update(chosen)
    c.process.update(image_schedule="cosine", layout_schedule="cosine", output="eps")
    c.levels.kind = "shared"
    c.loss.update(image_weight="p2", layout_weight="kl", layout=0.076)
    c.optim.update(learning_rate=1.2e-4, warmup=1, schedule="constant", weight_decay=0.0, b2=0.99, ema_decay=0.9999)
    c.train.update(steps=300_000, batch_size=8, checkpoint_every=10_000, evaluate_every=5_000, sample_every=10_000)
    c.train.keep = 3
    c.sample.update(steps=100, image_step="ancestral", threshold=0.95, chunk=4)
    if options["cond_on_text"]:
        c.text.update(
            length=options["max_text_len"], features=options["text_embed_dim"], drop=0.1, drop_given_image=0.1
        )
        c.sample.guidance = (1.0, 1.0) if options["lowres_cond"] else (3.0, 3.0)
    else:
        c.text.encoder = "none"
    if options["lowres_cond"]:
        c.data.lowres = 2
        c.process.lowres_schedule = "linear"
    return c


def released(settings: Mapping[str, Any], size: tuple[int, int], schedule: str, lowres_schedule: str) -> ConfigDict:
    """The config of released weights: the recipe with their schedules, and with text that is encoded elsewhere."""
    c = gcdp(settings, size)
    c.process.update(image_schedule=schedule, layout_schedule=schedule)
    if c.text.encoder != "none":
        c.text.encoder = "given"
    if c.data.lowres:
        c.data.update(lowres_layout="nearest", lowres_enlarged=True)
        c.process.lowres_schedule = lowres_schedule
    check(c)
    return c
