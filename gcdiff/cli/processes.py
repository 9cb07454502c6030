"""Connect several processes, on one machine or many, to one program."""

from __future__ import annotations

import os
from typing import Any

FLAGS = ("coordinator", "num_processes", "process_id")


def add_arguments(sub) -> None:
    """Add the arguments of a command that uses the devices of all processes."""
    group = sub.add_argument_group("several processes, each started with the same command")
    cluster = "as the cluster's variables say: a TPU pod slice, Slurm (srun), Open MPI, Kubernetes"
    group.add_argument("--distributed", action="store_true", help=cluster)
    group.add_argument("--coordinator", metavar="HOST:PORT", help="without a cluster: where process 0 listens")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0 on")


def start(arguments) -> bool:
    """Join the other processes; returns whether there are any. Call it before anything touches a device.

    Raises ValueError, in one line, where they are not described in full, or do not answer.
    """
    given: dict[str, Any] = {name: getattr(arguments, name, None) for name in FLAGS}
    if all(value is None for value in given.values()) and not getattr(arguments, "distributed", False):
        return False
    if not getattr(arguments, "distributed", False):
        missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]
        if missing:
            said = "expected --coordinator, --num-processes and --process-id, or --distributed"
            raise ValueError(f"{' and '.join(missing)} missing: {said}")
        number, count = given["process_id"], given["num_processes"]
        if not 0 <= number < count:
            raise ValueError(f"--process-id is {number}, expected 0 to {count - 1}, of --num-processes {count}")
    import jax

    try:
        jax.distributed.initialize(
            given["coordinator"],
            given["num_processes"],
            given["process_id"],
            initialization_timeout=int(os.environ.get("GCDIFF_JOIN_SECONDS", "300")),
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if "coordinator_address" in reason:
            reason = "the environment names no cluster, expected a TPU pod, Slurm, Open MPI or Kubernetes"
        raise ValueError(f"the processes did not come together: {reason}") from None
    return True
