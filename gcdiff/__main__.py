"""Runs the command line: `python -m gcdiff` does what the command `gcdiff` does."""

import sys

from gcdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
