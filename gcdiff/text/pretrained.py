"""Captions to features by the pretrained encoder that encoded the captions of a run's training data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gcdiff.types import Text

if TYPE_CHECKING:
    from gcdiff.text.encoder import TextEncoder


@dataclasses.dataclass(frozen=True)
class PretrainedCaptions:
    """Captions -> `Text` of `length` tokens with `features` features each. The encoder is read with the first caption.

    `model` and `revision` say which encoder it was, `elsewhere` is a directory or hub id to read it from instead. An
    empty `model` stands for features of an unknown encoder, which only `elsewhere` can give.

    Raises ValueError, in one line, where the encoder is not there and where it gives other features; for an encoder
    that was named by `elsewhere` also OSError.
    """

    model: str
    revision: str | None
    features: int
    length: int
    elsewhere: str | Path | None = None

    def __call__(self, captions: Sequence[str]) -> Text:
        source = self.model if self.elsewhere is None else str(self.elsewhere)
        try:
            encoder = loaded(source, self.revision if self.elsewhere is None else None)
        except (OSError, ValueError) as error:
            if self.elsewhere is not None:
                raise
            raise ValueError(
                f"captions of this model are encoded by {source} (revision {self.revision}), which is not there "
                f"({error}): expected encoder= (--encoder) to say where it is, or features as gcdiff.Text"
            ) from None
        if encoder.features != self.features:
            has = f"{source} has {encoder.features} features a token"
            raise ValueError(f"{has}, expected {self.features} as this model reads")
        return encoder.encode(list(captions), self.length)


@functools.lru_cache(maxsize=2)
def loaded(source: str, revision: str | None) -> TextEncoder:
    """The pretrained text encoder of a directory or of the hub."""
    from gcdiff.text.encoder import load_encoder

    return load_encoder(source, revision=revision)
