"""Checkpoints of the paper's released trainer (Park et al. 2023) as run directories.

A file holds the networks of a cascade under 'model' (`unets.N.NAME`, beside the tables of the labels' noise), their
averages under 'ema' (`N.ema_model.NAME`), and an optimiser, which is left. The averages are taken where there are any.

The tables say which schedule the labels had. That of the images is not in the file; the released trainer gave both the
same, and so does a run that is made here.
"""

from __future__ import annotations

import importlib
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gcdiff import config as configs
from gcdiff.config.gcdp import released
from gcdiff.data.labels import CELEBA, CITYSCAPES
from gcdiff.models.official import convert, infer
from gcdiff.schedules import CURVES
from gcdiff.training.checkpoint import save_ema
from gcdiff.types import ImageSpec, LabelSpec

DATASETS = {"celeba": CELEBA, "cityscapes": CITYSCAPES}
SIZES = {"celeba": ((128, 128), (256, 256)), "cityscapes": ((128, 256), (256, 512))}
"""(height, width) of the base and of the super-resolution stage."""
LICENCE = (
    "Weights from the checkpoint {}: their licence, and that of the data they were trained on, are not known here."
)


class Released(NamedTuple):
    """A network of a checkpoint: its weights under their PyTorch names, the schedules of its noise and its step."""

    weights: dict[str, np.ndarray]
    schedule: str
    lowres_schedule: str
    step: int
    averaged: bool


def import_checkpoint(
    file: str | Path, dataset: str, out: str | Path, size: tuple[int, int] | None = None, unet: int | None = None
) -> str:
    """Turn a checkpoint file into the run directory `out`; returns a few lines about its network.

    `dataset` ('celeba' or 'cityscapes') names the classes and, where `size` (height, width) is None, the size; `unet`
    is the number of the network where the file has several. Raises FileNotFoundError for a file that is not there and
    ValueError, in one line, for one that is damaged or of another network, and for a folder that is not empty.
    """
    file, out = Path(file), Path(out)
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}, expected {' or '.join(DATASETS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already: expected a new folder, or an empty one")
    network = read_checkpoint(file, unet)
    try:
        settings = infer(network.weights)
        _, params = convert(network.weights, settings)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    lowres = settings["lowres_cond"]
    size = SIZES[dataset][lowres] if size is None else size
    config = released(settings, size, network.schedule, network.lowres_schedule)
    config.name = f"gcdp_{'sr' if lowres else 'base'}_{dataset}"
    labels, note = _labels(dataset, settings["num_classes"])
    specs = configs.Specs(ImageSpec(), labels, None, LICENCE.format(file.name))
    count = sum(array.size for array in jax.tree.leaves(params))
    kind = "super-resolution stage" if lowres else "base"
    weights = "averaged weights" if network.averaged else "weights (there are no averages)"
    summary = [
        f"{kind}, {count:,} parameters, {weights} of step {network.step}; schedule of the labels: {network.schedule}"
    ]
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        configs.save_run(part, config, specs)
        save_ema(part / "checkpoints", network.step, {"network": params}, {"step": network.step, "imported": file.name})
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return "\n".join(summary + note)


def read_checkpoint(file: Path, unet: int | None = None) -> Released:
    """A network of a checkpoint file, its averages where there are any. Nothing in the file is executed."""
    content = _load(file)
    model, ema = content.get("model"), content.get("ema") or {}
    if not isinstance(model, Mapping):
        raise ValueError(f"{file}: there is no 'model' in it, expected a checkpoint of the released trainer")
    numbers = sorted({int(n.split(".")[1]) for n in model if n.startswith("unets.") and ".init_conv." in n})
    if unet is None and len(numbers) != 1:
        raise ValueError(f"{file}: holds {len(numbers)} networks ({numbers}), expected one, or its number as --unet")
    unet = numbers[0] if unet is None else unet
    if unet not in numbers:
        raise ValueError(f"{file}: has no network {unet}, expected one of {numbers}")
    averaged = any(n.startswith(f"{unet}.ema_model.") for n in ema)
    source, prefix = (ema, f"{unet}.ema_model.") if averaged else (model, f"unets.{unet}.")
    weights = {n.removeprefix(prefix): _array(file, n, v) for n, v in source.items() if n.startswith(prefix)}
    tables = {
        name: _array(file, table, model[table]) if table in model else None
        for name, table in (
            ("label", f"noise_schedulers_lbl.{unet}.log_cumprod_alpha"),
            ("lowres", "lowres_noise_schedule_lbl.log_cumprod_alpha"),
        )
    }
    if tables["label"] is None:
        raise ValueError(f"{file}: has no table noise_schedulers_lbl.{unet}.log_cumprod_alpha of the labels' noise")
    lowres = "" if tables["lowres"] is None else _schedule(file, tables["lowres"])
    step = np.asarray(content.get("steps", [0])).reshape(-1)
    return Released(weights, _schedule(file, tables["label"]), lowres, int(step[min(unet, len(step) - 1)]), averaged)


def _load(file: Path) -> Mapping[str, Any]:
    """The content of a PyTorch file.

    Its tensors are read where they are used, from a file of the format since PyTorch 1.6, so that of networks and
    optimisers only the weights that are taken come into memory; those of the older format are read at once.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise ValueError("reading PyTorch files needs torch: expected pip install 'gcdiff[torch]'") from None
    try:
        archived = zipfile.is_zipfile(file)
        if archived:
            with zipfile.ZipFile(file) as archive:
                if bad := archive.testzip():
                    raise ValueError(f"{bad} is changed")
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=archived)
    except Exception as error:  # torch raises whatever its readers do
        reason = str(error).strip().split("\n")[0][:80] or type(error).__name__
        raise ValueError(f"{file}: cannot be read as a PyTorch checkpoint of weights alone ({reason})") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{file}: holds a {type(content).__name__}, expected a checkpoint of the released trainer")
    return content


def _array(file: Path, name: str, value: Any) -> np.ndarray:
    array = np.asarray(value.float()) if hasattr(value, "float") else np.asarray(value)
    if not np.isfinite(array).all():
        raise ValueError(f"{file}: {name} holds values that are not finite")
    return array


def _schedule(file: Path, table: np.ndarray) -> str:
    """The curve of log(keep(i / T) / keep(0)), i = 1..T-1."""
    t = np.arange(1, len(table)) / len(table)
    for name, curve in CURVES.items():
        levels = np.concatenate([[0.0], t]).astype(np.float32)
        log_keep = np.asarray(jax.nn.log_sigmoid(curve(levels, 1.0)), np.float64)
        if np.abs(log_keep[1:] - log_keep[0] - table[1:]).max() < 1e-2:
            return name
    raise ValueError(f"{file}: the labels' noise follows none of the schedules {', '.join(CURVES)}")


def _labels(dataset: str, count: int) -> tuple[LabelSpec, list[str]]:
    """The classes, and a line for the summary where the data set does not name them."""
    labels = DATASETS[dataset]
    if labels.num_classes == count:
        return labels, []
    for other, spec in DATASETS.items():
        if spec.num_classes == count:
            raise ValueError(f"the network has {count} classes as {other}, {dataset} has {labels.num_classes}")
    hues = np.linspace(0, 1, count, endpoint=False)
    palette = tuple(tuple(int(127 + 127 * np.cos(2 * np.pi * (h + k / 3))) for k in range(3)) for h in hues)
    note = f"the network has {count} classes, {dataset} {labels.num_classes}: they are named class 0 to {count - 1}"
    return LabelSpec(tuple(f"class {k}" for k in range(count)), palette), [note]
