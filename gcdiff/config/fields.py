"""The fields of a config: defaults, types, setting one from text, messages about unknown ones.

A field is named by its dotted path, as in train.steps. Its default gives its type; None stands for an optional number.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gcdiff.levels import LevelShares
from gcdiff.models.table import NETWORKS, fields_of
from gcdiff.training.joint_task import LossConfig
from gcdiff.training.optim import Optim
from gcdiff.training.settings import MeshSizes, TrainConfig

# What the data, the process or the program decides (network.lowres is data.lowres > 0), and what a joint model of one
# grid always has.
NOT_CHOSEN = ("parent", "name", "control", "image_channels", "num_classes", "state_classes", "hide_unknown_image")
NOT_CHOSEN += ("dtype", "inputs", "outputs", "layout_factor", "lowres")


GREATEST = 3.4028234e38
"""The greatest number of float32."""


def default() -> ConfigDict:
    """The default config with all fields, locked; an experiment changes some of them."""
    network = {k: v for kind in NETWORKS for k, v in fields_of(kind).items() if k not in NOT_CHOSEN}
    train = {name: value for name, value in _defaults(TrainConfig).items() if name not in ("optim", "mesh")}
    config = {
        "name": "",
        "task": "joint",  # what is trained: one of gcdiff.config.tasks.TASKS
        "data": {
            "name": "streets",
            "root": "",  # where the files are; empty for embedded data
            "codec": "pixels",  # how images become the state that is diffused: one of gcdiff.codecs.CODECS
            "embeddings": "",  # with text.encoder=pretrained: the features of the captions, from gcdiff embed
            "threads": 1,  # how many read examples side by side
            "size": (32, 64),  # height, width of what the network sees
            "num": 100_000,  # examples of an embedded world
            "heldout": 128,  # held-out examples looked at while training
            "flip": False,
            "scale": (1.0, 1.0),  # random crops: the share of the full frame's side that is kept
            "label_precision": 1.0,  # labels are right with this probability, else uniform, independently
            "aspect": 0.0,  # random crops: the log of their height over their width differs by up to so much
            "lowres": 0,  # a super-resolution stage: how many times larger its side is than its input's; 0: no stage
            "lowres_layout": "majority",  # how low-resolution layouts are made: majority, or nearest (the paper's)
            "lowres_enlarged": False,  # noise on that pair is drawn after it is enlarged (the released networks')
            "photometric": 0.0,  # variation of the colours of images that are wholly given (they carry no loss)
        },
        "process": {
            "layout": "uniform",  # the noise of the labels: uniform, absorbing, bits
            "image_schedule": "cosine",
            "image_shift": 0.0,
            "layout_schedule": "cosine",
            "layout_shift": 0.0,
            "lowres_schedule": "",  # of the noise on a low-resolution pair; empty for the image's with its shift
            "output": "v",  # what the image head predicts: eps, x0, v, preconditioned, skip
        },
        "network": {"kind": "unet", **network, "dtype": "float32"},
        "text": {
            "encoder": "learned",
            "length": 32,
            "features": 128,
            "layers": 2,
            "drop": 0.2,
            "drop_given_image": 0.75,
        },
        "loss": _defaults(LossConfig),
        "levels": {
            "kind": "free",
            **_defaults(LevelShares),
            "lowres_max": 0.999,  # the highest level of the noise on a low-resolution pair in training
        },
        "optim": _defaults(Optim),
        "train": {**train, "batch_size": 32},
        "mesh": _defaults(MeshSizes),  # devices: data is over how many a batch is cut, fsdp each copy of the state
        "sample": {
            "steps": 50,
            "path": "joint",
            "share": 0.5,  # of the steps of the path layout_first: the layout's
            "spacing": 1.0,  # power of the levels of a path; above 1 steps are closer together near level 0
            "image_step": "ddim",
            "eta": 0.0,  # noise of ddim: 0 is none, 1 the ancestral step's
            "layout_step": "ancestral",
            "psi": 0.0,  # layout_step psi: how often a label is drawn anew from its posterior on the way
            "corrector": 0.0,  # how often a label is redrawn on the way, at the cost of a second call a step
            "decide": False,  # the last step of a label takes its most probable class instead of a draw
            "guidance": (1.0, 1.0),  # text guidance of the image and of the layout
            "layout_guidance": 1.0,  # of the image by the layout
            "image_guidance": 1.0,  # of the layout by the image
            "autoguidance": 1.0,  # of both by a worse model, the folder `worse` of the run
            "interval": (0.0, 1.0),  # the levels at which guidance holds
            "lowres_level": 0.2,  # the level of the noise on a low-resolution pair
            "threshold": 0.0,  # images beyond [-1, 1] are scaled by this quantile of theirs; 0: they are clipped
            "chunk": 16,
        },
    }
    return ConfigDict(config).lock()


def _defaults(cls) -> dict[str, Any]:
    """The defaults of a dataclass; a default of None stands for an optional number."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    return {name: placeholder(float) if value is None else value for name, value in defaults.items()}


def leaves(config: ConfigDict) -> dict[str, Any]:
    """The values of all fields by their dotted paths."""
    return flatten(config.to_dict())


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted paths."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


FIELDS = leaves(default())
"""Every field there is, with its default."""


def assign(config: ConfigDict, field: str, value: Any, where: str, shown: str) -> None:
    """Set a field; errors call it `where` + its path, and the value `shown`.

    Raises ValueError for a field that does not exist and for a value of another type.
    """
    if field not in FIELDS:
        raise ValueError(f"{where}{field}: {unknown(field)}")
    *parents, name = field.split(".")
    node = config
    for part in parents:
        node = node[part]
    try:
        value = convert(value, FIELDS[field])
    except TypeError as error:
        wanted = str(error) or expected(FIELDS[field], node[name])
        raise ValueError(f"{where}{field}={shown}: expected {wanted}") from None
    with node.ignore_type():
        node[name] = value


def convert(value: Any, like: Any) -> Any:
    """`value` in the type of the default `like`, where nothing is lost: an int is a float too, a list a tuple. The
    first element of a tuple stands for all, unless they differ in type: then each stands for itself, and their number
    is fixed. An empty tuple stands for one of numbers.

    Raises TypeError for any other type, and for a number that is not finite in float32.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and (like is None or isinstance(like, float)):
        if not abs(value) <= GREATEST:
            raise TypeError("a finite number")
        return float(value)
    if isinstance(value, list | tuple) and isinstance(like, tuple):
        if len(set(map(type, like))) > 1:
            if len(value) != len(like):
                raise TypeError
            return tuple(map(convert, value, like))
        return tuple(convert(v, like[0] if like else 0.0) for v in value)
    if type(value) is not type(like):
        raise TypeError
    return value


def expected(like: Any, example: Any) -> str:
    """The type of a field, in words for a message."""
    return "a number or None" if like is None else f"{type(like).__name__}, as in {example!r}"


def unknown(field: str) -> str:
    """The message that there is no such field, with the one that may have been meant."""
    node, section = default().to_dict(), ""
    for part in field.split("."):
        if not isinstance(node.get(part), dict):
            break
        node, section = node[part], f"{section}{part}."
    near = None if section == f"{field}." else _closest(field)
    if near:
        return f"there is no such field; did you mean config.{near}?"
    return f"there is no such field; fields near it: {', '.join(section + key for key in sorted(node))}"


def _closest(field: str) -> str | None:
    """The field with the name most like that of `field`, in any section; None if no name is close."""
    by_name: dict[str, list[str]] = {}
    for known in FIELDS:
        by_name.setdefault(known.split(".")[-1], []).append(known)
    names = difflib.get_close_matches(field.split(".")[-1], by_name)
    candidates = [known for name in names for known in by_name[name]]
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, field).ratio(), default=None)
