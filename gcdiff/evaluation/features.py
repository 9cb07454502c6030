"""Feature extractors of images for Fréchet distances, KID and the like: the protocol, the usual ones, and their files.

    extractor(images, layouts) -> float32 (N, D)

for images uint8 (N, H, W, 3) and layouts int (N, H, W), which most extractors ignore. Images are resized for a network
with antialiasing: each channel by itself in floating point, by Pillow's bicubic filter, whose support grows as it
reduces, and never rounded back to 8 bits (Parmar, Zhang and Zhu, On Aliased Resizing, 2022; other ways of resizing
change a Fréchet distance by as much as models differ).
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
    """The protocol of a feature extractor, with the facts that comparable features share.

    name: the network and its weights. size: the (height, width) of its input, None for that of the images. resize: how
    images are brought to that size. standardised: whether features have different units, so that metrics divide each by
    its standard deviation.
    """

    name: str
    size: tuple[int, int] | None
    resize: str
    standardised: bool

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray: ...


def convention(extractor: FeatureExtractor, images: np.ndarray) -> dict[str, Any]:
    """The convention of an extractor's features of images uint8 (N, H, W, 3): features compared must agree in it.

    >>> from gcdiff.evaluation.features import PixelFeatures, convention
    >>> convention(PixelFeatures(size=(8, 8)), images)
    {'extractor': 'pixels', 'resolution': '32x64', 'input': '8x8', 'resize': 'Pillow bicubic, antialiased, float32'}
    """
    height, width = images.shape[1:3]
    input_size = f"{extractor.size[0]}x{extractor.size[1]}" if extractor.size else "as it is"
    return {
        "extractor": extractor.name,
        "resolution": f"{height}x{width}",
        "input": input_size,
        "resize": extractor.resize,
    }


def resized(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resize images uint8 (N, H, W, 3) to (height, width): float32, from 0 to 255 and a little beyond (bicubic).

    Raises ValueError for images of another type or shape.
    """
    check_images(images)
    if size is None or images.shape[1:3] == tuple(size):
        return images.astype(np.float32)
    outputs = np.empty((len(images), *size, 3), np.float32)
    for image, out in zip(images, outputs, strict=True):
        for c in range(3):
            channel = Image.fromarray(image[..., c].astype(np.float32))
            out[..., c] = np.asarray(channel.resize(size[::-1], Image.Resampling.BICUBIC))
    return outputs


def check_images(images: np.ndarray) -> np.ndarray:
    """Return the images. Raises ValueError unless they are uint8 (N, H, W, 3)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)")
    return images


@dataclasses.dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Pixels as features, resized to `size`.

    They are scaled so that the Euclidean distance of two images is the root mean square difference of their values in
    [0, 1].
    """

    size: tuple[int, int] | None = None
    name: str = "pixels"
    resize: str = RESIZE
    standardised: bool = False

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        flat = resized(images, self.size).reshape(len(images), -1)
        return flat / np.float32(255 * np.sqrt(max(flat.shape[1], 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class JaxFeatures:
    """The features of a JAX network: function(params, images float32 (B, height, width, 3)) -> (B, D).

    Its input is (value / 255 - mean) / std. Images run in batches of 4 or 32, one batch on each device, with the params
    replicated: an example's features do not depend on the number of devices.
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
        for rows, size in rounds(np.arange(len(check_images(images))), 1 if mesh is None else mesh.size):
            batch = np.zeros((size, *self.size, 3), np.float32)
            batch[: len(rows)] = normalised(resized(images[rows], self.size), self.mean, self.std)
            features = parallel.to_host(_run(self.function, mesh, params, parallel.place(batch, mesh, BATCH)))
            parts.append(feature_matrix(features[: len(rows)], len(rows), self.name))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(function: Callable, mesh: Any, params: Any, images: Any) -> Any:
    return parallel.on_each(mesh, function, (WHOLE, BATCH), BATCH)(params, images)


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Normalise images float32 (N, H, W, 3) in 0 to 255: (value / 255 - mean) / std."""
    return (images / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def feature_matrix(features: np.ndarray, examples: int, name: str) -> np.ndarray:
    """Features as float32 (N, D), without trailing axes of length 1. Raises ValueError for another shape."""
    features = np.asarray(features, np.float32)
    if features.ndim > 2 and set(features.shape[2:]) == {1}:
        features = features.reshape(features.shape[:2])
    if features.ndim != 2 or len(features) != examples:
        raise ValueError(f"{name}: features have shape {features.shape}, expected ({examples}, D)")
    return features


class ClipFeatures:
    """The features of CLIP's image tower (`gcdiff.text.images.load_image_encoder`), preprocessed by its rules."""

    standardised = False

    def __init__(self, encoder: ImageEncoder):
        preparation = encoder.preprocessing
        edge, crop = preparation.edge, preparation.crop
        self.encoder, self.size = encoder, (crop, crop)
        self.name = f"CLIP image tower {encoder.checkpoint.source} {encoder.checkpoint.revision}"
        filter_name = Image.Resampling(preparation.resample).name.lower()
        self.resize = f"Pillow {filter_name} of the shorter edge to {edge}, 8 bits, middle {crop}x{crop}"

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        return self.encoder.encode(check_images(images))


class Features(NamedTuple):
    """The content of a file of features: values float32 (N, D), the examples' ids int64 (N,), and their convention."""

    ids: np.ndarray
    values: np.ndarray
    convention: Mapping[str, Any]


def save_features(path: Path, features: Features) -> None:
    """Write a .npz with the arrays features, ids and convention (as JSON).

    >>> from pathlib import Path
    >>> from gcdiff.evaluation.features import Features, load_features, save_features
    >>> values = np.zeros((2, 8), np.float32)
    >>> save_features(Path("features.npz"), Features(np.arange(2), values, {"extractor": "mine"}))
    >>> load_features(Path("features.npz")).values.shape
    (2, 8)
    """
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        text = np.array(json.dumps(dict(features.convention)))
        np.savez(file, features=features.values, ids=features.ids, convention=text)
    part.replace(path)


def load_features(path: Path) -> Features:
    """Features from a .npz of `save_features`, a .npz with an array `features`, or a .npy (N, D).

    A file without ids numbers its examples from 0; without a convention its name counts as the extractor. Raises
    FileNotFoundError or ValueError, in one line, for a file that is missing or not of this form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected features as .npz or .npy")
    try:
        file = np.load(path, allow_pickle=False)
        arrays = {name: file[name] for name in file.files} if hasattr(file, "files") else {"features": file}
        text = arrays.get("convention")
        convention = {"extractor": f"file {path.name}"} if text is None else json.loads(str(text))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as fault:
        raise ValueError(f"{path}: {fault}, expected a file of numpy without pickled objects") from None
    values = arrays.get("features", np.zeros(0))
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        actual = f"{values.dtype} {values.shape}"
        raise ValueError(f"{path}: features are {actual}, expected finite numbers (N, D) as 'features'")
    ids = arrays.get("ids", np.arange(len(values)))
    if ids.shape != (len(values),):
        raise ValueError(f"{path}: ids have shape {ids.shape}, expected one for each of {len(values)} examples")
    return Features(ids.astype(np.int64), values.astype(np.float32), convention)
