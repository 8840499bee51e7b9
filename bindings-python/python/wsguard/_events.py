"""The events of a server: those of the top level, and those of each route that states its own. Options state some,
decorators others; a reload brings new options, and what the decorators have said stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ._contract import Contract
from ._errors import ConfigError

#: Handler, whether its data is raw, what makes an instance of its model, and whether a connection lives whose data the
#: model has refused.
Row = tuple[Callable[..., Any] | None, bool, Callable[[str], Any] | None, bool]


@dataclasses.dataclass(frozen=True)
class _Said:
    """What one decorator has said."""

    name: str
    route: str | None
    #: Whether it declares the event, or only means to handle one that the options state.
    declares: bool
    stated: Mapping[str, Any]


class Events:
    """Every event that a server knows, and its handler."""

    def __init__(self, options: dict[str, Any]) -> None:
        #: The options without what the decorators have stated.
        self.own_options = self._options = options
        events, routes = options.get("events"), options.get("routes")
        # What is no mapping is left to the core, which says what is accepted.
        self._top = Contract(events if isinstance(events, Mapping) else {})
        self._routes: dict[str, Contract] = {}
        for path, route in routes.items() if isinstance(routes, Mapping) else ():
            own = route.get("events") if isinstance(route, Mapping) else None
            if isinstance(path, str) and isinstance(own, Mapping):
                self._routes[path] = Contract(own, path)
        self._said: list[_Said] = []
        self._handled: list[tuple[str, str | None, Callable[..., Any]]] = []

    def renewed(self, options: dict[str, Any]) -> Events:
        """The same declarations and handlers of decorators beside other options."""
        renewed = Events(options)
        for said in self._said:
            renewed._declare(said)
            renewed._said.append(said)
        for name, route, handler in self._handled:
            renewed.handle(name, route, handler)
        return renewed

    def declare(self, name: str, route: str | None, *, handles: bool, **stated: Any) -> None:
        """Adds to what is known of an event. Raises ``ConfigError`` for what cannot hold."""
        is_bare = handles and not any(stated[key] is not None for key in ("schema", "cost", "roles", "on_mismatch"))
        declares = not (is_bare and self._is_stated(name, route))
        said = _Said(name, route, declares, stated)
        if declares and handles and route is None and name not in self._top:
            # It would let every path send what only some may.
            stating = [path for path, events in self._routes.items() if name in events]
            if stating:
                raise ConfigError(
                    f'events.{name}: the route {stating[0]} states it: say of which it is, route="{stating[0]}"',
                    code="contradiction",
                    option=f"events.{name}",
                )
        self._declare(said)
        if declares:
            self._of(route).check(name, self._options.get("protocol"))
        self._said.append(said)

    def _declare(self, said: _Said) -> None:
        events = self._of(said.route)
        if said.declares:
            events.declare(said.name, **said.stated)
        else:
            events.handle_as(said.name, said.stated["model"], raw=said.stated["raw"])

    def _is_stated(self, name: str, route: str | None) -> bool:
        if route is not None:
            return name in self._of(route)
        return name in self._top or any(name in events for events in self._routes.values())

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
        return self._routes.setdefault(route, Contract({}, route))

    def handle(self, name: str, route: str | None, handler: Callable[..., Any]) -> None:
        """Sets the handler of an event: on one route, or wherever it has no other."""
        self._of(route).handle(name, handler)
        self._handled.append((name, route, handler))

    def options(self) -> dict[str, Any]:
        """Every option, with the events that options and decorators have stated."""
        options = dict(self._options)
        if self._top.options() or isinstance(options.get("events"), Mapping):
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
        return [handler for _, _, handler in self._handled]

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
