"""CLIP score: the cosine similarity of CLIP's embeddings of an image and its caption (Radford et al. 2021).

Park et al. (2023) report the plain cosine, about .2 with ViT-L/14-336; others report 100 times it, and Hessel et al.
(2021) 2.5 times its positive part. Here it is the cosine, also where negative, times a scale named in the convention.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcdiff.evaluation.features import ClipFeatures, convention
from gcdiff.evaluation.measure import Measure, Sums, grouped_sums, ratio
from gcdiff.text.clip import ClipTextEncoder
from gcdiff.text.encoder import TextEncoder
from gcdiff.text.images import ImageEncoder


def caption_cosines(
    images: np.ndarray, captions: Sequence[str], image_encoder: ImageEncoder, text_encoder: TextEncoder
) -> np.ndarray:
    """The cosine similarity of each image uint8 (N, H, W, 3) with its caption: float64 (N,).

    Raises ValueError where the numbers of images and captions differ, for towers of different checkpoints (another
    commit of the hub, or other weights in a directory), and for a caption longer than the text tower's limit: captions
    are never cut.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions, expected as many of both")
    is_clip = isinstance(text_encoder.module, ClipTextEncoder)
    if not is_clip or text_encoder.phrase_features != image_encoder.features:
        actual = f"{text_encoder.model_id} gives {text_encoder.phrase_features} features of a text"
        raise ValueError(f"{actual}, expected CLIP's text tower with {image_encoder.features}, as the image tower has")
    image, text = image_encoder.checkpoint, text_encoder.checkpoint
    if image.revision != text.revision:
        sources = f"the image tower is of {image.source} {image.revision}, the text tower of {text.source}"
        raise ValueError(f"{sources} {text.revision}, expected one checkpoint")
    x, y = (np.asarray(v, np.float64) for v in (image_encoder.encode(images), text_encoder.phrases(captions)))
    return (x * y).sum(axis=1) / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1), 1e-30)


def clip_sums(
    images: np.ndarray,
    captions: Sequence[str],
    ids: np.ndarray,
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
) -> Sums:
    """The summed cosines of a batch of images with their captions and ids, for `clip_score`."""
    cosines = caption_cosines(images, captions, image_encoder, text_encoder)
    towers = convention(ClipFeatures(image_encoder), images)
    towers["text extractor"] = f"CLIP text tower {text_encoder.model_id} {text_encoder.revision}"
    return grouped_sums(ids, np.stack([cosines, np.ones(len(cosines))], -1), towers)


def clip_score(sums: Sums, scale: float = 1.0) -> Measure:
    """The mean cosine times `scale`: 1 as in Park et al. (2023), or 100."""
    return sums.measure(lambda total: scale * ratio(total), (-scale, scale), units=f"cosine x {scale:g}")
