"""The networks of the paper (Park et al. 2023), and their released weights as parameters of `JointUNet`.

`network(config)` is the module of a released constructor's configuration; `convert` brings weights under their PyTorch
names into its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gcdiff.models.official_names import parameter_names
from gcdiff.models.unet import JointUNet
from gcdiff.types import Condition, LowRes, Pair, Text

DEFAULTS = {
    "dim": 128,
    "dim_mults": (1, 2, 4, 8),
    "num_resnet_blocks": 1,
    "layer_attns": (False, False, False, True),
    "layer_cross_attns": (False, True, True, True),
    "attn_heads": 8,
    "attn_dim_head": 64,
    "ff_mult": 2.0,
    "num_classes": 19,
    "channels": 3,
    "channels_lbl": 3,
    "cond_dim": None,
    "text_embed_dim": 1024,
    "max_text_len": 256,
    "attn_pool_num_latents": 32,
    "num_time_tokens": 2,
    "learned_sinu_pos_emb_dim": 16,
    "init_cross_embed_kernel_sizes": (3, 7, 15),
    "final_conv_kernel_size": 3,
    "cond_on_text": True,
    "lowres_cond": False,
}
"""What a configuration may say, with the values of the released constructor."""
FIXED = {
    "memory_efficient": True,
    "attend_at_middle": True,
    "layer_attns_depth": 1,
    "layer_attns_add_text_cond": True,
    "use_linear_attn": False,
    "use_linear_cross_attn": False,
    "resnet_groups": 8,
    "init_cross_embed": True,
    "cross_embed_downsample": False,
    "attn_pool_text": True,
    "dropout": 0.0,
    "init_conv_to_final_conv_residual": False,
    "use_global_context_attn": True,
    "scale_skip_connection": True,
    "final_resnet_block": True,
    "self_cond": False,
    "cosine_sim_attn": False,
    "combine_upsample_fmaps": False,
    "pixel_shuffle_upsample": True,
    "cond_images_channels": 0,
}
"""The options that a configuration may have with this value alone."""
MIDDLE_HEADS, MIDDLE_HEAD_DIM = 8, 64
WITHOUT_MEANING = ("image_embed_dim", "num_image_tokens", "init_conv_kernel_size", "resize_mode")
WITHOUT_MEANING += ("cross_embed_downsample_kernel_sizes",)


def fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `JointUNet` for the configuration of a released network's constructor.

    Raises ValueError, in one line, for an option that does not exist and for one these networks do not have.
    """
    c = dict(DEFAULTS)
    for name, value in config.items():
        if value is None or name in WITHOUT_MEANING:
            continue
        if name in FIXED and value != FIXED[name]:
            raise ValueError(f"the network's {name} is {value!r}, expected {FIXED[name]!r}")
        if name not in FIXED and name not in DEFAULTS:
            raise ValueError(f"the network's option {name!r} is not known: expected {', '.join(sorted(DEFAULTS))}")
        c[name] = value
    levels = len(c["dim_mults"])

    def each(name: str) -> tuple:
        value = c[name]
        value = tuple(value) if isinstance(value, list | tuple) else (value,) * levels
        if len(value) != levels:
            raise ValueError(f"the network's {name} is {value!r}, expected {levels} values, one for each level")
        return value

    return {
        "image_channels": c["channels"],
        "num_classes": c["num_classes"],
        "dim": c["dim"],
        "mults": tuple(c["dim_mults"]),
        "blocks": tuple(n + 1 for n in each("num_resnet_blocks")),
        "attention": tuple(map(bool, each("layer_attns"))),
        "cross_attention": tuple(map(bool, each("layer_cross_attns"))),
        "heads": c["attn_heads"],
        "head_dim": c["attn_dim_head"],
        "stem": 2,
        "stem_kernels": tuple(c["init_cross_embed_kernel_sizes"]),
        "label_features": c["channels_lbl"],
        "final_dim": c["dim"],
        "final_blocks": 1,
        "final_kernel": c["final_conv_kernel_size"],
        "hide_unknown_image": False,
        "lowres": bool(c["lowres_cond"]),
        "text_features": c["cond_dim"] or c["dim"],
        "full_resolution": True,
        "gates": True,
        "imagen_attention": True,
        "feed_forward": float(c["ff_mult"]),
        "middle_attention": True,
        "middle_heads": MIDDLE_HEADS,
        "middle_head_dim": MIDDLE_HEAD_DIM,
        "attention_skips": True,
        "learned_levels": True,
        "level_bands": c["learned_sinu_pos_emb_dim"] // 2,
        "level_tokens": c["num_time_tokens"],
        "level_inputs": "image",
        "text_latents": c["attn_pool_num_latents"],
        "text_length": c["max_text_len"],
        "embedding": 8 if c["lowres_cond"] else 4,
        "remat": (False,),
    }


def network(config: Mapping[str, Any]) -> JointUNet:
    """The network for the configuration of a released network's constructor."""
    return JointUNet(**fields(config))


def shapes(module: JointUNet, text_features: int | None) -> dict:
    """The shapes and types of a network's parameters; `text_features` is the width of a token, None without text."""
    size = 2 ** len(module.mults)
    text = None if text_features is None else Text(jnp.zeros((1, 1, text_features)), jnp.ones((1, 1), bool))
    image, layout = jnp.zeros((1, size, size, module.image_channels)), jnp.zeros((1, size, size), jnp.int32)
    lowres = LowRes(image, layout, jnp.zeros(1)) if module.lowres else None
    snr = Pair(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)))
    condition = Condition(text=text, lowres=lowres)
    return jax.eval_shape(lambda: module.init(jax.random.key(0), Pair(image, layout), snr, condition))["params"]


def convert(weights: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> tuple[JointUNet, dict]:
    """Convert a released network's weights and configuration: (module, params).

    `module.apply({"params": params}, Pair(image, layout), Pair(log_snr, log_snr), condition)` is what it computes, in
    NHWC: image float32 (B, h, w, 3), layout int32 (B, h, w), log_snr (B, 1, 1), text (B, T, text_embed_dim), and for a
    super-resolution network `condition.lowres`, whose level is the log-SNR of the augmentation.

    Raises ValueError, naming the parameter, for one that is missing, too many, or of another shape.

    >>> from gcdiff.models.official import convert
    >>> module, params = convert(weights, config)  # arrays under their PyTorch names, the constructor's arguments
    >>> module.num_classes == config["num_classes"]
    True
    """
    module = network(config)
    text = config.get("text_embed_dim", DEFAULTS["text_embed_dim"]) if config.get("cond_on_text", True) else None
    expected: dict[tuple[str, ...], Any] = flatten_dict(shapes(module, text))
    names = parameter_names(module, text is not None)
    if unknown := sorted(set(weights) - set(names)):
        raise ValueError(f"the weights hold {_some(unknown)}, which this network does not have")
    if missing := sorted(set(names) - set(weights)):
        raise ValueError(f"the weights lack {_some(missing)}, which this network has")
    flat = {}
    for name, (path, bring) in names.items():
        weight = np.asarray(weights[name], np.float32)
        try:
            value = bring(weight)
        except (ValueError, IndexError):
            value = weight
        if value.shape != expected[path].shape:
            raise ValueError(f"weight {name} has shape {weight.shape}, which does not fit {expected[path].shape}")
        flat[path] = value
    return module, unflatten_dict(flat)


def _some(names: list[str], limit: int = 3) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def infer(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Infer the constructor's configuration from the PyTorch names and the shapes of weights.

    Raises ValueError, naming the first parameter that is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in weights:
            raise ValueError(f"the weights lack {name}: expected those of the paper's network")
        return tuple(weights[name].shape)

    def count(pattern: str) -> int:
        return next(i for i in range(len(weights) + 1) if not any(n.startswith(pattern.format(i)) for n in weights))

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in weights)

    def attends(level: int) -> bool:
        return has(f"downs.{level}.3.layers.")

    convs, levels = count("init_conv.convs.{}."), count("downs.{}.")
    dim = sum(shape(f"init_conv.convs.{i}.weight")[0] for i in range(convs))
    cond_dim, text = shape("norm_cond.weight")[0], "text_to_cond.weight" in weights
    head_dim = shape("mid_attn.fn.fn.null_kv")[1]
    config = {
        "dim": dim,
        "dim_mults": [shape(f"downs.{i}.0.1.weight")[0] // dim for i in range(levels)],
        "num_resnet_blocks": [count(f"downs.{i}.2.{{}}.") for i in range(levels)],
        "layer_attns": [attends(i) for i in range(levels)],
        "layer_cross_attns": [has(f"downs.{i}.1.cross_attn.") for i in range(levels)],
        "attn_heads": shape("mid_attn.fn.fn.to_q.weight")[0] // head_dim,
        "attn_dim_head": head_dim,
        "num_classes": shape("init_emb_seg.emb_layer.weight")[0],
        "channels_lbl": shape("init_emb_seg.emb_layer.weight")[1],
        "channels": shape("final_conv.weight")[0],
        "cond_dim": cond_dim,
        "num_time_tokens": shape("to_time_tokens.0.weight")[0] // cond_dim,
        "learned_sinu_pos_emb_dim": 2 * shape("to_time_hiddens.0.weights")[0],
        "init_cross_embed_kernel_sizes": [shape(f"init_conv.convs.{i}.weight")[-1] for i in range(convs)],
        "final_conv_kernel_size": shape("final_conv.weight")[-1],
        "cond_on_text": text,
        "lowres_cond": has("to_lowres_time_hiddens."),
    }
    if text:
        config["text_embed_dim"] = shape("text_to_cond.weight")[1]
        config["max_text_len"] = shape("null_text_embed")[1]
        config["attn_pool_num_latents"] = shape("attn_pool.latents")[0]
    for level in filter(attends, range(levels)):
        wide, narrow = shape(f"downs.{level}.3.layers.0.1.1.weight")[:2]
        config["ff_mult"] = wide / narrow
    return config
