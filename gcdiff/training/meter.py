"""Measurement of training speed, and descriptions of the devices and of the compiled step.

The share of peak is that of the FLOP which the compiled program counts: of a rematerialised forward pass both times, of
a loop its body once.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from jax.sharding import Mesh

PEAKS = (
    # Dense products on one device as JAX counts them, TFLOP per second: bfloat16, float32. At JAX's default precision a
    # TPU multiplies float32 in one pass of bfloat16, and an NVIDIA GPU from Ampere on in TF32; the earlier ones have no
    # units for bfloat16.
    # TPU v2, v3: Jouppi et al. 2020, "A domain-specific supercomputer for training deep neural networks", table 1;
    # a device is one of the two cores of a chip. v4 on: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}; a device is a chip.
    (r"TPU v2", 23.0, 23.0),
    (r"TPU v3", 61.5, 61.5),
    (r"TPU v4", 275.0, 275.0),
    (r"TPU v5 ?(lite|e)", 197.0, 197.0),
    (r"TPU v5p?", 459.0, 459.0),
    (r"TPU v6 ?(lite|e)", 918.0, 918.0),
    # NVIDIA's data sheets of these products; where they state products of sparse matrices, half of it.
    (r".*\bV100S\b.*", None, 16.4),
    (r".*\bV100-SXM.*", None, 15.7),
    (r".*\bV100\b.*", None, 14.0),
    (r".*\bT4\b.*", None, 8.1),
    (r".*\bA100\b.*", 312.0, 156.0),
    (r".*\bL4\b.*", 121.0, 60.0),
    (r".*\bH[12]00 NVL\b.*", 835.5, 417.5),
    (r".*\bH100 PCIe\b.*", 756.5, 378.0),
    (r".*\b(H100|H200)\b.*", 989.4, 494.7),
    (r".*\bB200\b.*", 2250.0, 1100.0),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """The peak FLOP per second of one device in dense products of `dtype` (bfloat16 or float32); None if unknown.

    `device_kind` is that of `jax.Device`. CPUs and parts of a GPU (MIG) are unknown.
    """
    if dtype not in ("bfloat16", "float32"):
        raise ValueError(f"dtype is {dtype!r}, expected bfloat16 or float32")
    for pattern, bfloat16, float32 in PEAKS:
        if re.fullmatch(pattern, device_kind) and " MIG " not in device_kind:
            peak = bfloat16 if dtype == "bfloat16" else float32
            return peak and 1e12 * peak
    return None


def device_line(mesh: Mesh) -> str:
    """One line about the devices of a mesh: kinds, layout, memory (of the host, for devices without their own)."""
    kinds = Counter(device.device_kind for device in mesh.devices.flat)
    processes = len({device.process_index for device in mesh.devices.flat})
    parts = [", ".join(f"{count} {kind}" for kind, count in kinds.items())]
    parts[0] += f" on {processes} process{'es' if processes > 1 else ''}"
    parts.append("mesh " + " x ".join(f"{name} {size}" for name, size in mesh.shape.items()))
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in mesh.local_devices]
    if limits and all(limits):
        parts.append(f"{_size(min(limits))} of memory each")
    else:
        parts.append(f"{_size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} of memory in the host")
    return "; ".join(parts)


def step_flops(compiled: Any, parts: int = 1) -> float | None:
    """The FLOP of a compiled step (`jax.stages.Compiled`) on each device; None where the backend does not say.

    A loop's body is counted once: `parts` says how often the step goes through it, where a batch is taken in parts.
    """
    flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
    return parts * float(flops) if flops > 0 else None


def compiled_line(compiled: Any, seconds: float, parts: int = 1) -> str:
    """One line about a compiled step (`jax.stages.Compiled`) that took `seconds` to compile.

    It holds what the backend reports: FLOP (`step_flops`), memory of temporaries and of arguments, on each device.
    """
    line, flops, memory = f"compiled in {seconds:.1f} s", step_flops(compiled, parts), compiled.memory_analysis()
    facts = [] if flops is None else [f"{flops / 1e9:.4g} GFLOP"]
    if memory is not None:
        facts += [f"{_size(memory.temp_size_in_bytes)} temporary", f"{_size(memory.argument_size_in_bytes)} arguments"]
    return f"{line}; a step on each device: {', '.join(facts)}" if facts else line


class Meter:
    """Counts training steps and their time, from its construction on, without the time in which it is `paused`.

    `flops_per_step` and `peak` are those of one device. A loop that waits for the step before counts each step while
    the device still computes it, which evens out over steps.

    `seconds` is the time counted before the last call of `numbers`, `total` all of it.
    """

    def __init__(
        self,
        examples_per_step: int,
        flops_per_step: float | None = None,
        peak: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._examples, self._flops, self._peak, self._clock = examples_per_step, flops_per_step, peak, clock
        self.seconds = 0.0
        self._restart()

    @property
    def total(self) -> float:
        """The seconds since the construction, without pauses; not to be asked for within one."""
        return self.seconds + self._clock() - self._start - self._paused

    def _restart(self) -> None:
        self._start, self._steps, self._waited, self._paused = self._clock(), 0, 0.0, 0.0

    def step(self, waited: float = 0.0) -> None:
        """Count a step, which has waited `waited` seconds for its batch beside the time in `waiting`."""
        self._steps += 1
        self._waited += waited

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context around waiting for a batch, whose time is counted as waiting."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context around what is no step: compiling, evaluating, pictures, saving. Its time is not counted.

        Steps that are still computed belong before it: wait for them first. Pauses do not nest.
        """
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def numbers(self) -> dict[str, float]:
        """Means since the last call, by their names in the log; {} without a step.

        They are seconds a step, examples a second, the share of time waited for data, and the share of the devices'
        peak where it is known.
        """
        seconds = self._clock() - self._start - self._paused
        steps, waited = self._steps, self._waited
        self.seconds += seconds
        self._restart()
        if not steps or seconds <= 0:
            return {}
        numbers = {
            "time/step": seconds / steps,
            "time/examples_per_second": self._examples * steps / seconds,
            "time/waiting": waited / seconds,
        }
        if self._flops and self._peak:
            numbers["time/peak_share"] = self._flops * steps / seconds / self._peak
        return numbers


def _size(count: float) -> str:
    """A number of bytes with its unit, as in 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
