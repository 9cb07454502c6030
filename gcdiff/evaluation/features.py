"""Features of images, or of images with their layouts, by whatever the user trusts: one protocol, and its conventions.

    extractor(images, layouts) -> float32 (N, D)

of images uint8 (N, H, W, 3) and layouts int (N, H, W), which most do not read. A network's images are resized with
antialiasing: each channel by itself in floating point, by Pillow's bicubic filter, whose support grows as it reduces,
and never rounded back to 8 bits (Parmar, Zhang and Zhu, On Aliased Resizing, 2022; others change a Fréchet distance by
as much as models differ).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from PIL import Image

from gcdiff import parallel
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.text.batches import rounds
from gcdiff.text.images import ImageEncoder

RESIZE = "Pillow bicubic, antialiased, float32"


class FeatureExtractor(Protocol):
    """name: of the network and its weights; size: the (height, width) it sees, None for that of the images; resize: how
    images are brought to it; standardised: whether features are of several units, to be divided by their deviations."""

    name: str
    size: tuple[int, int] | None
    resize: str
    standardised: bool

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray: ...


def convention(extractor: FeatureExtractor, images: np.ndarray) -> dict[str, Any]:
    """What features of images uint8 (N, H, W, 3) by an extractor are to be compared under."""
    height, width = images.shape[1:3]
    seen = f"{extractor.size[0]}x{extractor.size[1]}" if extractor.size else "as it is"
    return {
        "extractor": extractor.name,
        "resolution": f"{height}x{width}",
        "input": seen,
        "resize": extractor.resize,
    }


def resized(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Images uint8 (N, H, W, 3) at (height, width), float32 in 0 to 255 and a little beyond (bicubic). Raises
    ValueError for images of another form."""
    checked(images)
    if size is None or images.shape[1:3] == tuple(size):
        return images.astype(np.float32)
    found = np.empty((len(images), *size, 3), np.float32)
    for image, out in zip(images, found, strict=True):
        for c in range(3):
            channel = Image.fromarray(image[..., c].astype(np.float32))
            out[..., c] = np.asarray(channel.resize(size[::-1], Image.Resampling.BICUBIC))
    return found


def checked(images: np.ndarray) -> np.ndarray:
    """The images. Raises ValueError unless they are uint8 (N, H, W, 3)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)")
    return images


@dataclasses.dataclass(frozen=True, eq=False)
class PixelFeatures:
    """The pixels themselves at a size, scaled so that a Euclidean distance is the root mean square difference of
    values in [0, 1]."""

    size: tuple[int, int] | None = None
    name: str = "pixels"
    resize: str = RESIZE
    standardised: bool = False

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        flat = resized(images, self.size).reshape(len(images), -1)
        return flat / np.float32(255 * np.sqrt(max(flat.shape[1], 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class JaxFeatures:
    """Any function of JAX: function(params, images float32 (B, height, width, 3)) -> (B, D).

    Images are given as (value / 255 - mean) / std. They run in batches of 4 or 32, one on each device, with the params
    whole on all: an example's features do not depend on how many devices there are.
    """

    name: str
    function: Callable[[Any, Any], Any]
    params: Any
    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = RESIZE
    standardised: bool = False

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        mesh, parts = parallel.chunk_mesh(), []
        params = parallel.place(self.params, mesh, WHOLE)
        for where, room in rounds(np.arange(len(checked(images))), 1 if mesh is None else mesh.size):
            batch = np.zeros((room, *self.size, 3), np.float32)
            batch[: len(where)] = normalised(resized(images[where], self.size), self.mean, self.std)
            found = parallel.to_host(_run(self.function, mesh, params, parallel.place(batch, mesh, BATCH)))
            parts.append(matrix(found[: len(where)], len(where), self.name))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(function: Callable, mesh: Any, params: Any, images: Any) -> Any:
    return parallel.on_each(mesh, function, (WHOLE, BATCH), BATCH)(params, images)


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """(value / 255 - mean) / std of images float32 (N, H, W, 3) in 0 to 255."""
    return (images / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def matrix(features: np.ndarray, examples: int, name: str) -> np.ndarray:
    """Features float32 (N, D); axes of length 1 behind are dropped. Raises ValueError for another shape."""
    found = np.asarray(features, np.float32)
    if found.ndim > 2 and set(found.shape[2:]) == {1}:
        found = found.reshape(found.shape[:2])
    if found.ndim != 2 or len(found) != examples:
        raise ValueError(f"{name}: features have shape {found.shape}, expected ({examples}, D)")
    return found


class ClipFeatures:
    """The image tower of CLIP, from `gcdiff.text.images.load_image_encoder`, prepared as its checkpoint says."""

    standardised = False

    def __init__(self, encoder: ImageEncoder):
        how = encoder.preprocessing
        self.encoder, self.size = encoder, (how.crop, how.crop)
        self.name = f"CLIP image tower {encoder.checkpoint.source} {encoder.checkpoint.revision}"
        filter_name = Image.Resampling(how.resample).name.lower()
        self.resize = f"Pillow {filter_name} of the shorter edge to {how.edge}, 8 bits, middle {how.crop}x{how.crop}"

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        return self.encoder.encode(checked(images))


class Features(NamedTuple):
    """Features float32 (N, D) of examples with ids int64 (N,), and their convention, as a file keeps them."""

    ids: np.ndarray
    values: np.ndarray
    convention: Mapping[str, Any]


def save_features(path: Path, features: Features) -> None:
    """Write a .npz with features, ids and convention."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        told = np.array(json.dumps(dict(features.convention)))
        np.savez(file, features=features.values, ids=features.ids, convention=told)
    part.replace(path)


def load_features(path: Path) -> Features:
    """Features from a .npz of `save_features`, a .npz with an array `features`, or a .npy (N, D).

    Without ids examples are counted from 0; without a convention the extractor is the file's name. Raises
    FileNotFoundError or ValueError, in one line, for a file that is missing or not of this form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected features as .npz or .npy")
    try:
        read = np.load(path, allow_pickle=False)
        read = {name: read[name] for name in read.files} if hasattr(read, "files") else {"features": read}
        told = json.loads(str(read["convention"])) if "convention" in read else {"extractor": f"file {path.name}"}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as fault:
        raise ValueError(f"{path}: {fault}, expected a file of numpy without pickled objects") from None
    values = read.get("features", np.zeros(0))
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        seen = f"{values.dtype} {values.shape}"
        raise ValueError(f"{path}: features are {seen}, expected finite numbers (N, D) as 'features'")
    ids = read.get("ids", np.arange(len(values)))
    if ids.shape != (len(values),):
        raise ValueError(f"{path}: ids have shape {ids.shape}, expected one for each of {len(values)} examples")
    return Features(ids.astype(np.int64), values.astype(np.float32), told)
