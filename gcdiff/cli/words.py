"""A line about the words of captions that a model has never seen, before it is asked about them."""

from __future__ import annotations

import sys
import warnings

from gcdiff.cli.files import leads

SHOWN = 20
"""How many words are named."""


def name_unseen_words(model, text) -> None:
    """Name the words of `text` (a caption, several, or None) that a model has never seen, in one line on stderr.

    The process that leads prints it. The warnings of the model's methods, which say the same, are turned off.
    """
    from gcdiff.api.model import UNSEEN_WORDS

    warnings.filterwarnings("ignore", UNSEEN_WORDS)
    unseen = model.unseen_words(text)
    if unseen and leads():
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        print(f"{UNSEEN_WORDS}: {', '.join(unseen[:SHOWN])}{more}", file=sys.stderr)
