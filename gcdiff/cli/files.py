"""Output folders, checked before anything else is done, the process that writes to them, and shipped models' names."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from gcdiff import shipped


def writable(folder: Path) -> Path:
    """The nearest existing folder, `folder` or one above it. Raises ValueError unless files can be written there,
    and for a place among the shipped models."""
    shipped.check_outside(folder)
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not place.is_dir():
        raise ValueError(f"{place} is a file, expected a folder to write to")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from None
    return place


def leads() -> bool:
    """Whether this process writes files and prints. Of several processes that work together one does."""
    import jax

    return jax.process_index() == 0


def beside(workdir: Path, name: str) -> Path:
    """The place for what a command leaves in a run directory: of a shipped model NAME-`name` in the current folder."""
    return Path(f"{workdir.name}-{name}") if shipped.is_shipped(workdir) else workdir / name


def say_shipped(arguments, quiet: bool = False) -> None:
    """Say, in one line on stderr, what a shipped model's name among the runs of a command stands for."""
    runs = [getattr(arguments, flag, None) for flag in ("workdir", "run", "upsample", "init")]
    if arguments.command == "train" and not arguments.workdir.is_dir():
        runs[0] = None  # refused
    for line in dict.fromkeys(shipped.said(run) for run in runs if run is not None):
        if line is not None and not quiet:
            print(line, file=sys.stderr)


def cache_compilations(workdir: Path) -> None:
    """Keep compiled programs in a run directory, unless the environment names another place.

    Those of a shipped model are kept in the user's cache, which is said. Later starts are faster.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    place = workdir.absolute() / ".compiled"
    if shipped.is_shipped(workdir):
        try:
            place = shipped.cache(workdir)
            place.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # there is no home, or none to write to
            return
        if leads():
            print(f"compiled programs are kept in {place}", file=sys.stderr)
    elif not os.access(workdir, os.W_OK):
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(place))
