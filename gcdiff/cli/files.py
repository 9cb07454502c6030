"""Output folders, checked before anything else is done, and the process that writes to them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def writable(folder: Path) -> Path:
    """The nearest existing folder, `folder` or one above it. Raises ValueError unless files can be written there."""
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


def cache_compilations(workdir: Path) -> None:
    """Keep compiled programs in a run directory, unless the environment names another place.

    Later starts are faster.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR") and os.access(workdir, os.W_OK):
        import jax

        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / ".compiled"))
