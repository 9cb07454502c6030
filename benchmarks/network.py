"""One forward pass and one training step of the paper's network family, beside a PyTorch network of its size.

    python benchmarks/network.py [--rounds 5] [--json FILE]

Ours is the 64x64 network with dim 64, mults (1, 2, 4), two blocks a level, 19 classes: 21,359,333 parameters. The peer
is `UNet2DConditionModel` of diffusers (`pip install torch diffusers`; without them ours is measured alone), with
attention at the two coarser levels and about as many parameters. Batch 8, 32 text tokens, float32. A training step is
the mean square of all outputs, its gradient, and AdamW. Each program has a process of its own, whose allocator is set
alike; they take turns, and the best time of each counts. GFLOP are those of convolutions and matrix products,
counted from the programs; a training step counts three forward passes. Memory is the largest resident set of the
process, of which the first number is there before the network is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

BATCH, SIZE, TOKENS, CLASSES = 8, 64, 32, 19
SETTINGS = {
    "dim": 64, "dim_mults": (1, 2, 4), "num_resnet_blocks": 2, "num_classes": CLASSES,
    "layer_attns": (False, True, True), "layer_cross_attns": (False, True, True), "text_embed_dim": 1024,
}  # fmt: skip
ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
"""Freed memory is kept: else every large temporary is mapped, and its pages are touched, anew."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "network.json")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(CHILDREN[options.child])
        return
    peers = [name for name in ("torch", "diffusers") if importlib.util.find_spec(name)]
    names = list(CHILDREN) if len(peers) == 2 else ["gcdiff"]
    if len(names) == 1:
        print("torch and diffusers are not installed: gcdiff is measured alone", file=sys.stderr)
    children = {name: Child(name) for name in names}
    for turn in range(options.rounds + 1):
        for name, child in children.items():
            for what in ("forward", "train"):
                print(f"round {turn} of {options.rounds}: {name} {what}", file=sys.stderr)
                child.ask(what, counts=turn > 0)
    results = {name: child.report() for name, child in children.items()}
    table(results)
    options.json.write_text(json.dumps(results, indent=1) + "\n")


def table(results: dict) -> None:
    print(f"{'':12}{'parameters':>14}{'GFLOP':>8}{'forward':>24}{'training step':>24}{'memory':>18}")
    for name, r in results.items():
        cells = [f"{r[f'{what}_ms']:.0f} ms, {r[f'{what}_ms_per_gflop']:.2f}/GFLOP" for what in ("forward", "train")]
        memory = f"{r['start_mib']:.0f} + {r['peak_mib'] - r['start_mib']:.0f} MiB"
        print(f"{name:12}{r['parameters']:>14,}{r['gflop']:>8.1f}{cells[0]:>24}{cells[1]:>24}{memory:>18}")


class Child:
    """A program in a process of its own."""

    def __init__(self, name: str):
        command = [sys.executable, __file__, "--child", name]
        self.process = subprocess.Popen(
            command, env={**os.environ, **ALLOCATOR}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds = {"forward": math.inf, "train": math.inf}

    def say(self, word: str) -> dict:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} stopped")
        return json.loads(line)

    def ask(self, what: str, counts: bool) -> None:
        seconds = self.say(what)["seconds"]
        if counts:
            self.seconds[what] = min(self.seconds[what], seconds)

    def report(self) -> dict:
        numbers = self.say("report")
        flop = {"forward": numbers["gflop"], "train": 3 * numbers["gflop"]}
        for what, seconds in self.seconds.items():
            numbers[f"{what}_ms"] = round(1e3 * seconds, 1)
            numbers[f"{what}_ms_per_gflop"] = round(1e3 * seconds / flop[what], 3)
        return numbers


def serve(make) -> None:
    """Answer the words on stdin."""
    program = None
    for line in sys.stdin:
        program = program or make()
        word = line.strip()
        if word == "report":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({**program.facts, "peak_mib": round(peak)}), flush=True)
            return
        start = time.perf_counter()
        getattr(program, word)()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def resident() -> float:
    """The memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Ours:
    """The network of gcdiff under jit."""

    def __init__(self):
        import jax
        import jax.numpy as jnp
        import numpy as np
        import optax

        from gcdiff.models.official import network, shapes
        from gcdiff.types import Condition, Pair, Text

        rng = np.random.default_rng(0)
        module = network(SETTINGS)
        pair = Pair(
            rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32), rng.integers(0, CLASSES, (BATCH, SIZE, SIZE))
        )
        log_snr = Pair(*[rng.normal(size=(BATCH, 1, 1)).astype(np.float32)] * 2)
        text = Text(rng.normal(size=(BATCH, TOKENS, 1024)).astype(np.float32), np.ones((BATCH, TOKENS), bool))
        pair, log_snr, condition = jax.tree.map(jnp.asarray, (pair, log_snr, Condition().replace(text=text)))
        start = resident()

        def outputs(params, pair, log_snr, condition):
            return module.apply({"params": params}, pair, log_snr, condition)

        def loss(params, *inputs):
            return sum(jnp.square(side).mean() for side in outputs(params, *inputs))

        optimiser = optax.adamw(1e-4)

        def step(params, state, *inputs):
            updates, state = optimiser.update(jax.grad(loss)(params, *inputs), state, params)
            return optax.apply_updates(params, updates), state

        leaves = shapes(module, 1024)
        self.params = jax.tree.map(
            lambda s: jnp.asarray(0.02 * rng.standard_normal(s.shape).astype(np.float32)), leaves
        )
        self.state = jax.jit(optimiser.init)(self.params)
        self.inputs, self.wait = (pair, log_snr, condition), jax.block_until_ready
        self._forward, self._step = jax.jit(outputs), jax.jit(step, donate_argnums=(0, 1))
        traced = jax.make_jaxpr(outputs)(self.params, *self.inputs)
        count = sum(math.prod(s.shape) for s in jax.tree.leaves(leaves))
        self.facts = {"parameters": count, "gflop": round(flop(traced.jaxpr) / 1e9, 2), "start_mib": round(start)}

    def forward(self) -> None:
        self.wait(self._forward(self.params, *self.inputs))

    def train(self) -> None:
        self.params, self.state = self.wait(self._step(self.params, self.state, *self.inputs))


def flop(jaxpr) -> float:
    """Of the convolutions and matrix products of a traced function."""
    import jax

    total = 0.0
    for equation in jaxpr.eqns:
        out = [v.aval.shape for v in equation.outvars]
        if equation.primitive.name == "conv_general_dilated":
            total += 2 * math.prod(out[0]) * math.prod(equation.invars[1].aval.shape[:3])
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(out[0]) * math.prod(left[i] for i in contracted)
        inner = jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"))
        counts = [flop(getattr(v, "jaxpr", v)) for v in inner if hasattr(v, "eqns") or hasattr(v, "jaxpr")]
        # Of the formulations for several platforms the plain one counts, which comes last, whichever runs.
        total += counts[-1] if equation.primitive.name == "cond" else sum(counts)
    return total


class Peer:
    """UNet2DConditionModel of diffusers."""

    def __init__(self):
        import torch
        from diffusers import UNet2DConditionModel
        from torch.utils.flop_counter import FlopCounterMode

        torch.manual_seed(0)
        noisy, text = torch.randn(BATCH, 6, SIZE, SIZE), torch.randn(BATCH, TOKENS, 1024)
        level = torch.full((BATCH,), 500)
        start = resident()
        attends, plain = "CrossAttn{}Block2D", "{}Block2D"
        self.module = UNet2DConditionModel(
            sample_size=SIZE, in_channels=6, out_channels=3 + CLASSES, layers_per_block=2, cross_attention_dim=1024,
            block_out_channels=WIDTHS, attention_head_dim=8, norm_num_groups=8,
            down_block_types=[plain.format("Down"), attends.format("Down"), attends.format("Down")],
            up_block_types=[attends.format("Up"), attends.format("Up"), plain.format("Up")],
        )  # fmt: skip
        self.optimiser = torch.optim.AdamW(self.module.parameters(), 1e-4)
        self.torch, self.inputs = torch, (noisy, level, text)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.module(*self.inputs)
        count = sum(p.numel() for p in self.module.parameters())
        gflop = counter.get_total_flops() / 1e9
        self.facts = {"parameters": count, "gflop": round(gflop, 2), "start_mib": round(start)}

    def forward(self) -> None:
        with self.torch.no_grad():
            self.module(*self.inputs)

    def train(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.module(*self.inputs).sample.square().mean().backward()
        self.optimiser.step()


WIDTHS = (56, 112, 224)
CHILDREN = {"gcdiff": Ours, "diffusers": Peer}

if __name__ == "__main__":
    main()
