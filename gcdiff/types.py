"""The types that every part of gcdiff shares.

A `Pair` carries one thing per modality: values, noise levels, known-masks, predictions or keys. A level t lies
in [0, 1]: 0 means "given", 1 means "unknown". Levels are (B, 1, 1) or (B, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

VOID = -1
"""The label of a pixel whose class is not known. It exists in clean layouts only, never in a noisy one."""


class Pair(NamedTuple):
    """One value per modality: image float32 (B, h, w, C), layout int32 (B, H, W); None where there is none.

    >>> pair = gcdiff.Pair(images, layouts)
    >>> pair.image.shape, pair.layout.shape
    ((2, 32, 64, 3), (2, 32, 64))
    >>> gcdiff.Pair(layout=layouts).image is None
    True
    """

    image: Any = None
    layout: Any = None


def pair_map(function: Callable, *pairs: Pair) -> Pair:
    """Apply `function` to the images and to the layouts of `pairs`; a modality that is None anywhere stays None."""
    image, layout = ([getattr(p, side) for p in pairs] for side in Pair._fields)
    return Pair(
        None if any(v is None for v in image) else function(*image),
        None if any(v is None for v in layout) else function(*layout),
    )


class Text(NamedTuple):
    """Encoded text: features f32 (B, T, D) and a bool mask (B, T) that is True on real tokens.

    An example without a real token has no text: a network puts its learned null in the place.

    >>> text = gcdiff.Text(np.zeros((2, 5, 16), np.float32), np.ones((2, 5), bool))
    >>> text.tokens.shape, text.mask.shape
    ((2, 5, 16), (2, 5))
    """

    tokens: Any
    mask: Any

    def without(self, examples: Any = True) -> Text:
        """The text removed for `examples`, bool (B,), or for all.

        >>> text = gcdiff.Text(np.zeros((2, 5, 16), np.float32), np.ones((2, 5), bool))
        >>> text.without([True, False]).mask.any(axis=1).tolist()
        [False, True]
        """
        keep = jnp.logical_not(jnp.asarray(examples))
        return self._replace(mask=self.mask & jnp.broadcast_to(keep, self.mask.shape[:1])[:, None])


class LowRes(NamedTuple):
    """A low-resolution pair with noise on it, for a super-resolution stage.

    image f32 (B, h, w, C); layout int32 (B, h, w) or shares of classes f32 (B, h, w, K); log_snr f32 (B,), that of the
    noise: -inf is a pair that says nothing.
    """

    image: Any
    layout: Any
    log_snr: Any

    def without(self, examples: Any = True) -> LowRes:
        """The same with nothing said of `examples`, bool (B,), or of all."""
        return self._replace(log_snr=jnp.where(jnp.asarray(examples), -jnp.inf, self.log_snr))


@struct.dataclass
class Condition:
    """Everything besides the noisy pair and its levels that a network reads. Batch first in every array.

    Which fields are there is fixed for a run. An example goes without one of them by the field's own `without`.
    `areas` and `inject` are pyramids by stride: region areas (B, h, w, N) for controlled attention, and features (B, h,
    w, F) that are added at the end of the stages of that grid.
    """

    text: Text | None = None
    lowres: LowRes | None = None
    areas: Mapping[int, Array] = struct.field(default_factory=dict)
    inject: Mapping[int, Array] = struct.field(default_factory=dict)

    def without(self, name: str, examples: Any = True) -> Condition:
        """The condition without the field `name` for `examples`, bool (B,), or for all. Raises ValueError where there
        is no such field in it."""
        if (part := getattr(self, name)) is None:
            raise ValueError(f"to go without {name} needs a {name}; this model was trained without one")
        return dataclasses.replace(self, **{name: part.without(examples)})


Denoiser = Callable[[Pair, Pair, Condition], Pair]
"""(noisy, levels, condition) -> Pair(raw image output (B,h,w,C), leave-one-out logits (B,H,W,K))."""


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Some channels of the image that belong together: their loss weight and how they are displayed.

    >>> from gcdiff.types import ChannelGroup
    >>> depth = ChannelGroup("depth", 1, weight=0.5, display="grey")
    >>> gcdiff.ImageSpec((ChannelGroup("rgb", 3), depth)).channels
    4
    """

    name: str
    channels: int
    weight: float = 1.0
    display: str = "rgb"  # 'rgb' | 'grey' | 'hidden'


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The channel groups of an image, in order. The default is one group, rgb.

    >>> model.image == gcdiff.ImageSpec()
    True
    """

    groups: tuple[ChannelGroup, ...] = (ChannelGroup("rgb", 3),)

    @property
    def channels(self) -> int:
        """The number of channels of all groups together.

        >>> gcdiff.ImageSpec().channels
        3
        """
        return sum(g.channels for g in self.groups)

    def to_dict(self) -> dict:
        """The groups as plain dictionaries, for JSON.

        >>> gcdiff.ImageSpec().to_dict()
        {'groups': [{'name': 'rgb', 'channels': 3, 'weight': 1.0, 'display': 'rgb'}]}
        """
        return {"groups": [dataclasses.asdict(g) for g in self.groups]}

    @classmethod
    def from_dict(cls, fields: Mapping) -> ImageSpec:
        """The inverse of `to_dict`.

        >>> gcdiff.ImageSpec.from_dict(model.image.to_dict()) == model.image
        True
        """
        return cls(tuple(ChannelGroup(**g) for g in fields["groups"]))


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """The classes of a layout: names, colours, which swap under a left/right flip, what void means.

    `void` is 'missing' (a void pixel is unknown: level 1, no loss; being void is taken to say nothing about the
    class) or 'class' (void is modelled as the last class). Files mark void by `void_id`.

    >>> labels = gcdiff.LabelSpec(names=("road", "sky"), palette=((128, 64, 128), (70, 130, 180)))
    >>> labels.num_classes, labels.void
    (2, 'missing')
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    swaps: tuple[tuple[int, int], ...] = ()
    void: str = "missing"
    void_id: int = 255
    void_color: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self):
        if len(self.names) != len(self.palette):
            raise ValueError(f"{len(self.names)} class names but {len(self.palette)} colours")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"class names repeat: {sorted(n for n in self.names if self.names.count(n) > 1)}")
        if len(self.names) > 255:
            raise ValueError(f"{len(self.names)} classes, expected at most 255: label files hold one byte a pixel")
        if self.void == "missing" and 0 <= self.void_id < len(self.names):
            raise ValueError(f"void_id is {self.void_id}, which is the class {self.names[self.void_id]!r}")
        if self.void not in ("missing", "class"):
            raise ValueError(f"void is {self.void!r}, expected 'missing' or 'class'")

    @property
    def num_classes(self) -> int:
        """The number of classes; void is one of them where it is modelled as a class.

        >>> model.labels.num_classes
        10
        """
        return len(self.names)

    @property
    def labelled(self) -> LabelSpec:
        """The classes without void: where void is the last class, the others, with void missing and of its colour.

        >>> labels = gcdiff.LabelSpec(("road", "void"), ((128, 64, 128), (0, 0, 0)), void="class")
        >>> labels.labelled.names
        ('road',)
        """
        if self.void == "missing":
            return self
        names, palette = self.names[:-1], self.palette[:-1]
        return LabelSpec(names, palette, self.swaps, void_color=self.palette[-1])

    def to_dict(self) -> dict:
        """The fields as a plain dictionary, for JSON.

        >>> sorted(model.labels.to_dict())
        ['names', 'palette', 'swaps', 'void', 'void_color', 'void_id']
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping) -> LabelSpec:
        """The inverse of `to_dict`.

        >>> gcdiff.LabelSpec.from_dict(model.labels.to_dict()) == model.labels
        True
        """

        def tuples(rows):
            return tuple(tuple(r) for r in rows)

        return cls(
            names=tuple(fields["names"]),
            palette=tuples(fields["palette"]),
            swaps=tuples(fields["swaps"]),
            void=fields["void"],
            void_id=fields["void_id"],
            void_color=tuple(fields["void_color"]),
        )
