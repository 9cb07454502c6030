"""CLIP score: the cosine of the vectors that CLIP gives an image and its caption (Radford et al. 2021).

Park et al. (2023) report it unscaled, with ViT-L/14-336, about .2; others report 100 times it, and Hessel et al. (2021)
2.5 times its positive part. Here it is the cosine, negative ones included, times a scale that the convention names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcdiff.evaluation.features import ClipFeatures, convention
from gcdiff.evaluation.measure import Measure, Sums, ratio, summed
from gcdiff.text.clip import ClipTextEncoder
from gcdiff.text.encoder import TextEncoder
from gcdiff.text.images import ImageEncoder


def caption_cosines(
    images: np.ndarray, captions: Sequence[str], image_encoder: ImageEncoder, text_encoder: TextEncoder
) -> np.ndarray:
    """The cosine of each image uint8 (N, H, W, 3) with its caption: float64 (N,).

    Raises ValueError for other numbers of images than of captions, for towers that are not of one checkpoint (the same
    commit of the hub, or the same weights in a directory), and for a caption that is longer than the tower's limit:
    nothing is cut.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions, expected as many of both")
    texts = isinstance(text_encoder.module, ClipTextEncoder)
    if not texts or text_encoder.phrase_features != image_encoder.features:
        said = f"{text_encoder.model_id} gives {text_encoder.phrase_features} features of a text"
        raise ValueError(f"{said}, expected CLIP's text tower with {image_encoder.features}, as the image tower has")
    mine, theirs = image_encoder.checkpoint, text_encoder.checkpoint
    if mine.revision != theirs.revision:
        said = f"the image tower is of {mine.source} {mine.revision}, the text tower of {theirs.source}"
        raise ValueError(f"{said} {theirs.revision}, expected one checkpoint")
    x, y = (np.asarray(v, np.float64) for v in (image_encoder.encode(images), text_encoder.phrases(captions)))
    return (x * y).sum(axis=1) / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1), 1e-30)


def clip_sums(
    images: np.ndarray,
    captions: Sequence[str],
    ids: np.ndarray,
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
) -> Sums:
    """The cosines of a batch with its ids, summed, for `clip_score`."""
    cosines = caption_cosines(images, captions, image_encoder, text_encoder)
    told = convention(ClipFeatures(image_encoder), images)
    told["text extractor"] = f"CLIP text tower {text_encoder.model_id} {text_encoder.revision}"
    return summed(ids, np.stack([cosines, np.ones(len(cosines))], -1), told)


def clip_score(sums: Sums, scale: float = 1.0) -> Measure:
    """The mean cosine times `scale`: 1, as in the paper, or 100."""
    return sums.measure(lambda total: scale * ratio(total), (-scale, scale), units=f"cosine x {scale:g}")
