"""Features of captions and phrases by a frozen T5 or CLIP text encoder.

    encoder = load_encoder("google-t5/t5-large")                  # or a directory
    text = encoder.encode(["a foggy street with two red cars"])   # gcdiff.Text, for any network
    vectors = encoder.phrases(["a red car", "the sky"])           # one vector for each region

Captions are encoded in batches of a few fixed sizes, padded to a few fixed lengths, so that few programs are compiled.
Each of several devices takes a batch of its own, so that features equal those of one device bit for bit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gcdiff import parallel
from gcdiff.parallel import BATCH, WHOLE
from gcdiff.text import clip, t5
from gcdiff.text.batches import rounds
from gcdiff.text.blocks import compute_dtype
from gcdiff.text.subwords import Subwords, read_subwords
from gcdiff.types import Text
from gcdiff.weights.convert import convert
from gcdiff.weights.fields import Fields
from gcdiff.weights.huggingface import Checkpoint, find

LENGTHS = (32, 64, 128, 256, 512)
T5_LIMIT = 256
"""The default limit of a T5 caption in tokens, that of the paper. T5 itself has none: `load_encoder(..., limit=)`."""


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoder:
    """An encoder with its weights and its tokenizer, from `load_encoder`.

    `module.apply({"params": params}, ids, mask)` is the encoder itself, for use under jit: ids int32 (B, T) and mask
    bool (B, T) from `tokens` -> features float32 (B, T, features), zero where the mask is False. `method="phrases"`
    gives float32 (B, phrase_features) instead. The weights are replicated on every device of `mesh`.

    >>> from gcdiff.text.encoder import load_encoder
    >>> load_encoder("encoders/t5").limit
    256
    """

    module: t5.T5Encoder | clip.ClipTextEncoder
    params: Any
    subwords: Subwords
    limit: int  # of a caption in tokens, the end token included
    checkpoint: Checkpoint
    mesh: Mesh | None = None

    @property
    def model_id(self) -> str:
        """The directory or hub id that was passed to `load_encoder`.

        >>> encoder.model_id
        'encoders/t5'
        """
        return self.checkpoint.source

    @property
    def revision(self) -> str:
        """The hub's commit; for a directory the sha256 of its weight files (`cat FILES | sha256sum`).

        >>> len(encoder.revision)
        64
        """
        return self.checkpoint.revision

    @property
    def features(self) -> int:
        """The number of features of a token.

        >>> encoder.features == encoder.encode(["a red car"]).tokens.shape[2]
        True
        """
        return self.module.features

    @property
    def phrase_features(self) -> int:
        """The number of features of a phrase.

        >>> encoder.phrase_features == encoder.phrases(["a red car"]).shape[1]
        True
        """
        return getattr(self.module, "projection", None) or self.module.features

    def lengths(self, captions: Sequence[str]) -> np.ndarray:
        """The number of tokens of each caption, the end token included: int32 (N,).

        >>> encoder.lengths(["a red car", "the sky"]).shape
        (2,)
        """
        return np.array([len(ids) for ids in self.subwords.ids(_texts(captions))], np.int32)

    def tokens(self, captions: Sequence[str], length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int32 (N, T), 0 on padding, and a mask bool (N, T) that is True on tokens.

        T is `length`, or the smallest of LENGTHS and `limit` that holds the longest caption. Raises ValueError for a
        caption longer than `length` or `limit`: nothing is truncated.

        >>> ids, mask = encoder.tokens(["a red car", "the sky"])
        >>> ids.shape, mask.dtype
        ((2, 32), dtype('bool'))
        """
        rows = self._checked(captions, length)
        return _padded(rows, self._length(rows) if length is None else length)

    def encode(self, captions: Sequence[str], length: int | None = None) -> Text:
        """Features float32 (N, T, features), zero on padding, and mask bool (N, T), as numpy arrays; T as in `tokens`.

        Raises ValueError, in one line, for a caption longer than `length` or `limit`: nothing is truncated.

        >>> text = encoder.encode(["a red car", "the sky"])
        >>> text.tokens.shape == (2, 32, encoder.features)
        True
        """
        rows = self._checked(captions, length)
        mask = _padded(rows, self._length(rows) if length is None else length)[1]
        tokens = np.zeros((*mask.shape, self.features), np.float32)
        for indices, features in self._run(_encode, rows):
            shared = min(features.shape[1], mask.shape[1])
            tokens[indices, :shared] = features[:, :shared]
        return Text(tokens, mask)

    def phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """The embedding of each phrase, float32 (N, phrase_features): the mean of its tokens' features for T5, the
        projected text embedding for CLIP.

        Raises ValueError, in one line, for a phrase longer than `limit`.

        >>> encoder.phrases(["a red car", "the sky"]).shape == (2, encoder.phrase_features)
        True
        """
        rows = self._checked(phrases, None)
        vectors = np.zeros((len(rows), self.phrase_features), np.float32)
        for indices, features in self._run(_phrases, rows):
            vectors[indices] = features
        return vectors

    def _checked(self, captions: Sequence[str], length: int | None) -> list[list[int]]:
        """The token ids of each caption. Raises ValueError for one that is too long."""
        limit = self.limit if length is None else min(length, self.limit)
        rows = self.subwords.ids(_texts(captions))
        for caption, ids in zip(captions, rows, strict=True):
            if len(ids) > limit:
                raise ValueError(f"caption has {len(ids)} tokens, the limit is {limit}: {caption!r}")
        return rows

    def _length(self, rows: list[list[int]]) -> int:
        """The smallest fixed length that holds these token ids."""
        longest = max(map(len, rows), default=1)
        return min([n for n in LENGTHS if n >= longest] + [self.limit])

    def _run(self, program: Callable, rows: list[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Run `program` on batches of texts of similar length; yields (row numbers, outputs) for each."""
        fixed = np.array([self._length([ids]) for ids in rows], np.int32)
        for length in sorted(set(fixed.tolist())):
            for indices, size in rounds(np.flatnonzero(fixed == length), 1 if self.mesh is None else self.mesh.size):
                padded = _padded([rows[i] for i in indices] + [[]] * (size - len(indices)), length)
                outputs = program(self.module, self.mesh, self.params, *parallel.place(padded, self.mesh, BATCH))
                yield indices, parallel.to_host(outputs)[: len(indices)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(module: Any, mesh: Mesh | None, params: Any, ids: Any, mask: Any) -> Any:
    return _on_each(mesh, module.apply)({"params": params}, ids, mask)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _phrases(module: Any, mesh: Mesh | None, params: Any, ids: Any, mask: Any) -> Any:
    return _on_each(mesh, functools.partial(module.apply, method="phrases"))({"params": params}, ids, mask)


def _on_each(mesh: Mesh | None, apply: Callable) -> Callable:
    return parallel.on_each(mesh, apply, (WHOLE, BATCH, BATCH), BATCH)


def _texts(captions: Sequence[str]) -> list[str]:
    if isinstance(captions, str):
        raise ValueError(f"captions are one text, {captions!r}, expected a list of texts")
    return list(captions)


def _padded(rows: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids int32 (N, length), 0 on padding, and the mask bool (N, length)."""
    counts = np.array([len(ids) for ids in rows], np.int32)
    mask = np.arange(length) < counts[:, None]
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = [i for row in rows for i in row]
    return ids, mask


def load_encoder(
    source: str | Path, *, dtype: Any = "float32", limit: int | None = None, revision: str | None = None
) -> TextEncoder:
    """Load the T5 or CLIP text encoder of a directory or a Hugging Face hub id.

    `dtype` is the type of matrix products and their weights, float32 or bfloat16. `limit` is the largest number of
    tokens of a caption, by default T5_LIMIT for T5 and the number of positions (77) for CLIP. `revision` is a commit of
    the hub, or the sha256 that a directory's weights must have. Raises FileNotFoundError or ValueError, in one line,
    where a part of the checkpoint is missing or parts do not fit together.

    >>> from gcdiff.text.encoder import load_encoder
    >>> encoder = load_encoder("encoders/t5")  # a directory, or an id of the hub such as "google-t5/t5-large"
    >>> encoder.encode(["a foggy street with two red cars"]).mask.shape
    (1, 32)
    """
    checkpoint = find(source, revision)
    config, where = checkpoint.config(), str(checkpoint.config_file)
    kind = Fields(config, where).choice("model_type", "nothing", ("t5", "clip", "clip_text_model"))
    weights, dtype = checkpoint.weights(), compute_dtype(dtype)
    plan = t5.plan(config, where, dtype) if kind == "t5" else clip.text_plan(config, where, weights.keys(), dtype)
    if limit is None:
        limit = T5_LIMIT if plan.most is None else plan.most
    elif plan.most is not None and limit > plan.most:
        raise ValueError(f"limit is {limit} tokens, expected at most {plan.most}, the positions of {checkpoint.source}")
    family = "t5" if kind == "t5" else "clip"
    subwords = read_subwords(checkpoint.directory, family, plan.module.vocabulary, plan.end)
    mesh = parallel.chunk_mesh()
    params = parallel.place(convert(weights, plan, checkpoint.source), mesh, WHOLE)
    return TextEncoder(plan.module, params, subwords, limit, checkpoint, mesh)
