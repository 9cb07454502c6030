"""Random noise levels for training, such that every question that sampling can ask is trained.

1. A base pair of levels for (image, layout):
   diagonal (t, t); (t, 0) an image for a layout; (1, t) a layout from text; (0, t) a segmentation, half of it
   exactly (0, 1); (t, 1) an image alone; independent (t, t'). With `spacing` s the levels of (t, 0) and (t, 1) are
   t^s: above 1 more of them are near level 0, where the texture of surfaces is decided.
   With probability `start` it is exactly (1, 1) instead, from where every path of both sides starts.
2. With probability `known`, a region is given (level 0) in the image, the layout or both, and with probability
   `pieces` a region of the layout stands at a level of its own. In the part `one_sided` of (t, 1) and of (1, t) a
   region of the side at t is given and nothing of the other: outpainting without the other side, which guidance asks.
3. Void pixels are unknown: level 1.

`trained` says how often each question of a model is trained, from the shares alone.

An example without a layout, or without an image, is asked only what its other side can answer: that side stands at t
and the missing one at 1. The shares between such questions are the same as for whole examples.

`LevelShares.shared()` is the paper's model (Park et al. 2023): one level for everything.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.types import VOID, Pair

QUESTIONS = ("joint", "image_given_layout", "layout", "layout_given_image", "image", "independent")


@dataclasses.dataclass(frozen=True)
class LevelShares:
    """How often each base pair is drawn (they sum to 1), and the probabilities of the two kinds of region."""

    joint: float = 0.3
    image_given_layout: float = 0.15
    layout: float = 0.15
    layout_given_image: float = 0.14
    image: float = 0.15
    independent: float = 0.11
    one_call: float = 0.5  # the part of layout_given_image at exactly (0, 1)
    known: float = 0.3
    pieces: float = 0.1
    start: float = 0.03  # of all examples, at exactly (1, 1)
    one_sided: float = 0.35  # the part of image and of layout in which a region of that side alone is known
    spacing: float = 1.0  # power of the levels of image_given_layout and of image; above 1 more are near level 0

    def __post_init__(self):
        shares = self.base()
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"level shares {dict(zip(QUESTIONS, shares, strict=True))} must be >= 0 and sum to 1")
        for name in ("one_call", "known", "pieces", "start", "one_sided"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"levels.{name} is {getattr(self, name)}, expected a probability")
        if not 0 < self.spacing < math.inf:
            raise ValueError(f"levels.spacing is {self.spacing}, expected a number above 0")

    def base(self) -> tuple[float, ...]:
        return tuple(getattr(self, name) for name in QUESTIONS)

    @classmethod
    def shared(cls) -> LevelShares:
        return cls(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Asked(NamedTuple):
    """A question, the levels (image, layout) at which it calls the network, and the shares of training examples at
    such levels: with their text, and with the text dropped."""

    question: str
    levels: str
    with_text: float
    without_text: float


def trained(shares: LevelShares, drop: float, drop_given_image: float) -> list[Asked]:
    """How often each question is trained on whole examples with a caption.

    The caption is dropped with probability `drop`, or `drop_given_image` where all of the image is given. A region is
    taken for neither empty nor everything.

    >>> from gcdiff.levels import LevelShares, trained
    >>> row = trained(LevelShares(), drop=0.2, drop_given_image=0.75)[0]
    >>> print(f"{row.question}, levels {row.levels}: {row.with_text:.3f} and {row.without_text:.3f} without text")
    a labelled image, an edit, levels (t, t): 0.147 and 0.037 without text
    """
    base = dict(zip(QUESTIONS, ((1 - shares.start) * share for share in shares.base()), strict=True))
    quiet = 1 - shares.pieces
    # In a quarter of the cases a region is given in one side alone; in a side that is given anyway it changes nothing.
    plain, given = quiet * (1 - shares.known), quiet * (1 - 0.75 * shares.known)
    both = 1 - shares.one_sided

    def asked(question: str, levels: str, share: float, dropped: float = drop) -> Asked:
        return Asked(question, levels, share * (1 - dropped), share * dropped)

    segments = base["layout_given_image"] * given
    return [
        asked("a labelled image, an edit", "(t, t)", base["joint"] * plain),
        asked("the first call of every path of both sides, or of one", "(1, 1)", shares.start * plain),
        asked("a segmentation in one call", "(0, 1)", segments * shares.one_call, drop_given_image),
        asked("one in several calls, a cleaned layout", "(0, t)", segments * (1 - shares.one_call), drop_given_image),
        asked("an image for a layout", "(t, 0)", base["image_given_layout"] * given),
        asked("an image alone; guidance by the layout", "(t, 1)", base["image"] * both * plain),
        asked("a layout alone; guidance by the image", "(1, t)", base["layout"] * both * plain),
        asked("in- and outpainting", "(t, t), 0 where known", base["joint"] * quiet * shares.known),
        asked("guidance by the layout in it", "(t, 1), 0 where the image is known", base["image"] * shares.one_sided),
        asked("guidance by the image in it", "(1, t), 0 where the layout is known", base["layout"] * shares.one_sided),
    ]


def table(rows: list[Asked]) -> str:
    """The shares as a table in Markdown."""
    lines = ["| question | levels (image, layout) | with text | without text |", "|---|---|---|---|"]
    lines += [f"| {r.question} | {r.levels} | {r.with_text:.1%} | {r.without_text:.1%} |" for r in rows]
    return "\n".join(lines)


class Levels(NamedTuple):
    """Noise levels of a batch: Pair of (B, H, W) in [0, 1], and masks of its known pixels, Pair of bool (B, H, W)."""

    levels: Pair
    known: Pair


def draw(
    key: Array, shares: LevelShares, layout: Array, image_size: tuple[int, int], has_image: Array | None = None
) -> Levels:
    """Draw the levels of a batch of clean layouts int32 (B, H, W), whose grid is a multiple of `image_size`.

    A layout of VOID alone is missing, and where `has_image` bool (B,) is False the image is.
    """
    batch, height, width = layout.shape
    factor = height // image_size[0]
    k_base, k_t, k_rest = jax.random.split(key, 3)
    # Stratified over the batch: the sum over examples varies less than with independent draws.
    t = _stratified(k_t, batch)
    there = Pair(jnp.ones((batch,), bool) if has_image is None else has_image, (layout != VOID).any(axis=(1, 2)))
    base = jax.vmap(lambda k, t, there: _base(k, t, shares, there))(jax.random.split(k_base, batch), t, there)
    image, lay, known = jax.vmap(lambda k, b, y: _regions(k, b, y, shares))(
        jax.random.split(k_rest, batch), base, layout
    )
    image, lay = jnp.where(there.image[:, None, None], image, 1.0), jnp.where(layout == VOID, 1.0, lay)
    known = Pair(known.image & there.image[:, None, None], known.layout & (layout != VOID))
    if factor > 1:
        image, known = image[:, ::factor, ::factor], known._replace(image=known.image[:, ::factor, ::factor])
    return Levels(Pair(image, lay), known)


def _stratified(key: Array, batch: int) -> Array:
    k1, k2 = jax.random.split(key)
    return jax.random.permutation(k2, (jnp.arange(batch) + jax.random.uniform(k1, (batch,))) / batch)


# Which questions say something where the image, or the layout, is missing.
_WITHOUT_IMAGE = tuple(name in ("joint", "layout", "layout_given_image", "independent") for name in QUESTIONS)
_WITHOUT_LAYOUT = tuple(name in ("joint", "image_given_layout", "image", "independent") for name in QUESTIONS)


def _base(key: Array, t: Array, shares: LevelShares, there: Pair) -> tuple[Pair, Pair]:
    """Draw the pair of scalar levels of one example, and of which side alone a region is given (bools).

    `there` says which of its modalities are not missing.
    """
    k_which, k_other, k_one = jax.random.split(key, 3)
    says = (there.image | jnp.asarray(_WITHOUT_IMAGE)) & (there.layout | jnp.asarray(_WITHOUT_LAYOUT))
    weights = jnp.asarray(shares.base())
    weights = jnp.where((weights * says).any(), weights * says, weights)
    edges = jnp.cumsum(weights)
    which = jnp.searchsorted(edges[:-1], jax.random.uniform(k_which) * edges[-1], side="right")
    other = jax.random.uniform(k_other)
    segment = jnp.where(jax.random.uniform(k_one) < shares.one_call, 1.0, t)
    spaced = t if shares.spacing == 1.0 else t**shares.spacing  # of an image that is drawn while no label is
    image = jnp.stack([t, spaced, jnp.ones(()), jnp.zeros(()), spaced, t])[which]
    layout = jnp.stack([t, jnp.zeros(()), t, segment, jnp.ones(()), other])[which]
    # Keys of their own: shares of 0 leave every other draw as it is without them.
    begins, one_sided = (
        jax.random.uniform(jax.random.fold_in(key, n)) < share
        for n, share in ((1, shares.start), (2, shares.one_sided))
    )
    image, layout = jnp.where(begins, 1.0, image), jnp.where(begins, 1.0, layout)
    sides = Pair(*(one_sided & ~begins & (which == QUESTIONS.index(side)) for side in ("image", "layout")))
    return Pair(image, layout), sides


def _regions(key: Array, drawn: tuple[Pair, Pair], layout: Array, shares: LevelShares) -> tuple[Array, Array, Pair]:
    """Draw the level maps (H, W) of one example and its masks of known pixels, from what `_base` has drawn."""
    base, alone = drawn
    k_do, k_mask, k_other, k_where, k_piece, k_level, k_do_piece = jax.random.split(key, 7)
    region, other = random_region(k_mask, layout), random_region(k_other, layout)
    where = jax.random.randint(k_where, (), 0, 4)  # image, layout, both alike, both differently
    do = jax.random.uniform(k_do) < shares.known
    known_image = do & (where != 1) & region
    known_layout = do & (where != 0) & jnp.where(where == 3, other, region)
    one_sided = alone.image | alone.layout
    known_image = jnp.where(one_sided, alone.image & region, known_image)
    known_layout = jnp.where(one_sided, alone.layout & region, known_layout)
    piece = (jax.random.uniform(k_do_piece) < shares.pieces) & ~one_sided & random_region(k_piece, layout)
    image = jnp.where(known_image, 0.0, base.image)
    lay = jnp.where(piece, jax.random.uniform(k_level), base.layout)
    lay = jnp.where(known_layout, 0.0, lay)
    # A pixel at level 0 is given, however it came to be so: it carries no loss.
    return image, lay, Pair(image == 0, lay == 0)


def random_region(key: Array, layout: Array) -> Array:
    """Draw a mask bool (H, W): a rectangle, half plane, strip, brush strokes or whole segments, or a complement."""
    height, width = layout.shape
    k_kind, k_flip, k_shape, k_points, k_classes = jax.random.split(key, 5)
    rows, cols = jnp.linspace(0, 1, height)[:, None], jnp.linspace(0, 1, width)[None]
    u = jax.random.uniform(k_shape, (6,))
    rectangle = (jnp.abs(rows - u[0]) < 0.1 + 0.3 * u[1]) & (jnp.abs(cols - u[2]) < 0.1 + 0.3 * u[3])
    angle = 2 * jnp.pi * u[4]
    distance = (rows - u[0]) * jnp.sin(angle) + (cols - u[2]) * jnp.cos(angle)
    half, strip = distance > 0, jnp.abs(distance) < 0.05 + 0.2 * u[5]
    points = jax.random.uniform(k_points, (4, 2))
    brush = jnp.zeros((height, width), bool)
    for a, b in zip(points[:-1], points[1:], strict=True):
        brush |= _distance_to_segment(rows, cols, a, b) < 0.04 + 0.08 * u[5]
    chosen = jax.random.bernoulli(k_classes, 0.5, (256,))
    segments = chosen[jnp.clip(layout, 0, 255)]
    kinds = jnp.stack([rectangle, half, strip, brush, segments])
    mask = kinds[jax.random.randint(k_kind, (), 0, len(kinds))]
    return mask ^ jax.random.bernoulli(k_flip)


def _distance_to_segment(rows: Array, cols: Array, a: Array, b: Array) -> Array:
    d = b - a
    s = jnp.clip(((rows - a[0]) * d[0] + (cols - a[1]) * d[1]) / jnp.maximum(d @ d, 1e-6), 0, 1)
    return jnp.hypot(rows - a[0] - s * d[0], cols - a[1] - s * d[1])
