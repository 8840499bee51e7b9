"""The options, events and handlers that an application states before it starts a server."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import _handlers, _log, _middleware
from ._contract import options_text
from ._errors import ConfigError, UsageError
from ._events import Events, Said
from ._wsguard import Close, Connection, NativeServer, Request, Violation

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._middleware import Call
    from ._options import Options
    from ._types import EventDetails
    from ._wsguard import Accept, Message, Reject

    Handler = TypeVar("Handler", bound=Callable[..., Any])
    Model = TypeVar("Model")
    OpenHandler = TypeVar("OpenHandler", bound=Callable[[Connection], Any])
    CloseHandler = TypeVar("CloseHandler", bound=Callable[[Connection, Close], Any])
    ViolationHandler = TypeVar("ViolationHandler", bound=Callable[[Violation], Any])
    MessageHandler = TypeVar(
        "MessageHandler",
        bound=Callable[[Connection, str], Any]
        | Callable[[Connection, bytes], Any]
        | Callable[[Connection, Message], Any],
    )
    ErrorHandler = TypeVar("ErrorHandler", bound=Callable[[Connection | None, Exception, str | None], Any])
    Middleware = TypeVar("Middleware", bound=Callable[[Call, Callable[[], Any]], Any])
    DataHandler = TypeVar("DataHandler", bound=Callable[[Connection, Any], Any])
    Authenticate = TypeVar(
        "Authenticate",
        bound=Callable[[Request], Accept | Reject] | Callable[[Request], Awaitable[Accept | Reject]],
    )

#: The arguments of each handler, in words.
_ARGUMENTS = {
    "authenticate": ("the request",),
    "open": ("the connection",),
    "close": ("the connection", "how it closed"),
    "message": ("the connection", "the message"),
    "violation": ("the violation",),
    "error": ("the connection", "the exception", "the event"),
}


class Registry(NativeServer):
    """The options and handlers of a server."""

    def __init__(self, base: Options | None = None, /, **options: Unpack[Options]) -> None:
        stated: dict[str, Any] = {**(base or {}), **options}
        self._events = Events(stated)
        self._calls: dict[str, Callable[..., Any]] = {}
        self._middleware: list[Callable[..., Any]] = []
        # `@server.authenticate` may still follow: then `auth` is "callback". Where no handler adds to the policy, the
        # one that is compiled here starts.
        self._compile(options_text({**self._events.options(), "auth": stated.get("auth", "callback")}))
        #: What has it listen where a test wants it, whatever the options say.
        self._listens_elsewhere: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        #: The descriptor that was taken over: its number may be anything else's by now.
        self._taken: str | None = None

    def authenticate(self, handler: Authenticate, /) -> Authenticate:
        """Registers the handler that decides about a handshake. It is called with a :class:`Request`, and returns
        :class:`Accept` or :class:`Reject`. If the option ``auth`` is not stated, it becomes ``"callback"``.

        If the handler raises, returns anything else, or takes longer than ``auth_timeout_ms``, the handshake is refused
        with 503. A coroutine is cancelled when its handshake no longer waits: it timed out, or the peer has left.

        A server that was started without it may get it while it runs: then :meth:`reload` may state
        ``auth: "callback"``. A coroutine function needs a server that runs on asyncio.

        Raises:
            ConfigError: there is a handler already (``contradiction``).
            TypeError: the handler does not take what it is called with.
            UsageError: the server runs (``already_started``); for this handler only if there is one.
        """
        return self._register("authenticate", handler, may_run="authenticate" not in self._calls)

    @overload
    def on(
        self, event: str, /, *, raw: Literal[True], schema: Any = None, **more: Unpack[EventDetails]
    ) -> Callable[[Callable[[Connection, bytes], Any]], Callable[[Connection, bytes], Any]]: ...
    @overload
    def on(
        self, event: str, /, *, model: type[Model], schema: Any = None, **more: Unpack[EventDetails]
    ) -> Callable[[Callable[[Connection, Model], Any]], Callable[[Connection, Model], Any]]: ...
    @overload
    def on(
        self, event: str, /, *, schema: type[Model], **more: Unpack[EventDetails]
    ) -> Callable[[Callable[[Connection, Model], Any]], Callable[[Connection, Model], Any]]: ...
    @overload
    def on(
        self,
        event: str,
        /,
        *,
        schema: Any = None,
        model: Any = None,
        raw: Literal[False] = False,
        **more: Unpack[EventDetails],
    ) -> Callable[[DataHandler], DataHandler]: ...
    def on(
        self, event: str, /, *, schema: Any = None, model: Any = None, raw: bool = False, **more: Unpack[EventDetails]
    ) -> Callable[[Any], Any]:
        """Registers the handler of an event, called with the connection and the message's data.

        Args:
            event: the name of the event; it is declared, as by the option ``events``, unless the options state it.
            schema: JSON Schema 2020-12, a Pydantic model, or what a ``TypeAdapter`` takes (a dataclass, a
                ``TypedDict``, ``list[int]``); default: any data. The core checks the schema before Python gets the
                message. With a model, the handler gets an instance of it.
            model: only the model: it makes its instance of whatever ``schema`` lets pass. For models that take more
                than their JSON Schema says.
            raw: ``True`` gives the handler the data as ``bytes`` of JSON text.
            cost: units of the rate limit, fractions allowed; default 1.
            roles: the roles of which a connection needs one to send the event; default: everybody may.
            on_mismatch: ``"reply"`` answers data that does not fit with an error, and the connection lives; default
                ``"close"``.
            route: the route that the event is of, as the option ``routes`` has it; default: every path whose route has
                no events of its own. An event that only routes state gets its handler without ``route``, too.

        A model's own validators run after the schema. If they refuse, the connection closes with 1008
        (``schema_mismatch``).

        A decorator that raises declares nothing.

        Raises:
            ConfigError: the schema, the cost or the roles are not accepted, there is no such route, or the event has a
                handler already.
            TypeError: the handler does not take what it is called with, or the name is missing.
            UsageError: the server runs (``already_started``).
        """
        said = self._said(event, "on", schema=schema, model=model, raw=raw, **more)

        def register(handler: Any) -> Any:
            self._check_not_running()
            _handlers.check(f'@server.on("{event}")', handler, ("the connection", "the message's data"))
            self._events.declare(dataclasses.replace(said, handler=handler))
            return handler

        return register

    def event(
        self, name: str, /, *, schema: Any = None, model: Any = None, raw: bool = False, **more: Unpack[EventDetails]
    ) -> None:
        """Declares an event without a handler of its own: ``on_message`` or ``async for`` gets its messages. As
        :meth:`on` otherwise."""
        self._events.declare(self._said(name, "event", schema=schema, model=model, raw=raw, **more))

    def _said(
        self,
        name: str,
        method: str,
        *,
        route: str | None = None,
        cost: float | None = None,
        roles: Sequence[str] | None = None,
        on_mismatch: str | None = None,
        **stated: Any,
    ) -> Said:
        if not isinstance(name, str):
            found = "the function itself: it is decorated without parentheses" if callable(name) else repr(name)
            raise TypeError(f'{method} needs the event\'s name, @server.{method}("say"), not {found}')
        self._check_not_running()
        stated.update(cost=cost, roles=roles, on_mismatch=on_mismatch)
        return self._events.said(name, route, handles=method == "on", **stated)

    def on_message(self, handler: MessageHandler, /) -> MessageHandler:
        """Registers the handler of messages. In ``raw`` it is called with the connection and ``str`` or ``bytes``; in
        ``json`` with the connection and a :class:`Message`, for events without a handler of their own. It raises what
        :meth:`authenticate` raises."""
        return self._register("message", handler)

    def on_open(self, handler: OpenHandler, /) -> OpenHandler:
        """Registers the handler of a new connection, called with the connection. A coroutine may iterate over it
        (``async for message in conn``): then it gets the messages, and the connection closes when it returns. It raises
        what :meth:`authenticate` raises."""
        return self._register("open", handler)

    def on_close(self, handler: CloseHandler, /) -> CloseHandler:
        """Registers the handler of a connection that has ended, called with the connection and a :class:`Close`. It
        raises what :meth:`authenticate` raises."""
        return self._register("close", handler)

    def on_violation(self, handler: ViolationHandler, /) -> ViolationHandler:
        """Registers the handler of verdicts, called with a :class:`Violation`. The log has them as well. It raises what
        :meth:`authenticate` raises."""
        return self._register("violation", handler)

    def on_error(self, handler: ErrorHandler, /) -> ErrorHandler:
        """Registers a handler of what other handlers raise, for instance to report it. It is called with the
        connection (``None`` for ``authenticate`` and ``on_violation``), the exception, and the name of the event
        (``None`` where none is handled). The log has the exception as well, and the connection closes with 1011 after
        the call. It raises what :meth:`authenticate` raises."""
        return self._register("error", handler)

    def middleware(self, function: Middleware, /) -> Middleware:
        """Registers a function around every handler of events and messages, ``on_open`` and ``on_close``: called with a
        :class:`Call` and ``next``, which calls the handler, or the next function. The first one registered is the
        outermost. What it does not pass on, no handler gets. Messages that ``recv`` and ``async for`` take have no
        handler.

        A coroutine function awaits ``next()``, whatever the handler is. A plain function may only be around plain
        handlers.

        Raises:
            TypeError: it does not take what it is called with; at the start: it is plain, and a handler is a coroutine.
            UsageError: the server runs (``already_started``).
        """
        self._check_not_running()
        _handlers.check("@server.middleware", function, ("the call", "next"))
        self._middleware.append(function)
        return function

    def _register(self, name: str, handler: Handler, *, may_run: bool = False) -> Handler:
        if may_run:
            self._check_own_process()
        else:
            self._check_not_running()
        written = "@server.authenticate" if name == "authenticate" else f"@server.on_{name}"
        _handlers.check(written, handler, _ARGUMENTS[name])
        if name in self._calls:
            raise ConfigError(f"{name} has a handler already", code="contradiction", option=name)
        self._calls[name] = handler
        return handler

    def _check_not_running(self) -> None:
        self._check_own_process()
        if self._is_running:
            raise UsageError("the server was started already", code="already_started")

    def _check_own_process(self) -> None:
        if self._is_forked:
            raise UsageError("the server belongs to the parent process: make one in each process", code="forked")

    # --- what the native side is started with ----------------------------------------------------------------------

    def _policy(self, events: Events, *, is_reload: bool = False) -> dict[str, Any]:
        """The options, as the handlers that there are complete them. A reload may leave ``authenticate`` without
        work."""
        options = events.options()
        callback = [path for path, auth in _auths(options) if auth == "callback"]
        if "authenticate" in self._calls:
            if options.setdefault("auth", "callback") != "callback" and not callback and not is_reload:
                raise ConfigError(
                    'auth: must be "callback" where authenticate has a handler', code="contradiction", option="auth"
                )
        elif callback:
            raise ConfigError(
                f'{callback[0]}: "callback" needs @server.authenticate', code="contradiction", option=callback[0]
            )
        return options if self._listens_elsewhere is None else self._listens_elsewhere(options)

    def _handlers(self, events: Events, options: Mapping[str, Any]) -> dict[str, Any]:
        around = _middleware.Around(self._middleware)
        wrapped = {
            name: around.wrap(call, name) if name in ("open", "close", "message") else call
            for name, call in self._calls.items()
        }
        return {
            **wrapped,
            "events": events.specs(around.wrap),
            "report": _log.report,
            "refused": functools.partial(_log.refused, events.names),
        }

    def _needs_asyncio(self) -> bool:
        every = [*self._calls.values(), *self._events.handlers, *self._middleware]
        return any(map(_handlers.is_coroutine_function, every))

    def _tell_unheard(self) -> None:
        """Logs the events whose messages no handler gets."""
        unheard = self._events.unhandled
        if unheard and "message" not in self._calls and "open" not in self._calls:
            names = ", ".join(unheard)
            _log.say(logging.WARNING, f"no handler for the events {names}: their messages are dropped")


def _auths(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each place that states how peers are authenticated, and what it states."""
    yield "auth", options.get("auth")
    routes = options.get("routes")
    for path, route in routes.items() if isinstance(routes, Mapping) else ():
        if isinstance(route, Mapping):
            yield f"routes.{path}.auth", route.get("auth")
