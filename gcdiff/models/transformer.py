"""The joint transformer: the noisy image and the noisy layout of a patch are one token, read and written together.

A diffusion transformer (Peebles and Xie 2023) with joint inputs and two heads, in place of the convolutions of
`gcdiff.models.unet`: nearly all of its work is in large matrix products, which CPUs, GPUs and TPUs do best. Inputs are
those of the U-Net: a learned embedding per class, level maps channel by channel, "unknown" as one input.

* Norms are adaptive, by one projection for all blocks of the levels in the token's own patch, of the global embedding
  and of the pooled text, with offsets per block (Chen et al. 2024, PixArt's adaLN-single, here per token); gates start
  small.
* Attention reads a learned null key, all tokens, and the words of the text (`gcdiff.models.rotary`).
* A token knows where it is in the frame by Fourier features of its coordinates in [0, 1]: any size divisible by the
  patch is taken.
* Feed-forwards are gated (Shazeer 2020, SwiGLU), and their hidden features are mixed with those of the eight tokens
  around by a depthwise convolution (Xie et al. 2021, Mix-FFN).
* Pixels are read by gated convolutions before they become tokens, and once more behind the tokens: what a label tells
  of a colour, and a pixel of the next one, is a product of the two, and hard to learn for a token of many pixels.
* The heads add to what a token says of its pixels what is read of each pixel itself, scaled and shifted by the token.
  That of the image also adds the noisy image with a gain per pixel, so that nothing need be copied through tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models import inputs
from gcdiff.models.attention import Context
from gcdiff.models.conditioning import levels_and_text
from gcdiff.models.layers import Conv, DepthwiseConv, LayerNorm, TiedLogits, shuffle, unshuffle
from gcdiff.models.level_features import level_features
from gcdiff.models.rotary import RotaryAttention, positions, rotations
from gcdiff.types import Condition, Pair

GATE = 0.2


class JointTransformer(nn.Module):
    """(noisy Pair, Pair of log-SNRs (B,1,1) or (B,h,w), condition) -> Pair(image output, logits).

    Shapes, `state_classes`, `tied` and `lowres` are as in `gcdiff.models.unet.JointUNet`. Heights and widths are
    divisible by `patch`.

      dim            width of the tokens
      depth          number of blocks
      heads          of attention; their width is dim / heads, divisible by 8
      feed_forward   width of the gated feed-forwards over dim
      patch          side of a token's patch, in pixels of the image
      final_dim      features per pixel, before the tokens and before the heads
      embedding      width of the global embedding over dim
      remat          whether the blocks are computed again in the backward pass instead of being kept

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
    depth: int = 6
    heads: int = 4
    feed_forward: float = 2.0
    patch: int = 4
    label_features: int = 8
    tied: bool = False
    tied_features: int = 32
    final_dim: int = 32
    hide_unknown_image: bool = True
    lowres: bool = False
    text_features: int = 128
    dropout: float = 0.0
    remat: Sequence[bool] = (False,)
    embedding: int = 4
    control: Any = None
    dtype: Any = jnp.float32

    # What `inputs.read` and `levels_and_text` ask of a network, which this one has no choice of.
    level_inputs = "both"
    learned_levels = False
    level_tokens = 0
    text_latents = 0

    @nn.compact
    def __call__(self, noisy: Pair, log_snr: Pair, condition: Condition) -> Pair:
        table, pixels, maps, _ = inputs.read(self, noisy, log_snr, condition, self.patch)
        assert maps is not None, "level_inputs is both"
        embedding, context = levels_and_text(self, log_snr, condition)

        grid = pixels.shape[1] // self.patch, pixels.shape[2] // self.patch
        pixels = jnp.concatenate([pixels, self._read(jnp.concatenate([pixels, maps], axis=-1))], axis=-1)
        x = self._dense(self.dim, "stem")(unshuffle(pixels, self.patch))
        x = x + self._zero(self.dim, "stem_maps")(unshuffle(maps, self.patch))
        x = x + self._dense(self.dim, "positions", use_bias=False)(positions(grid))
        levels = nn.silu(self._adapted(log_snr, embedding, grid))
        adapted = self._zero(6 * self.dim, "block_levels")(levels)
        rotation = rotations(grid, self.dim // self.heads // 2)
        block = nn.remat(Block) if self.remat[0] else Block
        for i in range(self.depth):
            fields = self.heads, self.dim // self.heads, self.control, self.dtype, self.feed_forward, self.dropout
            x = block(*fields, name=f"block{i}")(x, adapted, rotation, context, condition.areas, embedding)
            features = condition.inject.get(self.patch)
            if features is not None:
                x = x + self._zero(self.dim, f"block{i}_inject")(features)
        shift, scale = jnp.split(self._zero(2 * self.dim, "final_levels")(levels), 2, axis=-1)
        x = _modulated(LayerNorm(dtype=self.dtype, name="final_norm")(x), shift, scale)
        output = self._heads(x, self._pixels(x, jnp.concatenate([pixels, maps], axis=-1)), table)
        if output.image is None or "image" not in self.inputs:
            return output
        gain = nn.Dense(self.patch**2, kernel_init=nn.initializers.zeros, name="head_gain")(x.astype(jnp.float32))
        passed = shuffle(gain, self.patch) * pixels[..., : self.image_channels].astype(jnp.float32)
        return output._replace(image=output.image + passed)

    def _dense(self, features: int, name: str, use_bias: bool = True) -> nn.Dense:
        return nn.Dense(features, use_bias=use_bias, dtype=self.dtype, name=name)

    def _zero(self, features: int, name: str) -> nn.Dense:
        """A dense layer whose weights start at zero."""
        zero = nn.initializers.zeros
        return nn.Dense(features, use_bias=False, kernel_init=zero, dtype=self.dtype, name=name)

    def _adapted(self, log_snr: Pair, embedding: Array, grid: tuple[int, int]) -> Array:
        """The global embedding plus the levels of each patch, to which the norms adapt: (B, h', w' or 1, 1, D)."""
        width = embedding.shape[-1]
        maps = [log_snr[i] for i, side in enumerate(Pair._fields) if side in self.inputs]
        features = [_per_patch(m, grid) for m in maps]
        features = jnp.concatenate([jnp.broadcast_to(f, (*_largest(features), f.shape[-1])) for f in features], axis=-1)
        return embedding[:, None, None] + self._dense(width, "patch_levels")(features)

    def _read(self, pixels: Array) -> Array:
        """Features of every pixel and what is around it: (B, h, w, C) -> (B, h, w, final_dim)."""
        h = GatedConv(self.final_dim, self.dtype, name="pixels0")(pixels)
        return h + GatedConv(self.final_dim, self.dtype, name="pixels1")(
            LayerNorm(dtype=self.dtype, name="pixel_norm")(h)
        )

    def _pixels(self, x: Array, pixels: Array) -> Array:
        """Features of every pixel, (B, h, w, final_dim) in float32, from its token and its own input."""
        said = shuffle(self._dense(self.patch**2 * 2 * self.final_dim, "final_tokens")(x), self.patch)
        shift, scale = jnp.split(said, 2, axis=-1)
        h = nn.silu(_modulated(self._dense(self.final_dim, "final_pixels")(pixels), shift, scale))
        near = LayerNorm(dtype=self.dtype, name="final_near_norm")(h)
        h = h + GatedConv(self.final_dim, self.dtype, name="final_near")(near)
        inner = self._dense(2 * self.final_dim, "final_up")(LayerNorm(dtype=self.dtype, name="final_pixel_norm")(h))
        return (h + self._dense(self.final_dim, "final_down")(nn.silu(inner))).astype(jnp.float32)

    def _heads(self, x: Array, pixels: Array, table: nn.Embed) -> Pair:
        """Apply the heads, each the sum of a dense layer of the tokens x and one of the features of pixels."""
        x, zero = x.astype(jnp.float32), nn.initializers.zeros

        def head(name: str, features: int, bias: bool = True) -> Array:
            said = nn.Dense(self.patch**2 * features, use_bias=bias, kernel_init=zero, name=name)(x)
            own = nn.Dense(features, use_bias=False, kernel_init=zero, name=f"{name}_pixels")(pixels)
            return shuffle(said, self.patch) + own

        image, logits, factor = None, None, self.layout_factor
        if "image" in self.outputs:
            image = head("head_image", self.image_channels)
        if "layout" in self.outputs and self.tied:
            features = shuffle(head("head_features", self.tied_features * factor**2, bias=False), factor)
            logits = TiedLogits(name="head_classes")(features, table.embedding[: self.num_classes])
        elif "layout" in self.outputs:
            logits = shuffle(head("head_layout", self.num_classes * factor**2), factor)
        return Pair(image, logits)


class GatedConv(nn.Module):
    """A 3x3 convolution to twice the features, one half of which multiplies the other: (B, h, w, C) -> (B, h, w, F).

    By such products the label of a pixel chooses what is read of its colours.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a, b = jnp.split(Conv(2 * self.features, dtype=self.dtype, name="conv")(x), 2, axis=-1)
        return a * b


class Block(nn.Module):
    """Attention and a gated feed-forward, both residual, with norms and gates that adapt to the token's levels.

    x (B, h, w, C), adapted (B, h or 1, w or 1, 6 C): shifts, scales and gates of both parts -> (B, h, w, C).
    """

    heads: int
    head_dim: int
    control: Any
    dtype: Any
    feed_forward: float
    dropout: float

    @nn.compact
    def __call__(self, x: Array, adapted: Array, rotation: Array, context: Context | None, areas, embedding) -> Array:
        features = x.shape[-1]
        offsets = self.param("levels", _started, (6 * features,)).astype(self.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(adapted + offsets, 6, axis=-1)
        attend = RotaryAttention(self.heads, self.head_dim, self.control, self.dtype, name="attention")
        h = _modulated(LayerNorm(dtype=self.dtype, name="norm1")(x), shift1, scale1)
        x = x + gate1 * attend(h, rotation, context, areas, embedding)
        h = _modulated(LayerNorm(dtype=self.dtype, name="norm2")(x), shift2, scale2)
        inner = int(self.feed_forward * features)
        a, b = jnp.split(nn.Dense(2 * inner, use_bias=False, dtype=self.dtype, name="up")(h), 2, axis=-1)
        h = nn.silu(a) * b
        h = h + DepthwiseConv(dtype=self.dtype, name="depthwise")(h)
        h = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(h)
        return x + gate2 * nn.Dense(features, use_bias=False, dtype=self.dtype, name="down")(h)


def _started(key: Array, shape: tuple[int, ...]) -> Array:
    """Offsets of shifts, scales and gates, (6 C,): gates start at GATE, the others at zero."""
    return jnp.zeros((6, shape[0] // 6)).at[jnp.array([2, 5])].set(GATE).reshape(-1)


def _modulated(x: Array, shift: Array, scale: Array) -> Array:
    return x * (1 + scale) + shift


def _per_patch(log_snr: Array, grid: tuple[int, int]) -> Array:
    """The level features of a map (B, H, W) or (B, 1, 1), averaged over each patch: (B, h', w', F) or (B, 1, 1, F)."""
    b, height, width = log_snr.shape
    if (height, width) == (1, 1):
        return level_features(log_snr)[:, None, None]
    cells = log_snr.reshape(b, grid[0], height // grid[0], grid[1], width // grid[1]).transpose(0, 1, 3, 2, 4)
    flat = cells.reshape(-1, height // grid[0], width // grid[1])
    return level_features(flat).reshape(b, *grid, -1)


def _largest(features: list[Array]) -> tuple[int, ...]:
    """The largest batch and grid of maps of features."""
    return tuple(max(f.shape[i] for f in features) for i in range(3))
