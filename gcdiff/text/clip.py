"""The text tower and the image tower of CLIP (Radford et al. 2021).

Both are transformers with pre-normalisation. Attention is causal among a text's tokens and full among an image's
patches. The embedding of a text is a linear projection of the last state of its end token; that of an image projects
the last state of its class token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.text.blocks import MASKED, Dense, LayerNorm, attend
from gcdiff.weights.convert import Plan, Table, dense, joined, patches, same
from gcdiff.weights.fields import Fields

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": lambda x: nn.gelu(x, approximate=False),
}
LEGACY_END = 2
"""The wrong eos_token_id of old configurations: with it the end token is the one with the highest id."""


class Transformer(nn.Module):
    """`layers` times attention and a two-layer network, each after a norm: x (B, T, D) -> float32 (B, T, D).

    `bias` is added to the attention scores (B, H, T, T).
    """

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> Array:
        features, act = x.shape[-1], ACTIVATIONS[self.activation]
        scale = (features // self.heads) ** -0.5
        for i in range(self.layers):
            h = LayerNorm(self.epsilon, name=f"norm{i}a")(x)
            h = Dense(3 * features, True, self.dtype, name=f"qkv{i}")(h)
            x = x + Dense(features, True, self.dtype, name=f"out{i}")(attend(h, self.heads, bias, scale, self.dtype))
            h = LayerNorm(self.epsilon, name=f"norm{i}b")(x)
            h = act(Dense(self.hidden, True, self.dtype, name=f"up{i}")(h))
            x = x + Dense(features, True, self.dtype, name=f"down{i}")(h)
        return x


class ClipTextEncoder(nn.Module):
    """Token ids int32 (B, T) and a mask bool (B, T), True on tokens -> normalised last states float32 (B, T, features).

    States are zero where the mask is False, and do not depend on the amount of padding. T is at most `positions`. `end`
    is the id of the end token, or LEGACY_END where the end token is the one with the highest id.
    """

    vocabulary: int
    features: int
    layers: int
    heads: int
    hidden: int
    positions: int = 77
    activation: str = "quick_gelu"
    end: int = LEGACY_END
    projection: int | None = None
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    def __call__(self, ids: Array, mask: Array) -> Array:
        return self.both(ids, mask)[0]

    def phrases(self, ids: Array, mask: Array) -> Array:
        """The embedding of each text, projected but not normalised: float32 (B, projection).

        A model without a projection gives the last state of the end token, float32 (B, features).
        """
        return self.both(ids, mask)[1]

    @nn.compact
    def both(self, ids: Array, mask: Array) -> tuple[Array, Array]:
        """The last states and the embedding of each text."""
        length = ids.shape[1]
        if length > self.positions:
            raise ValueError(f"a text has {length} tokens, the limit is {self.positions}")
        init = nn.initializers.normal(0.02)
        table = self.param("tokens", init, (self.vocabulary, self.features))
        positions = self.param("positions", init, (self.positions, self.features))
        x = table[ids].astype(jnp.float32) + positions[:length].astype(jnp.float32)
        visible = jnp.tril(jnp.ones((length, length), bool)) & mask[:, None, None, :]
        settings = (self.layers, self.heads, self.hidden, self.activation, self.epsilon, self.dtype)
        x = Transformer(*settings, name="layers")(x, jnp.where(visible, 0.0, MASKED))
        x = LayerNorm(self.epsilon, name="norm")(x)
        ends = jnp.where(mask, ids if self.end == LEGACY_END else ids == self.end, -1).argmax(axis=1)
        last = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        if self.projection is not None:
            last = Dense(self.projection, dtype=self.dtype, name="project")(last)
        return jnp.where(mask[..., None], x, 0.0), last


class ClipImageEncoder(nn.Module):
    """Preprocessed images float32 (B, size, size, 3) -> their embeddings, not normalised: float32 (B, projection)."""

    features: int
    layers: int
    heads: int
    hidden: int
    size: int
    patch: int
    projection: int
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        if images.shape[1:] != (self.size, self.size, 3):
            raise ValueError(f"images have shape {images.shape}, expected (B, {self.size}, {self.size}, 3)")
        count, p, init = self.size // self.patch, self.patch, nn.initializers.normal(0.02)
        x = images[:, : count * p, : count * p].reshape(-1, count, p, count, p, 3).transpose(0, 1, 3, 2, 4, 5)
        x = Dense(self.features, dtype=self.dtype, name="patches")(x.reshape(-1, count * count, p * p * 3))
        whole = self.param("whole", init, (self.features,)).astype(jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(whole, (len(x), 1, self.features)), x], axis=1)
        x = x + self.param("positions", init, (count * count + 1, self.features)).astype(jnp.float32)
        x = LayerNorm(self.epsilon, name="norm_in")(x)
        settings = (self.layers, self.heads, self.hidden, self.activation, self.epsilon, self.dtype)
        x = Transformer(*settings, name="layers")(x, jnp.zeros((1, 1, 1, 1)))
        x = LayerNorm(self.epsilon, name="norm")(x[:, 0])
        return Dense(self.projection, dtype=self.dtype, name="project")(x)


def text_plan(config: Mapping[str, Any], where: str, names: Collection[str], dtype: Any) -> Plan:
    """The text tower that a checkpoint's configuration describes; `where` is the file it was read from.

    `names` are the names of the checkpoint's arrays. Raises ValueError, in one line, for a field of another type or out
    of range.
    """
    read, whole = _fields(config, "text", where)
    projects = "text_projection.weight" in names
    module = ClipTextEncoder(
        vocabulary=read.count("vocab_size", 49408),
        **_transformer(read, 512, 8),
        positions=read.count("max_position_embeddings", 77),
        end=read.count("eos_token_id", 49407, least=0),
        projection=whole.count("projection_dim", 512) if projects else None,
        dtype=dtype,
    )
    prefix = _prefix("text_model.", names)
    table: Table = {
        ("tokens",): same(f"{prefix}embeddings.token_embedding.weight"),
        ("positions",): same(f"{prefix}embeddings.position_embedding.weight"),
        **_norm("norm", f"{prefix}final_layer_norm"),
        **_layers(module.layers, prefix),
    }
    if projects:
        table["project", "kernel"] = dense("text_projection.weight")
    ids = jnp.zeros((1, 1), jnp.int32)
    spare = ("vision_model.", "visual_projection.", "logit_scale", f"{prefix}embeddings.position_ids")
    end = None if module.end == LEGACY_END else module.end
    return Plan(module, (ids, ids == 0), table, spare, end, module.positions)


def image_plan(config: Mapping[str, Any], where: str, names: Collection[str], dtype: Any) -> Plan:
    """The image tower of a checkpoint, as `text_plan`."""
    read, whole = _fields(config, "vision", where)
    module = ClipImageEncoder(
        **_transformer(read, 768, 12),
        size=read.count("image_size", 224),
        patch=read.count("patch_size", 32),
        projection=whole.count("projection_dim", 512),
        dtype=dtype,
    )
    prefix = _prefix("vision_model.", names)
    table: Table = {
        ("whole",): same(f"{prefix}embeddings.class_embedding"),
        ("patches", "kernel"): patches(f"{prefix}embeddings.patch_embedding.weight", module.patch),
        ("positions",): same(f"{prefix}embeddings.position_embedding.weight"),
        ("project", "kernel"): dense("visual_projection.weight"),
        **_norm("norm_in", f"{prefix}pre_layrnorm"),  # the name has this spelling
        **_norm("norm", f"{prefix}post_layernorm"),
        **_layers(module.layers, prefix),
    }
    spare = ("text_model.", "text_projection.", "logit_scale", f"{prefix}embeddings.position_ids")
    return Plan(module, (jnp.zeros((1, module.size, module.size, 3)),), table, spare)


def _prefix(prefix: str, names: Collection[str]) -> str:
    """The prefix of the array names: "" where a tower was saved alone, without it."""
    return prefix if any(name.startswith(prefix) for name in names) else ""


def _transformer(read: Fields, features: int, heads: int) -> dict[str, Any]:
    hidden = 4 * features
    features, heads = read.count("hidden_size", features), read.count("num_attention_heads", heads)
    if features % heads:
        raise ValueError(
            f"{read.where}: hidden_size is {features}, expected a multiple of num_attention_heads, {heads}"
        )
    return {
        "features": features,
        "layers": read.count("num_hidden_layers", 12),
        "heads": heads,
        "hidden": read.count("intermediate_size", hidden),
        "activation": read.choice("hidden_act", "quick_gelu", ACTIVATIONS),
        "epsilon": read.number("layer_norm_eps", 1e-5),
    }


def _fields(config: Mapping[str, Any], side: str, where: str) -> tuple[Fields, Fields]:
    """The fields of a tower, and those of the whole model; the same where a tower was saved alone."""
    whole = Fields(config, where)
    if config.get("model_type") != "clip":
        return whole, whole
    # Old files may have the fields twice; then the second copy counts, with defaults for fields it lacks.
    name = f"{side}_config" if config.get(f"{side}_config_dict") is None else f"{side}_config_dict"
    return whole.part(name), whole


def _norm(path: str, name: str, *above: str) -> Table:
    return {(*above, path, "scale"): same(f"{name}.weight"), (*above, path, "bias"): same(f"{name}.bias")}


def _layers(layers: int, prefix: str) -> Table:
    table: Table = {}
    for i in range(layers):
        at = f"{prefix}encoder.layers.{i}"
        table |= _norm(f"norm{i}a", f"{at}.layer_norm1", "layers") | _norm(f"norm{i}b", f"{at}.layer_norm2", "layers")
        for path, names in (
            (f"qkv{i}", [f"self_attn.{p}_proj" for p in "qkv"]),
            (f"out{i}", ["self_attn.out_proj"]),
            (f"up{i}", ["mlp.fc1"]),
            (f"down{i}", ["mlp.fc2"]),
        ):
            table["layers", path, "kernel"] = dense(*(f"{at}.{name}.weight" for name in names))
            table["layers", path, "bias"] = joined(*(f"{at}.{name}.bias" for name in names))
    return table
