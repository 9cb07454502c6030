"""gcdiff checkpoint: list, verify, export and prune the checkpoints of a run; list also what an export holds."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gcdiff import shipped
from gcdiff.cli.files import writable

COLUMNS = ("saved", "bytes", "manifest", "sha256", "metrics")


def add_parser(commands, formatter) -> None:
    """Add the command, its actions and their arguments to the parser."""
    text = "List, verify, export or prune what a run has saved"
    sub = commands.add_parser("checkpoint", help=text, description=f"{text}.", formatter_class=formatter)
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")

    def action(name: str, text: str, place: str = "the run directory"):
        one = actions.add_parser(name, help=text, description=f"{text}.", formatter_class=formatter)
        one.add_argument("run", type=Path, metavar="RUN", help=place)
        return one

    read = "the run directory, an export, or the name of a shipped model"
    listed = action("list", "A table of checkpoints and of snapshots of averages, or of what an export holds", read)
    listed.add_argument("--check", action="store_true", help="verify them too: every file is read")
    verify = action("verify", "Compare every file with its sha256; exit status 1 where one is damaged")
    verify.add_argument("--step", type=int, metavar="N", help="that step alone (default: all)")
    text = "Remove damaged checkpoints, and good ones but the newest and those that the config keeps"
    prune = action("prune", f"{text}; refused while a training runs there")
    prune.add_argument(
        "--keep", type=int, required=True, metavar="N", help="how many newest good ones stay, at least 1"
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    export = action("export", "Write the averaged weights as safetensors, with all that gcdiff.load needs", read)
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    export.add_argument("--ema", type=float, metavar="S", help="average the weights over another length")
    types = "of the weights in the file: bfloat16 rounds them to half the bytes (default: float32)"
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help=types)


def checkpoint(arguments) -> int:
    """Run one action; returns the exit status."""
    return {"list": _list, "verify": _verify, "prune": _prune, "export": _export}[arguments.action](arguments)


def _list(arguments) -> int:
    from gcdiff.training import inventory, manifest
    from gcdiff.training.export import is_export

    if is_export(folder := shipped.find(arguments.run)):
        return _list_export(folder, arguments.check)
    metrics = inventory.metrics(arguments.run)
    for name, folders in _saved(arguments.run, inventory.aside).items():
        rows = [(name, *COLUMNS)]
        for folder in folders:
            step = folder.path.name == str(folder.step)
            damage = manifest.damage(folder.path) if arguments.check and step else None
            state = f"damaged ({damage})" if damage else "verified" if arguments.check else "not checked"
            state = state if step else "set aside"
            when = _date(folder.time)
            values = metrics.get(folder.step, {}) if name == inventory.CHECKPOINTS and step else {}
            said = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            rows.append((folder.path.name, when, f"{folder.size:,}", "yes" if folder.finished else "no", state, said))
        _print(rows)
    return 0


def _list_export(folder: Path, check: bool) -> int:
    """Print a table of an export's files, and the card of a shipped model."""
    from gcdiff.training.export import FILES, WEIGHTS, WORSE, read_arrays

    names = [*FILES, *(f"{WORSE}/{name}" for name in FILES)]
    rows = [("export", *COLUMNS[:2], COLUMNS[3])]
    for name in (name for name in names if (folder / name).is_file()):
        file = folder / name
        state = "not checked"
        if check and file.name == WEIGHTS:
            state = "verified"
            try:
                read_arrays(file)
                if shipped.within(folder):
                    shipped.check(file)
            except ValueError as error:
                state = f"damaged ({str(error).removeprefix(f'{file}: damaged, ')})"
        rows.append((name, _date(file.stat().st_mtime), f"{file.stat().st_size:,}", state))
    _print(rows)
    for name, value in shipped.card(folder).items():
        print(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _verify(arguments) -> int:
    from gcdiff.training import manifest

    saved = [folder for folders in _saved(arguments.run).values() for folder in folders]
    chosen = [folder for folder in saved if arguments.step in (None, folder.step)]
    if not chosen:
        steps = ", ".join(map(str, sorted({folder.step for folder in saved})))
        raise ValueError(f"--step is {arguments.step}, expected one of {arguments.run}: {steps}")
    bad = False
    for folder in chosen:
        damage = manifest.damage(folder.path)
        print(f"{folder.path}: {f'damaged ({damage})' if damage else 'verified'}", flush=True)
        bad |= damage is not None
    return int(bad)


def _prune(arguments) -> int:
    from gcdiff import config as configs
    from gcdiff.jobs.lock import hold
    from gcdiff.training import inventory
    from gcdiff.training.keep import Keep

    directory = arguments.run / inventory.CHECKPOINTS
    _saved(arguments.run)
    train = configs.load_run(arguments.run)[0].train
    keep = Keep(arguments.keep, train.keep_best, train.keep_every)
    done = "would be removed" if arguments.dry_run else "removed"
    with contextlib.nullcontext() if arguments.dry_run else hold(arguments.run):
        surplus = inventory.surplus(directory, keep)
        for folder in surplus:
            if not arguments.dry_run:
                shutil.rmtree(folder.path)
            print(f"{folder.path}: {done}, {folder.size:,} bytes", flush=True)
    print(f"{len(surplus)} {done}, {sum(folder.size for folder in surplus):,} bytes in all")
    return 0


def _export(arguments) -> int:
    from gcdiff import config as configs
    from gcdiff.training.export import check_place, save_export

    run, out = arguments.run, arguments.out
    writable(out)
    check_place(out)
    config, specs = configs.load_run(run)
    params = configs.restore_params(run, config, specs, arguments.ema)

    def describe(folder: Path) -> None:
        configs.save_run(folder, config, specs)
        configs.copy_worse(run, folder, arguments.dtype)

    save_export(out, params, describe, arguments.dtype)
    print(f"written to {out}: gcdiff.load and --workdir read it as they do a run")
    return 0


def _saved(run: Path, more: Callable[[Path], list] = lambda _: []):
    """The saved folders of a run by kind (checkpoints, snapshots), those of `more` last.

    Raises FileNotFoundError where there are none.
    """
    from gcdiff.training import inventory
    from gcdiff.training.export import is_export

    if is_export(shipped.find(run)):
        raise ValueError(f"{run} is an export, which is verified whenever it is loaded: expected a run")
    names = (inventory.CHECKPOINTS, inventory.SNAPSHOTS)
    saved = {name: folders for name in names if (folders := inventory.saved(run / name) + more(run / name))}
    if not saved:
        raise FileNotFoundError(f"{run / inventory.CHECKPOINTS}: no checkpoint found")
    return saved
