"""Laws of how a small JointUNet reads a layout's state and writes its logits: labels, more labels, channels; tied."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gcdiff.models.unet import JointUNet
from gcdiff.types import Condition, Pair

B, H, W, K = 4, 8, 16, 5
RNG = np.random.default_rng(0)
NET = JointUNet(
    num_classes=K, dim=16, mults=(1,), blocks=(1,), attention=(False,), cross_attention=(False,), final_dim=8,
    label_features=3, tied_features=7,
)  # fmt: skip
TIED = NET.clone(tied=True)
NOISY = Pair(RNG.normal(size=(B, H, W, 3)).astype(np.float32), RNG.integers(0, K, (B, H, W)).astype(np.int32))
MAPS = Pair(*RNG.uniform(-9, 9, (2, B, H, W)).astype(np.float32))


def shapes(net, noisy=NOISY):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), noisy, MAPS, Condition()))["params"]


def random_params(net, noisy=NOISY):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (rng.normal(size=s.shape) * 0.2).astype(np.float32), shapes(net, noisy))


def apply(net, params, noisy=NOISY, log_snr=MAPS):
    return jax.jit(net.apply)({"params": params}, noisy, log_snr, Condition())


def test_tied_logits_start_at_zero_and_learn_at_once():
    params = jax.jit(TIED.init)(jax.random.key(0), NOISY, MAPS, Condition())["params"]

    def loss(head):
        noisy = NOISY._replace(layout=np.zeros((B, H, W), np.int32))
        logits = apply(TIED, params | head, noisy).layout
        return -jax.nn.log_softmax(logits)[..., 0].mean(), logits

    head = {name: params[name] for name in ("labels", "head_features", "head_classes")}
    gradient = jax.jit(jax.grad(loss, has_aux=True))
    first, logits = gradient(head)
    assert logits.shape == (B, H, W, K) and not np.any(logits)
    assert np.any(first["head_features"]["kernel"]) and np.any(first["head_classes"]["bias"])
    moved = jax.tree.map(lambda p, g: p - g, head, first)
    rows = gradient(moved)[0]["labels"]["embedding"]
    assert np.all(np.abs(rows).max(axis=1) > 0)  # every class's row, also where the input holds one class alone


def test_renaming_the_classes_renames_the_tied_logits():
    """A class is its row of the table and its bias, and nothing else in the network depends on its number."""
    params, order = random_params(TIED), np.array([3, 0, 4, 1, 2])
    renamed = params | {
        "labels": {"embedding": params["labels"]["embedding"][order]},
        "head_classes": {"bias": params["head_classes"]["bias"][order]},
    }
    base = apply(TIED, params)
    out = apply(TIED, renamed, NOISY._replace(layout=np.argsort(order).astype(np.int32)[NOISY.layout]))
    np.testing.assert_allclose(out.image, base.image, atol=1e-5)
    np.testing.assert_allclose(out.layout, base.layout[..., order], atol=1e-5)
    assert np.abs(out.layout - base.layout).max() > 0.1


def test_tied_logits_are_heard_from_the_rows_and_the_input_is_too():
    """One table on both sides: a change of one row moves that class's logits alone where the input does not hold it."""
    noisy = NOISY._replace(layout=np.minimum(NOISY.layout, K - 2))
    params = random_params(TIED)
    table = params["labels"]["embedding"].copy()
    table[K - 1] += 1
    base, out = apply(TIED, params, noisy), apply(TIED, params | {"labels": {"embedding": table}}, noisy)
    np.testing.assert_allclose(out.layout[..., : K - 1], base.layout[..., : K - 1], atol=1e-5)
    assert np.abs(out.layout - base.layout)[..., K - 1].min() > 0
    table = params["labels"]["embedding"].copy()
    table[0] += 1
    out = apply(TIED, params | {"labels": {"embedding": table}}, noisy)
    assert np.abs(out.image - base.image).max() > 1e-3


@pytest.mark.parametrize("net", [NET, TIED], ids=["untied", "tied"])
def test_a_state_with_one_value_more_than_there_are_classes(net):
    net = net.clone(state_classes=K + 1)
    params = random_params(net)
    assert len(params["labels"]["embedding"]) == K + 1
    masked = NOISY._replace(layout=np.full_like(NOISY.layout, K))
    base, out = apply(net, params), apply(net, params, masked)
    assert out.layout.shape == (B, H, W, K) and np.all(np.isfinite(out.layout))
    others = params["labels"]["embedding"].copy()
    others[:K] += 1
    heard = apply(net, params | {"labels": {"embedding": others}}, masked)
    np.testing.assert_allclose(heard.image, out.image, atol=1e-5)  # the mask has a row of its own
    assert np.abs(out.image - base.image).max() > 1e-3


def test_a_state_of_channels_is_taken_as_it_is_and_hidden_where_unknown():
    bits = RNG.normal(size=(B, H, W, 3)).astype(np.float32)
    noisy = NOISY._replace(layout=bits)
    params = random_params(NET, noisy)
    assert "labels" not in params
    assert apply(NET, params, noisy).layout.shape == (B, H, W, K)
    half = MAPS._replace(layout=np.where(np.arange(W) < 8, -np.inf, MAPS.layout))  # the left half is unknown
    base = apply(NET, params, noisy, half)
    other = bits.copy()
    other[:, :, :8] += 1
    np.testing.assert_array_equal(apply(NET, params, NOISY._replace(layout=other), half).layout, base.layout)
    other[:, :, 8:] += 1
    assert np.abs(apply(NET, params, NOISY._replace(layout=other), half).layout - base.layout).max() > 1e-3


def test_channels_and_labels_on_a_finer_grid():
    maps = MAPS._replace(layout=np.zeros((B, 2 * H, 2 * W), np.float32))
    for net, shape, dtype in ((NET, (B, 2 * H, 2 * W, 3), np.float32), (TIED, (B, 2 * H, 2 * W), np.int32)):
        noisy = NOISY._replace(layout=np.zeros(shape, dtype))
        net = net.clone(layout_factor=2)
        init = lambda net=net, noisy=noisy: net.init_with_output(jax.random.key(0), noisy, maps, Condition())  # noqa: E731
        out = jax.eval_shape(init)[0]
        assert out.image.shape == (B, H, W, 3) and out.layout.shape == (B, 2 * H, 2 * W, K)


def test_tied_logits_need_labels():
    with pytest.raises(ValueError, match=r"tied logits need a layout of labels, got float32 of shape \(4, 8, 16, 3\)"):
        shapes(TIED, NOISY._replace(layout=np.zeros((B, H, W, 3), np.float32)))
