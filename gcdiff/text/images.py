"""Embeddings of images by a frozen CLIP image tower, comparable with those of texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from gcdiff import parallel
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.text import clip
from gcdiff.text.batches import rounds
from gcdiff.text.blocks import compute_dtype
from gcdiff.weights.convert import convert
from gcdiff.weights.fields import Fields
from gcdiff.weights.huggingface import Checkpoint, find, read_json

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of images, as preprocessor_config.json describes it."""

    edge: int = 224  # the shorter edge after resizing
    crop: int = 224
    resample: int = Image.Resampling.BICUBIC
    factor: float = 1 / 255
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def preprocess(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """An image uint8 (H, W, 3) -> float32 (crop, crop, 3): resized by its shorter edge, center-cropped, normalised.

    Raises ValueError, in one line, for an array of another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    height, width = image.shape[:2]
    short = min(height, width)
    size = (int(how.edge * width / short), int(how.edge * height / short))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling(how.resample)))
    top, left = (resized.shape[0] - how.crop) // 2, (resized.shape[1] - how.crop) // 2
    cropped = resized[top : top + how.crop, left : left + how.crop].astype(np.float32) * np.float32(how.factor)
    return (cropped - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)


def read_preprocessing(directory: Path) -> Preprocessing:
    """The preprocessing of the checkpoint in `directory`.

    Read from preprocessor_config.json, or from image_processor in processor_config.json. Raises FileNotFoundError for a
    missing file and ValueError, in one line, for preprocessing that is not supported.
    """
    file, whole = directory / "preprocessor_config.json", directory / "processor_config.json"
    if file.is_file():
        read = Fields(read_json(file), str(file))
    elif whole.is_file() and "image_processor" in (fields := read_json(whole)):
        read = Fields(fields, str(whole)).part("image_processor")
    else:
        raise FileNotFoundError(f"{file}: no such file, expected it to describe the preprocessing of images")
    for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if read.values.get(step, True) is not True:
            raise ValueError(f"{read.where}: {step} is {read.values[step]!r}, expected true")
    how = Preprocessing(
        edge=_edge(read, "size", "shortest_edge"),
        crop=_edge(read, "crop_size", "height"),
        resample=read.count("resample", Image.Resampling.BICUBIC, least=0),
        factor=read.number("rescale_factor", 1 / 255),
        mean=read.numbers("image_mean", MEAN),
        std=read.numbers("image_std", STD),
    )
    if how.crop > how.edge:
        raise ValueError(f"{read.where}: crop_size is {how.crop}, expected at most {how.edge}, the size")
    return how


def _edge(read: Fields, name: str, key: str) -> int:
    """A number of pixels: in old files the value of the field, in new ones under `key` in it."""
    value = read.values.get(name)
    return read.part(name).count(key, 224) if isinstance(value, dict) else read.count(name, 224)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageEncoder:
    """An image tower with its weights, from `load_image_encoder`.

    `module.apply({"params": params}, images)` is the tower itself, for use under jit: preprocessed images float32
    (B, size, size, 3) -> float32 (B, features). `scale` is the factor from cosine similarities of images and texts to
    logits, None where the checkpoint has none. The weights are replicated on every device of `mesh`, and each device
    takes a batch of its own.

    >>> from gcdiff.text.images import load_image_encoder
    >>> load_image_encoder("encoders/clip").scale is None
    False
    """

    module: clip.ClipImageEncoder
    params: Any
    preprocessing: Preprocessing
    scale: float | None
    checkpoint: Checkpoint
    mesh: Mesh | None = None

    @property
    def features(self) -> int:
        """The number of features of an image.

        >>> image_encoder.features == image_encoder.encode(images).shape[1]
        True
        """
        return self.module.projection

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images uint8 (H, W, 3), of one size or of several -> embeddings float32 (N, features), not normalised.

        Raises ValueError, in one line, for an array of another type or shape.

        >>> image_encoder.encode(images).shape == (2, image_encoder.features)
        True
        """
        out = np.zeros((len(images), self.features), np.float32)
        for indices, size in rounds(np.arange(len(images)), 1 if self.mesh is None else self.mesh.size):
            batch = np.zeros((size, self.module.size, self.module.size, 3), np.float32)
            batch[: len(indices)] = [preprocess(images[i], self.preprocessing) for i in indices]
            outputs = _encode(self.module, self.mesh, self.params, parallel.place(batch, self.mesh, BATCH))
            out[indices] = parallel.to_host(outputs)[: len(indices)]
        return out


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(module: Any, mesh: Mesh | None, params: Any, images: Any) -> Any:
    return parallel.on_each(mesh, module.apply, (WHOLE, BATCH), BATCH)({"params": params}, images)


def load_image_encoder(source: str | Path, *, dtype: Any = "float32", revision: str | None = None) -> ImageEncoder:
    """Load the image tower of a CLIP checkpoint; arguments and errors are those of `load_encoder`.

    >>> from gcdiff.text.images import load_image_encoder
    >>> image_encoder = load_image_encoder("encoders/clip")  # a directory, or an id of the hub
    >>> image_encoder.encode(images).shape == (2, image_encoder.features)
    True
    """
    checkpoint = find(source, revision)
    config, where = checkpoint.config(), str(checkpoint.config_file)
    Fields(config, where).choice("model_type", "nothing", ("clip", "clip_vision_model"))
    weights = checkpoint.weights()
    plan = clip.image_plan(config, where, weights.keys(), compute_dtype(dtype))
    how = read_preprocessing(checkpoint.directory)
    if how.crop != plan.module.size:
        raise ValueError(f"{source}: images are cropped to {how.crop}, expected {plan.module.size} by config.json")
    scale = float(np.exp(np.float32(weights["logit_scale"]))) if "logit_scale" in weights else None
    mesh = parallel.chunk_mesh()
    params = parallel.place(convert(weights, plan, checkpoint.source), mesh, WHOLE)
    return ImageEncoder(plan.module, params, how, scale, checkpoint, mesh)
