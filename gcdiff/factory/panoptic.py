"""Write layouts in COCO's panoptic format (Kirillov et al., Panoptic Segmentation, 2019; cocodataset.org, format-data).

A panoptic PNG holds at each pixel the id of its segment, id = R + 256 G + 256^2 B, and 0 where nothing is labelled. A
layout says nothing of instances, so every class is stuff (isthing 0), and all of its pixels in an image are one
segment. A segment has its class's colour where that is a number of its own, as COCO's stuff has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from gcdiff.types import VOID, LabelSpec

Segment = tuple[int, int, int, int, int, int]
"""A class, its area in pixels, and the box around it: x, y, width, height."""


def segment_ids(labels: LabelSpec) -> np.ndarray:
    """The id of each class's segments, int32 (K,): that of its colour, or the next free one.

    It is 0 for void where that is a class.
    """
    ids: list[int] = []
    for red, green, blue in labels.labelled.palette:
        number = red + 256 * green + 256**2 * blue
        while number == 0 or number in ids:
            number = (number + 1) % 256**3
        ids.append(number)
    return np.array(ids + [0] * (labels.num_classes - len(ids)), np.int32)


def panoptic_png(layout: np.ndarray, labels: LabelSpec) -> Image.Image:
    """A layout int32 (H, W) with VOID as an RGB picture of segment ids."""
    ids = np.append(segment_ids(labels), 0)[layout]  # VOID, -1, is the last
    return Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8))


def segments(layout: np.ndarray, labels: LabelSpec) -> list[Segment]:
    """The segments of a layout int32 (H, W), by class."""
    by_class = []
    for label in np.unique(layout[(layout != VOID) & (layout < labels.labelled.num_classes)]).tolist():
        rows, columns = np.nonzero(layout == label)
        (x, y), (right, bottom) = ((int(f(columns)), int(f(rows))) for f in (np.min, np.max))
        by_class.append((label, len(rows), x, y, right - x + 1, bottom - y + 1))
    return by_class


def panoptic_json(
    examples: Sequence[tuple[int, Sequence[Segment]]], labels: LabelSpec, size: tuple[int, int], licence: str
) -> dict:
    """The content of panoptic.json, from examples (number, segments). Category k + 1 is class k."""
    ids, (height, width) = segment_ids(labels).tolist(), size
    categories = [
        {"id": k + 1, "name": name, "supercategory": name, "isthing": 0, "color": list(color)}
        for k, (name, color) in enumerate(zip(labels.labelled.names, labels.labelled.palette, strict=True))
    ]
    images = [
        {"id": number, "file_name": file_name(number), "width": width, "height": height, "license": 1}
        for number, _ in examples
    ]
    annotations = [
        {
            "image_id": number,
            "file_name": file_name(number),
            "segments_info": [
                {"id": ids[k], "category_id": k + 1, "area": area, "bbox": list(box), "iscrowd": 0}
                for k, area, *box in one
            ],
        }
        for number, one in examples
    ]
    info = {"description": "image-layout pairs drawn by gcdiff"}
    licences = [{"id": 1, "name": licence, "url": ""}]
    return {"info": info, "licenses": licences, "images": images, "annotations": annotations, "categories": categories}


def file_name(number: int) -> str:
    """The file name of an example, the same in each folder."""
    return f"{number:06d}.png"
