"""The server: options and handlers in, events out, on asyncio, uvloop or a plain thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import _log, _wsguard
from ._contract import Contract, options_text
from ._errors import ConfigError, UsageError
from ._wsguard import Connection, NativeServer, Request

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Concatenate

    from typing_extensions import Self, Unpack

    from ._options import Options
    from ._types import Payload

    Handler = TypeVar("Handler", bound=Callable[..., Any])
    ConnHandler = TypeVar("ConnHandler", bound=Callable[Concatenate[Connection, ...], Any])
    Authenticate = TypeVar("Authenticate", bound=Callable[[Request], Any])

LoopName = Literal["auto", "native", "asyncio", "uvloop"]


class Audience:
    """Whom a broadcast is for: a room, or every connection; all but one."""

    __slots__ = ("_except", "_room", "_server")

    def __init__(self, server: Server, room: str | None, except_: Connection | None = None) -> None:
        self._server = server
        self._room = room
        self._except = except_

    def except_(self, conn: Connection) -> Audience:
        """The same audience without ``conn``."""
        return Audience(self._server, self._room, conn)

    def emit(self, event: str, data: Any = None, /) -> None:
        """Emits an event (``json``); encoded once, whatever the number of connections.

        Raises:
            TypeError, ValueError: ``data`` is not JSON.
            InvalidArgument: a room's name is 1 to 256 bytes.
            UsageError: the server was not started, has stopped, or belongs to the parent process.
        """
        self._server._emit_to(self._room, self._except, event, data)

    def send(self, message: Payload, /) -> None:
        """Sends a message (``raw``): ``str`` as text, bytes as binary."""
        self._server._send_to(self._room, self._except, message)


class _Drain:
    """A drain that was started. Awaiting it waits for its end; it need not be awaited."""

    __slots__ = ("_ended",)

    def __init__(self, ended: Callable[[], Awaitable[None]]) -> None:
        self._ended = ended

    def __await__(self) -> Generator[Any, None, None]:
        return self._ended().__await__()


class Server(NativeServer):
    """A WebSocket server. Options are the policy; see the README's table, which is the same in every language.

    ::

        server = Server(origins=["https://app.example.com"], auth="none")

        @server.on("echo")
        def echo(conn, data):
            conn.reply("echo", data)

        server.run()

    Handlers are functions or coroutines. A function is called at once; a coroutine is a task, and the next message of
    the same connection waits until it has ended. Across connections there is no order.

    Raises:
        ConfigError: an option does not exist or has a wrong type. What else the core finds wrong with the policy is
            raised when the server starts.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        stated: dict[str, Any] = dict(options)
        events = stated.pop("events", None)
        self._contract = Contract(events if isinstance(events, dict) else {})
        if events is not None and not isinstance(events, dict):
            # The core says what is accepted.
            stated["events"] = events
        self._options = stated
        self._calls: dict[str, Callable[..., Any]] = {}
        self._auth_timeout_s = _wsguard.check_options(options_text(self._all_options())) / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped: asyncio.Event | None = None

    # --- what the application registers ----------------------------------------------------------------------------

    def authenticate(self, handler: Authenticate, /) -> Authenticate:
        """Registers who decides about a handshake: gets a :class:`Request`, returns :class:`Accept` or
        :class:`Reject`. The option ``auth`` is then ``"callback"``, also when it is not stated.

        An exception, anything else returned, and silence beyond ``auth_timeout_ms`` answer 503 (a coroutine is
        cancelled then).
        """
        return self._register("authenticate", handler)

    def on(
        self, event: str, /, *, schema: Any = None, cost: float | None = None, raw: bool = False
    ) -> Callable[[ConnHandler], ConnHandler]:
        """Registers the handler of an event, called with the connection and the message's data.

        Args:
            event: its name; it becomes part of the contract, as in the option ``events``.
            schema: JSON Schema 2020-12, a Pydantic model or a ``TypeAdapter``. The core checks the schema before
                Python sees the message; with a model the handler gets its instance.
            cost: units of the rate limit; default 1.
            raw: the data is ``bytes`` of JSON text instead of Python objects.

        A model's own validators run after the schema; what they refuse closes the connection with 1008.
        """
        self._check_not_started()
        self._contract.declare(event, schema=schema, cost=cost, raw=raw)

        def register(handler: ConnHandler) -> ConnHandler:
            self._check_not_started()
            self._contract.handle(event, handler)
            return handler

        return register

    def event(self, name: str, /, *, schema: Any = None, cost: float | None = None, raw: bool = False) -> None:
        """Declares an event without a handler, for ``on_message`` or ``async for``. As :meth:`on` otherwise."""
        self._check_not_started()
        self._contract.declare(name, schema=schema, cost=cost, raw=raw)

    def on_message(self, handler: ConnHandler, /) -> ConnHandler:
        """Registers the handler of messages: in ``raw`` called with the connection and ``str`` or ``bytes``; in
        ``json`` with the connection and a :class:`Message`, for events without a handler of their own."""
        return self._register("message", handler)

    def on_open(self, handler: ConnHandler, /) -> ConnHandler:
        """Registers the handler of a new connection. A coroutine may iterate over the connection
        (``async for message in conn``): then it gets the messages, and the connection closes when it returns."""
        return self._register("open", handler)

    def on_close(self, handler: ConnHandler, /) -> ConnHandler:
        """Registers the handler of a connection that has ended, called with it and a :class:`Close`."""
        return self._register("close", handler)

    def on_violation(self, handler: Handler, /) -> Handler:
        """Registers the handler of verdicts, called with a :class:`Violation`. The log has them anyway."""
        return self._register("violation", handler)

    def _register(self, name: str, handler: Handler) -> Handler:
        self._check_not_started()
        if not callable(handler):
            raise TypeError(f"a handler is a function, not {type(handler).__name__}")
        if name in self._calls:
            raise ConfigError(f"{name} has a handler already", code="contradiction", option=name)
        self._calls[name] = handler
        return handler

    def _check_not_started(self) -> None:
        if self._is_started:
            raise UsageError("the server was started already", code="started")

    # --- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Checks the policy, binds, starts the threads and delivers events on the running loop.

        Raises:
            ConfigError: the options are not a policy; names the option.
            StartError: the address cannot be listened on.
            UsageError: it was started before.
        """
        self._begin(asyncio.get_running_loop())

    async def serve(self, started: Callable[[], object] | None = None) -> None:
        """Starts, and returns when the server has stopped. When it is cancelled it drains. ``started`` is called once
        it listens, when ``address`` is known."""
        async with self:
            if started is not None:
                started()
            await self._wait_stopped()

    async def __aenter__(self) -> Self:
        if not self._is_started:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_forked:
            await self.drain()

    def run(self, loop: LoopName = "auto", *, started: Callable[[], object] | None = None) -> None:
        """Starts, and returns when the server has stopped. Ctrl-C stops it and raises ``KeyboardInterrupt``.

        Args:
            loop: ``"native"`` calls functions on this thread without asyncio, which is the fastest; coroutines need
                ``"asyncio"`` or ``"uvloop"``. ``"auto"`` is native when every handler is a plain function, else
                uvloop when it is installed.
            started: called once it listens, when ``address`` is known.
        """
        if loop == "auto":
            loop = "native" if not self._needs_asyncio() else "uvloop" if _has_uvloop() else "asyncio"
        if loop == "native":
            self._begin(None)
            try:
                if started is not None:
                    started()
                self._run(threading.current_thread() is threading.main_thread())
            finally:
                self._end()
            return
        _run_on(_loop_factory(loop), functools.partial(self.serve, started))

    def drain(self, timeout_ms: int = 5000, jitter_ms: int = 0) -> Awaitable[None]:
        """Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over ``jitter_ms``,
        what is left after ``timeout_ms`` is dropped. It starts at once; awaiting it waits until all is over, also for
        handlers that still run, which are cancelled after ``timeout_ms``.

        Raises:
            UsageError: the server was not started, or belongs to the parent process.
        """
        self._drain(timeout_ms, jitter_ms)
        self._look_again()
        return _Drain(functools.partial(self._drained, timeout_ms / 1000))

    async def _drained(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        await self._wait_stopped()
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, until - loop.time()))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def stop(self) -> None:
        """Stops at once: every connection is dropped. :meth:`drain` is the gentle way.

        Raises:
            UsageError: the server was not started, or belongs to the parent process.
        """
        super().stop()
        self._look_again()

    def _look_again(self) -> None:
        # A Ctrl-C may have hit the callback that would have looked; its end must not depend on that one.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    async def wait_stopped(self) -> None:
        """Waits until the server has stopped and every event was handled.

        Raises:
            UsageError: the server was not started on an event loop.
        """
        await self._wait_stopped()

    async def _wait_stopped(self) -> None:
        if self._stopped is None:
            raise UsageError("awaiting needs a server that runs on an asyncio event loop", code="no_event_loop")
        if self._is_forked:
            raise UsageError("the server belongs to the parent process", code="forked")
        await self._stopped.wait()

    # --- for everybody ---------------------------------------------------------------------------------------------

    def to(self, room: str | None = None, /) -> Audience:
        """The connections of a room, or every connection: ``server.to("lobby").emit("said", data)``."""
        return Audience(self, room)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _all_options(self) -> dict[str, Any]:
        events = self._contract.options()
        return {**self._options, **({"events": events} if events else {})}

    def _needs_asyncio(self) -> bool:
        return any(map(inspect.iscoroutinefunction, [*self._calls.values(), *self._contract.handlers]))

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._check_not_started()
        options = self._all_options()
        if "authenticate" in self._calls:
            if options.setdefault("auth", "callback") != "callback":
                raise ConfigError(
                    'auth: must be "callback" where authenticate has a handler', code="contradiction", option="auth"
                )
        elif options.get("auth") == "callback":
            raise ConfigError('auth: "callback" needs @server.authenticate', code="contradiction", option="auth")
        _wsguard.log_to_stderr()
        text, handlers = options_text(options), self._handlers()
        if loop is None:
            self._start(text, handlers, None)
        else:
            self._start_on(loop, text, handlers)
        unheard = self._contract.unhandled
        if unheard and "message" not in self._calls and "open" not in self._calls:
            _log.logger.warning("no handler for the events %s: their messages are dropped", ", ".join(unheard))

    def _handlers(self) -> dict[str, Any]:
        calls = dict(self._calls)
        if inspect.iscoroutinefunction(calls.get("authenticate")):
            calls["authenticate"] = _within(self._auth_timeout_s, calls["authenticate"])
        return {
            **calls,
            "events": self._contract.specs(),
            "report": _log.report,
            "refused": _log.refused,
            "only_reports": self._options.get("on_violation") == "report",
        }

    def _start_on(self, loop: asyncio.AbstractEventLoop, text: str, handlers: dict[str, Any]) -> None:
        self._watched = self._open_bell()
        if self._watched is not None:
            try:
                loop.add_reader(self._watched, self._deliver)
            except NotImplementedError:  # a proactor loop (Windows): a thread waits instead
                self._watched = None
                self._close_bell()
        create_task: Callable[..., Any] = loop.create_task
        if sys.version_info >= (3, 12):
            # The first step runs at once: a coroutine that never waits costs no round of the loop.
            create_task = functools.partial(asyncio.Task, loop=loop, eager_start=True)
        deliver_soon = functools.partial(loop.call_soon, self._deliver)
        self._loop, self._stopped = loop, asyncio.Event()
        try:
            self._start(text, handlers, (loop.create_future, create_task, deliver_soon, self._on_stopped, self._tasks))
        except BaseException:
            self._unwatch()
            raise
        if self._watched is None:
            threading.Thread(target=self._ring_loop, args=(loop,), name="wsguard-wait", daemon=True).start()
        # The core rings for what comes after the first look.
        deliver_soon()

    def _ring_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            while self._wait():
                loop.call_soon_threadsafe(self._deliver)

    def _unwatch(self) -> None:
        if self._watched is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._watched)
        self._watched = None

    def _on_stopped(self) -> None:
        self._unwatch()
        if self._stopped is not None:
            self._stopped.set()


def _within(seconds: float, authenticate: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
    """The core has answered 503 by then; what nobody waits for must not pile up (THREATS A5)."""

    async def limited(request: Request) -> Any:
        return await asyncio.wait_for(authenticate(request), seconds)

    return limited


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


def _loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    if name == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    raise ValueError(f'loop must be "auto", "native", "asyncio" or "uvloop", not {name!r}')


def _run_on(factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any]) -> None:
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        return
    loop = factory()
    try:
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except BaseException:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
            raise
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
