"""The description of a run in its directory: config.json, specs.json and the licence of its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gcdiff import shipped
from gcdiff.config.data import Specs
from gcdiff.config.fields import assign, default, flatten, leaves
from gcdiff.data.embeddings import Encoder
from gcdiff.text.tokenizer import Vocabulary
from gcdiff.types import ImageSpec, LabelSpec

BEFORE: dict[str, Any] = {"levels.start": 0.0, "levels.one_sided": 0.0}
"""What a run did whose config.json lacks these fields. Of all other fields that is the default."""


def save_run(workdir: Path, config: ConfigDict, specs: Specs) -> None:
    """Write config.json, specs.json and the data's licence of a run. A run of another config is not written over.

    Raises ValueError, naming what changed, for a run whose config or data make another model or order of examples.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    fields = _specs_to_dict(specs)
    if (workdir / "config.json").exists():
        _check_same(workdir, config, fields)
    for name, content in (("specs.json", fields), ("config.json", config.to_dict())):
        _write(workdir / name, json.dumps(content, indent=1))
    _write(workdir / "DATA_LICENCE.txt", specs.licence + "\n")


def load_run(workdir: Path) -> tuple[ConfigDict, Specs]:
    """Read what `save_run` wrote; fields that were added later have the value that means what the run did.

    The name of a shipped model stands for its folder in the package, where there is no folder of that name.

    Raises FileNotFoundError for a directory that is no run, ValueError, naming file and field, for a damaged one.
    """
    folder = shipped.find(workdir)
    for name in ("config.json", "specs.json"):
        if not (folder / name).is_file():
            said = f"{workdir} is not a run directory: there is no {name} in it"
            raise FileNotFoundError(said + shipped.hidden(workdir))
    return _load_config(folder / "config.json"), _specs_from_dict(_read(folder / "specs.json"))


def _check_same(workdir: Path, config: ConfigDict, specs: dict[str, Any]) -> None:
    configs = _load_config(workdir / "config.json"), config
    old, new = (json.loads(json.dumps(leaves(c))) for c in configs)  # as files hold them: lists for tuples
    changed = [field for field in new if not _may_change(field) and old[field] != new[field]]
    if changed:
        was, now = (", ".join(f"{field}={values[field]!r}" for field in changed) for values in (old, new))
        raise ValueError(f"{workdir} was trained with {was}, now {now}: {_way_out(workdir)}")
    # The data may have moved, but they must still be the same.
    trained, now = _read(workdir / "specs.json"), json.loads(json.dumps(specs))
    count = trained.get("examples"), now["examples"]
    if None not in count and count[0] != count[1]:
        said = f"{workdir} was trained on {count[0]} examples, data.root={config.data.root!r} now has {count[1]}"
        raise ValueError(f"{said}: {_way_out(workdir)}")
    for part in ("image", "labels", "vocabulary", "encoder"):
        if trained.get(part) != now[part]:
            raise ValueError(
                f"{workdir} was trained on other data: data.root={config.data.root!r} has another {part} than "
                f"{workdir / 'specs.json'}: {_way_out(workdir)}"
            )


def _way_out(workdir: Path) -> str:
    """The advice, for a message, where a run cannot go on."""
    return f"choose another --workdir, with --init {workdir} to begin with its weights"


def _may_change(field: str) -> bool:
    """Whether a field may change when a run goes on.

    Data may move, and the settings of training, devices and sampling change, but for seed and batch size: the position
    in the data depends on them.
    """
    section = field.split(".")[0]
    if section == "data":
        return field in ("data.root", "data.embeddings", "data.threads")
    return section in ("train", "mesh", "sample") and field not in ("train.seed", "train.batch_size")


def _load_config(file: Path) -> ConfigDict:
    config = default()
    for field, value in {**BEFORE, **flatten(_read(file))}.items():
        assign(config, field, value, f"{file}: ", repr(value))
    return config


def _specs_to_dict(specs: Specs) -> dict[str, Any]:
    return {
        "image": specs.image.to_dict(),
        "labels": specs.labels.to_dict(),
        "vocabulary": None if specs.vocabulary is None else specs.vocabulary.to_dict(),
        "licence": specs.licence,
        "encoder": None if specs.encoder is None else specs.encoder._asdict(),
        "examples": specs.examples,
    }


def _specs_from_dict(fields: dict[str, Any]) -> Specs:
    image, labels = ImageSpec.from_dict(fields["image"]), LabelSpec.from_dict(fields["labels"])
    vocabulary = fields["vocabulary"] and Vocabulary.from_dict(fields["vocabulary"])
    encoder = fields.get("encoder") and Encoder(**fields["encoder"])
    return Specs(image, labels, vocabulary, fields["licence"], encoder, fields.get("examples"))


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from None


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)
