"""Makes tests/text/fixtures: tiny encoders with random weights, in float16, and what transformers computes with them.

    python tests/text/make_fixtures.py [--out DIR]

Needs torch. Each folder is a checkpoint with a file expected.npz of inputs and outputs, in float32.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, T5Config, T5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CAPTIONS = [
    "A foggy street with two red cars.",
    "An image of an urban street view with Buildings, Roads and Cars.",
    "This young woman has brown hair and is smiling; she wears lipstick.",
    "A night-time street, a blue car and a tree on the right side of the road.",
]
T5_WORDS, CLIP_WORDS = 64, 120
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 12, "patch_size": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "fixtures")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    for name, feed_forward in (("t5_relu", "relu"), ("t5_gated", "gated-gelu")):
        save(out / name, t5(feed_forward), t5_outputs)
    for name, activation, end in (("clip_quick", "quick_gelu", 2), ("clip_gelu", "gelu", CLIP_WORDS - 1)):
        save(out / name, clip(activation, end), clip_outputs)
        preparation = {"size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}, "resample": 3}
        (out / name / "preprocessor_config.json").write_text(json.dumps(preparation) + "\n")
    t5_tokenizers(out)
    clip_tokenizers(out)
    print(f"{sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) / 1000:.0f} kB")


def t5(feed_forward: str) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=T5_WORDS, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, feed_forward_proj=feed_forward
        )
    )


def clip(activation: str, end: int) -> CLIPModel:
    text = {"vocab_size": CLIP_WORDS, "max_position_embeddings": 77, "eos_token_id": end, "bos_token_id": 1}
    text |= {k: v for k, v in VISION.items() if not k.endswith("_size") or k.startswith(("hidden", "inter"))}
    both = {"hidden_act": activation}
    return CLIPModel(CLIPConfig(text_config=text | both, vision_config=VISION | both, projection_dim=8))


def randomise(model: torch.nn.Module) -> None:
    """Weights that float16 holds, of which every one matters: no gain is 1 and no bias 0."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        gain = "norm" in name and name.endswith("weight")
        scale = 1 if p.ndim > 1 and "embed" in name else p.shape[-1] ** -0.5 if p.ndim > 1 else 0.3
        p.data = (gain + scale * noise).half().float()


def save(folder: Path, model: torch.nn.Module, outputs) -> None:
    randomise(model)
    model.eval()
    with torch.no_grad():
        expected = outputs(model)
    model.half().save_pretrained(folder)
    np.savez_compressed(folder / "expected.npz", **{k: np.asarray(v) for k, v in expected.items()})


def padded(words: int, length: int, counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids that end with the highest, 0 on padding, and the mask."""
    ids = torch.randint(1, words - 1, (len(counts), length), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(length)[None] < torch.tensor(counts)[:, None]
    ids[torch.arange(len(counts)), torch.tensor(counts) - 1] = words - 1
    return ids * mask, mask


def t5_outputs(model: T5EncoderModel) -> dict:
    ids, mask = padded(T5_WORDS, 256, [256, 90])
    states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return {"ids": ids.int(), "mask": mask, "features": states * mask[..., None]}


def clip_outputs(model: CLIPModel) -> dict:
    ids, mask = padded(CLIP_WORDS, 77, [77, 20, 3])
    text = model.text_model(input_ids=ids, attention_mask=mask.long())
    photo = np.random.default_rng(2).integers(0, 256, (17, 31, 3), np.uint8)
    size = {"size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}}
    pixels = CLIPImageProcessorPil(**size)(Image.fromarray(photo), return_tensors="pt")["pixel_values"]
    return {
        "ids": ids.int(),
        "mask": mask,
        "features": text.last_hidden_state * mask[..., None],
        "phrases": model.text_projection(text.pooler_output),
        "photo": photo,
        "pixels": pixels.permute(0, 2, 3, 1),
        "images": model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output),
        "scale": model.logit_scale.exp(),
    }


def t5_tokenizers(out: Path) -> None:
    """A sentencepiece model for t5_relu, and the same vocabulary as tokenizer.json for t5_gated."""
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_writer=written, vocab_size=T5_WORDS - 4, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    (out / "t5_relu" / "spiece.model").write_bytes(written.getvalue())
    model = SentencePieceProcessor(model_proto=written.getvalue())
    vocabulary = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.vocab_size())]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    pieces = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pieces])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    # As files of the hub may: they must not cut or pad here.
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(out / "t5_gated" / "tokenizer.json"), pretty=False)


def clip_tokenizers(out: Path) -> None:
    """Byte pairs as CLIP has them: tokenizer.json for clip_gelu, vocab.json and merges.txt for clip_quick."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    vocabulary, merges = byte_pairs()
    tokenizer.model = models.BPE(vocabulary, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    start, end = ((word, vocabulary[word]) for word in ("<|startoftext|>", "<|endoftext|>"))
    tokenizer.add_special_tokens([start[0], end[0]])
    tokenizer.post_processor = processors.RobertaProcessing(end, start, False, False)
    tokenizer.save(str(out / "clip_gelu" / "tokenizer.json"), pretty=False)
    (out / "clip_quick" / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(m) for m in merges), ""]
    (out / "clip_quick" / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP_WORDS tokens: the letters, alone and at the end of a word, and beginnings of the captions' words."""
    text = " ".join(CAPTIONS).lower()
    order = [letter + end for letter in sorted(set(text) - {" "}) for end in ("", "</w>")]
    merges = []
    for word in text.split():
        letters = [*word[:-1], f"{word[-1]}</w>"]
        for i in range(1, len(letters)):
            pair = "".join(letters[:i]), letters[i]
            if "".join(pair) not in order and len(order) < CLIP_WORDS - 2:
                merges.append(pair)
                order.append("".join(pair))
    return {w: i for i, w in enumerate([*order, "<|startoftext|>", "<|endoftext|>"])}, merges


if __name__ == "__main__":
    main()
