"""The only reader of a ConfigDict: every field has its default here, and everything is built and validated here.

fields: which fields there are.  checks: which values they may have.  load: config files and overrides.
data: data sets and their specs.  parts: everything else a run is built from.  rundir: the files a run leaves.
"""

from gcdiff.config.checks import check
from gcdiff.config.data import DATASETS, Specs, Splits, build_specs, embeddings, splits
from gcdiff.config.fields import default
from gcdiff.config.load import load_file, override, with_fields
from gcdiff.config.parts import (
    Built,
    batches,
    build,
    build_task,
    examples,
    gathered,
    initial_from,
    initial_params,
    label_floor,
    resampled,
    restore_params,
    sample_path,
    train_batches,
    train_config,
)
from gcdiff.config.rundir import load_run, save_run

__all__ = [
    "DATASETS",
    "Built",
    "Specs",
    "Splits",
    "batches",
    "build",
    "build_specs",
    "build_task",
    "check",
    "default",
    "embeddings",
    "examples",
    "gathered",
    "initial_from",
    "initial_params",
    "label_floor",
    "load_file",
    "load_run",
    "override",
    "resampled",
    "restore_params",
    "sample_path",
    "save_run",
    "splits",
    "train_batches",
    "train_config",
    "with_fields",
]
