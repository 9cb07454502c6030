"""The cascade: a base draws a pair, and a super-resolution stage draws it again at a multiple of its size.

A stage is a model of pairs like any other, with levels per modality and per pixel, that is also given a low-resolution
pair. Whatever is asked of base and stage together, the base is asked at its own size first: what is known at the high
resolution is reduced for it by the operators that made the stage's low-resolution pairs in training, and known to it
where all pixels of a block are known. The stage is then given the base's answer and what is known at the high
resolution. What it draws comes from random numbers of its own, not from those of the base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from gcdiff.api.base import Base
from gcdiff.api.question import Question
from gcdiff.grids import LAYOUT_OPERATORS, all_known, area, blocks
from gcdiff.pictures import check_images, check_layouts
from gcdiff.types import Pair


class Stage(Base):
    """How a base finds its super-resolution stage, and how a stage reduces pairs for its base."""

    def stage(self, upsample: Any) -> Self:
        """The super-resolution stage, a model or what `gcdiff.load` takes, that goes on from this model's answers.

        Raises ValueError, in one line, where the two do not fit: another size, other classes or channels.

        >>> model.stage("runs/streets_sr").size
        (64, 128)
        """
        stage = upsample
        if isinstance(upsample, str | Path):
            stage = type(self).restored(upsample, encoder=self.encoder)
        if self.built.conditions.lowres is not None:
            raise ValueError("upsample: this model is a super-resolution stage itself, expected a base")
        if stage.built.conditions.lowres is None:
            raise ValueError("upsample: that run is no super-resolution stage, its config.data.lowres is 0")
        for i, (ours, theirs) in enumerate(zip(self.labels.names, stage.labels.names, strict=False)):
            if ours != theirs:
                raise ValueError(f"upsample: class {i} of the stage is {theirs!r}, expected {ours!r} as in the base")
        for name, ours, theirs in (
            ("number of classes", self.labels.num_classes, stage.labels.num_classes),
            ("number of image channels", self.image.channels, stage.image.channels),
            ("low-resolution size", self.size, stage.lowres_size),
        ):
            if ours != theirs:
                raise ValueError(f"upsample: the stage's {name} is {theirs}, expected {ours} as in the base")
        return stage

    @property
    def lowres_size(self) -> tuple[int, int]:
        """(height, width) of the low-resolution pairs that this stage is given.

        >>> stage.lowres_size
        (32, 64)
        """
        height, width = self.size
        return height // self.factor, width // self.factor

    @property
    def factor(self) -> int:
        """The factor from the sides of the low-resolution pair to those of this stage's own.

        >>> stage.factor
        2
        """
        if self.built.conditions.lowres is None:
            raise ValueError("this model is no super-resolution stage: its config.data.lowres is 0")
        return self.built.conditions.lowres.factor

    def reduce_images(self, images) -> np.ndarray:
        """Images uint8 (N, H, W, C) at the base's size, by area averaging.

        >>> stage.reduce_images(np.zeros((2, 64, 128, 3), np.uint8)).shape
        (2, 32, 64, 3)
        """
        small = area(np.asarray(images, np.float32), self.factor)
        return np.rint(small).astype(np.uint8)

    def reduce_layouts(self, layouts) -> np.ndarray:
        """Layouts int32 (N, H, W) at the base's size, by the operator of this stage's training.

        >>> stage.reduce_layouts(np.zeros((2, 64, 128), np.int32)).shape
        (2, 32, 64)
        """
        return LAYOUT_OPERATORS[self.built.conditions.lowres.layout](np.asarray(layouts, np.int32), self.factor)

    def _reduce_known(self, values: Pair, masks: Pair) -> tuple[Pair, Pair]:
        """A pair and its known-masks, bool (N, H, W), for the base of this stage."""
        small = Pair(self.reduce_images(values.image), self.reduce_layouts(values.layout))
        return small, Pair(*(all_known(mask, self.factor) for mask in masks))

    def _checked_lowres(self, pair) -> Pair:
        """A low-resolution pair (uint8 (N, h, w, C), int32 (N, h, w) or shares float32 (N, h, w, K)), at least of this
        stage's low-resolution size; else ValueError, in one line."""
        image, layout = Pair(*pair)
        size = self.lowres_size
        for name, array in (("image", image), ("layout", layout)):
            shape = None if array is None else np.shape(array)
            if shape is None or len(shape) < 3 or any(a < b for a, b in zip(shape[1:3], size, strict=True)):
                raise ValueError(f"upsample: {name} has shape {shape}, expected (N, h, w) of at least {size}")
        if np.shape(image)[:3] != np.shape(layout)[:3]:
            raise ValueError(f"upsample: image {np.shape(image)} and layout {np.shape(layout)}, expected one (N, h, w)")
        image = np.stack(check_images(image, self.image.channels))
        layout = np.asarray(layout)
        if layout.ndim == 3:
            return Pair(image, check_layouts(layout, self.labels))
        classes, total = self.labels.num_classes, layout.sum(axis=-1) if layout.ndim == 4 else np.zeros(1)
        if layout.shape[3:] != (classes,) or (layout < 0).any() or not np.abs(total - 1).max() <= 1e-3:
            raise ValueError(f"upsample: layout {layout.shape}, expected labels or shares of {classes} that sum to 1")
        return Pair(image, layout.astype(np.float32))

    def _base_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The base's size for this stage's (H, W). Raises ValueError unless that is made of whole blocks."""
        return blocks(np.zeros(size, bool), self.factor).shape[:2]

    def _read(self, question: Question) -> Question:
        """A question as this model can be asked it: without text where it was trained without."""
        return question.but(text=None) if self.built.conditions.text is None else question
