"""The command line: gcdiff prepare | embed | train | checkpoint | import-gcdp | evaluate | sample | segment |
synthesize | outpaint | generate.

parser: the commands and their arguments.  prepare: data.  embed: captions.  train: training.  checkpoint: what a run
has saved.  evaluate: measuring.  draw: all that a trained model draws.  generate: data sets of what it draws.
files: the places that are written to.

Bad input gives one line on stderr and exit status 2; nothing half-written stays behind.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence

from gcdiff.cli.checkpoint import checkpoint
from gcdiff.cli.draw import outpaint, sample, segment, synthesize
from gcdiff.cli.embed import embed
from gcdiff.cli.evaluate import evaluate
from gcdiff.cli.files import leads, say_shipped
from gcdiff.cli.generate import generate
from gcdiff.cli.import_gcdp import import_gcdp
from gcdiff.cli.parser import make_parser
from gcdiff.cli.prepare import prepare
from gcdiff.cli.processes import start
from gcdiff.cli.train import train
from gcdiff.jobs.stop import Interrupted, Paused

COMMANDS = {
    "prepare": prepare,
    "embed": embed,
    "checkpoint": checkpoint,
    "import-gcdp": import_gcdp,
    "evaluate": evaluate,
    "sample": sample,
    "segment": segment,
    "synthesize": synthesize,
    "outpaint": outpaint,
    "generate": generate,
}

NO_CONFIG = ("prepare", "embed", "checkpoint", "import-gcdp")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. A training that a signal stops ends the program with status 0."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = []
    for word in rest:
        field, equals, value = word.removeprefix("--config.").partition("=")
        allowed = "--config." if arguments.command == "train" else "--config.sample."
        if not word.startswith(allowed) or not equals or arguments.command in NO_CONFIG:
            parser.error(f"unknown argument {word}")
        overrides.append((field, value))
    together = False
    try:
        together = start(arguments)
        say_shipped(arguments, quiet=together and not leads())
        with warnings.catch_warnings():
            if arguments.command == "train":
                return train(arguments, overrides)
            arguments.overrides = overrides
            arguments.words = list(sys.argv[1:] if argv is None else argv)
            return COMMANDS[arguments.command](arguments)
    except (ValueError, OSError, OverflowError, FloatingPointError) as error:
        if os.environ.get("GCDIFF_TRACEBACK"):
            raise
        print(f"gcdiff {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not together or os.environ.get("GCDIFF_TRACEBACK"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"gcdiff {arguments.command}: the processes have lost one another ({reason})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"gcdiff {arguments.command}: {interrupt or 'interrupted'}", file=sys.stderr)
        if isinstance(interrupt, Paused):
            return 0
        if not isinstance(interrupt, Interrupted):
            return 128 + signal.SIGINT
        if interrupt.left:  # something is being compiled or drawn that cannot be broken off
            sys.stderr.flush()
            os._exit(0)
        raise SystemExit(0) from None
