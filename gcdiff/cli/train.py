"""gcdiff train."""

from __future__ import annotations

import sys

from gcdiff.cli.files import cache_compilations, writable


def train(arguments, overrides) -> int:
    """Train a model in --workdir. Everything is checked before anything is written there."""
    from gcdiff import config as configs
    from gcdiff.training import loop
    from gcdiff.training.export import is_export

    config = configs.load_file(arguments.config, overrides)
    workdir, training = arguments.workdir, configs.train_config(config)
    writable(workdir)
    if is_export(workdir):
        raise ValueError(f"{workdir} is an export, with nothing to go on from: expected another --workdir, with --init")
    data = configs.splits(config)
    specs = configs.build_specs(config, data.train)
    initial = None
    if arguments.init is not None and (workdir / "checkpoints").exists():
        print(f"{workdir} goes on from its own checkpoint; --init is not looked at", file=sys.stderr)
    elif arguments.init is not None:
        initial, report = configs.initial_from(arguments.init, config, specs)
        print(report, file=sys.stderr)
    task = configs.build_task(config, specs, data, initial)
    _check_trainable(config, task)
    configs.save_run(workdir, config, specs)
    cache_compilations(workdir)
    loop.train(task, configs.batches(config, specs, data), workdir, training, config.to_dict())
    return 0


def _check_trainable(config, task) -> None:
    """Trace what training runs, on shapes alone. Raises ValueError, in one line, for what cannot be trained."""
    import jax

    from gcdiff.parallel import check_divisible, device_mesh

    size, seed, parts = config.train.batch_size, config.train.seed, config.train.accumulate
    if not 0 <= seed < 2**32:
        raise ValueError(f"config.train.seed is {seed}, expected 0 to {2**32 - 1}")
    check_divisible(size, device_mesh(config.mesh.data, config.mesh.fsdp), parts)
    key = jax.random.key(0)
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), task.heldout)
    try:
        jax.eval_shape(task.step, jax.eval_shape(task.init, key), batch, key)
    except Exception as error:  # a network raises what its layers come across
        raise ValueError(f"this config makes no network: {type(error).__name__}: {error}") from error
