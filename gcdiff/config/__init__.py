"""The only reader of a ConfigDict: every field has its default here, and everything is built and validated here.

fields: which fields there are.  checks: which values they may have.  load: config files and overrides.
data: data sets and their specs.  parts: everything else a run is built from.  rundir: the files a run leaves.
"""

from gcdiff.config.checks import check
from gcdiff.config.data import Specs, Splits, build_specs, embeddings, examples, gathered, splits
from gcdiff.config.fields import default
from gcdiff.config.load import load_file, override, with_fields
from gcdiff.config.parts import Built, build, initial_params, label_floor, resampled, restore_params, sample_path
from gcdiff.config.rundir import load_run, save_run
from gcdiff.config.training import batches, build_task, initial_from, train_batches, train_config

__all__ = [
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
