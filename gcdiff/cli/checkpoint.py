"""gcdiff checkpoint: what a run has saved, listed, verified, exported and pruned."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from gcdiff.cli.files import writable

COLUMNS = ("saved", "bytes", "manifest", "sha256", "metrics")


def add_parser(commands, formatter) -> None:
    """Enter the command, its actions and their arguments."""
    text = "List, verify, export or prune what a run has saved"
    sub = commands.add_parser("checkpoint", help=text, description=f"{text}.", formatter_class=formatter)
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")

    def action(name: str, text: str):
        one = actions.add_parser(name, help=text, description=f"{text}.", formatter_class=formatter)
        one.add_argument("run", type=Path, metavar="RUN", help="the run directory")
        return one

    listed = action("list", "A table of checkpoints and of snapshots of averages")
    listed.add_argument("--check", action="store_true", help="verify them too: every file is read")
    verify = action("verify", "Compare every file with its sha256; exit status 1 where one is damaged")
    verify.add_argument("--step", type=int, metavar="N", help="that step alone (default: all)")
    prune = action("prune", "Remove all checkpoints but the newest good ones, while no training runs there")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="how many good ones are kept, at least 1")
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    export = action("export", "Write the averaged weights as safetensors, with all that gcdiff.load needs")
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    export.add_argument("--ema", type=float, metavar="S", help="average the weights over another length")


def checkpoint(arguments) -> int:
    """Run one action."""
    return {"list": _list, "verify": _verify, "prune": _prune, "export": _export}[arguments.action](arguments)


def _list(arguments) -> int:
    from gcdiff.training import inventory, manifest

    metrics = inventory.metrics(arguments.run)
    for name, folders in _saved(arguments.run).items():
        rows = [(name, *COLUMNS)]
        for folder in folders:
            damage = manifest.damage(folder.path) if arguments.check else None
            state = "not checked" if not arguments.check else f"damaged ({damage})" if damage else "verified"
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(folder.time))
            values = metrics.get(folder.step, {}) if name == inventory.CHECKPOINTS else {}
            said = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            rows.append((str(folder.step), when, f"{folder.size:,}", "yes" if folder.finished else "no", state, said))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _verify(arguments) -> int:
    from gcdiff.training import manifest

    found = [folder for folders in _saved(arguments.run).values() for folder in folders]
    chosen = [folder for folder in found if arguments.step in (None, folder.step)]
    if not chosen:
        steps = ", ".join(map(str, sorted({folder.step for folder in found})))
        raise ValueError(f"--step is {arguments.step}, expected one of {arguments.run}: {steps}")
    bad = False
    for folder in chosen:
        damage = manifest.damage(folder.path)
        print(f"{folder.path}: {f'damaged ({damage})' if damage else 'verified'}", flush=True)
        bad |= damage is not None
    return int(bad)


def _prune(arguments) -> int:
    from gcdiff.training import inventory

    directory = arguments.run / inventory.CHECKPOINTS
    _saved(arguments.run)
    surplus = inventory.surplus(directory, arguments.keep)
    left = [f for f in inventory.saved(directory) if not f.finished and f not in surplus]
    done = "would be removed" if arguments.dry_run else "removed"
    for folder in surplus:
        if not arguments.dry_run:
            shutil.rmtree(folder.path)
        print(f"{folder.path}: {done}, {folder.size:,} bytes", flush=True)
    for folder in left:
        print(f"{folder.path}: left, its save has not finished")
    print(f"{len(surplus)} {done}, {sum(folder.size for folder in surplus):,} bytes in all")
    return 0


def _export(arguments) -> int:
    from gcdiff import config as configs
    from gcdiff.training.export import check_place, save_export

    run, out = arguments.run, arguments.out
    writable(out)
    check_place(out)
    config, specs = configs.load_run(run)
    params = configs.restore_params(run, configs.build(config, specs), config, specs, arguments.ema)
    save_export(out, params, lambda folder: configs.save_run(folder, config, specs))
    print(f"written to {out}: gcdiff.load and --workdir read it as they do a run")
    return 0


def _saved(run: Path):
    """What a run has saved, by the name of its folder. Raises FileNotFoundError where there is nothing."""
    from gcdiff.training import inventory
    from gcdiff.training.export import is_export

    if is_export(run):
        raise ValueError(f"{run} is an export, which is verified whenever it is loaded: expected a run")
    names = (inventory.CHECKPOINTS, inventory.SNAPSHOTS)
    found = {name: folders for name in names if (folders := inventory.saved(run / name))}
    if not found:
        raise FileNotFoundError(f"{run / inventory.CHECKPOINTS}: no checkpoint found")
    return found
