"""gcdiff import-gcdp: make a run of a checkpoint of the paper's released trainer."""

from __future__ import annotations

from gcdiff.cli.files import writable


def import_gcdp(arguments) -> int:
    """Make a run directory of a checkpoint file; returns the exit status."""
    from gcdiff.api.official import import_checkpoint

    writable(arguments.out)
    size = None if arguments.size is None else tuple(arguments.size)
    print(import_checkpoint(arguments.checkpoint, arguments.dataset, arguments.out, size, arguments.unet))
    print(f"written to {arguments.out}")
    return 0
