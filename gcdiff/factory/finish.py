"""Write the tables and the report of a generated data set that is complete.

captions.jsonl, labels.json    as `gcdiff prepare folder` reads them
index.csv                      a line an example: its files, caption, confidence, agreement, and the area of each class
panoptic.json                  as COCO's panoptic annotations are
DATA_LICENCE.txt               the licence of the data that the model was trained on
report.json                    counts, agreement, frequencies of the classes; written last of all
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gcdiff.factory.captions import present
from gcdiff.factory.judge import DISAGREES, IMAGE, KEPT, LAYOUT, Audit
from gcdiff.factory.panoptic import file_name, panoptic_json
from gcdiff.factory.place import CONFIDENCE, IMAGES, LAYOUTS, PANOPTIC, REPORT, Place, Row
from gcdiff.types import LabelSpec


def finish(
    place: Place, rows: Sequence[Row], size: tuple[int, int], licence: str, request: Mapping[str, Any],
    training: np.ndarray | None, audit: Audit | None,
) -> dict:  # fmt: skip
    """Write the tables and the report of all examples, kept and refused; returns the report.

    request: the arguments of the command, for the report. training: the share of the training examples that show each
    class, float (K,). Void is no class.
    """
    labels, write = place.labels, place.folder.write_text
    kept = [row for row in rows if row.verdict == KEPT]
    texts = [{"file_name": file_name(row.number), "text": [row.caption]} for row in kept if row.caption is not None]
    if texts:
        write("captions.jsonl", "".join(json.dumps(text) + "\n" for text in texts))
    write("labels.json", json.dumps(_labels(labels, licence), indent=1) + "\n")
    write("index.csv", _index(kept, labels))
    segments = [(row.number, row.segments) for row in kept]
    write("panoptic.json", json.dumps(panoptic_json(segments, labels, size, licence)) + "\n")
    write("DATA_LICENCE.txt", licence + "\n")
    report = _report(rows, kept, labels, size, request, training, audit) | {"licence": licence}
    write(REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def _labels(labels: LabelSpec, licence: str) -> dict:
    """The content of labels.json; it has colours only where no two classes share one."""
    names = labels.names
    fields: dict[str, Any] = {"names": names, "swaps": [[names[a], names[b]] for a, b in labels.swaps]}
    if len(set(labels.palette)) == len(names):
        fields["colors"] = labels.palette
    return fields | {"void": labels.void, "void_id": labels.void_id, "licence": " ".join(licence.split())}


def areas(rows: Sequence[Row], labels: LabelSpec) -> np.ndarray:
    """The area of each class but void in each row, in pixels: int (N, K)."""
    counts = np.zeros((len(rows), labels.labelled.num_classes), int)
    for i, row in enumerate(rows):
        for label, area, *_ in row.segments:
            counts[i, label] = area
    return counts


def _index(kept: Sequence[Row], labels: LabelSpec) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    folders = (IMAGES, LAYOUTS, PANOPTIC, CONFIDENCE)
    columns = ("image", "layout", "panoptic", "certainty", "caption", "confidence", "agreement")
    table.writerow(("name", *columns, *(f"area of {name}" for name in labels.labelled.names)))
    for row, pixels in zip(kept, areas(kept, labels), strict=True):
        files = [
            f"{f}/{file_name(row.number)}" if f != CONFIDENCE or row.confidence is not None else "" for f in folders
        ]
        name = file_name(row.number).removesuffix(".png")
        table.writerow((name, *files, row.caption, row.confidence, row.agreement, *pixels.tolist()))
    return text.getvalue()


def _report(rows, kept, labels: LabelSpec, size, request, training: np.ndarray | None, audit: Audit | None) -> dict:
    counts = {name: sum(row.verdict == name for row in rows) for name in (DISAGREES, IMAGE, LAYOUT)}
    shows = present(areas(kept, labels), size[0] * size[1]).mean(axis=0)
    report = dict(request) | {"drawn": len(rows), "kept": len(kept), "refused": counts}
    report["acceptance"] = round(len(kept) / len(rows), 6)
    report["agreement"] = {"drawn": _mean(rows, "agreement"), "kept": _mean(kept, "agreement")}
    report["confidence"] = _mean(kept, "confidence")
    report["classes"] = {
        name: {"generated": round(float(shows[k]), 6)}
        | ({} if training is None else {"training": round(float(training[k]), 6)})
        for k, name in enumerate(labels.labelled.names)
    }
    if audit is not None:
        report["audit"] = {
            "training_examples": audit.train.counts._asdict(),
            "heldout_examples": audit.heldout.counts.image,
            "quantile": audit.quantile,
            "limits": {side: round(limit, 6) for side, limit in audit.limits._asdict().items()},
        }
    return report


def _mean(rows: Sequence[Row], field: str) -> float | None:
    values = [value for row in rows if (value := getattr(row, field)) is not None]
    return round(float(np.mean(values)), 6) if values else None


def table(report: Mapping[str, Any]) -> str:
    """The report as text for a console."""
    refused = ", ".join(f"{count} by {name}" for name, count in report["refused"].items() if count) or "none"
    lines = [f"{report['kept']} pairs kept of {report['drawn']} drawn ({report['acceptance']:.1%}); refused: {refused}"]
    agreement = report["agreement"]
    if agreement["kept"] is not None:
        before, after = agreement["drawn"], agreement["kept"]
        lines += [f"agreement with the model's own segmentation, mean mIoU: drawn {before:.4f}, kept {after:.4f}"]
        lines += [f"mean probability of the labels: {report['confidence']:.4f}"]
    for side, limit in (report.get("audit") or {"limits": {}})["limits"].items():
        if limit == 0:
            lines.append(f"no {side} is refused as a copy: held-out {side}s equal training {side}s themselves")
    width = max(map(len, report["classes"]))
    lines += [f"{'share of pairs that show':{width}}", f"{'':{width}}  generated  training"]
    for name, shares in report["classes"].items():
        other = f"{shares['training']:8.3f}" if "training" in shares else "       -"
        lines.append(f"{name:{width}}  {shares['generated']:9.3f}  {other}")
    return "\n".join(lines)
