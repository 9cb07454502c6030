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

A small network is small by default. The fields after `dropout` switch on the parts of the paper's network, one by one;
`gcdiff.models.official` sets all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models import inputs
from gcdiff.models.attention import Attention, CrossAttention, ImagenTransformer, MultiQueryAttention, Transformer
from gcdiff.models.conditioning import levels_and_text
from gcdiff.models.layers import (
    Conv,
    CrossEmbed,
    Downsample,
    GroupNorm,
    ResBlock,
    TiedLogits,
    Upsample,
    shuffle,
    unshuffle,
)
from gcdiff.types import Condition, Pair


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
    shares of classes float32 (B, h', w', K), noised for augmentation, with h' a divisor of h; `log_snr` (B,)
    is that of the noise. Its labels have a table of their own.

    `remat`: the levels whose activations are computed again in the backward pass instead of being kept; one value is
    for all levels.

    The parts of the paper's network:
      full_resolution    convolutions and a gated block before the first reduction (by `stem`), a block after the last
                         enlargement; else the stem is a pixel-unshuffle and the pixels come back beside the heads
      stem_kernels       sizes of the first convolutions, side by side
      gates              blocks end in a gate by the global context, all but the first of each level
      imagen_attention   norms around attention, one null key, one head of keys and values in self-attention, and
                         feed-forwards `feed_forward` times as wide
      middle_attention   cross-attention and self-attention between encoder and decoder
      attention_skips    the attention of a level is a skip of its own, and its first block none
      learned_levels     `level_bands` learned frequencies; `level_tokens` tokens of the level in the context
      level_inputs       'both': the levels of both modalities, pixel by pixel; 'image': its level alone, as of both
      text_latents       text is padded to `text_length` and resampled to so many tokens; 0: it is read as it is
      embedding          width of the global embedding over `dim`

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
    remat: Sequence[bool] = (False,)
    full_resolution: bool = False
    stem_kernels: Sequence[int] = (3,)
    gates: bool = False
    imagen_attention: bool = False
    feed_forward: float = 2.0
    middle_attention: bool = False
    middle_heads: int = 8
    middle_head_dim: int = 64
    attention_skips: bool = False
    learned_levels: bool = False
    level_bands: int = 8
    level_tokens: int = 0
    level_inputs: str = "both"
    text_latents: int = 0
    text_length: int = 256
    embedding: int = 4
    control: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noisy: Pair, log_snr: Pair, condition: Condition) -> Pair:
        stride = self.stem * 2 ** (len(self.mults) - 1)
        table, pixels, maps, lowres = inputs.read(self, noisy, log_snr, condition, stride)
        embedding, context = levels_and_text(self, log_snr, condition)
        conditioning = embedding, context, condition.areas

        x = self._stem(pixels, maps, embedding)
        skips, last = [], len(self.mults) - 1
        for level in range(last + 1):
            if level:
                x = Downsample(self.dim * self.mults[level], dtype=self.dtype, name=f"down{level}")(x)
            x, outs = self._stage(x, level, f"encoder{level}", conditioning, condition)
            skips += outs
        x = self._middle(x, conditioning)
        for level in range(last, -1, -1):
            x, _ = self._stage(x, level, f"decoder{level}", conditioning, condition, skips)
            if level:
                x = Upsample(self.dim * self.mults[level - 1], dtype=self.dtype, name=f"up{level}")(x)
        x = Upsample(self.final_dim, self.stem, self.dtype, name="up0")(x)
        return self._heads(x, pixels, maps, lowres, embedding, table)

    def _stage(self, x, level: int, name: str, conditioning, condition: Condition, skips: list | None = None):
        """Run the blocks of one level: (features, skips). Those of a decoder read, and remove, the last of `skips`."""
        embedding, context, areas = conditioning
        features, outs = self.dim * self.mults[level], []
        remat = nn.remat if self.remat[level % len(self.remat)] else lambda m: m
        for i in range(self.blocks[level]):
            if skips is not None:
                x = jnp.concatenate([x, skips.pop() * 2**-0.5], axis=-1)
            cross = None
            if self.cross_attention[level] and context is not None and i == 0:
                cross = self._cross(self.heads, self.head_dim, f"{name}_cross")
            x = self._block(features, f"{name}_block{i}", cross, self.gates and i > 0, remat)(x, *conditioning)
            outs.append(x)
        if self.attention_skips:
            outs = [*outs[1:], x]
        if self.attention[level]:
            args = self.heads, self.head_dim, self.control, self.dtype
            if self.imagen_attention:
                attend = remat(ImagenTransformer)(*args, self.feed_forward, name=f"{name}_attention")
            else:
                attend = remat(Transformer)(*args, name=f"{name}_attention")
            x = attend(x, context, areas, embedding)
        outs[-1] = x = self._inject(x, condition, self.stem * 2**level, name)
        return x, outs

    def _block(self, features: int, name: str, cross=None, gated: bool = False, remat=lambda m: m) -> ResBlock:
        return remat(ResBlock)(features, self.dtype, dropout=self.dropout, gated=gated, cross=cross, name=name)

    def _cross(self, heads: int, head_dim: int, name: str) -> Attention | CrossAttention:
        if self.imagen_attention:
            return CrossAttention(heads, head_dim, self.control, self.dtype, name=name)
        return Attention(heads, head_dim, self.control, self.dtype, False, name=name)

    def _stem(self, pixels: Array, maps: Array | None, embedding: Array) -> Array:
        """The stem: pixels -> features on the grid of the first level."""
        first = pixels if self.full_resolution else unshuffle(pixels, self.stem)
        if len(self.stem_kernels) > 1:
            x = CrossEmbed(self.dim, self.stem_kernels, self.dtype, name="stem")(first)
        else:
            x = Conv(self.dim, self.stem_kernels[0], dtype=self.dtype, name="stem")(first)
        if maps is not None:
            x = x + self._maps(maps if self.full_resolution else unshuffle(maps, self.stem), self.dim, "stem_maps")
        if self.full_resolution:
            x = self._block(self.dim, "initial", gated=self.gates)(x, embedding)
            x = Downsample(self.dim * self.mults[0], self.stem, self.dtype, name="down0")(x)
        return x

    def _middle(self, x: Array, conditioning) -> Array:
        features = self.dim * self.mults[-1]
        if not self.middle_attention:
            return self._block(features, "middle")(x, conditioning[0])
        embedding, context, areas = conditioning

        def block(i: int) -> ResBlock:
            cross = None
            if context is not None:
                cross = self._cross(self.middle_heads, self.middle_head_dim, f"middle_cross{i}")
            return self._block(features, f"middle{i}", cross)

        x = block(0)(x, *conditioning)
        kind = MultiQueryAttention if self.imagen_attention else Attention
        attend = kind(self.heads, self.head_dim, self.control, self.dtype, name="middle_attention")
        x = x + attend(x, None, areas, embedding)
        return block(1)(x, *conditioning)

    def _maps(self, maps: Array, features: int, name: str) -> Array:
        """A 1x1 convolution of the level maps, whose weights start at zero."""
        zero = nn.initializers.zeros
        return Conv(features, kernel=1, use_bias=False, init=zero, dtype=self.dtype, name=name)(maps)

    def _inject(self, x: Array, condition: Condition, stride: int, name: str) -> Array:
        features = condition.inject.get(stride)
        if features is None:
            return x
        zero = nn.initializers.zeros
        conv = Conv(x.shape[-1], kernel=1, use_bias=False, init=zero, dtype=self.dtype, name=f"{name}_inject")
        return x + conv(features)

    def _heads(self, x: Array, pixels: Array, maps: Array | None, lowres: Array | None, embedding, table) -> Pair:
        """Apply the heads, a convolution each, to features and pixels, at full resolution to a low-resolution pair."""
        if self.full_resolution:
            x = self._final(x, embedding, self.gates)
            x = x if lowres is None else jnp.concatenate([x, lowres.astype(x.dtype)], axis=-1)
        else:
            x = x + Conv(self.final_dim, kernel=1, dtype=self.dtype, name="final_pixels")(pixels)
            x = x if maps is None else x + self._maps(maps, self.final_dim, "final_maps")
            x = nn.silu(GroupNorm(name="final_norm")(self._final(x, embedding, False)))

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

    def _final(self, x: Array, embedding: Array, gated: bool) -> Array:
        for i in range(self.final_blocks):
            x = ResBlock(self.final_dim, self.dtype, self.final_kernel, gated=gated, name=f"final{i}")(x, embedding)
        return x
