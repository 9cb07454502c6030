"""How fast batches are read, and how long a training step waits for one.

    python benchmarks/data.py [--seconds 10] [--json FILE]

Reading: 128x128 pairs of a prepared directory (PNG), with flips, each with a caption of 256 tokens whose 1024 features
are bfloat16 (512 KiB an example), in batches of 64 as training takes them, without a device. By the number of threads.
The files are in the page cache. Decoding alone and features alone say what the time goes to.

Waiting: the share of the steps of configs/streets_unet.py that the loop spends waiting for its next batch.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from gcdiff import config as configs
from gcdiff.data import pipeline
from gcdiff.data.builders.folder import Folder
from gcdiff.data.embeddings import Embeddings, Encoder
from gcdiff.data.prepare import prepare
from gcdiff.data.prepare.embed import write_embeddings
from gcdiff.data.prepared import Prepared
from gcdiff.data.transforms import flip
from gcdiff.types import Text
from gcdiff.worlds.streets.data import Streets

SIZE, EXAMPLES, TOKENS, FEATURES, BATCH = 128, 512, 256, 1024, 64
CONFIG = Path(__file__).parents[1] / "configs" / "streets_unet.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement (default: 10)")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "data.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, stored = write(Path(folder))
        results: dict = {"cores": os.cpu_count(), "examples_per_s": reading(data, stored, options.seconds)}
    results["streets"] = waiting(options.seconds)
    print(json.dumps(results, indent=1))
    options.json.write_text(json.dumps(results, indent=1) + "\n")


def write(root: Path) -> tuple[Prepared, Embeddings]:
    """A folder of street scenes, prepared, and features of its captions."""
    world, captions = Streets("train", EXAMPLES, size=(64, SIZE)), []
    for part in ("images", "layouts"):
        (root / "folder" / part).mkdir(parents=True)
    for i in range(EXAMPLES):
        example = world[i]
        sides = np.tile(example.image, (2, 1, 1)), np.tile(example.layout.astype(np.uint8), (2, 1))
        for part, side in zip(("images", "layouts"), sides, strict=True):
            Image.fromarray(side).save(root / "folder" / part / f"{i}.png")
        captions.append(f"{i}: {example.captions[0]}")
    lines = [json.dumps({"file_name": f"{i}.png", "text": [caption]}) for i, caption in enumerate(captions)]
    (root / "folder" / "captions.jsonl").write_text("\n".join(lines))
    (root / "folder" / "labels.json").write_text(json.dumps({"names": Streets.labels.names}))
    (root / "folder" / "splits.json").write_text(json.dumps({"train": [str(i) for i in range(EXAMPLES)]}))
    prepare(Folder(root / "folder"), root / "data")

    def encode(some) -> Text:
        rng = np.random.default_rng(len(some[0]))
        tokens = rng.standard_normal((len(some), TOKENS, FEATURES), np.float32)
        return Text(tokens, np.ones((len(some), TOKENS), bool))

    write_embeddings(root / "features", captions, Encoder("none", "", FEATURES), encode)
    return Prepared(root / "data"), Embeddings(root / "features")


def reading(data: Prepared, stored: Embeddings, seconds: float) -> dict:
    def mirrored(example, rng):
        return flip(example, rng, data.labels.swaps)

    def with_features(batch):
        return batch, stored.batch(batch.captions, TOKENS)

    rates = {}
    for threads in (1, 2, 4):
        stream = pipeline.batches(data, BATCH, 0, mirrored, threads=threads)
        rates[f"pairs, {threads} threads"] = rate(lambda stream=stream: next(stream), seconds)
        stream = pipeline.batches(data, BATCH, 0, mirrored, threads=threads, finish=with_features)
        rates[f"pairs and features, {threads} threads"] = rate(lambda stream=stream: next(stream), seconds)
    captions = [data[i].captions[0] for i in range(BATCH)]
    rates["features alone"] = rate(lambda: stored.batch(captions, TOKENS), seconds)
    return rates


def rate(step, seconds: float) -> int:
    """Examples a second."""
    step(), step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += BATCH
    return round(count / (time.perf_counter() - start))


def waiting(seconds: float) -> dict:
    """Of training steps of streets, the share of time spent waiting for the batch."""
    import functools

    import jax

    from gcdiff import parallel
    from gcdiff.training.state import create_state, train_step

    config = configs.load_file(str(CONFIG))
    data = configs.splits(config)
    specs, optim = configs.build_specs(config, data.train), configs.train_config(config).optim
    task, mesh = configs.build_task(config, specs, data), parallel.device_mesh()
    state = jax.jit(functools.partial(create_state, task, optim, 0))()
    step = jax.jit(functools.partial(train_step, task, optim, 0), donate_argnums=0)
    stream = configs.batches(config, specs, data)(0)
    waited = started = 0.0
    steps = -2  # the first compiles
    while steps < 5 or time.perf_counter() - started < seconds:
        if steps == 0:
            waited, started = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - before
        state, metrics = step(state, parallel.shard_batch(batch, mesh), np.float32(0))
        jax.block_until_ready(metrics)
        steps += 1
    total = time.perf_counter() - started
    return {"steps": steps, "ms_per_step": round(1e3 * total / steps), "share_waiting": round(waited / total, 5)}


if __name__ == "__main__":
    main()
