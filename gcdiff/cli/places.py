"""The folders that a command reads pictures from and writes them to: what is not read, what would be written over."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from gcdiff.cli.files import leads, writable

ENTROPY = "entropy"
"""The folder of the maps that `gcdiff segment --entropy` adds."""
SHOWN = 5
"""How many names a line lists."""


def check_output(arguments) -> Path:
    """The nearest existing folder of --out, which can be written to. Raises ValueError where it cannot, and where the
    pictures would be written to where others are read from."""
    from gcdiff.pictures import PARTS

    place, out = writable(arguments.out), arguments.out
    written = [out, *(out / part for part in (*PARTS, ENTROPY))]
    for folder in written:
        writable(folder)
    for flag, part in (("images", "images"), ("layouts", "layouts"), ("known", ".")):
        given = getattr(arguments, flag, None)
        if given is not None and {given.resolve(), (given / part).resolve()} & {w.resolve() for w in written}:
            said = f"--out {out} would be written to where --{flag} {given} is read from"
            raise ValueError(f"{said}: expected another folder")
    return place


def check_older(out: Path, names: Collection[str]) -> None:
    """Raise ValueError where --out holds pictures that an answer of these names would not replace.

    It would then be a mixture of two. An answer of gcdiff with the same names, or with some of them, is replaced.
    """
    from gcdiff.pictures import PARTS

    ours = (out / "overview.png").is_file()
    for part in (*PARTS, ENTROPY):
        files = sorted(f for f in (out / part).iterdir() if f.is_file()) if (out / part).is_dir() else []
        for file in files:
            if not ours or file.suffix != ".png" or file.stem not in names:
                what = "of an older answer with other names" if ours else "not of an answer of gcdiff"
                raise ValueError(f"{file} is {what}: expected --out to be a new folder, or an empty one")


def remove_maps(out: Path, names: Iterable[str]) -> None:
    """Remove the maps of entropy of an older answer."""
    for name in names:
        (out / ENTROPY / f"{name}.png").unlink(missing_ok=True)
    if (out / ENTROPY).is_dir() and not any((out / ENTROPY).iterdir()):
        (out / ENTROPY).rmdir()


def say_unread(folder: Path, part: str | None, suffixes: tuple[str, ...]) -> None:
    """Name, in one line on stderr, the files of a folder that are not read for their ending."""
    from gcdiff.data.reader import unread

    _say(folder, unread(folder, part, suffixes), f"not read, expected names ending in {', '.join(suffixes)}")


def say_unasked(folder: Path, names: Iterable[str]) -> None:
    """Name, in one line on stderr, the pictures of a folder that have no mask and are left out."""
    _say(folder, sorted(names), "left out, as there are no masks of these names")


def say_masks(folder: Path, layouts: Iterable, labels) -> None:
    """Say, in one line on stderr, that all layouts int32 (H, W) of a folder hold class 0 and void alone, as black and
    white masks of another class do."""
    import numpy as np

    from gcdiff.types import VOID

    present = np.unique(np.concatenate([np.unique(layout) for layout in layouts]))
    if present.tolist() == [VOID, 0] and labels.num_classes > 1 and leads():
        said = f"{folder}: the layouts hold 0 and {labels.void_id} alone,"
        said += f" which are {labels.names[0]} and void (unknown)"
        print(f"{said}; where {labels.names[1]} was meant, write 1 for it", file=sys.stderr)


def _say(folder: Path, names: list[str], why: str) -> None:
    if names and leads():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        print(f"{folder}: {', '.join(names[:SHOWN])}{more}: {why}", file=sys.stderr)
