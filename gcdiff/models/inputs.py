"""The inputs of a joint network at full resolution: the noisy pair, its level maps, a low-resolution pair.

The functions make their parameters in the network that calls them and read its fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.models.layers import enlarge, unshuffle
from gcdiff.models.level_features import level_channels, level_flags
from gcdiff.types import Condition, LowRes, Pair


class Inputs(NamedTuple):
    """What a network reads, all channels at full resolution, (B, h, w, .): the table of its labels, the noisy pair with
    the low-resolution pair behind it, the level maps (None where one level is for all), the low-resolution pair alone
    (None without one)."""

    table: nn.Embed
    pixels: Array
    maps: Array | None
    lowres: Array | None


def read(net: Any, noisy: Pair, log_snr: Pair, condition: Condition, stride: int) -> Inputs:
    """The inputs of a network whose sizes are multiples of `stride`.

    Raises ValueError for another size, and for a low-resolution pair that is missing or that the network has no input
    for.
    """
    if (condition.lowres is not None) != net.lowres:
        raise ValueError(f"lowres={net.lowres}, but condition.lowres is {'' if net.lowres else 'not '}None")
    width = net.tied_features if net.tied else net.label_features
    rows = net.num_classes if net.state_classes is None else net.state_classes
    table = nn.Embed(rows, width, embedding_init=nn.initializers.normal(1.0), name="labels")
    pixels, maps = pair_channels(net, noisy, log_snr, table)
    height, wide = pixels.shape[1:3]
    if height % stride or wide % stride:
        raise ValueError(f"image size {height}x{wide} is not divisible by the network's stride {stride}")
    if condition.lowres is None:
        return Inputs(table, pixels, maps, None)
    lowres = lowres_channels(net, condition.lowres, width, (height, wide))
    return Inputs(table, jnp.concatenate([pixels, lowres], axis=-1), maps, lowres)


def pair_channels(net: Any, noisy: Pair, log_snr: Pair, table: nn.Embed) -> tuple[Array, Array | None]:
    """The noisy pair as channels (B, h, w, C), and its level maps (B, h, w, M), None where one level is for all."""
    parts, maps, apart = [], [], net.level_inputs == "both"
    if "image" in net.inputs:
        x, snr = noisy.image, log_snr.image
        if net.hide_unknown_image:
            x = x * (1 - level_flags(snr)[1])[..., None]
        parts.append(x)
        maps.append(jnp.broadcast_to(level_channels(snr), (*x.shape[:3], 3)))
    if "layout" in net.inputs:
        y, snr = noisy.layout, log_snr.layout
        e = _embed(net, y, table)
        if apart:
            e = e * (1 - level_flags(snr)[1])[..., None]
        m = jnp.broadcast_to(level_channels(snr), (*y.shape[:3], 3))
        parts.append(unshuffle(e, net.layout_factor))
        maps.append(unshuffle(m, net.layout_factor))
    return jnp.concatenate(parts, axis=-1), jnp.concatenate(maps, axis=-1) if apart else None


def _embed(net: Any, y: Array, table: nn.Embed) -> Array:
    """The noisy layout as channels (B, H, W, F)."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        if net.tied:
            raise ValueError(f"tied logits need a layout of labels, got {y.dtype} of shape {y.shape}")
        return y
    if not net.tied:
        return table(y)
    rows = nn.Dense(net.label_features, use_bias=False, name="label_input")(table.embedding)
    return jnp.take(rows, y, axis=0)


def lowres_channels(net: Any, lowres: LowRes, width: int, size: tuple[int, int]) -> Array:
    """The low-resolution pair at the full size, repeated pixel by pixel: (B, h, w, C + width)."""
    table = nn.Embed(net.num_classes, width, embedding_init=nn.initializers.normal(1.0), name="lowres_labels")
    y = lowres.layout
    e = y @ table.embedding if jnp.issubdtype(y.dtype, jnp.floating) else table(y)
    unknown = level_flags(lowres.log_snr)[1][:, None, None, None]
    return jnp.concatenate([enlarge(a, size) for a in (lowres.image, e)], axis=-1) * (1 - unknown)
