"""From the files of an example to the bytes that are stored."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from gcdiff.data.label_table import to_ids
from gcdiff.data.prepare.plan import Job, Options
from gcdiff.data.prepare.tally import Tally
from gcdiff.data.reader import orientation
from gcdiff.data.records import Record, encode, png
from gcdiff.data.source import Source
from gcdiff.data.transforms import resize_image, resize_layout
from gcdiff.types import VOID


def make(source: Source, job: Job, options: Options) -> tuple[bytes, Tally]:
    """Read, check and resize an example; return the bytes that are stored and their counts.

    The order of the classes in a caption made from them depends on the example's name alone. Raises ValueError or
    OSError, naming the file.
    """
    sides = source.read(job.item)
    size = options.size or (sides.image[..., 0] if sides.layout is None else sides.layout).shape
    layout = None if sides.layout is None else resize_layout(sides.layout, size, options.layout)
    captions = job.item.captions
    if not captions and source.class_captions is not None and layout is not None:
        rng = np.random.default_rng(zlib.crc32(job.item.key.encode()))
        captions = (source.class_captions.caption(layout, rng),)
    captions = captions if job.keep_captions else ()
    layout = layout if job.keep_layout else None
    void = np.full(size, VOID, np.int32)
    record = Record(
        key=job.item.key,
        image=_encoded(sides.image, size, job.item.image, options.resize),
        layout=png(to_ids(void if layout is None else layout, source.labels)),
        captions=captions,
        has_image=sides.image is not None,
        has_layout=layout is not None,
    )
    return encode(record), Tally.of(size, record.has_image, layout, len(captions), source.labels)


def _encoded(image: np.ndarray | None, size: tuple[int, int], path: Path | None, method: str) -> bytes:
    """The image as a PNG, black if missing; an upright RGB JPEG that keeps its size is stored as it is."""
    if image is None or path is None:
        return png(np.zeros((*size, 3), np.uint8))
    if image.shape[:2] == tuple(size) and path.suffix.lower() in (".jpg", ".jpeg"):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format == "JPEG" and picture.mode == "RGB" and orientation(picture) == 1:
                return data
    return png(resize_image(image, size, method))
