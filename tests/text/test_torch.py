"""Random encoders that transformers saves: one file or several, in three types, equal to PyTorch at full lengths."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff.text import clip, t5
from gcdiff.weights.convert import convert
from gcdiff.weights.huggingface import find

torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
FORMS = [(kind, shards) for kind in ("float32", "bfloat16", "float16") for shards in (False, True)]


def t5_model(feed_forward: str):
    fields = {"vocab_size": 50, "d_model": 48, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}
    return transformers.T5EncoderModel(transformers.T5Config(**fields, feed_forward_proj=feed_forward))


def clip_model(activation: str):
    both = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    both["hidden_act"] = activation
    text = {**both, "vocab_size": 50, "eos_token_id": 49, "bos_token_id": 48}
    vision = {**both, "image_size": 32, "patch_size": 8}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))


def saved(model, kind: str, shards: bool, place: Path):
    """The model with weights of this type, saved, and then in float32."""
    model.to(getattr(torch, kind)).save_pretrained(place, **({"max_shard_size": "30KB"} if shards else {}))
    assert len(list(place.glob("*.safetensors"))) > 1 if shards else (place / "model.safetensors").is_file()
    return model.float().eval()


def texts(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids that end with 49, and the mask."""
    counts = np.array([length, length // 3, 2])
    ids = np.random.default_rng(0).integers(1, 48, (3, length)).astype(np.int32)
    ids[range(3), counts - 1] = 49
    mask = np.arange(length) < counts[:, None]
    return ids * mask, mask


def loaded(place: Path, plan_of, *names):
    """The plan's module and parameters, without a tokenizer."""
    checkpoint = find(place)
    weights = checkpoint.weights()
    plan = plan_of(checkpoint.config(), str(place), *([weights.keys()] if names else []), np.dtype("float32"))
    return plan.module, convert(weights, plan, str(place))


@functools.partial(jax.jit, static_argnums=(0, 2))
def run(module, params, method, *inputs):
    return module.apply({"params": params}, *inputs, method=method)


def assert_near(actual, wanted) -> None:
    np.testing.assert_allclose(actual, wanted.detach().numpy(), rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_t5(feed_forward, tmp_path):
    ids, mask = texts(256)
    for i, form in enumerate(FORMS):
        model = saved(t5_model(feed_forward), *form, tmp_path / str(i))
        module, params = loaded(tmp_path / str(i), t5.plan)
        wanted = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask).long()).last_hidden_state
        assert_near(run(module, params, None, ids, mask), wanted * torch.tensor(mask)[..., None])


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip(activation, tmp_path):
    ids, mask = texts(77)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    for i, form in enumerate(FORMS):
        model = saved(clip_model(activation), *form, tmp_path / str(i))
        module, params = loaded(tmp_path / str(i), clip.text_plan, "names")
        features, phrases = run(module, params, "both", ids, mask)
        wanted = model.text_model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask).long())
        assert_near(features, wanted.last_hidden_state * torch.tensor(mask)[..., None])
        assert_near(phrases, model.text_projection(wanted.pooler_output))
        module, params = loaded(tmp_path / str(i), clip.image_plan, "names")
        pixels = torch.tensor(images).permute(0, 3, 1, 2)
        wanted = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        assert_near(run(module, params, None, images), wanted)


@pytest.mark.parametrize("projects", [False, True])
def test_a_text_tower_alone(projects, tmp_path):
    whole = clip_model("gelu")
    config = whole.config.text_config
    config.projection_dim = 24
    kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    saved(kind(config), "float32", False, tmp_path)
    module, params = loaded(tmp_path, clip.text_plan, "names")
    assert module.projection == (24 if projects else None)
    assert ("project" in params) == projects


def test_weights_of_pytorch_are_read_without_running_what_they_hold(tmp_path):
    model = saved(t5_model("relu"), "bfloat16", False, tmp_path)
    _, wanted = loaded(tmp_path, t5.plan)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.bfloat16().state_dict(), tmp_path / "pytorch_model.bin")
    jax.tree.map(np.testing.assert_array_equal, loaded(tmp_path, t5.plan)[1], wanted)
    torch.save({"shared.weight": tmp_path.rmdir}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin: not weights that PyTorch can read"):
        loaded(tmp_path, t5.plan)
