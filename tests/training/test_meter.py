"""Speeds over a clock that the test moves, and what is said of devices and compiled steps."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.parallel import AXES, device_mesh
from gcdiff.training.meter import Meter, compiled_line, device_line, peak_flops, step_flops


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


def test_pauses_are_no_steps_and_waiting_is_a_share():
    clock = Clock()
    meter = Meter(16, flops_per_step=6e9, peak=1e10, clock=clock)
    with meter.paused():
        clock.now += 1000
    for _ in range(4):
        with meter.waiting():
            clock.now += 0.5
        clock.now += 1.0
        meter.step(waited=0.25)
    with pytest.raises(KeyboardInterrupt), meter.paused():
        clock.now += 70
        raise KeyboardInterrupt
    numbers = meter.numbers()
    assert numbers == {
        "time/step": 1.5, "time/examples_per_second": 16 / 1.5, "time/waiting": 0.5, "time/peak_share": 0.4
    }  # fmt: skip
    clock.now += 3
    meter.step()
    assert meter.numbers()["time/step"] == 3.0  # since the last call
    clock.now += 3
    assert meter.numbers() == {}
    clock.now += 2
    assert (meter.seconds, meter.total) == (12.0, 14.0)  # all of it, without the pauses


def test_a_share_of_an_unknown_peak_is_not_said():
    for flops, peak in ((None, 1e10), (1e9, None)):
        clock = Clock()
        meter = Meter(2, flops, peak, clock)
        clock.now += 1
        meter.step()
        assert set(meter.numbers()) == {"time/step", "time/examples_per_second", "time/waiting"}


def test_peaks():
    kinds = ("TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite", "NVIDIA A100-SXM4-40GB", "NVIDIA L4", "NVIDIA B200")
    kinds += ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA H200 NVL")
    for kind in kinds:
        factor = 1 if kind.startswith("TPU") else 2  # TF32 goes half as fast
        assert peak_flops(kind, "bfloat16") == pytest.approx(factor * peak_flops(kind, "float32"), rel=0.03)
    speeds = [
        peak_flops(kind, "float32")
        for kind in (
            "Tesla T4", "Tesla V100-PCIE-16GB", "Tesla V100-SXM2-32GB", "Tesla V100S-PCIE-32GB", "NVIDIA L4",
            "NVIDIA A100 80GB PCIe", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3", "NVIDIA B200",
        )
    ]  # fmt: skip
    assert speeds == sorted(set(speeds))
    assert peak_flops("TPU v5e", "bfloat16") == peak_flops("TPU v5 lite", "bfloat16") == 197e12
    assert peak_flops("Tesla V100-SXM2-32GB", "bfloat16") is None
    for kind in ("cpu", "NVIDIA L40S", "NVIDIA A10", "NVIDIA GB200", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "TPU v9"):
        assert peak_flops(kind, "bfloat16") is peak_flops(kind, "float32") is None
    with pytest.raises(ValueError, match="^dtype is 'int8', expected bfloat16 or float32$"):
        peak_flops("TPU v4", "int8")


def test_the_line_about_devices():
    line = device_line(device_mesh(devices=jax.devices()[:1]))
    assert line.startswith("1 cpu on 1 process; mesh data 1 x fsdp 1; ") and line.endswith("GiB of memory in the host")

    def device(process, gib):
        return SimpleNamespace(
            device_kind="TPU v4", process_index=process, memory_stats=lambda: {"bytes_limit": gib * 2**30}
        )

    devices = np.array([[device(i // 2, 31 + i)] for i in range(4)])
    mesh = SimpleNamespace(
        devices=devices, shape=dict(zip(AXES, (4, 1), strict=True)), local_devices=list(devices[:2, 0])
    )
    assert device_line(mesh) == "4 TPU v4 on 2 processes; mesh data 4 x fsdp 1; 31 GiB of memory each"


def test_the_line_about_a_compiled_step():
    compiled = jax.jit(jnp.dot).lower(jnp.ones((64, 32)), jnp.ones((32, 16))).compile()
    assert step_flops(compiled) == pytest.approx(2 * 64 * 32 * 16, rel=0.01)
    assert step_flops(compiled, parts=3) == 3 * step_flops(compiled)
    line = compiled_line(compiled, 1.25)
    assert line.startswith("compiled in 1.2 s; a step on each device: 6.55") and line.endswith(" 10 KiB arguments")
    silent = SimpleNamespace(cost_analysis=lambda: None, memory_analysis=lambda: None)
    assert step_flops(silent) is None and compiled_line(silent, 3.0) == "compiled in 3.0 s"
