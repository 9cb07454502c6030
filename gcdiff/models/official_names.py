"""The map from the parameters of the paper's released networks to those of `JointUNet`.

Convolution kernels turn from OIHW to HWIO, dense ones from (out, in) to (in, out), and the channels around a pixel
shuffle from (channel, row, column) to (row, column, channel).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gcdiff.models.unet import JointUNet

RESAMPLER_DEPTH = 2
Names = dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]]


def parameter_names(module: JointUNet, text: bool) -> Names:
    """By PyTorch name, the path of the parameter in `module` and the function that converts the array."""
    return _Names(module, text).table


def _transposed(w: np.ndarray) -> np.ndarray:
    """A dense or a 1x1 kernel as (in, out)."""
    return w.reshape(w.shape[0], -1).T if w.ndim > 2 else w.T


def _kernel(w: np.ndarray) -> np.ndarray:
    return w.transpose(2, 3, 1, 0)


def _from_shuffled(w: np.ndarray) -> np.ndarray:
    """The kernel after a pixel-unshuffle: its inputs come as (channel, row, column)."""
    out, channels = w.shape[:2]
    return w.reshape(out, channels // 4, 4).transpose(2, 1, 0).reshape(1, 1, channels, out)


def _to_shuffled(w: np.ndarray) -> np.ndarray:
    """The outputs before a pixel-shuffle, of a kernel or a bias: they go as (channel, row, column)."""
    out = w.reshape(w.shape[0] // 4, 4, -1).transpose(1, 0, 2).reshape(w.shape[0], -1)
    return out[:, 0] if w.ndim == 1 else out.T[None, None]


class _Names:
    def __init__(self, module: JointUNet, text: bool):
        self.table: Names = {}
        self.module = module
        self.add("init_emb_seg.emb_layer.weight", "labels/embedding")
        for i, kernel in enumerate(sorted(module.stem_kernels)):
            self.affine(f"init_conv.convs.{i}", f"stem/conv{kernel}", _kernel)
        self.level("to_time", "level_fourier", "levels")
        if module.lowres:
            self.add("init_emb_seg_lowres.emb_layer.weight", "lowres_labels/embedding")
            self.level("to_lowres_time", "lowres_fourier", "lowres_level")
        self.norm("norm_cond", "norm_context")
        if text:
            self.text()
        self.block("init_resnet_block", "initial", gated=True)
        self.block("final_res_block", "final0", gated=True)
        self.affine("final_conv", "head_image", _kernel)
        self.affine("final_conv_seg", "head_layout", _kernel)
        for i in range(2):
            self.block(f"mid_block{i + 1}", f"middle{i}", cross=f"middle_cross{i}")
        self.attention("mid_attn.fn.fn", "middle_attention", context=False)
        last = len(module.mults) - 1
        for level in range(last + 1):
            down, up = f"downs.{level}", f"ups.{last - level}"
            self.affine(f"{down}.0.1", f"down{level}/conv", _from_shuffled)
            self.stage(level, "encoder", f"{down}.1", f"{down}.2", f"{down}.3")
            self.stage(level, "decoder", f"{up}.0", f"{up}.1", f"{up}.2", skips=True)
            self.affine(f"{up}.3.net.0", f"up{level}/conv", _to_shuffled, _to_shuffled)

    def add(self, name: str, path: str, bring: Callable = lambda w: w) -> None:
        self.table[name] = tuple(path.split("/")), bring

    def affine(self, name: str, path: str, bring: Callable = _transposed, bias: Callable = lambda b: b) -> None:
        self.add(f"{name}.weight", f"{path}/kernel", bring)
        self.add(f"{name}.bias", f"{path}/bias", bias)

    def norm(self, name: str, path: str) -> None:
        self.add(f"{name}.weight", f"{path}/scale")
        self.add(f"{name}.bias", f"{path}/bias")

    def gain(self, name: str, path: str) -> None:
        self.add(f"{name}.g", f"{path}/scale", lambda g: g.reshape(-1))

    def kernel(self, name: str, path: str) -> None:
        self.add(f"{name}.weight", f"{path}/kernel", _transposed)

    def level(self, name: str, fourier: str, path: str) -> None:
        self.add(f"{name}_hiddens.0.weights", f"{fourier}/frequencies")
        self.affine(f"{name}_hiddens.1", f"{path}/dense0")
        self.affine(f"{name}_cond.0", f"{path}/dense1")
        self.affine(f"{name}_tokens.0", f"{path}/tokens")

    def text(self) -> None:
        self.add("null_text_embed", "text/null_tokens", lambda w: w[0])
        self.add("null_text_hidden", "text/null_pooled")
        self.affine("text_to_cond", "text/project")
        self.norm("to_text_non_attn_cond.0", "text/norm")
        self.affine("to_text_non_attn_cond.1", "text/pooled0")
        self.affine("to_text_non_attn_cond.3", "text/pooled1")
        self.add("attn_pool.latents", "text/resampler/latents")
        self.add("attn_pool.pos_emb.weight", "text/resampler/positions")
        self.gain("attn_pool.to_latents_from_mean_pooled_seq.0", "text/resampler/norm_pooled")
        self.affine("attn_pool.to_latents_from_mean_pooled_seq.1", "text/resampler/pooled")
        for i in range(RESAMPLER_DEPTH):
            name, path = f"attn_pool.layers.{i}", f"text/resampler/attention{i}"
            self.norm(f"{name}.0.norm", f"{path}/norm")
            self.norm(f"{name}.0.norm_latents", f"{path}/norm_latents")
            self.kernel(f"{name}.0.to_q", f"{path}/q")
            self.kernel(f"{name}.0.to_kv", f"{path}/kv")
            self.kernel(f"{name}.0.to_out.0", f"{path}/out")
            self.norm(f"{name}.0.to_out.1", f"{path}/norm_out")
            self.feed_forward(f"{name}.1", f"text/resampler/feed_forward{i}")

    def feed_forward(self, name: str, path: str) -> None:
        self.gain(f"{name}.0", f"{path}/norm")
        self.kernel(f"{name}.1", f"{path}/up")
        self.gain(f"{name}.3", f"{path}/norm_up")
        self.kernel(f"{name}.4", f"{path}/down")

    def attention(self, name: str, path: str, context: bool) -> None:
        self.add(f"{name}.null_kv", f"{path}/null")
        self.gain(f"{name}.norm", f"{path}/norm")
        self.kernel(f"{name}.to_q", f"{path}/q")
        self.kernel(f"{name}.to_kv", f"{path}/kv")
        self.kernel(f"{name}.to_out.0", f"{path}/out")
        self.gain(f"{name}.to_out.1", f"{path}/norm_out")
        if context:
            self.norm(f"{name}.to_context.0", f"{path}/norm_context")
            self.affine(f"{name}.to_context.1", f"{path}/context")

    def block(self, name: str, path: str, gated: bool = False, cross: str | None = None, skip: bool = False) -> None:
        self.affine(f"{name}.time_mlp.1", f"{path}/film")
        for i in (1, 2):
            self.norm(f"{name}.block{i}.groupnorm", f"{path}/norm{i}/GroupNorm_0")
            self.affine(f"{name}.block{i}.project", f"{path}/conv{i}", _kernel)
        if cross is not None:
            self.attention(f"{name}.cross_attn.fn", cross, context=False)
        if gated:
            self.affine(f"{name}.gca.to_k", f"{path}/gate/scores", _kernel)
            self.affine(f"{name}.gca.net.0", f"{path}/gate/down")
            self.affine(f"{name}.gca.net.2", f"{path}/gate/up")
        if skip:
            self.affine(f"{name}.res_conv", f"{path}/skip", _kernel)

    def stage(self, level: int, side: str, first: str, rest: str, attention: str, skips: bool = False) -> None:
        path, module = f"{side}{level}", self.module
        cross = f"{path}_cross" if module.cross_attention[level] else None
        self.block(first, f"{path}_block0", cross=cross, skip=skips)
        for i in range(module.blocks[level] - 1):
            self.block(f"{rest}.{i}", f"{path}_block{i + 1}", gated=True, skip=skips)
        if module.attention[level]:
            self.attention(f"{attention}.layers.0.0.fn", f"{path}_attention/attention", context=True)
            self.feed_forward(f"{attention}.layers.0.1", f"{path}_attention/feed_forward")
