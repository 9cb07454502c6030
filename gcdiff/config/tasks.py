"""The kinds of tasks that a config can name in `task`; their batches, checkpoints, and start from another run.

Nothing else in the project knows which task a run trains: `gcdiff train`, the loop, evaluation while training,
`restore_params` and `gcdiff.load` use what a `TaskKind` and the `gcdiff.training.task.Task` it builds declare. A new
task is entered in TASKS; docs/extending.md adds one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gcdiff import shipped
from gcdiff.config.checks import check_joint, check_values
from gcdiff.config.data import Specs, Splits
from gcdiff.config.parts import build, initial_params
from gcdiff.config.rundir import load_run, save_run
from gcdiff.config.training import joint_batches, joint_task
from gcdiff.training.checkpoint import restore_ema
from gcdiff.training.export import WEIGHTS, WORSE, is_export, restore_export, save_export
from gcdiff.training.joint_task import LossConfig, training_params
from gcdiff.training.snapshots import average_of
from gcdiff.training.task import Task
from gcdiff.training.transfer import Names, transfer

ANOTHER_ORDER = 0x9E3779B9
"""Added to the seed of the data for each other order of them."""


class TaskKind(NamedTuple):
    """The functions that make a task of a config, and a model of a run.

    check: (config), raises ValueError for values that this task cannot have
    build: (config, specs, data, initial, devices) -> the `Task`; `initial` replaces fresh parameters where it is given
    collate: (config, specs) -> a function from the pipeline's batches to training batches
    params: (config, specs) -> fresh parameters of the model; only their shapes are used where a run is restored
    training_params: (config) -> those that training alone needs, saved beside the model's
    model: 'module:class' of what `gcdiff.load` gives, by its classmethod `restored(workdir, ema, encoder)`
    """

    check: Callable[[ConfigDict], None]
    build: Callable[..., Task]
    collate: Callable[[ConfigDict, Specs], Callable[[Any], Any]]
    params: Callable[[ConfigDict, Specs], dict[str, Any]]
    training_params: Callable[[ConfigDict], dict[str, Any]]
    model: str


TASKS: dict[str, TaskKind] = {
    "joint": TaskKind(
        check=check_joint,
        build=joint_task,
        collate=joint_batches,
        params=lambda config, specs: initial_params(build(config, specs), config, specs),
        training_params=lambda config: training_params(LossConfig(**config.loss)),
        model="gcdiff.api.model:Model",
    ),
}


def kind(config: ConfigDict) -> TaskKind:
    """The kind of task that a config names. Raises ValueError for an unknown one."""
    if config.task not in TASKS:
        raise ValueError(f"config.task is {config.task!r}, expected one of {tuple(TASKS)}")
    return TASKS[config.task]


def check(config: ConfigDict) -> None:
    """Raise ValueError, naming the field, for a field that does not exist and for a value that is not allowed."""
    check_values(config)
    kind(config).check(config)


def build_task(config: ConfigDict, specs: Specs, data: Splits, initial=None, devices=None) -> Task:
    """The task that a config names, on its data; see `TaskKind.build`."""
    return kind(config).build(config, specs, data, initial, devices)


def model_class(config: ConfigDict) -> Any:
    """The class of the model that `gcdiff.load` makes of a run."""
    module, name = kind(config).model.split(":")
    return getattr(importlib.import_module(module), name)


def batches(config: ConfigDict, specs: Specs, data: Splits) -> Callable[..., Iterator[Any]]:
    """The function (step, order) -> iterator over training batches from that step on, in the order of that number."""
    from gcdiff.data.pipeline import batches as pipeline

    finish = kind(config).collate(config, specs)

    def start(step: int, order: int = 0):
        options = {"start": step, "threads": config.data.threads, "finish": finish}
        options["share"] = jax.process_index(), jax.process_count()
        seed = (config.train.seed + order * ANOTHER_ORDER) % 2**32
        return pipeline(data.train, config.train.batch_size, seed, data.train_transform, **options)

    return start


def restore_params(workdir: Path, config: ConfigDict, specs: Specs, ema: float | None = None) -> dict[str, Any]:
    """Read the averaged parameters of a run's newest checkpoint, of an export, or of a shipped model by its name.

    With `ema` they are the average of that length (sigma_rel), made of the run's snapshots. Parameters that only
    training needs are left out.

    Raises ValueError for a length where the run keeps no averages to choose from, or none that give it.
    """
    shapes = jax.eval_shape(lambda: kind(config).params(config, specs))
    folder = shipped.find(workdir)
    if is_export(folder):
        if ema is not None:
            raise ValueError(f"{workdir} is an export and holds one average: its length is chosen when it is made")
        if shipped.within(folder):
            shipped.check(folder / WEIGHTS)
        return restore_export(folder, shapes)
    if ema is None and not (folder / "checkpoints").is_dir():
        raise FileNotFoundError(f"{workdir}: no checkpoint found, there is neither checkpoints nor {WEIGHTS} in it")
    stored = {**shapes, **jax.eval_shape(lambda: kind(config).training_params(config))}
    profiles = tuple(config.optim.ema_profiles)
    if ema is None:
        params = restore_ema(folder / "checkpoints", stored)
    elif profiles:
        params = average_of(folder / "snapshots", stored, profiles, ema, folder / "checkpoints")
    else:
        raise ValueError(f"{workdir} keeps no averages to choose from: its config.optim.ema_profiles is ()")
    return {name: params[name] for name in shapes}


def save_worse(workdir: Path, params: Any, config: ConfigDict, specs: Specs) -> None:
    """Write parameters of a run as an export into its folder `worse`: the worse model of autoguidance, plain itself."""
    plain = config.copy_and_resolve_references()
    plain.sample.autoguidance = 1.0
    names = jax.eval_shape(lambda: kind(config).params(config, specs))
    save_export(workdir / WORSE, {name: params[name] for name in names}, lambda folder: save_run(folder, plain, specs))


def copy_worse(workdir: Path, folder: Path, dtype: str = "float32") -> None:
    """Export the worse model of a run, an export or a shipped model, where it has one, into the `worse` of a folder."""
    worse = shipped.find(workdir) / WORSE
    if is_export(worse):
        config, specs = load_run(worse)
        params = restore_params(worse, config, specs)
        save_export(folder / WORSE, params, lambda place: save_run(place, config, specs), dtype)


def initial_from(workdir: Path, config: ConfigDict, specs: Specs) -> tuple[Callable[[Any], Any], str]:
    """Initial parameters from another run: (the function from fresh parameters to them, a report of what was taken)."""
    old_config, old_specs = load_run(workdir)
    old = restore_params(workdir, old_config, old_specs)
    names = Names(specs.labels, specs.vocabulary), Names(old_specs.labels, old_specs.vocabulary)
    fresh = jax.jit(lambda: kind(config).params(config, specs))()
    params, report = transfer(fresh, old, *names)
    return lambda _: jax.tree.map(jnp.asarray, params), f"weights of {workdir}: {report}"
