"""python -m gcdiff is the command gcdiff."""

import sys

from gcdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
