"""Data that `gcdiff prepare` has written: the contents of a directory, and its splits as data sets.

prepared.json                                  name, classes, licence, splits, shards; written last
NAME-SPLIT.array_record-00000-of-00004 ...     the examples, for random access
dataset_info.json, features.json               the same for tensorflow_datasets.builder_from_directory
shards.jsonl                                   the options of the preparation, and the shards with their counts
report.json, contact_sheet.png                 counts and class shares, some examples
splits.json, subset.json                       the names of the examples of each split and of a subset
"""

from __future__ import annotations

import bisect
import dataclasses
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gcdiff.data.captions import ClassCaptions
from gcdiff.data.dataset import Example
from gcdiff.data.label_table import id_table
from gcdiff.data.records import Record, decode
from gcdiff.types import VOID, ImageSpec, LabelSpec

SPEC_FILE, LOG_FILE = "prepared.json", "shards.jsonl"
METADATA = ("dataset_info.json", SPEC_FILE)
"""The files without which a directory counts as incomplete."""
HELDOUT_SPLITS = ("val", "heldout", "test")
"""The splits that may hold the held-out examples, in order of preference."""
VERSION = 1


class Shard(NamedTuple):
    """A file of examples: its name, its number of examples, its size in bytes."""

    file: str
    examples: int
    bytes: int


class Split(NamedTuple):
    """The contents of a split: the number of examples and of those with an image, a layout and captions; the size (H,
    W) of all (None: sizes differ); the shards."""

    examples: int
    images: int
    layouts: int
    captioned: int
    size: tuple[int, int] | None
    shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True)
class Spec:
    """The contents of a prepared directory. `class_captions` makes captions from layouts anew, after a crop (None: the
    captions were not made from layouts)."""

    name: str
    labels: LabelSpec
    licence: str
    note: str
    class_captions: ClassCaptions | None
    splits: dict[str, Split]

    def to_dict(self) -> dict:
        return {
            "version": VERSION,
            "name": self.name,
            "labels": self.labels.to_dict(),
            "licence": self.licence,
            "note": self.note,
            "class_captions": self.class_captions and dataclasses.asdict(self.class_captions),
            "splits": {
                name: split._asdict() | {"shards": [shard._asdict() for shard in split.shards]}
                for name, split in self.splits.items()
            },
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Spec:
        splits = {
            name: Split(
                **split
                | {"size": split["size"] and tuple(split["size"]), "shards": tuple(Shard(**s) for s in split["shards"])}
            )
            for name, split in fields["splits"].items()
        }
        captions = fields["class_captions"]
        captions = captions and ClassCaptions(tuple(captions["nouns"]), captions["start"])
        labels = LabelSpec.from_dict(fields["labels"])
        return cls(fields["name"], labels, fields["licence"], fields["note"], captions, splits)


def read_spec(root: str | Path) -> Spec:
    """The contents of a directory. Raises ValueError or FileNotFoundError where it is not prepared or incomplete."""
    path = Path(root) / SPEC_FILE
    if not path.is_file():
        if (path.parent / LOG_FILE).exists():
            raise ValueError(f"{root}: the preparation is not finished; run the same gcdiff prepare again to go on")
        raise FileNotFoundError(f"{path}: no such file, expected a directory that gcdiff prepare has written")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["version"] == VERSION:
            return Spec.from_dict(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    raise ValueError(f"{path}: version {fields['version']}, expected {VERSION}")


class Prepared:
    """One split of a prepared directory as a `Dataset`. It can be pickled, and read from several threads.

    >>> from gcdiff.data.prepared import Prepared
    >>> data = Prepared("prepared/camvid", "val")
    >>> image, layout, captions, has_image = data[0]
    >>> image.dtype, layout.dtype, len(captions), has_image
    (dtype('uint8'), dtype('int32'), 1, True)

    Raises ValueError or FileNotFoundError, in one line, for a split or shard that is missing or has another size.
    Reading raises ValueError for an example that is damaged.
    """

    image = ImageSpec()

    def __init__(self, root: str | Path, split: str = "train", spec: Spec | None = None):
        self.root, self.split = Path(root), split
        self.spec = read_spec(root) if spec is None else spec
        if split not in self.spec.splits:
            raise ValueError(f"{root} has no split {split!r}, expected {', '.join(self.spec.splits)}")
        contents = self.spec.splits[split]
        self.name, self.labels, self.licence = self.spec.name, self.spec.labels, self.spec.licence
        self.class_captions, self.size = self.spec.class_captions, contents.size
        for shard in contents.shards:
            path = self.root / shard.file
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
            if path.stat().st_size != shard.bytes:
                raise ValueError(f"{path}: {path.stat().st_size} bytes, expected {shard.bytes}")
        self._ends = list(itertools.accumulate(shard.examples for shard in contents.shards))
        self._records: Any = None

    def __len__(self) -> int:
        return self.spec.splits[self.split].examples

    def __getitem__(self, index: int) -> Example:
        record = self.record(index)
        try:
            with Image.open(io.BytesIO(record.layout)) as picture:
                ids = np.asarray(picture)
            layout = id_table(self.labels)[ids] if record.has_layout else np.full(ids.shape, VOID, np.int32)
            with Image.open(io.BytesIO(record.image)) as picture:
                image = np.array(picture.convert("RGB"))
        except Exception as error:  # Pillow's decoders raise exceptions of many types
            raise ValueError(f"{self._shard(index)}: example {record.key} is damaged ({error})") from None
        return Example(image, layout, record.captions, record.has_image)

    def record(self, index: int) -> Record:
        """Example `index` as it is stored, with its name. Raises IndexError, and ValueError for a damaged record.

        >>> from gcdiff.data.prepared import Prepared
        >>> Prepared("prepared/camvid", "val").record(0).has_layout
        True
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.root}: example {index} of {self.split}, expected 0 to {len(self) - 1}")
        try:
            return decode(self._open()[int(index)])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self._shard(index)}: damaged ({' '.join(str(error).split())})") from None

    def captions(self) -> Iterator[str]:
        """Iterate over the captions of all examples.

        >>> from gcdiff.data.prepared import Prepared
        >>> data = Prepared("prepared/camvid", "val")
        >>> len(list(data.captions())) == len(data)
        True
        """
        for i in range(len(self)):
            yield from self.record(i).captions

    def _open(self) -> Any:
        """The records of all shards; a file is opened when it is first read."""
        if self._records is None:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            shards = self.spec.splits[self.split].shards
            whole = [_Whole(str(self.root / s.file), 0, s.examples, s.examples) for s in shards]
            self._records = ArrayRecordDataSource(whole)
        return self._records

    def _shard(self, index: int) -> Path:
        """The file of example `index`, for messages."""
        shards = self.spec.splits[self.split].shards
        return self.root / shards[bisect.bisect_right(self._ends, index)].file


class _Whole(NamedTuple):
    """A read instruction of array_record for all examples of a file; with it no file is opened before it is read."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def heldout_split(spec: Spec) -> str:
    """The split of the held-out examples: the first of HELDOUT_SPLITS with layouts, or "train" if there is none."""
    return next((s for s in HELDOUT_SPLITS if s in spec.splits and spec.splits[s].layouts), "train")
