"""Configs: the defaults of all fields, their validation, and the parts of a run that are built from them.

fields: which fields there are.  recipes: values for a small model that trains fast.  checks: which values they may
have.  load: config files and overrides.
data: data sets and their specs.  fit: a config fitted to its captions.  parts: the parts of a joint model.
training: its task.  tasks: the kinds of tasks.  rundir: the files a run leaves.
"""

from gcdiff.config.data import Specs, Splits, build_specs, captions_of, embeddings, examples, gathered, splits
from gcdiff.config.fields import default
from gcdiff.config.fit import fitted
from gcdiff.config.load import load_file, override, with_fields
from gcdiff.config.parts import Built, Defaults, build, initial_params, resampled
from gcdiff.config.recipes import recipe
from gcdiff.config.rundir import load_run, save_run
from gcdiff.config.tasks import (
    TASKS,
    batches,
    build_task,
    check,
    copy_worse,
    initial_from,
    model_class,
    restore_params,
    save_worse,
)
from gcdiff.config.training import joint_batches, train_config

__all__ = [
    "TASKS",
    "Built",
    "Defaults",
    "Specs",
    "Splits",
    "batches",
    "build",
    "build_specs",
    "build_task",
    "captions_of",
    "check",
    "copy_worse",
    "default",
    "embeddings",
    "examples",
    "fitted",
    "gathered",
    "initial_from",
    "initial_params",
    "joint_batches",
    "load_file",
    "load_run",
    "model_class",
    "override",
    "recipe",
    "resampled",
    "restore_params",
    "save_run",
    "save_worse",
    "splits",
    "train_config",
    "with_fields",
]
