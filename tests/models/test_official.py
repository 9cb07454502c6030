"""The paper's released networks: parameter counts, names and, where a reference is at hand, what they compute."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from official_weights import REFERENCE, TINY, flat_shapes, needs_reference, random_weights, torch_shape

from gcdiff.models.official import convert, network, shapes
from gcdiff.models.official_names import parameter_names
from gcdiff.types import Condition, LowRes, Pair, Text

BASE = {
    "dim": 128, "dim_mults": [1, 2, 4, 8], "num_resnet_blocks": [2, 4, 8, 8], "num_classes": 19,
    "layer_attns": [False, True, True, True], "layer_cross_attns": [False, True, True, True], "text_embed_dim": 1024,
}  # fmt: skip
SMALL = {**TINY, "dim_mults": [1], "num_resnet_blocks": 1, "layer_attns": True, "layer_cross_attns": False}
SR = {**BASE, "layer_attns": False, "layer_cross_attns": [False, False, False, True], "lowres_cond": True}


@pytest.mark.parametrize(
    ("config", "classes", "count"),
    [(BASE, 19, 697_351_941), (BASE, 20, 697_353_097), (SR, 19, 717_240_298), (SR, 20, 717_241_511)],
)
def test_the_networks_have_the_paper_s_number_of_parameters(config, classes, count):
    shapes = flat_shapes({**config, "num_classes": classes})
    assert sum(int(np.prod(leaf.shape)) for leaf in shapes.values()) == count


def test_every_parameter_has_one_name():
    for config in (BASE, SR, TINY, {**TINY, "layer_attns": True, "lowres_cond": False, "num_resnet_blocks": 3}):
        paths = [path for path, _ in parameter_names(network(config), True).values()]
        assert len(set(paths)) == len(paths)
        assert set(paths) == set(flat_shapes(config))


def test_a_parameter_that_is_missing_too_many_or_of_another_shape_is_named():
    weights = random_weights(SMALL)
    convert(weights, SMALL)
    name = "mid_block1.block2.project.weight"
    with pytest.raises(ValueError, match=f"lack {name}, which this network has"):
        convert({k: v for k, v in weights.items() if k != name}, SMALL)
    with pytest.raises(ValueError, match="hold left.over, which this network does not have"):
        convert({**weights, "left.over": weights[name]}, SMALL)
    with pytest.raises(ValueError, match=rf"{name} has shape \(7, 7\)"):
        convert({**weights, name: np.zeros((7, 7))}, SMALL)
    with pytest.raises(ValueError, match="memory_efficient is False, expected True"):
        network({**TINY, "memory_efficient": False})
    with pytest.raises(ValueError, match="option 'dims' is not known"):
        network({**TINY, "dims": 3})
    with pytest.raises(ValueError, match="num_resnet_blocks is .*, expected 2 values"):
        network({**TINY, "num_resnet_blocks": [1, 2, 3]})


@pytest.mark.slow
def test_levels_of_each_modality_are_new_parts_that_start_at_zero():
    """Fine-tuning may tell the layout's level apart: at first the outputs are those of the released network."""
    module, params = convert(random_weights(SMALL), SMALL)
    rng, size = np.random.default_rng(1), (2, 8, 12)
    pair = Pair(rng.normal(size=(*size, 3)).astype(np.float32), rng.integers(0, 4, size))
    lowres = LowRes(pair.image[:, ::2, ::2], pair.layout[:, ::2, ::2], np.float32([0.3, 2.0]))
    text = Text(rng.normal(size=(2, 5, 6)).astype(np.float32), np.arange(5) < np.array([[5], [2]]))
    condition = Condition(text=text.without(np.array([False, True])), lowres=lowres)
    snr = Pair(*(np.float32([-1.5, 2.25]).reshape(2, 1, 1) for _ in range(2)))
    apart = module.clone(level_inputs="both")
    new = flatten_dict(shapes(apart, 6)).keys() - flatten_dict(params).keys()
    assert {path[0] for path in new} == {"stem_maps", "layout_levels", "layout_level_fourier"}

    def new_parts():
        started = apart.init(jax.random.key(0), pair, snr, condition)["params"]
        return {path[0]: started[path[0]] for path in new}

    @jax.jit
    def layouts(params) -> list:
        """Of the released network, of the new one, and of the new one with another level of the layout."""
        other = snr._replace(layout=-snr.layout)
        runs = ((module, snr), (apart, snr), (apart, other))
        return [net.apply({"params": params}, pair, levels, condition).layout for net, levels in runs]

    params = {**params, **jax.jit(new_parts)()}
    released, *started = layouts(params)
    for ours in started:
        assert np.linalg.norm(ours - released) < 1e-5 * np.linalg.norm(released)
    trained = layouts(jax.tree.map(lambda a: a + 0.1, params))
    assert np.linalg.norm(trained[1] - trained[2]) > 1e-3 * np.linalg.norm(trained[1])


@needs_reference
@pytest.mark.parametrize("preset", ["base_128x128", "sr_128x128_256x256"])
def test_every_shape_is_the_released_one(preset):
    stored = json.loads((REFERENCE / "official_parameter_shapes.json").read_text())[preset]
    expected = flat_shapes(stored["config"])
    ours = {
        n: torch_shape(n, expected[p].shape) for n, (p, _) in parameter_names(network(stored["config"]), True).items()
    }

    def plain(shape) -> tuple:
        return tuple(side for side in shape if side != 1)

    assert {name: plain(shape) for name, shape in ours.items()} == {n: plain(s) for n, s in stored["params"].items()}


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("which", ["base", "sr"])
def test_the_released_networks_outputs_and_gradients(which):
    stored = np.load(REFERENCE / f"official_unet_{which}.npz")
    config = json.loads(str(stored["config_json"]))
    weights = {name[2:]: stored[name] for name in stored.files if name.startswith("w/")}
    module, params = convert(weights, config)

    def nhwc(name: str) -> np.ndarray:
        return stored[name].transpose(0, 2, 3, 1)

    lowres = None
    if which == "sr":
        lowres = LowRes(nhwc("lowres_cond_img"), nhwc("lowres_cond_lbl")[..., 0], stored["lowres_noise_times"])
    pair = Pair(nhwc("x"), nhwc("labels")[..., 0].astype(np.int32))
    snr = stored["log_snr"].reshape(-1, 1, 1)
    text = Text(stored["text_embeds"], stored["text_mask"])

    def double(a):
        return jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), a)

    def loss(params):
        """Of the first half, which has the text, beside the outputs of both."""
        drop = np.arange(2 * len(snr)) >= len(snr)
        condition = Condition(text=double(text).without(drop), lowres=double(lowres))
        out = module.apply({"params": params}, double(pair), Pair(*2 * [double(snr)]), condition)
        halves = [Pair(*(side[half] for side in out)) for half in (~drop, drop)]
        return (halves[0].image ** 2).mean() + (halves[0].layout ** 2).mean(), halves

    gradient, (with_text, dropped) = jax.jit(jax.grad(loss, has_aux=True))(params)

    def close(ours, reference) -> bool:
        return float(np.linalg.norm(ours - reference)) < 1e-4 * float(np.linalg.norm(reference))

    for side, name in (("image", "out_img"), ("layout", "out_logits")):
        a, b = np.asarray(getattr(with_text, side)), np.asarray(getattr(dropped, side))
        assert close(a, nhwc(name))
        assert close(b, nhwc(f"{name}_null"))
        assert close(b + 3 * (a - b), nhwc(f"{name}_cfg3"))
    gradient, names = flatten_dict(gradient), parameter_names(module, True)
    expected = {name[5:]: stored[name] for name in stored.files if name.startswith("grad/")}
    assert len(expected) == 4
    for name, reference in expected.items():
        path, bring = names[name]
        assert close(np.asarray(gradient[path]), bring(reference))
