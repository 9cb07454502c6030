"""Joint diffusion of an image and its semantic layout: one network for every direction.

    >>> import gcdiff
    >>> model = gcdiff.load("runs/demo")
    >>> pair = model.sample("a foggy street with two red cars", num=4)
    >>> pair.image.shape, pair.layout.shape
    ((4, 32, 64, 3), (4, 32, 64))

The modules behind the names are imported on first use: `import gcdiff` takes no time and touches no device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcdiff.api import Model, load
    from gcdiff.guidance import Guidance
    from gcdiff.types import VOID, ImageSpec, LabelSpec, Pair, Text

__version__ = "0.1.0"
__all__ = ["VOID", "Guidance", "ImageSpec", "LabelSpec", "Model", "Pair", "Text", "load"]

_HOME = {
    "load": "gcdiff.api",
    "Model": "gcdiff.api",
    "Guidance": "gcdiff.guidance",
    "Pair": "gcdiff.types",
    "Text": "gcdiff.types",
    "VOID": "gcdiff.types",
    "ImageSpec": "gcdiff.types",
    "LabelSpec": "gcdiff.types",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'gcdiff' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
