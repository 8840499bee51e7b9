"""The events of the ``json`` protocol, of the top level or of one route, as Python states them: schemas (dictionaries
or Pydantic models) and handlers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_origin

from . import _wsguard
from ._errors import ConfigError

#: Handler, whether its data is raw, and what makes an instance of its model.
Spec = tuple[Callable[..., Any] | None, bool, Callable[[str], Any] | None]

_SCHEMAS = "a JSON Schema, a Pydantic model or what a TypeAdapter takes"


@dataclasses.dataclass(frozen=True)
class Stated:
    """What one place says of one event: an option, or a decorator."""

    #: ``schema`` (as JSON Schema), ``cost``, ``roles``, ``on_mismatch``, as far as they are said.
    options: Mapping[str, Any]
    #: What makes an instance of its model.
    model: Callable[[str], Any] | None = None
    #: The names that its model knows; ``None`` without a model.
    names: frozenset[str] | None = None
    raw: bool = False

    @classmethod
    def of(
        cls, option: str, *, schema: Any = None, model: Any = None, raw: bool = False, more: Mapping[str, Any]
    ) -> Stated:
        """What is said by these values; ``None``: nothing. ``option`` names the event for an error. Raises
        ``ConfigError`` for what is neither schema nor model."""
        options = {key: value for key, value in more.items() if value is not None}
        make, names = None, None
        if schema is not None:
            options["schema"], make, names = _of_schema(f"{option}.schema", schema)
        if model is not None:
            if make is not None:
                raise _twice(f"{option}.model")
            make, names = _of_model(f"{option}.model", model)
        if raw and make is not None:
            raise _raw_model(option)
        return cls(options, make, names, raw)


class Contract:
    """What was declared of each event, by options and decorators together. A change that cannot be made changes
    nothing."""

    def __init__(self, events: Mapping[str, Any], route: str | None = None) -> None:
        #: The route that they are of; ``None``: the top level's.
        self._route = route
        #: Where they stand: ``events``, or ``routes./admin.events``.
        self._at = "events" if route is None else f"routes.{route}.events"
        self._options: dict[str, Any] = {}
        self._models: dict[str, Callable[[str], Any]] = {}
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._raw: set[str] = set()
        #: The names that an event's model knows.
        self.names: dict[str, frozenset[str]] = {}
        for name, stated in events.items():
            if not isinstance(name, str):
                kind = type(name).__name__
                message = f"{self._at}: the name of an event is a str, not {kind}"
                raise ConfigError(message, code="invalid_option", option=self._at)
            if not isinstance(stated, Mapping):
                # The core says what is accepted.
                self._options[name] = stated
                continue
            if stated.get("schema", True) is None:
                # Any data is said by leaving it out: a schema that was not found must not let everything pass.
                raise ConfigError(
                    f"{self._at}.{name}.schema: must be a schema, not None; leave it out for any data",
                    code="invalid_option",
                    option=f"{self._at}.{name}.schema",
                )
            rest = {key: value for key, value in stated.items() if key != "schema"}
            self.declare(name, Stated.of(self.option(name), schema=stated.get("schema"), more=rest))

    def option(self, name: str) -> str:
        """The option that an event is: ``events.say``."""
        return f"{self._at}.{name}"

    def copy(self) -> Contract:
        """The same once more, for a change that may fail."""
        copied = Contract({}, self._route)
        copied._options, copied._models, copied._handlers = (
            dict(self._options),
            dict(self._models),
            dict(self._handlers),
        )
        copied._raw, copied.names = set(self._raw), dict(self.names)
        return copied

    def declare(self, name: str, stated: Stated) -> None:
        """Adds to what is known of an event. Raises ``ConfigError`` where two statements cannot both hold."""
        known = self._options.get(name, {})
        if isinstance(known, Mapping):
            for key in stated.options:
                if key in known:
                    raise _twice(f"{self.option(name)}.{key}")
        self.handle_as(name, stated)
        # Of what is no mapping the core says what is accepted.
        if isinstance(known, Mapping):
            self._options[name] = {**known, **stated.options}

    def handle_as(self, name: str, stated: Stated) -> None:
        """Notes what the data of an event becomes for its handler. Raises ``ConfigError`` as ``declare``."""
        option, model = self.option(name), stated.model or self._models.get(name)
        if stated.model is not None and name in self._models:
            raise _twice(f"{option}.model")
        if model is not None and (stated.raw or name in self._raw):
            raise _raw_model(option)
        if stated.model is not None:
            self._models[name] = stated.model
        if stated.names is not None:
            self.names[name] = stated.names
        if stated.raw:
            self._raw.add(name)

    def check(self, name: str, protocol: object) -> None:
        """Lets the core compile what was declared of an event, so that a fault is told where it is written."""
        if protocol != "raw":
            # The limit that the cost must fit is stated elsewhere.
            least: dict[str, Any] = {"origins": ["https://app.example"], "auth": "none", "rate_limit": None}
            checked = {"events": {name: self._options[name]}}
            if self._route is not None:
                checked = {"routes": {self._route: checked}}
            _wsguard.policy_in_force(options_text({**least, **checked}))

    def handle(self, name: str, handler: Callable[..., Any]) -> None:
        """Sets the handler of an event."""
        if name in self._handlers:
            option = f"{self._at}.{name}"
            raise ConfigError(f"{option}: has a handler already", code="contradiction", option=option)
        self._handlers[name] = handler

    @property
    def handlers(self) -> list[Callable[..., Any]]:
        """Every handler of an event."""
        return list(self._handlers.values())

    def __contains__(self, name: object) -> bool:
        return name in self._options

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def options(self) -> dict[str, Any]:
        """The option ``events``."""
        return self._options

    def spec(self, name: str, others: Contract) -> Spec:
        """The handler of an event, whether its data is raw, and its model. What is not said here is said in
        ``others``."""
        handler, model = self._handlers.get(name), self._models.get(name)
        if handler is not None or self is others:
            return handler, name in self._raw, model
        # The handler of the same event elsewhere gets what it gets there.
        handler, raw, other = others.spec(name, others)
        return handler, raw, None if raw else model or other

    def replies(self, name: str) -> bool:
        """Whether data that is refused is answered, and the connection lives."""
        stated: Any = self._options[name]
        return isinstance(stated, Mapping) and stated.get("on_mismatch") == "reply"


def _of_schema(option: str, schema: Any) -> tuple[Any, Callable[[str], Any] | None, frozenset[str] | None]:
    """The JSON Schema, what makes an instance, and the names that the model knows."""
    if isinstance(schema, (Mapping, bool)):
        return schema, None, None
    adapted = _adapted(schema)
    found = None if adapted is None else _methods(adapted)
    if adapted is None or found is None:
        raise _no_schema(option, _SCHEMAS, schema)
    alias = _alias_of_its_own(adapted)
    if alias is not None:
        raise ConfigError(
            f"{option}: the alias {alias} takes more than a JSON Schema can say: "
            "give the JSON Schema as schema=..., and the model as model=...",
            code="invalid_option",
            option=option,
        )
    to_schema, make = found
    made = to_schema()
    return made, make, _names(made)


def _of_model(option: str, model: Any) -> tuple[Callable[[str], Any], frozenset[str] | None]:
    """What makes an instance of a model, and the names that it knows."""
    adapted = _adapted(model)
    found = None if adapted is None else _methods(adapted)
    if found is None:
        raise _no_schema(option, "a Pydantic model or what a TypeAdapter takes", model)
    to_schema, make = found
    # A model that takes more than a schema can say may have none.
    with contextlib.suppress(Exception):
        return make, _names(to_schema())
    return make, None


def _twice(option: str) -> ConfigError:
    return ConfigError(f"{option}: is stated twice", code="contradiction", option=option)


def _raw_model(option: str) -> ConfigError:
    return ConfigError(f"{option}: raw data is not made a model", code="contradiction", option=option)


def _no_schema(option: str, accepted: str, stated: Any) -> ConfigError:
    kind = stated.__name__ if isinstance(stated, type) else type(stated).__name__
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
            elif name == "routes" and isinstance(value, Mapping):
                for path, route in value.items():
                    _no_none(route.get("auth") if isinstance(route, Mapping) else None, f"routes.{path}.auth")
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
