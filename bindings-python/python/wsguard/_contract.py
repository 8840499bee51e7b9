"""The events of the ``json`` protocol as Python states them: schemas (dictionaries or Pydantic models) and handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from . import _wsguard
from ._errors import ConfigError


class Contract:
    """What was declared of each event, by options and decorators together."""

    def __init__(self, events: Mapping[str, Any]) -> None:
        self._options: dict[str, dict[str, Any]] = {}
        self._models: dict[str, Callable[[str], Any]] = {}
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._raw: set[str] = set()
        for name, stated in events.items():
            if not isinstance(stated, Mapping):
                # The core says what is accepted.
                self._options[name] = stated
                continue
            rest = {key: value for key, value in stated.items() if key != "schema"}
            self.declare(name, schema=stated.get("schema"), more=rest)

    def declare(
        self,
        name: str,
        *,
        schema: Any = None,
        cost: float | None = None,
        raw: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds to what is known of an event. Raises ``ConfigError`` where two statements cannot both hold."""
        stated = self._options.setdefault(name, {})
        for key, value in {"schema": schema, "cost": cost, **(more or {})}.items():
            if value is None:
                continue
            if key in stated:
                raise ConfigError(
                    f"events.{name}.{key}: is stated twice", code="contradiction", option=f"events.{name}.{key}"
                )
            if key == "schema":
                value = self._schema(name, value)
            stated[key] = value
        if raw:
            self._raw.add(name)
        if raw and name in self._models:
            raise ConfigError(
                f"events.{name}: raw data is not made a model", code="contradiction", option=f"events.{name}"
            )

    def handle(self, name: str, handler: Callable[..., Any]) -> None:
        """Sets the handler of an event."""
        if name in self._handlers:
            raise ConfigError(f"events.{name}: has a handler already", code="contradiction", option=f"events.{name}")
        self._handlers[name] = handler

    def _schema(self, name: str, schema: Any) -> Any:
        # Pydantic is not imported: a model is known by what it can do.
        for to_schema, of_json in (("model_json_schema", "model_validate_json"), ("json_schema", "validate_json")):
            if hasattr(schema, to_schema) and hasattr(schema, of_json):
                self._models[name] = getattr(schema, of_json)
                return getattr(schema, to_schema)()
        if isinstance(schema, (Mapping, bool)):
            return schema
        raise ConfigError(
            f"events.{name}.schema: must be a JSON Schema, a Pydantic model or a TypeAdapter, "
            f"not {type(schema).__name__}",
            code="invalid_option",
            option=f"events.{name}.schema",
        )

    @property
    def handlers(self) -> list[Callable[..., Any]]:
        """Every handler of an event."""
        return list(self._handlers.values())

    @property
    def unhandled(self) -> list[str]:
        """The events without a handler of their own."""
        return [name for name in self._options if name not in self._handlers]

    def options(self) -> dict[str, dict[str, Any]]:
        """The option ``events``."""
        return self._options

    def specs(self) -> dict[str, tuple[Callable[..., Any] | None, bool, Callable[[str], Any] | None]]:
        """Handler, whether its data is raw, and model of each event, for the native side."""
        return {name: (self._handlers.get(name), name in self._raw, self._models.get(name)) for name in self._options}


def options_text(options: Mapping[str, Any]) -> str:
    """The options as JSON. Raises ``ConfigError`` for what is none, naming the option."""
    parts = []
    for name, value in options.items():
        try:
            parts.append(f"{_wsguard.dumps(name)}:{_wsguard.dumps(_plain(value))}")
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}: {error}", code="invalid_option", option=name) from None
    return "{" + ",".join(parts) + "}"


def _plain(value: Any) -> Any:
    """Paths as strings, and any mapping or sequence as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return value
