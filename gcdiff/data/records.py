"""The serialised form of a prepared example: a tf.train.Example, for tensorflow_datasets, written without TensorFlow.

Example{1: Features{1: map<name, Feature{1: BytesList{1: bytes...} or 3: Int64List{1: numbers...}}>}}
"""

from __future__ import annotations

import functools
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Record(NamedTuple):
    """A stored example.

    image: an RGB PNG or JPEG of 8 bits per channel; black if missing. layout: a grey PNG whose values are label ids;
    all void if missing. Both have the same size.
    """

    key: str
    image: bytes
    layout: bytes
    captions: tuple[str, ...]
    has_image: bool
    has_layout: bool


def encode(record: Record) -> bytes:
    """Serialise a record; equal records give equal bytes."""
    example = _message()()
    features = example.features.feature
    features["key"].bytes_list.value.append(record.key.encode())
    features["image"].bytes_list.value.append(record.image)
    features["layout"].bytes_list.value.append(record.layout)
    features["captions"].bytes_list.SetInParent()  # without captions an empty list, not a missing one
    features["captions"].bytes_list.value.extend(caption.encode() for caption in record.captions)
    features["has_image"].int64_list.value.append(int(record.has_image))
    features["has_layout"].int64_list.value.append(int(record.has_layout))
    return example.SerializeToString(deterministic=True)


def decode(data: bytes) -> Record:
    """The inverse of `encode`. Raises ValueError for bytes that are no record."""
    try:
        features = _message().FromString(data).features.feature
        key, image, layout = (features[name].bytes_list.value[0] for name in ("key", "image", "layout"))
        flags = (bool(features[name].int64_list.value[0]) for name in ("has_image", "has_layout"))
        captions = tuple(caption.decode() for caption in features["captions"].bytes_list.value)
        return Record(key.decode(), image, layout, captions, *flags)
    except Exception as error:  # DecodeError is no ValueError, and a missing feature is an IndexError
        raise ValueError(f"not a prepared example ({type(error).__name__})") from None


def features() -> Any:
    """The schema of a record, as tensorflow_datasets describes features."""
    from tensorflow_datasets import features as tfds

    return tfds.FeaturesDict(
        {
            "key": tfds.Text(),
            "image": tfds.Image(shape=(None, None, 3)),
            "layout": tfds.Image(shape=(None, None, 1)),
            "captions": tfds.Sequence(tfds.Text()),
            "has_image": np.bool_,
            "has_layout": np.bool_,
        }
    )


def png(array: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


@functools.cache
def _message() -> Any:
    """The protobuf class of tf.train.Example, built from the description at the top of this file."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="gcdiff_example.proto", package="gcdiff", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool], within: Any = file.message_type) -> Any:
        added = within.add(name=name)
        for field, number, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            one = added.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".gcdiff.{kind}"
            else:
                one.type = kind
        return added

    message("BytesList", ("value", 1, kinds.TYPE_BYTES, True))
    message("Int64List", ("value", 1, kinds.TYPE_INT64, True))
    message("Feature", ("bytes_list", 1, "BytesList", False), ("int64_list", 3, "Int64List", False))
    inner = message("Features", ("feature", 1, "Features.FeatureEntry", True))
    entry = ("key", 1, kinds.TYPE_STRING, False), ("value", 2, "Feature", False)
    message("FeatureEntry", *entry, within=inner.nested_type).options.map_entry = True
    message("Example", ("features", 1, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gcdiff.Example"))
