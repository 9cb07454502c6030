"""gcdiff import-gcdp: a checkpoint of the paper's released trainer as a run."""

from __future__ import annotations

from gcdiff.cli.files import writable


def import_gcdp(arguments) -> int:
    """Make a run directory of a checkpoint file."""
    from gcdiff.api.official import import_checkpoint

    writable(arguments.out)
    size = None if arguments.size is None else tuple(arguments.size)
    print(import_checkpoint(arguments.checkpoint, arguments.dataset, arguments.out, size, arguments.unet))
    print(f"written to {arguments.out}")
    return 0
