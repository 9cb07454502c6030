"""Checkpoints of pretrained encoders in Hugging Face's format: a directory, or a hub id that is downloaded.

    config.json
    model.safetensors, or model.safetensors.index.json and the files that it names
    the tokenizer's files; for image encoders preprocessor_config.json

A checkpoint that has only pytorch_model.bin is read with torch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which safetensors looks up by name
import numpy as np
from safetensors import safe_open

EXPECTED = "a directory with config.json, model.safetensors and a tokenizer, or an id of the Hugging Face hub"
SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"
_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.json", "merges.txt")
_SMALL = ("config.json", "preprocessor_config.json", "processor_config.json", *_VOCABULARIES)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's directory, the `source` it was requested by, and the commit if it is from the hub."""

    directory: Path
    source: str
    commit: str | None = None

    @property
    def config_file(self) -> Path:
        return self.directory / "config.json"

    def config(self) -> dict:
        """The contents of config.json. Raises FileNotFoundError or ValueError, in one line, where it is missing or
        damaged."""
        return read_json(self.config_file)

    @functools.cached_property
    def files(self) -> list[Path]:
        """The weight files. Raises FileNotFoundError or ValueError, in one line, for a missing file or a wrong
        index."""
        for name in (SAFETENSORS, TORCH):
            file, index = self.directory / name, self.directory / f"{name}.index.json"
            if file.is_file():
                return [file]
            if index.is_file():
                return self._indexed(index)
        raise FileNotFoundError(f"{self.directory}: no weights, expected {SAFETENSORS} or {SAFETENSORS}.index.json")

    def _indexed(self, index: Path) -> list[Path]:
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
            raise ValueError(f"{index}: no weight_map of file names, expected the index of a sharded checkpoint")
        files = [self.directory / name for name in sorted(set(names.values()))]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file, expected it as {index.name} names it")
        return files

    def weights(self) -> Mapping[str, np.ndarray]:
        """The arrays by name: from safetensors read on access, from PyTorch files read at once, as float32.

        Raises FileNotFoundError or ValueError, in one line, for a file that is missing or damaged.
        """
        if self.files[0].suffix == ".safetensors":
            return Weights(self.files)
        return {name: array for file in self.files for name, array in _read_torch(file).items()}

    @functools.cached_property
    def revision(self) -> str:
        """The hub's commit; for a directory the sha256 of its weight files, concatenated in order of name."""
        if self.commit is not None:
            return self.commit
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as opened:
                while block := opened.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()


class Weights(Mapping[str, np.ndarray]):
    """The arrays of some safetensors files by name, each read on access."""

    def __init__(self, files: Iterable[Path]):
        self._files: dict[str, Any] = {}
        for file in files:
            try:
                opened = safe_open(file, framework="np")
                self._files |= dict.fromkeys(opened.keys(), opened)
            except Exception as error:  # safetensors has its own exception type
                raise ValueError(f"{file}: damaged, expected a safetensors file ({_line(error)})") from None

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def find(source: str | Path, revision: str | None = None) -> Checkpoint:
    """The checkpoint in a directory, or under a hub id, which is downloaded unless it is in the cache.

    `revision` is a commit, branch or tag of the hub; for a directory the required `Checkpoint.revision`. Raises
    FileNotFoundError, in one line, where `source` is neither a directory nor a hub id that can be downloaded, and
    ValueError for a directory of another revision.
    """
    if Path(source).is_dir():
        checkpoint = Checkpoint(Path(source), str(source))
        if revision is not None and checkpoint.revision != revision:
            raise ValueError(f"{source}: the weights have sha256 {checkpoint.revision}, expected {revision}")
        return checkpoint
    if not _HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"{source}: no such directory, expected {EXPECTED}")
    directory = _download(str(source), revision, (*_SMALL, *_patterns(SAFETENSORS)))
    if not any((directory / f"{SAFETENSORS}{end}").is_file() for end in ("", ".index.json")):
        _torch(f"{source}: no {SAFETENSORS} on the hub")
        directory = _download(str(source), revision, (*_SMALL, *_patterns(TORCH)))
    return Checkpoint(directory, str(source), directory.name)


def _patterns(name: str) -> tuple[str, ...]:
    """The file patterns of weights in one file or in several with an index."""
    stem, end = name.split(".")
    return name, f"{stem}-*.{end}", f"{name}.index.json"


def _download(source: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # errors of the hub, of the connection, of the disk, ...
        why = f"the hub did not give it ({type(error).__name__})"
        at = "" if revision is None else f" at {revision}"
        raise FileNotFoundError(f"{source}{at}: no such directory, and {why}: expected {EXPECTED}") from None


def _torch(why: str) -> Any:
    """Import torch. Raises ValueError with the alternatives where it is not installed; `why` is why it is needed."""
    if importlib.util.find_spec("torch") is None:
        convert = "save the model with save_pretrained of transformers, or pip install 'gcdiff[torch]'"
        raise ValueError(f"{why}: expected safetensors; {convert} to read {TORCH}")
    return importlib.import_module("torch")


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    torch = _torch(f"{file}: weights of PyTorch")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        return {name: tensor.float().numpy() for name, tensor in content.items()}
    except Exception as error:  # torch raises exceptions of many types
        raise ValueError(f"{file}: not weights that PyTorch can read as such ({_line(error)})") from None


def read_json(file: Path) -> dict:
    """Read a JSON object. Raises FileNotFoundError or ValueError, in one line."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file, expected {EXPECTED}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: damaged, expected JSON ({_line(error)})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: a {type(content).__name__}, expected a JSON object")
    return content


def _line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
