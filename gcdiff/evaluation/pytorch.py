"""Feature extractors and segmenters in PyTorch that the user supplies, through the extra `torch`.

torch is imported when one of them is made, and never before. Both run on the CPU, 32 images at a time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcdiff.evaluation.features import RESIZE, check_images, feature_matrix, normalised, resized
from gcdiff.types import VOID
from gcdiff.weights.fields import Fields
from gcdiff.weights.huggingface import find, read_json

BATCH = 32
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The mean and the standard deviation that transformers takes where a file has none."""


def require_torch(why: str) -> Any:
    """Import and return torch. Raises ValueError, in one line, where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"{why}: torch is not installed, expected it: pip install 'gcdiff[torch]'")
    return importlib.import_module("torch")


class TorchFeatures:
    """The features of a TorchScript file (Inception, DINOv2, ...).

    It maps images float32 (B, 3, height, width) to (B, D) or (B, D, 1, 1). Images are given as (value / 255 - mean) /
    std; a std of 1/255 with a mean of 0 gives values in 0 to 255. The name has the file's sha256. Raises
    FileNotFoundError or ValueError, in one line, for a file that is missing or no TorchScript; a file of code runs what
    it holds: take it from where you would take a program.

    >>> import torch
    >>> from pathlib import Path
    >>> from gcdiff.evaluation.pytorch import TorchFeatures
    >>> network = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    >>> torch.jit.trace(network, torch.zeros(2, 3, 8, 8)).save("mean.pt")
    >>> TorchFeatures(Path("mean.pt"), size=(8, 8))(images).shape
    (2, 3)
    """

    resize, standardised = RESIZE, False

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file, expected a TorchScript file")
        self._torch = require_torch(str(path))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch would rather have another form
                self.module = self._torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as fault:
            raise ValueError(f"{path}: {_line(fault)}, expected a TorchScript file") from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.name = f"TorchScript {path.name} sha256 {digest[:16]} mean {tuple(mean)} std {tuple(std)}"
        self.path, self.size, self.mean, self.std = path, size, mean, std

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        parts = []
        for i in range(0, len(check_images(images)), BATCH):
            batch = normalised(resized(images[i : i + BATCH], self.size), self.mean, self.std)
            try:
                with self._torch.no_grad():
                    features = self.module(self._torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))))
            except RuntimeError as fault:
                raise ValueError(f"{self.path}: it does not take images of {self.size}: {_line(fault)}") from None
            if not isinstance(features, self._torch.Tensor):
                raise ValueError(f"{self.path}: it returns a {type(features).__name__}, expected one tensor")
            parts.append(feature_matrix(features.float().numpy(), len(batch), str(self.path)))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


class TransformersSegmenter:
    """A semantic segmentation network of the library transformers (SegFormer, UPerNet, DPT, ...), its classes by name.

    `source` is a directory or an id of the hub. Its classes are those of its own id2label: copies of one
    network differ in their order. A class of `names` takes all of the network's that have its name, or where `aliases`
    lists it one of those names; case, _ and - do not matter, and of "sidewalk, pavement" either word will do. A pixel
    of another class of the network is VOID.

    Images are resized and normalised as preprocessor_config.json says; the logits are brought back to the images' size
    bilinearly before the best class is taken. Raises FileNotFoundError or ValueError, in one line, for a checkpoint
    that is not of this kind, and for names that the network does not have: all of them.
    """

    def __init__(self, source: str, names: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None):
        self._torch = require_torch(source)
        checkpoint = find(source)
        config = checkpoint.config()
        self.table = matched(config.get("id2label", {}), names, aliases or {}, source)
        from transformers import AutoModelForSemanticSegmentation

        try:
            self.module = AutoModelForSemanticSegmentation.from_pretrained(checkpoint.directory).eval()
        except (ValueError, OSError) as fault:
            raise ValueError(f"{source}: {_line(fault)}, expected a network for semantic segmentation") from None
        self.size, self.mean, self.std = _preparation(checkpoint.directory / "preprocessor_config.json")
        self.name = f"transformers {source} {checkpoint.revision}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (N, H, W, 3) -> labels int32 (N, H, W) with VOID where it sees none of the classes."""
        labels = np.empty(check_images(images).shape[:3], np.int32)
        for i in range(0, len(images), BATCH):
            batch = normalised(resized(images[i : i + BATCH], self.size), self.mean, self.std)
            with self._torch.no_grad():
                pixels = self._torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
                logits = self.module(pixel_values=pixels).logits
                logits = self._torch.nn.functional.interpolate(
                    logits, size=images.shape[1:3], mode="bilinear", align_corners=False
                )
            labels[i : i + BATCH] = self.table[logits.argmax(1).numpy()]
        return labels


def matched(
    id2label: Mapping[Any, str], names: Sequence[str], aliases: Mapping[str, Sequence[str]], source: str
) -> np.ndarray:
    """A table int32 from a network's classes to indices into `names`, VOID for classes that are not among them.

    Raises ValueError, in one line, listing all of `names` that the network does not have, and those it has.
    """
    table = np.full(max(map(int, id2label), default=-1) + 1, VOID, np.int32)
    for number, name in enumerate(names):
        wanted = {_plain(word) for word in aliases.get(name, (name,))}
        for theirs, label in id2label.items():
            if wanted & {_plain(label), *(_plain(word) for word in label.split(","))}:
                table[int(theirs)] = number
    missing = [name for number, name in enumerate(names) if number not in table]
    if missing:
        has = ", ".join(id2label.values())
        raise ValueError(f"{source}: no class for {', '.join(missing)}; expected aliases to name theirs among: {has}")
    return table


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _preparation(file: Path) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """The size, mean and std of preprocessor_config.json."""
    read = Fields(read_json(file), str(file))
    size = read.values.get("size")
    size = {"height": size, "width": size} if isinstance(size, int) else size
    if not isinstance(size, dict) or not {"height", "width"} <= size.keys():
        raise ValueError(f"{file}: size is {size!r}, expected a height and a width")
    of = Fields(size, f"{file}: size")
    edges = of.count("height", 0), of.count("width", 0)
    return edges, read.numbers("image_mean", IMAGENET[0]), read.numbers("image_std", IMAGENET[1])


def _line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0]
