"""What is the joint transformer's own: places, levels of each patch, sizes other than those of training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff.models.rotary import nearness, positions, rotations
from gcdiff.models.transformer import GatedConv, JointTransformer
from gcdiff.types import Condition, Pair

B, H, W, K = 2, 8, 16, 5
RNG = np.random.default_rng(0)
NET = JointTransformer(num_classes=K, dim=32, depth=1, heads=2, patch=4, embedding=1)


def inputs(height=H, width=W):
    noisy = RNG.normal(size=(B, height, width, 3)).astype(np.float32), RNG.integers(0, K, (B, height, width))
    return Pair(noisy[0], noisy[1].astype(np.int32)), Pair(
        *RNG.uniform(-9, 9, (2, B, height, width)).astype(np.float32)
    )


def params():
    shapes = jax.eval_shape(lambda: NET.init(jax.random.key(0), *inputs(), Condition()))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (rng.normal(size=s.shape) * 0.2).astype(np.float32), shapes)


def test_the_same_parameters_serve_any_size_that_the_patch_divides():
    weights = params()
    for size in ((8, 16), (12, 4)):
        out = jax.eval_shape(lambda size=size: NET.apply({"params": weights}, *inputs(*size), Condition()))
        assert out.image.shape == (B, *size, 3) and out.layout.shape == (B, *size, K)


def test_keys_turn_so_that_scores_depend_on_differences_of_places_alone():
    """Of a grid's angles: those of two places differ by as much as those of any two places as far apart."""
    angles = np.asarray(rotations((4, 6), 16)).reshape(4, 6, 8)
    for dy, dx in ((1, 0), (0, 1), (2, 3)):
        apart = angles[dy:, dx:] - angles[: 4 - dy, : 6 - dx]
        np.testing.assert_allclose(apart, np.broadcast_to(apart[0, 0], apart.shape), atol=1e-5)
    assert len(np.unique(angles.reshape(24, 8), axis=0)) == 24


def test_places_are_those_of_the_frame():
    """Of a grid twice as fine, pairs of neighbours lie around the places of the coarse one."""
    coarse, fine = positions((2, 4), bands=1), positions((4, 8), bands=1)  # the longest wave alone is nearly linear
    middle = fine.reshape(2, 2, 4, 2, 4).mean((1, 3))
    np.testing.assert_allclose(middle, coarse, atol=0.02)
    assert len(np.unique(np.asarray(coarse).reshape(8, -1), axis=0)) == 8


def test_the_level_of_a_patch_is_heard_in_its_own_norms():
    """With weights of the maps as pixels at zero, what differs between patches' levels still reaches the patch."""
    weights = params()
    weights["stem_maps"] = jax.tree.map(np.zeros_like, weights["stem_maps"])
    noisy, maps = inputs()
    swapped = Pair(*(np.roll(m, 4, axis=2) for m in maps))  # the mean over all pixels stays
    apply = jax.jit(lambda maps: NET.apply({"params": weights}, noisy, maps, Condition()))
    base, other = apply(maps), apply(swapped)
    assert jnp.abs(base.image - other.image).max() > 1e-2 and jnp.abs(base.layout - other.layout).max() > 1e-2


def test_heads_look_within_different_distances():
    near = np.asarray(nearness((3, 4), 4)).reshape(4, 3, 4, 3, 4)
    assert not near[0].any()
    for head, slope in ((1, 0.25), (2, 0.5), (3, 1.0)):
        np.testing.assert_allclose(near[head, 0, 0, 2, 0], -2 * slope)
        np.testing.assert_allclose(near[head, 2, 3, 1, 2], -slope * np.sqrt(2), rtol=1e-6)


def test_the_noisy_image_passes_with_the_gain_of_each_pixel_where_it_is_known():
    weights = {n: jax.tree.map(np.zeros_like, w) if n.startswith("head_") else w for n, w in params().items()}
    weights["head_gain"]["bias"] = np.arange(16, dtype=np.float32)
    noisy, maps = inputs()
    maps.image[1] = -np.inf
    out = jax.jit(lambda maps: NET.apply({"params": weights}, noisy, maps, Condition()))(maps)
    gain = np.tile(np.arange(16, dtype=np.float32).reshape(4, 4), (2, 4))[..., None]
    np.testing.assert_allclose(out.image[0], gain * noisy.image[0], rtol=1e-5)
    assert not np.asarray(out.image[1]).any() and not np.asarray(out.layout).any()


def test_the_label_of_a_pixel_chooses_what_is_read_of_its_colours():
    """One gated convolution of a class and a colour can be their product, which no convolution of either is."""
    label, colour = RNG.integers(0, 2, (1, 6, 6, 1)), RNG.normal(size=(1, 6, 6, 1))
    kernel = np.zeros((3, 3, 2, 2), np.float32)
    kernel[1, 1] = np.eye(2)
    out = GatedConv(1).apply(
        {"params": {"conv": {"kernel": kernel, "bias": np.zeros(2)}}}, jnp.concatenate([label, colour], -1)
    )
    np.testing.assert_allclose(out, label * colour, rtol=1e-6)
