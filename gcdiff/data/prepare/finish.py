"""The files beside the shards of prepared data: report, contact sheet, lists of names and, last, the metadata."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcdiff.data.prepare.plan import Options, Plan
from gcdiff.data.prepare.shards import UNFINISHED, Entry
from gcdiff.data.prepare.tally import Tally
from gcdiff.data.prepared import SPEC_FILE, Prepared, Spec, Split
from gcdiff.data.records import features
from gcdiff.data.source import Source

Picture = Callable[[Prepared], np.ndarray]
"""Draws a contact sheet uint8 (h, w, 3) of a split."""


def finish(
    out: Path, source: Source, plan: Plan, options: Options, entries: Mapping[str, Sequence[Entry]],
    listing: list[str], picture: Picture | None,
) -> dict:  # fmt: skip
    """Write the files beside the shards, and return the report. `listing` are the faults of listing the source."""
    tallies = {split: _sum(source, members) for split, members in entries.items()}
    splits = {split: _split(tally, entries[split]) for split, tally in tallies.items()}
    spec = Spec(source.name, source.labels, source.licence, source.note, source.class_captions, splits)
    left_out = {split: {key for entry in members for key, _ in entry.faults} for split, members in entries.items()}
    faults = listing + [fault for members in entries.values() for entry in members for _, fault in entry.faults]
    report: dict[str, Any] = {
        "name": source.name,
        "licence": source.licence,
        "note": source.note,
        "splits": {split: tally.report(source.labels) for split, tally in tallies.items()},
        "faults": faults,
    }
    names = {s: [j.item.key for j in jobs if j.item.key not in left_out[s]] for s, jobs in plan.splits.items()}
    with tempfile.TemporaryDirectory(dir=out, prefix=UNFINISHED) as folder:
        place = Path(folder)
        _write_json(place / "report.json", report)
        _write_json(place / "splits.json", names)
        if plan.subset is not None:
            subset = {"percent": options.subset, "of": options.subset_of, "seed": options.seed}
            _write_json(place / "subset.json", {**subset, "split": "train", "keys": plan.subset})
        if picture is not None:
            Image.fromarray(picture(Prepared(out, next(iter(splits)), spec))).save(place / "contact_sheet.png")
        for file in sorted(place.iterdir()):
            file.replace(out / file.name)
        _tfds_metadata(out, spec)
        _write_json(place / SPEC_FILE, spec.to_dict())
        (place / SPEC_FILE).replace(out / SPEC_FILE)
    return report


def _sum(source: Source, entries: Sequence[Entry]) -> Tally:
    tally = Tally.empty(source.labels)
    for entry in entries:
        tally.add(entry.tally)
    return tally


def _split(tally: Tally, entries: Sequence[Entry]) -> Split:
    sizes = [(int(height), int(width)) for height, _, width in (size.partition("x") for size in tally.sizes)]
    examples, images, layouts, captioned = (tally.counts[c] for c in ("examples", "images", "layouts", "captioned"))
    shards = tuple(entry.shard for entry in entries)
    return Split(examples, images, layouts, captioned, sizes[0] if len(sizes) == 1 else None, shards)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _tfds_metadata(out: Path, spec: Spec) -> None:
    """features.json and dataset_info.json, with which tensorflow_datasets reads the shards, also without TensorFlow."""
    import tensorflow_datasets as tfds
    from etils import epath

    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(out), dataset_name=spec.name, filetype_suffix="array_record"
    )
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.examples for shard in split.shards],
            num_bytes=sum(shard.bytes for shard in split.shards),
            filename_template=template,
        )
        for name, split in spec.splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=out, features=features(), split_infos=infos, check_data=False, license=spec.licence
    )
