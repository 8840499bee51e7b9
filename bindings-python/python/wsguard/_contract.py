"""The events of the ``json`` protocol as Python states them: schemas (dictionaries or Pydantic models) and handlers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, get_origin

from . import _wsguard
from ._errors import ConfigError


class Contract:
    """What was declared of each event, by options and decorators together."""

    def __init__(self, events: Mapping[str, Any]) -> None:
        self._options: dict[str, dict[str, Any]] = {}
        self._models: dict[str, Callable[[str], Any]] = {}
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._raw: set[str] = set()
        #: The names that an event's model knows.
        self.names: dict[str, frozenset[str]] = {}
        for name, stated in events.items():
            if not isinstance(name, str):
                kind = type(name).__name__
                raise ConfigError(
                    f"events: the name of an event is a str, not {kind}", code="invalid_option", option="events"
                )
            if not isinstance(stated, Mapping):
                # The core says what is accepted.
                self._options[name] = stated
                continue
            if stated.get("schema", True) is None:
                # Any data is said by leaving it out: a schema that was not found must not let everything pass.
                raise ConfigError(
                    f"events.{name}.schema: must be a schema, not None; leave it out for any data",
                    code="invalid_option",
                    option=f"events.{name}.schema",
                )
            rest = {key: value for key, value in stated.items() if key != "schema"}
            self.declare(name, schema=stated.get("schema"), more=rest)

    def declare(
        self,
        name: str,
        *,
        schema: Any = None,
        cost: float | None = None,
        raw: bool = False,
        model: Any = None,
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
        if model is not None:
            if name in self._models:
                raise ConfigError(
                    f"events.{name}.model: is stated twice", code="contradiction", option=f"events.{name}.model"
                )
            adapted = _adapted(model)
            found = None if adapted is None else _methods(adapted)
            if found is None:
                raise _no_schema(name, "model", "a Pydantic model or what a TypeAdapter takes", model)
            to_schema, self._models[name] = found
            # A model that takes more than a schema can say may have none.
            with contextlib.suppress(Exception):
                self.names[name] = _names(to_schema())
        if raw:
            self._raw.add(name)
        if raw and name in self._models:
            raise ConfigError(
                f"events.{name}: raw data is not made a model", code="contradiction", option=f"events.{name}"
            )

    def check(self, name: str, protocol: object) -> None:
        """Lets the core compile what was declared of an event, so that a fault is told where it is written."""
        if protocol != "raw":
            # The limit that the cost must fit is stated elsewhere.
            checked = {"origins": ["https://app.example"], "auth": "none", "rate_limit": None}
            _wsguard.policy_in_force(options_text({**checked, "events": {name: self._options[name]}}))

    def handle(self, name: str, handler: Callable[..., Any]) -> None:
        """Sets the handler of an event."""
        if name in self._handlers:
            raise ConfigError(f"events.{name}: has a handler already", code="contradiction", option=f"events.{name}")
        self._handlers[name] = handler

    def _schema(self, name: str, schema: Any) -> Any:
        if isinstance(schema, (Mapping, bool)):
            return schema
        accepted = "a JSON Schema, a Pydantic model or what a TypeAdapter takes"
        adapted = _adapted(schema)
        found = None if adapted is None else _methods(adapted)
        if adapted is None or found is None:
            raise _no_schema(name, "schema", accepted, schema)
        alias = _alias_of_its_own(adapted)
        if alias is not None:
            raise ConfigError(
                f"events.{name}.schema: the alias {alias} takes more than a JSON Schema can say: "
                "give the JSON Schema as schema=..., and the model as model=...",
                code="invalid_option",
                option=f"events.{name}.schema",
            )
        to_schema, self._models[name] = found
        made = to_schema()
        self.names[name] = _names(made)
        return made

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


def _no_schema(name: str, key: str, accepted: str, stated: Any) -> ConfigError:
    kind = stated.__name__ if isinstance(stated, type) else type(stated).__name__
    option = f"events.{name}.{key}"
    return ConfigError(f"{option}: must be {accepted}, not {kind}", code="invalid_option", option=option)


def _methods(model: Any) -> tuple[Callable[[], Any], Callable[[str], Any]] | None:
    """What gives the schema of a model, and what makes an instance. Pydantic is known by what it can do."""
    for to_schema, of_json in (("model_json_schema", "model_validate_json"), ("json_schema", "validate_json")):
        if hasattr(model, to_schema) and hasattr(model, of_json):
            return getattr(model, to_schema), getattr(model, of_json)
    return None


def _adapted(stated: Any) -> Any:
    """A model as it is; what a ``TypeAdapter`` takes (a dataclass, a ``TypedDict``, ``list[int]``, a union) as one."""
    if _methods(stated) is not None:
        return stated
    # Only types: an instance, a text or a number is a mistake.
    if not isinstance(stated, type) and get_origin(stated) is None:
        return None
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return TypeAdapter(stated)
        except (PydanticUserError, TypeError):
            return None
    except ImportError:
        return None


def _names(schema: Any) -> frozenset[str]:
    """The names of properties in a JSON Schema."""
    names: set[str] = set()
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            properties = part.get("properties")
            names.update(properties if isinstance(properties, Mapping) else ())
            left.extend(part.values())
        elif isinstance(part, (list, tuple)):
            left.extend(part)
    return frozenset(names)


def _alias_of_its_own(model: Any) -> str | None:
    """A validation alias that is more than a name (``AliasPath``, ``AliasChoices``), anywhere in a model."""
    seen: set[int] = set()
    left = [getattr(model, "__pydantic_core_schema__", None) or getattr(model, "core_schema", None)]
    while left:
        part = left.pop()
        if not isinstance(part, (dict, list, tuple)) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            alias = part.get("validation_alias")
            if isinstance(alias, list):
                return repr(alias)
            left.extend(part.values())
        else:
            left.extend(part)
    return None


def options_text(options: Mapping[str, Any]) -> str:
    """The options as JSON. Raises ``ConfigError`` for what is none, naming the option."""
    parts = []
    for name, value in options.items():
        try:
            if name in ("auth", "tls"):
                _no_none(value, name)
            parts.append(f"{_wsguard.dumps(name)}:{_wsguard.dumps(_plain(value))}")
        except ConfigError:
            raise
        except RecursionError:
            raise ConfigError(f"{name}: nested too deep, or circular", code="invalid_option", option=name) from None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}: {error}", code="invalid_option", option=name) from None
    return "{" + ",".join(parts) + "}"


def _no_none(value: Any, path: str) -> None:
    """Below ``auth`` and ``tls`` what is not said is not checked: an issuer, a client's certificate. A slip
    (``os.environ.get``) must not leave it out."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = [(f"{path}.{key}", each) for key, each in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    for at, each in items:
        if each is None:
            raise ConfigError(
                f"{at}: is None; leave it out, or give what it should be", code="invalid_option", option=at
            )
        _no_none(each, at)


def _plain(value: Any) -> Any:
    """Paths as strings, and any mapping or sequence as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return value
