"""The joint U-Net: one network for the noisy image, the noisy layout, their two level maps and the text.

An Efficient U-Net (Saharia et al. 2022, Imagen) with joint inputs and two heads (Park et al. 2023, section 3.3).
The layout enters through a learned embedding per class; the levels enter globally (Fourier features averaged over
the pixels) and pixel by pixel (channels whose weights start at zero). `outputs` are the raw image output and the
leave-one-out logits; both heads start at zero.

"Unknown" is one input, not many: at level 1 the noisy label's embedding is multiplied by zero and, where the head
predicts anything but eps, so is the noisy image (`hide_unknown_image`).

For many classes the logits can be tied to the embedding (Press and Wolf 2017): the head predicts a few features per
pixel, and logit k is their product with row k of the table from which the inputs' embedding is made too. One more class
then costs each pixel a short product instead of a 3x3 convolution, and a row learns from its class as an input and as
an output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.attention import Attention, Transformer
from gcdiff.models.conditioning import TextContext
from gcdiff.models.layers import (
    MLP,
    Conv,
    Downsample,
    GroupNorm,
    ResBlock,
    TiedLogits,
    Upsample,
    enlarge,
    level_channels,
    level_features,
    level_flags,
    shuffle,
    unshuffle,
)
from gcdiff.types import Condition, LowRes, Pair


class JointUNet(nn.Module):
    """(noisy Pair, Pair of log-SNRs (B,1,1) or (B,h,w), condition) -> Pair(image output, logits).

    Shapes: image (B, h, w, image_channels); layout int32 (B, H, W) with H = layout_factor * h, embedded, or float32
    (B, H, W, b), taken as it is; logits (B, H, W, num_classes). `state_classes` is the number of rows of the embedding
    (None: num_classes); more than num_classes where a noisy label takes values that a clean one does not, which come
    last. Heights and widths are divisible by stem * 2^(levels - 1).

    `tied`: the head predicts `tied_features` numbers per pixel, and logits are their products with the first
    num_classes rows of the table (state_classes, tied_features); a linear map of the rows gives the `label_features` of
    the input.

    `lowres`: a super-resolution stage, which reads `condition.lowres`: an image (B, h', w', C) and a layout int32 or
    shares of classes float32 (B, h', w', K), noised for augmentation, with h' a divisor of h; `level` (B,) is the
    log-SNR of that noise. Its labels have a table of their own.

    Raises ValueError for a size that is not divisible, for conditions this network has no input for, and for tied
    logits of a float layout.
    """

    image_channels: int = 3
    num_classes: int = 2
    state_classes: int | None = None
    inputs: Sequence[str] = ("image", "layout")
    outputs: Sequence[str] = ("image", "layout")
    layout_factor: int = 1
    dim: int = 64
    mults: Sequence[int] = (1, 2)
    blocks: Sequence[int] = (2, 2)
    attention: Sequence[bool] = (False, True)
    cross_attention: Sequence[bool] = (False, True)
    heads: int = 4
    head_dim: int = 32
    stem: int = 1
    label_features: int = 8
    tied: bool = False
    tied_features: int = 32
    final_dim: int = 32
    final_blocks: int = 1
    final_kernel: int = 3
    hide_unknown_image: bool = True
    lowres: bool = False
    text_features: int = 128
    dropout: float = 0.0
    control: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noisy: Pair, log_snr: Pair, condition: Condition) -> Pair:
        if condition.estimate is not None:
            raise ValueError("this network has no input for condition.estimate")
        if (condition.lowres is not None) != self.lowres:
            raise ValueError(f"lowres={self.lowres}, but condition.lowres is {'' if self.lowres else 'not '}None")
        width = self.tied_features if self.tied else self.label_features
        rows = self.num_classes if self.state_classes is None else self.state_classes
        table = nn.Embed(rows, width, embedding_init=nn.initializers.normal(1.0), name="labels")
        pixels, maps, levels = self._inputs(noisy, log_snr, table)
        self._check_size(pixels.shape)
        context, pooled = TextContext(self.text_features, name="text")(condition)
        embedding = MLP((4 * self.dim, 4 * self.dim), name="levels")(levels)
        if condition.lowres is not None:
            pixels = jnp.concatenate([pixels, self._lowres(condition.lowres, width, pixels.shape[1:3])], axis=-1)
            features = level_features(condition.lowres.level[:, None, None])
            embedding = embedding + MLP((4 * self.dim, 4 * self.dim), name="lowres_level")(features)
        if pooled is not None:
            embedding = embedding + nn.Dense(4 * self.dim, name="text_embedding")(pooled)
        areas = {k: v for k, v in condition.extra.items() if k.startswith("areas/")}

        def stage(x, level, stride, name, skips=None):
            """The blocks of one level; encoder: pushes to the returned list; decoder: pops from `skips`."""
            features, outs = self.dim * self.mults[level], []
            for i in range(self.blocks[level]):
                if skips is not None:
                    x = jnp.concatenate([x, skips.pop() * 2**-0.5], axis=-1)
                cross = None
                if self.cross_attention[level] and context is not None and i == 0:
                    attend = Attention(self.heads, self.head_dim, False, self.control, self.dtype, name=f"{name}_cross")
                    cross = lambda h, attend=attend: attend(h, context, areas, embedding)  # noqa: E731
                x = ResBlock(features, self.dtype, dropout=self.dropout, name=f"{name}_block{i}")(x, embedding, cross)
                outs.append(x)
            if self.attention[level]:
                attend = Transformer(self.heads, self.head_dim, self.control, self.dtype, name=f"{name}_attention")
                outs[-1] = x = attend(x, context, areas, embedding)
            x = self._inject(x, condition, stride, name)
            outs[-1] = x
            return x, outs

        x = Conv(self.dim, dtype=self.dtype, name="stem")(unshuffle(pixels, self.stem))
        x = x + self._maps(unshuffle(maps, self.stem), self.dim, "stem_maps")
        skips, last = [], len(self.mults) - 1
        for level in range(last + 1):
            if level:
                x = Downsample(self.dim * self.mults[level], dtype=self.dtype, name=f"down{level}")(x)
            x, outs = stage(x, level, self.stem * 2**level, f"encoder{level}")
            skips += outs
        x = ResBlock(self.dim * self.mults[-1], self.dtype, dropout=self.dropout, name="middle")(x, embedding)
        for level in range(last, -1, -1):
            x, _ = stage(x, level, self.stem * 2**level, f"decoder{level}", skips)
            if level:
                x = Upsample(self.dim * self.mults[level - 1], dtype=self.dtype, name=f"up{level}")(x)
        return self._heads(x, pixels, maps, embedding, table)

    def _inputs(self, noisy: Pair, log_snr: Pair, table: nn.Embed) -> tuple[Array, Array, Array]:
        """The pixels (B, h, w, C) the network reads, the level maps (B, h, w, M) and the global features (B, F)."""
        parts, maps, levels = [], [], []
        if "image" in self.inputs:
            x, snr = noisy.image, log_snr.image
            if self.hide_unknown_image:
                x = x * (1 - level_flags(snr)[1])[..., None]
            parts.append(x)
            maps.append(jnp.broadcast_to(level_channels(snr), (*x.shape[:3], 3)))
            levels.append(level_features(snr))
        if "layout" in self.inputs:
            y, snr = noisy.layout, log_snr.layout
            e = self._embed(y, table) * (1 - level_flags(snr)[1])[..., None]
            m = jnp.broadcast_to(level_channels(snr), (*y.shape[:3], 3))
            parts.append(unshuffle(e, self.layout_factor))
            maps.append(unshuffle(m, self.layout_factor))
            levels.append(level_features(snr))
        pixels = jnp.concatenate(parts, axis=-1)
        return pixels, jnp.concatenate(maps, axis=-1), jnp.concatenate(levels, axis=-1)

    def _lowres(self, lowres: LowRes, width: int, size: tuple[int, int]) -> Array:
        """The low-resolution pair as channels at the full size, repeated pixel by pixel: (B, h, w, C + width)."""
        table = nn.Embed(self.num_classes, width, embedding_init=nn.initializers.normal(1.0), name="lowres_labels")
        y = lowres.layout
        e = y @ table.embedding if jnp.issubdtype(y.dtype, jnp.floating) else table(y)
        unknown = level_flags(lowres.level)[1][:, None, None, None]
        return jnp.concatenate([enlarge(a, size) for a in (lowres.image, e)], axis=-1) * (1 - unknown)

    def _embed(self, y: Array, table: nn.Embed) -> Array:
        """The noisy layout as channels (B, H, W, F)."""
        if jnp.issubdtype(y.dtype, jnp.floating):
            if self.tied:
                raise ValueError(f"tied logits need a layout of labels, got {y.dtype} of shape {y.shape}")
            return y
        if not self.tied:
            return table(y)
        rows = nn.Dense(self.label_features, use_bias=False, name="label_input")(table.embedding)
        return jnp.take(rows, y, axis=0)

    def _maps(self, maps: Array, features: int, name: str) -> Array:
        """Level maps enter through weights that start at zero."""
        zero = nn.initializers.zeros
        return Conv(features, kernel=1, use_bias=False, init=zero, dtype=self.dtype, name=name)(maps)

    def _check_size(self, shape) -> None:
        stride = self.stem * 2 ** (len(self.mults) - 1)
        if shape[1] % stride or shape[2] % stride:
            raise ValueError(f"image size {shape[1]}x{shape[2]} is not divisible by the network's stride {stride}")

    def _inject(self, x: Array, condition: Condition, stride: int, name: str) -> Array:
        extra = condition.extra.get(f"inject/{stride}")
        if extra is None:
            return x
        zero = nn.initializers.zeros
        conv = Conv(x.shape[-1], kernel=1, use_bias=False, init=zero, dtype=self.dtype, name=f"{name}_inject")
        return x + conv(extra)

    def _heads(self, x: Array, pixels: Array, maps: Array, embedding: Array, table: nn.Embed) -> Pair:
        """Back to full resolution beside the pixels themselves, then a convolution per head."""
        x = Upsample(self.final_dim, self.stem, self.dtype, name="up0")(x)
        x = x + Conv(self.final_dim, kernel=1, dtype=self.dtype, name="final_pixels")(pixels)
        x = x + self._maps(maps, self.final_dim, "final_maps")
        for i in range(self.final_blocks):
            x = ResBlock(self.final_dim, self.dtype, self.final_kernel, name=f"final{i}")(x, embedding)
        x = nn.silu(GroupNorm(name="final_norm")(x))

        def head(name: str, features: int, bias: bool = True) -> Array:
            return Conv(features, self.final_kernel, bias, nn.initializers.zeros, name=name)(x)

        image = logits = None
        if "image" in self.outputs:
            image = head("head_image", self.image_channels)
        if "layout" in self.outputs and self.tied:
            features = head("head_features", self.tied_features * self.layout_factor**2, bias=False)
            rows = table.embedding[: self.num_classes]
            logits = TiedLogits(name="head_classes")(shuffle(features, self.layout_factor), rows)
        elif "layout" in self.outputs:
            logits = shuffle(head("head_layout", self.num_classes * self.layout_factor**2), self.layout_factor)
        return Pair(image, logits)
