"""The events of a server: those of the top level, and those of each route that states its own. Options state some,
decorators others; a reload brings new options, and what the decorators have said stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ._contract import Contract, Stated
from ._errors import ConfigError

#: Handler, whether its data is raw, what makes an instance of its model, and whether a connection lives whose data the
#: model has refused.
Row = tuple[Callable[..., Any] | None, bool, Callable[[str], Any] | None, bool]


@dataclasses.dataclass(frozen=True)
class Said:
    """What one decorator, or one call of ``Server.event``, has said."""

    name: str
    route: str | None
    stated: Stated
    #: Whether it is there for a handler.
    handles: bool
    handler: Callable[..., Any] | None = None
    #: Whether a bare one has declared its event, because the options of then did not state it. A reload whose options
    #: leave out what the options stated before makes nobody's event of it that any data may come with.
    declares: bool = True

    @property
    def is_bare(self) -> bool:
        """Whether it only means to handle an event, if the options state it."""
        return self.handles and not self.stated.options


class Events:
    """Every event that a server knows, and its handler. What a server knows follows from the options and from what the
    decorators have said, in their order: so a reload is as good as a start, but for an event that the options stated
    when its handler came, and state no more: it is unknown then."""

    def __init__(self, options: dict[str, Any]) -> None:
        #: The options without what the decorators have stated.
        self.own_options = self._options = options
        self._top = Contract(self._stated(options) or {})
        self._routes: dict[str, Contract] = {}
        routes = options.get("routes")
        # What is no mapping is left to the core, which says what is accepted.
        for path, route in routes.items() if isinstance(routes, Mapping) else ():
            own = self._stated(route)
            if isinstance(path, str) and own is not None:
                self._routes[path] = Contract(own, path)
        #: The events that the options state: of the top level, and of each route.
        self._in_options: dict[str | None, frozenset[str]] = {
            None: frozenset(self._top),
            **{path: frozenset(own) for path, own in self._routes.items()},
        }
        self._said: list[Said] = []

    @staticmethod
    def _stated(options: Any) -> Mapping[str, Any] | None:
        events = options.get("events") if isinstance(options, Mapping) else None
        return events if isinstance(events, Mapping) else None

    def renewed(self, options: dict[str, Any]) -> Events:
        """What the same decorators have said beside other options."""
        renewed = Events(options)
        for said in self._said:
            renewed.declare(said)
        return renewed

    def opened_since(self, before: Events) -> list[str]:
        """The events that any data may come with now, because the options state them no longer: only their handlers
        declare them."""
        opened = [said for said in self._said if self._declares(said) and not before._declares(said)]
        unchecked = [said.name for said in opened if "schema" not in self._of(said.route).options()[said.name]]
        return list(dict.fromkeys(unchecked))

    def said(self, name: str, route: str | None, *, handles: bool, **stated: Any) -> Said:
        """What would be said, checked as if it were. Raises ``ConfigError`` for what cannot hold."""
        option = self._of(route).option(name)
        schema, model, raw = stated.pop("schema"), stated.pop("model"), stated.pop("raw")
        made = Stated.of(option, schema=schema, model=model, raw=raw, more=stated)
        said = Said(name, route, made, handles)
        said = dataclasses.replace(said, declares=self._declares(said))
        changed = self._changed(said)
        if self._declares(said):
            changed.check(name, self._options.get("protocol"))
        return said

    def declare(self, said: Said) -> None:
        """Adds to what is known of an event, and sets its handler: both, or neither with a ``ConfigError``."""
        changed = self._changed(said)
        if said.route is None:
            self._top = changed
        else:
            self._routes[said.route] = changed
        self._said.append(said)

    def _changed(self, said: Said) -> Contract:
        changed = self._of(said.route).copy()
        if self._declares(said):
            if said.handles:
                self._check_is_meant_for_all(said)
            changed.declare(said.name, said.stated)
        else:
            changed.handle_as(said.name, said.stated)
        if said.handler is not None:
            changed.handle(said.name, said.handler)
        return changed

    def _check_is_meant_for_all(self, said: Said) -> None:
        """Raises where a handler would let every path send what only some may."""
        if said.route is None and said.name not in self._top:
            stating = [path for path, events in self._routes.items() if said.name in events]
            if stating:
                option = f"events.{said.name}"
                raise ConfigError(
                    f'{option}: the route {stating[0]} states it: say of which it is, route="{stating[0]}"',
                    code="contradiction",
                    option=option,
                )

    def _declares(self, said: Said) -> bool:
        """Whether it declares the event, or only means to handle one that the options state."""
        if not said.is_bare:
            return True
        if said.route is not None:
            return said.declares and said.name not in self._in_options.get(said.route, ())
        return said.declares and not any(said.name in events for events in self._in_options.values())

    def _of(self, route: str | None) -> Contract:
        if route is None:
            return self._top
        routes = self._options.get("routes")
        if not isinstance(routes, Mapping) or route not in routes:
            option = f"routes.{route}"
            raise ConfigError(
                f"{option}: is not stated in the option routes, and a handler is for it",
                code="missing_option",
                option=option,
            )
        known = self._routes.get(route)
        return Contract({}, route) if known is None else known

    def options(self) -> dict[str, Any]:
        """Every option, with the events that options and decorators have stated."""
        options = dict(self._options)
        if isinstance(options.get("events", {}), Mapping):
            options.pop("events", None)
            if self._top.options():
                options["events"] = self._top.options()
        own = {}
        for path, events in self._routes.items():
            route = options["routes"][path]
            if isinstance(route, Mapping) and isinstance(route.get("events", {}), Mapping):
                own[path] = {**route, "events": events.options()}
        return {**options, "routes": {**options["routes"], **own}} if own else options

    @property
    def handlers(self) -> list[Callable[..., Any]]:
        """Every handler of an event."""
        return [said.handler for said in self._said if said.handler is not None]

    @property
    def unhandled(self) -> list[str]:
        """The events without a handler of their own."""
        found = {name: None for _, events in self._each() for name in events if events.spec(name, self._top)[0] is None}
        return list(found)

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """The names that an event's models know."""
        known: dict[str, frozenset[str]] = {}
        for _, events in self._each():
            for name, names in events.names.items():
                known[name] = known.get(name, frozenset()) | names
        return known

    def specs(self, wrap: Callable[[Callable[..., Any], str, str], Callable[..., Any]]) -> dict[str | None, Any]:
        """What the native side needs of each event, by route; ``None``: of the other paths. ``wrap`` puts around a
        handler what is to be around it."""

        def row(events: Contract, name: str, lives: bool) -> Row:
            handler, raw, model = events.spec(name, self._top)
            return handler and wrap(handler, "message", name), raw, model, lives or events.replies(name)

        specs: dict[str | None, dict[str, Row]] = {}
        reports = self._options.get("on_violation") == "report"
        for path, events in self._each():
            lives = self._route_options(path).get("on_violation", "report" if reports else "enforce") == "report"
            specs[path] = {name: row(events, name, lives) for name in events}
        return specs

    def _each(self) -> list[tuple[str | None, Contract]]:
        """The events of the top level, of each route with its own, and of each whose models refuse otherwise."""
        each: list[tuple[str | None, Contract]] = [(None, self._top), *self._routes.items()]
        routes = self._options.get("routes")
        for path in routes if isinstance(routes, Mapping) else ():
            if path not in self._routes and "on_violation" in self._route_options(path):
                each.append((path, self._top))
        return each

    def _route_options(self, path: str | None) -> Mapping[str, Any]:
        routes = self._options.get("routes")
        route = routes.get(path) if isinstance(routes, Mapping) else None
        return route if isinstance(route, Mapping) else {}
