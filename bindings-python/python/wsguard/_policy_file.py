"""Policies in files: JSON, or TOML where Python reads it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ._errors import ConfigError


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a file. Raises ``OSError`` where it cannot be read, ``ConfigError`` where it is no policy."""
    path = Path(path)
    text, is_toml = path.read_bytes(), path.suffix.lower() == ".toml"
    try:
        options = _toml(text.decode()) if is_toml else json.loads(text, object_pairs_hook=_once_each)
    except RecursionError:
        raise _wrong(path, "is nested too deep") from None
    except ValueError as error:  # `tomllib.TOMLDecodeError`, `json.JSONDecodeError`, `UnicodeDecodeError`
        if isinstance(error, ConfigError):
            raise
        kind = "TOML" if is_toml else "JSON"
        raise _wrong(path, f"is not {kind}: {error}") from None
    if not isinstance(options, dict):
        raise _wrong(path, f"must hold an object of options, not {type(options).__name__}")
    return options


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        raise ConfigError("a policy in TOML needs Python 3.11: use JSON", code="invalid_option", option="options")
    import tomllib

    return tomllib.loads(text)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values with one name the last would count, and whoever reads the file might see the first."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ConfigError(f"{name}: is stated twice", code="contradiction", option=name)
        found[name] = value
    return found


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(f"options: the file {path.name} {what}", code="invalid_option", option="options")
