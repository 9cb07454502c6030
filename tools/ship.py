"""Put a trained model into the package: `python tools/ship.py RUN --name streets ...` writes gcdiff/shipped/streets.

    python tools/ship.py runs/ship --name streets --numbers row.json --command "gcdiff train ..." \\
        --time "2 h on one ..." --cost "..."

The folder holds the averaged weights in bfloat16, what says what the model is, and the card: the exact command that
trained it, in what time, at what cost, and the recorded numbers of a JSON file. The last lines that are printed are
the model's rows of MODELS in gcdiff/shipped/__init__.py: its own and, where the run has one, its worse model's. A
model of that name that is there is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax

import gcdiff
from gcdiff import config as configs
from gcdiff import shipped
from gcdiff.training.export import WEIGHTS, save_export

ABSOLUTE = re.compile(r"(?:^|[\s\"'=(,])(/[\w.-]+/[\w./-]*)", re.MULTILINE)
NAME = re.compile(r"[a-z][a-z0-9_]*")


def ship(run: Path, name: str, card: dict, ema: float | None = None) -> Path:
    """Write the folder of a model, with `card` and what is read off the run in its card; returns the folder.

    Raises ValueError for a name that is none, for a file that is too large, and where a place of this machine stands in
    a file.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"--name is {name!r}, expected small letters, digits and _")
    config, specs = configs.load_run(run)
    params = configs.restore_params(run, config, specs, ema)

    def describe(new: Path) -> None:
        configs.save_run(new, config, specs)
        configs.copy_worse(run, new, "bfloat16")

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        save_export(folder, params, describe, "bfloat16")
        about = {"parameters": sum(array.size for array in jax.tree.leaves(params)), "weights": "bfloat16"}
        about |= {"average": "the run's" if ema is None else ema, "gcdiff": gcdiff.__version__}
        about["sha256"] = shipped.sha256(folder / WEIGHTS)
        text = json.dumps({"name": name, **card, **about}, indent=1) + "\n"
        (folder / shipped.CARD).write_text(text, encoding="utf-8")
        check_files(folder)
        target = shipped.HOME / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
    return target


def check_files(folder: Path) -> None:
    """Raise ValueError for a file that is too large, and for one that names a place of this machine."""
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        if (size := file.stat().st_size) > shipped.LARGEST:
            raise ValueError(f"{file.name} has {size:,} bytes, expected at most {shipped.LARGEST:,}")
        if file.suffix == ".json" and (found := ABSOLUTE.search(file.read_text(encoding="utf-8"))):
            raise ValueError(f"{file.name} names {found[1]}, a place of this machine: expected none in the package")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Put a trained model into the package.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run directory, or an export")
    parser.add_argument("--name", required=True, help="what --workdir and gcdiff.load will call it")
    parser.add_argument("--numbers", required=True, type=Path, metavar="FILE", help="what was measured, a JSON object")
    parser.add_argument("--command", required=True, metavar="WORDS", help="the exact command that trained it")
    parser.add_argument("--time", required=True, metavar="WORDS", help="how long it took, on what")
    parser.add_argument("--cost", required=True, metavar="WORDS", help="what that costs")
    parser.add_argument("--ema", type=float, metavar="S", help="average the weights over another length")
    chosen = parser.parse_args(arguments)
    try:
        numbers = json.loads(chosen.numbers.read_text(encoding="utf-8"))
        if not isinstance(numbers, dict) or not numbers:
            raise ValueError(f"{chosen.numbers}: expected an object of numbers by their names")
        card = {"command": chosen.command, "time": chosen.time, "cost": chosen.cost, "numbers": numbers}
        folder = ship(chosen.run, chosen.name, card, chosen.ema)
    except (ValueError, OSError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        print(f"{file.stat().st_size:>12,} bytes  {file}")
    print("the rows of MODELS in gcdiff/shipped/__init__.py:")
    for file in sorted(folder.rglob(WEIGHTS)):
        print(f'    "{file.parent.relative_to(shipped.HOME).as_posix()}": "{shipped.sha256(file)}",')
    return 0


if __name__ == "__main__":
    sys.exit(main())
