"""Our text encoders beside those of transformers in PyTorch, float32.

    python benchmarks/text.py [--rounds 5] [--json FILE]

The T5 has the sizes of google/t5-v1_1-base (12 layers of 768, gated gelu), at lengths 64 and 256; the CLIP text tower
those of openai/clip-vit-large-patch14 (12 layers of 768), at length 77. Batch 8, captions from half to all of the
length, random weights, a table of 1,000 tokens. Each program has a process of its own with its own threads; they take
turns, and the best time of each counts. Without torch (`pip install 'gcdiff[torch]'`) ours is measured alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

BATCH, WORDS, WIDTH, LAYERS, HEADS = 8, 1000, 768, 12, 12
CASES = {"t5_64": 64, "t5_256": 256, "clip_77": 77}
"""The number of tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "text.json")
    parser.add_argument("--child", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(PROGRAMS[options.child]())
        return
    names = list(PROGRAMS) if importlib.util.find_spec("torch") else ["gcdiff"]
    command = [sys.executable, __file__, "--child"]
    children = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in names
    }
    results = {case: {f"{name}_ms": math.inf for name in names} for case in CASES}
    for turn in range(options.rounds + 1):  # the first compiles
        for case, row in results.items():
            for name, child in children.items():
                print(f"round {turn} of {options.rounds}: {case} {name}", file=sys.stderr)
                milliseconds = ask(child, case)
                row[f"{name}_ms"] = min(row[f"{name}_ms"], milliseconds if turn else math.inf)
    for child in children.values():
        child.stdin.close()
        child.wait()
    for case, row in results.items():
        if "torch_ms" in row:
            row["ratio"] = round(row["gcdiff_ms"] / row["torch_ms"], 3)
        print(f"{case:10}" + "  ".join(f"{name} {value:g}" for name, value in row.items()))
    options.json.write_text(json.dumps(results, indent=1) + "\n")


def ask(child: subprocess.Popen, case: str) -> float:
    child.stdin.write(case + "\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"{child.args} stopped")
    return float(line)


def serve(program) -> None:
    """Answer the names of cases on stdin with milliseconds."""
    for line in sys.stdin:
        case = line.strip()
        ids, mask = inputs(CASES[case])
        start = time.perf_counter()
        program(case.split("_")[0], ids, mask)
        print(round(1e3 * (time.perf_counter() - start), 1), flush=True)


def inputs(length: int):
    import numpy as np

    counts = np.linspace(length // 2, length, BATCH).astype(int)
    mask = np.arange(length) < counts[:, None]
    return np.random.default_rng(0).integers(2, WORDS, mask.shape).astype(np.int32) * mask, mask


class Ours:
    """The encoders of gcdiff under jit."""

    def __init__(self):
        import jax
        import numpy as np

        from gcdiff.text.clip import ClipTextEncoder
        from gcdiff.text.t5 import T5Encoder

        self.modules = {
            "t5": T5Encoder(WORDS, WIDTH, LAYERS, HEADS, WIDTH // HEADS, 2048, gated=True),
            "clip": ClipTextEncoder(WORDS, WIDTH, LAYERS, HEADS, 4 * WIDTH),
        }
        self.wait, self.params, self.programs = jax.block_until_ready, {}, {}
        rng = np.random.default_rng(0)
        for name, module in self.modules.items():
            ids = np.zeros((1, 1), np.int32)
            shapes = jax.eval_shape(lambda m=module, i=ids: m.init(jax.random.key(0), i, i == 0))
            random = [jax.device_put(0.02 * rng.normal(size=s.shape).astype("f")) for s in jax.tree.leaves(shapes)]
            self.params[name] = jax.tree.unflatten(jax.tree.structure(shapes), random)
            self.programs[name] = jax.jit(module.apply)

    def __call__(self, name, ids, mask):
        self.wait(self.programs[name](self.params[name], ids, mask))


class Peer:
    """Those of transformers, with the attention that it chooses."""

    def __init__(self):
        import torch
        from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

        self.torch = torch
        t5 = T5Config(
            vocab_size=WORDS, d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=2048, num_layers=LAYERS, num_heads=HEADS,
            feed_forward_proj="gated-gelu",
        )  # fmt: skip
        clip = CLIPTextConfig(
            vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, bos_token_id=0, eos_token_id=2,
        )  # fmt: skip
        self.models = {"t5": T5EncoderModel(t5).eval(), "clip": CLIPTextModel(clip).eval()}

    def __call__(self, name, ids, mask):
        tensors = {"input_ids": self.torch.tensor(ids), "attention_mask": self.torch.tensor(mask).long()}
        with self.torch.inference_mode():
            self.models[name](**tensors)


PROGRAMS = {"gcdiff": Ours, "torch": Peer}

if __name__ == "__main__":
    main()
