"""Validation of the values of a config's fields."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from gcdiff.codecs import CODECS
from gcdiff.config.data import dataset_names
from gcdiff.config.fields import FIELDS, convert, expected, leaves, unknown
from gcdiff.grids import LAYOUT_OPERATORS
from gcdiff.models.table import NETWORKS, fields_of
from gcdiff.processes.gaussian import KINDS
from gcdiff.processes.joint import LAYOUT_PROCESSES
from gcdiff.samplers.steps import IMAGE_STEPS, LAYOUT_STEPS
from gcdiff.schedules import CURVES, Schedule

CHOICES = {
    "process.layout": tuple(LAYOUT_PROCESSES),
    "process.lowres_schedule": ("", *CURVES),
    "process.output": KINDS,
    "text.encoder": ("learned", "pretrained", "given", "none"),
    "levels.kind": ("free", "shared"),
    "sample.path": ("joint", "layout_first", "image_first"),
    "sample.image_step": tuple(IMAGE_STEPS),
    "sample.layout_step": tuple(LAYOUT_STEPS),
    "network.dtype": ("float32", "bfloat16"),
    "data.codec": tuple(CODECS),
    "network.kind": tuple(NETWORKS),
    "network.level_inputs": ("both", "image"),
    "data.lowres_layout": tuple(LAYOUT_OPERATORS),
}
NO_WEIGHTS = {"uniform": (), "absorbing": ("kl",), "bits": ("elbo", "kl")}
"""The weights of the layout's loss that a process does not have."""
SMALLEST = {
    "sample.psi": 0,
    "sample.corrector": 0,
    "network.stem": 1,
    "network.depth": 1,
    "network.patch": 1,
    "network.tied_features": 1,
    "train.batch_size": 1,
    "train.steps": 1,
    "train.accumulate": 1,
    "sample.steps": 1,
    "sample.chunk": 1,
    "data.heldout": 1,
    "data.threads": 1,
}
PROBABILITIES = ("data.label_precision", "network.dropout", "text.drop", "text.drop_given_image", "sample.share")
PROBABILITIES += ("sample.threshold",)
PAIRS = ("data.size", "data.scale", "sample.guidance", "sample.interval")


def check_values(config: ConfigDict) -> None:
    """Raise ValueError, naming the field, for a field that does not exist and for a value that no task can have."""
    check_fields(config)
    values = leaves(config)
    for field, allowed in {**CHOICES, "data.name": ("", *dataset_names())}.items():
        if values[field] not in allowed:
            raise ValueError(f"config.{field} is {values[field]!r}, expected one of {allowed}")
    for field, smallest in SMALLEST.items():
        if values[field] < smallest:
            raise ValueError(f"config.{field} is {values[field]}, expected at least {smallest}")
    for field in PROBABILITIES:
        if not 0 <= values[field] <= 1:
            raise ValueError(f"config.{field} is {values[field]}, expected a probability")
    for field in ("data.aspect", "data.photometric"):
        if values[field] < 0:
            raise ValueError(f"config.{field} is {values[field]}, expected at least 0")
    for field in PAIRS:
        if len(values[field]) != 2:
            raise ValueError(f"config.{field} is {tuple(values[field])}, expected two values")


def check_joint(config: ConfigDict) -> None:
    """Raise ValueError, naming the field, for values that a joint model cannot have together."""
    if not 0 <= config.sample.eta <= 1:
        raise ValueError(f"config.sample.eta is {config.sample.eta}, expected 0 (deterministic) to 1 (ancestral)")
    if not 0 < config.sample.spacing < math.inf:
        raise ValueError(f"config.sample.spacing is {config.sample.spacing}, expected a number above 0")
    if config.process.layout == "bits" and (config.sample.layout_step != "ancestral" or config.sample.corrector):
        raise ValueError("config.sample redraws labels, which process.layout=bits cannot: expected ancestral steps")
    if config.process.layout == "bits" and config.loss.rarity:
        raise ValueError("config.loss.rarity counts noisy labels, which process.layout=bits does not have: expected 0")
    if config.loss.layout_weight in NO_WEIGHTS.get(config.process.layout, ()):
        raise ValueError(
            f"config.loss.layout_weight is {config.loss.layout_weight!r}, which process.layout="
            f"{config.process.layout} does not have"
        )
    if config.data.label_precision < 1 and (config.process.layout != "uniform" or config.loss.layout_weight == "kl"):
        raise ValueError(
            f"config.data.label_precision is {config.data.label_precision}, expected 1 for process.layout="
            f"{config.process.layout} and loss.layout_weight={config.loss.layout_weight}"
        )
    if config.data.label_precision < 1:
        try:
            Schedule(config.process.layout_schedule, config.process.layout_shift).level(config.data.label_precision)
        except ValueError as error:
            raise ValueError(f"config.data.label_precision: {error}") from None
    if (config.text.encoder == "pretrained") != bool(config.data.embeddings):
        said = f"config.data.embeddings is {config.data.embeddings!r} and config.text.encoder {config.text.encoder!r}"
        raise ValueError(f"{said}: expected a directory of gcdiff embed with pretrained, and with nothing else")
    if config.text.encoder == "none" and tuple(config.sample.guidance) != (1.0, 1.0):
        raise ValueError(f"config.sample.guidance is {tuple(config.sample.guidance)}, expected (1, 1) without a text")
    low, high = config.sample.interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"config.sample.interval is {(low, high)}, expected 0 <= low <= high <= 1")
    if config.sample.image_guidance != 1.0 and config.process.output == "eps":
        raise ValueError("config.sample.image_guidance needs an image head that knows level 1: not process.output=eps")
    network = config.network
    if network.tied and config.process.layout == "bits":
        raise ValueError("config.network.tied is True, expected False for process.layout=bits: bits are no classes")
    _check_lowres(config)
    stride = _checked_stride(network)
    if any(side % stride for side in config.data.size):
        raise ValueError(
            f"config.data.size {tuple(config.data.size)} is not divisible by the network's stride {stride}"
        )


def _checked_stride(network: ConfigDict) -> int:
    """The number that sizes must be divisible by. Raises ValueError for fields that a network of its kind lacks."""
    own = fields_of(network.kind)
    for name, value in network.items():
        if name not in (*own, "kind", "dtype") and value != FIELDS[f"network.{name}"]:
            has = ", ".join(sorted(set(own) & set(network)))
            raise ValueError(
                f"config.network.{name} is {value!r}, which network.kind={network.kind} does not have: it has {has}"
            )
    if network.kind == "transformer":
        if network.dim % (8 * network.heads):
            raise ValueError(f"config.network.dim is {network.dim}, expected a multiple of 8 network.heads")
        return network.patch
    for name in ("blocks", "attention", "cross_attention"):
        if len(network[name]) != len(network.mults):
            raise ValueError(
                f"config.network.{name} has {len(network[name])} levels, network.mults {len(network.mults)}"
            )
    return network.stem * 2 ** (len(network.mults) - 1)


def _check_lowres(config: ConfigDict) -> None:
    """Raise ValueError for fields that a super-resolution stage cannot have."""
    factor, size = config.data.lowres, tuple(config.data.size)
    if factor == 0:
        return
    if factor < 2 or any(side % factor for side in size):
        raise ValueError(f"config.data.lowres is {factor}, expected 0 or a divisor of data.size {size} from 2 on")
    if config.data.codec != "pixels":
        raise ValueError(
            f"config.data.lowres needs images as they are, expected data.codec=pixels, not {config.data.codec}"
        )
    if config.process.layout == "bits":
        raise ValueError("config.data.lowres needs labels that are classes, expected another process.layout than bits")
    highest, level = config.levels.lowres_max, config.sample.lowres_level
    if not 0 <= level <= highest <= 1:
        said = f"config.sample.lowres_level is {level} and config.levels.lowres_max {highest}"
        raise ValueError(f"{said}, expected 0 <= level <= max <= 1: no other level is trained")


def check_fields(config: ConfigDict) -> None:
    """Raise ValueError, naming the field, unless the fields are those of `default`, with values of their types."""
    values = leaves(config)
    for field in values:
        if field not in FIELDS:
            raise ValueError(f"config.{field}: {unknown(field)}")
    for field, like in FIELDS.items():
        if field not in values:
            raise ValueError(f"config.{field} is missing, expected {expected(like, like)}")
        try:
            convert(values[field], like)
        except TypeError as error:
            wanted = str(error) or expected(like, like)
            raise ValueError(f"config.{field} is {values[field]!r}, expected {wanted}") from None
