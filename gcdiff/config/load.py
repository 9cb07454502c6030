"""Reading of config files, and overrides from the command line."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gcdiff.config.checks import check_fields
from gcdiff.config.fields import FIELDS, assign, default, expected, unknown
from gcdiff.config.fit import without_text
from gcdiff.config.tasks import check


def load_file(path: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """Read the config of FILE.py or FILE.py:ARG (its get_config(ARG)), with overrides ('train.steps', '100').

    Raises FileNotFoundError where there is no file, and ValueError, in one line that names the file or the field, for
    whatever goes wrong in it, for fields that do not exist and for values that cannot be.
    """
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(f"--config {file}: there is no such file")
    if not file.endswith(".py"):
        raise ValueError(f"--config {file}: expected a Python file, with the ending .py")
    try:
        config = _run(file, *([argument] if argument else []))
    except Exception as error:
        raise ValueError(f"--config {file}{_place(error, file)}: {_reason(error)}") from error
    for field, text in overrides:
        override(config, field, text)
    given = dict(overrides)
    if given.get("text.encoder") == "none" and "sample.guidance" not in given:
        without_text(config)  # the guidance of the file is that of its own encoder
    check(config)
    return config


def override(config: ConfigDict, field: str, text: str) -> None:
    """Set one dotted field from text, in the type of the field.

    Ints stand for floats too, as in Python; true and false in any case; tuples as (1,2) or (("a",1),); None, or a
    number, where a number is optional.

    Raises ValueError for a field that does not exist and for a value of another type.
    """
    assign(config, field, _parse(text, FIELDS.get(field)), "--config.", text)


def with_fields(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with other values, by dotted paths.

    Raises ValueError as `override` does, and for values that are not allowed.
    """
    changed = config.copy_and_resolve_references()
    for field, value in fields.items():
        assign(changed, field, value, "config.", repr(value))
    check(changed)
    return changed


def _parse(text: str, like: Any) -> Any:
    if isinstance(like, str):
        return text
    words = re.sub(r"\b(true|false|none)\b", lambda word: word[0].capitalize(), text, flags=re.IGNORECASE)
    for literal in (text, words):  # first as it is: what stands in quotes keeps its case
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return ast.literal_eval(literal)
    return text


def _run(file: str, *arguments: str) -> ConfigDict:
    spec = importlib.util.spec_from_file_location("gcdiff_config_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError("expected a function get_config in it")
    config = module.get_config(*arguments)
    if not isinstance(config, ConfigDict):
        raise ValueError(f"get_config gave {config!r}, expected a config made from gcdiff.config.default()")
    check_fields(config)
    return config


def _place(error: Exception, file: str) -> str:
    """The line of the config file that an error comes from, as in ', line 3'; '' if it comes from elsewhere."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename, error.lineno))
    lines = [line for name, line in places if name and line and Path(name).absolute() == Path(file).absolute()]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: Exception) -> str:
    """The message of an error in a config file, in one line; a field that ConfigDict refused has its dotted path."""
    said = error.msg if isinstance(error, SyntaxError) else error
    while isinstance(said, KeyError | AttributeError) and said.args:  # as they wrap the text, or each other
        said = said.args[0]
    text = " ".join(str(said).split())
    node = _refuser(error)
    if node is not None and (match := re.match(r"""Key "(.+?)" does not exist|'(\w+)'""", text)):
        field = _section(node) + (match[1] or match[2])
        return f"config.{field}: {unknown(field)}"
    if node is not None and (match := re.match(r"Could not override field '(.+?)' \(reference\)\. (.*) is of", text)):
        field = _section(node) + match[1]
        if field in FIELDS:
            return f"config.{field}={match[2]}: expected {expected(FIELDS[field], FIELDS[field])}"
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def _refuser(error: Exception) -> ConfigDict | None:
    """The ConfigDict in whose methods an error arose, None for another error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    node = frames[-1].f_locals.get("self")
    return node if isinstance(node, ConfigDict) else None


def _section(node: ConfigDict) -> str:
    """The dotted prefix of the section that has exactly the fields of `node`; '' for none."""
    sections = default().items()
    return next((f"{name}." for name, s in sections if isinstance(s, ConfigDict) and set(s) == set(node)), "")
