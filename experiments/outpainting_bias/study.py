"""Conditioning by replacement, by RePaint and by levels: is it right, how varied is it, what does it cost?

    python experiments/outpainting_bias/study.py                              # the exact worlds: about a minute
    python experiments/outpainting_bias/study.py --workdir runs/demo-long     # a model of street scenes as well

Writes exact.json, and for a model streets.json (after every row; rows that are there are kept) and streets.png, and
brings the tables of README.md up to date.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import exact
import page
import scenes
from PIL import Image

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, help="a run on streets with free levels (default: exact worlds alone)")
    parser.add_argument("--calls", type=int, default=100, help="network calls of every method; levels at a tenth too")
    parser.add_argument("--scenes", type=int, default=24, help="held-out scenes (2 or more)")
    parser.add_argument("--samples", type=int, default=2, help="samples for each scene (2 or more)")
    parser.add_argument("--out", type=Path, default=HERE, help="where the results and the page are")
    arguments = parser.parse_args()
    for name, least in (("calls", 1), ("scenes", 2), ("samples", 2)):
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name} is {getattr(arguments, name)}, expected at least {least}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.out / "exact.json").exists():
        write(arguments.out / "exact.json", {"calls": arguments.calls, "rows": exact.measure(arguments.calls)})
    if arguments.workdir is not None:
        streets(arguments)
    page.update(arguments.out)


def streets(arguments: argparse.Namespace) -> None:
    """Part 2, from where it was left."""
    path = arguments.out / "streets.json"
    fresh = {name: getattr(arguments, name) for name in ("calls", "scenes", "samples")}
    fresh |= {"run": arguments.workdir.name, "rows": []}
    table = json.loads(path.read_text()) if path.exists() else fresh
    for name in ("calls", "scenes", "samples", "run"):
        if table[name] != fresh[name]:
            raise ValueError(f"{path} holds rows of {name} {table[name]}, expected {fresh[name]}: give another --out")
    counts = table["scenes"], table["samples"], table["calls"]
    scenes.measure(arguments.workdir, *counts, table["rows"], lambda: write(path, table))
    Image.fromarray(scenes.picture(arguments.workdir, table["calls"])).save(arguments.out / "streets.png")


def write(path: Path, table: dict) -> None:
    """As JSON, one row a line."""
    rows = ",\n".join("  " + json.dumps(row) for row in table["rows"])
    head = "".join(f' "{name}": {json.dumps(value)},\n' for name, value in table.items() if name != "rows")
    path.write_text(f'{{\n{head} "rows": [\n{rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
