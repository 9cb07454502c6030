"""gcdiff train: one run, or one for each of several seeds."""

from __future__ import annotations

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gcdiff import shipped
from gcdiff.cli.files import cache_compilations, leads, writable


def train(arguments, overrides) -> int:
    """Train a model in --workdir; returns the exit status. Everything is checked before anything is written there."""
    from gcdiff import config as configs

    shipped.check_new(arguments.workdir)
    asked = [("train.tensorboard", "true")] if arguments.tensorboard else []
    config = configs.load_file(arguments.config, [*overrides, *asked])
    if arguments.seeds is not None:
        return _seeds(arguments, config)
    data = configs.splits(config)
    _run(arguments, *_fitted(config, data), data, arguments.workdir)
    return 0


def _fitted(config, data):
    """The config and the specs of a run on some data; what is changed of the config is said."""
    from gcdiff import config as configs

    return configs.fitted(config, data.train, lambda line: print(line, file=sys.stderr) if leads() else None)


def _run(arguments, config, specs, data, workdir: Path, devices=None, stop=None, name: str = "") -> None:
    """Train one run, on all devices or on some."""
    import jax

    from gcdiff import config as configs
    from gcdiff.jobs import lock
    from gcdiff.training import loop
    from gcdiff.training.export import is_export
    from gcdiff.training.groups import check_groups

    training = configs.train_config(config)
    writable(workdir)
    if is_export(workdir):
        raise ValueError(f"{workdir} is an export, with nothing to go on from: expected another --workdir, with --init")
    initial = None
    if arguments.init is not None and (workdir / "checkpoints").exists():
        print(f"{workdir} goes on from its own checkpoint; --init is not looked at", file=sys.stderr)
    elif arguments.init is not None:
        initial, report = configs.initial_from(arguments.init, config, specs)
        print(report, file=sys.stderr)
    task = configs.build_task(config, specs, data, initial, devices)
    _check_trainable(config, task, devices)
    check_groups(training.optim.groups, jax.eval_shape(task.init, jax.random.key(0)))
    with contextlib.ExitStack() as held:
        if leads():
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock.hold(workdir))
            configs.save_run(workdir, config, specs)
        cache_compilations(workdir if arguments.seeds is None else arguments.workdir)  # seeds share their programs
        batches = configs.batches(config, specs, data)
        documents = config.to_dict()

        def keep_worse(params) -> None:
            if leads():
                configs.save_worse(workdir, params, config, specs)

        loop.train(task, batches, workdir, training, documents, devices, stop, name, arguments.profile, keep_worse)


def _seeds(arguments, config) -> int:
    """Train a run for each seed in WORKDIR/seed-S, side by side where there are devices, else one after the other."""
    import jax

    from gcdiff import config as configs
    from gcdiff.jobs.stop import Interrupted, Paused, stop_on_signal

    seeds, devices = _numbers(arguments.seeds), jax.devices()
    if jax.process_count() > 1:
        raise ValueError("--seeds needs one process, with all its devices: start one for each group of seeds instead")
    lanes = min(len(seeds), len(devices))
    size = len(devices) // lanes
    print(f"{len(seeds)} seeds, {lanes} at a time, each on {size} of {len(devices)} devices", file=sys.stderr)
    data = configs.splits(config)
    config, specs = _fitted(config, data)

    def lane(number: int, stop) -> list[BaseException]:
        own, failed = devices[number * size : (number + 1) * size], []
        with jax.default_device(own[0]):
            for seed in seeds[number::lanes]:
                workdir = arguments.workdir / f"seed-{seed}"
                try:
                    one = configs.with_fields(config, {"train.seed": seed})
                    _run(arguments, one, specs, data, workdir, own, stop, f"seed {seed}")
                except Paused as error:  # the other seeds have their own time
                    failed.append(error)
                except Interrupted as error:
                    return [*failed, error]
                except Exception as error:  # the other seeds go on
                    print(f"seed {seed}: {error}", file=sys.stderr)
                    failed.append(error)
        return failed

    with stop_on_signal() as stop:
        if lanes == 1:
            failed: list[Any] = lane(0, stop)
        else:
            with ThreadPoolExecutor(lanes) as pool:
                failed = [error for errors in pool.map(lambda i: lane(i, stop), range(lanes)) for error in errors]
    if failed:
        raise next((error for error in failed if not isinstance(error, Interrupted)), failed[0])
    return 0


def _numbers(text: str) -> list[int]:
    """Parse a list of seeds such as '0,1,2'."""
    words = text.split(",")
    if not all(word.strip().isdigit() for word in words) or len(set(map(int, words))) < len(words):
        raise ValueError(f"--seeds is {text!r}, expected different numbers with commas between them, as in 0,1,2")
    return [int(word) for word in words]


def _check_trainable(config, task, devices=None) -> None:
    """Trace a training step on shapes alone. Raises ValueError, in one line, for what cannot be trained."""
    import jax

    from gcdiff.parallel import check_divisible, device_mesh

    size, seed, parts = config.train.batch_size, config.train.seed, config.train.accumulate
    if not 0 <= seed < 2**32:
        raise ValueError(f"config.train.seed is {seed}, expected 0 to {2**32 - 1}")
    check_divisible(size, device_mesh(config.mesh.data, config.mesh.fsdp, devices), parts)
    key = jax.random.key(0)
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), task.heldout)
    try:
        jax.eval_shape(lambda p, b, k: task.loss_of(p, task.draw(b, k)), jax.eval_shape(task.init, key), batch, key)
    except Exception as error:  # a network raises what its layers come across
        raise ValueError(f"this config makes no network: {type(error).__name__}: {error}") from error
