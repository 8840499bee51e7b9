"""The server: options and handlers in, events out, on asyncio, uvloop or a plain thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import _handlers, _log, _patched, _signals, _tasks, _wsguard
from ._contract import Contract, options_text
from ._errors import ConfigError, InvalidArgument, UsageError
from ._wsguard import Close, Connection, NativeServer, Request, Violation

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._options import Options
    from ._types import Payload
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
    DataHandler = TypeVar("DataHandler", bound=Callable[[Connection, Any], Any])
    Authenticate = TypeVar(
        "Authenticate",
        bound=Callable[[Request], Accept | Reject] | Callable[[Request], Awaitable[Accept | Reject]],
    )

LoopName = Literal["auto", "native", "asyncio", "uvloop"]

#: What handlers are called with, in words.
_ARGUMENTS = {
    "authenticate": ("the request",),
    "open": ("the connection",),
    "close": ("the connection", "how it closed"),
    "message": ("the connection", "the message"),
    "violation": ("the violation",),
}

#: Milliseconds that an end waits for connections and handlers.
DRAIN_TIMEOUT_MS = 10_000


class Audience:
    """Whom a broadcast is for: a room, or every connection; all but one."""

    __slots__ = ("_except", "_room", "_server")

    def __init__(self, server: Server, room: str | None, except_: Connection | None = None) -> None:
        self._server = server
        self._room = room
        self._except = except_

    def except_(self, conn: Connection) -> Audience:
        """The same audience without ``conn``: one connection can be left out."""
        if not isinstance(conn, Connection):
            raise TypeError(f"except_ takes a connection, not {type(conn).__name__}")
        if self._except is not None and self._except is not conn:
            raise InvalidArgument("except_ leaves out one connection, and one is left out", code="invalid_argument")
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

    def __init__(self, base: Options | None = None, /, **options: Unpack[Options]) -> None:
        stated: dict[str, Any] = {**(base or {}), **options}
        events = stated.pop("events", None)
        self._contract = Contract(events if isinstance(events, dict) else {})
        if events is not None and not isinstance(events, dict):
            # The core says what is accepted.
            stated["events"] = events
        self._options = stated
        self._calls: dict[str, Callable[..., Any]] = {}
        _wsguard.check_options(options_text(self._all_options()))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: int | None = None
        self._watch: weakref.ref[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped: _tasks.Stopped | None = None
        self._drains_until: float | None = None
        self._drain_timeout_ms = DRAIN_TIMEOUT_MS
        self._starting = threading.Lock()
        self._starts = 0
        #: The descriptor that was taken over: its number may be anything else's by now.
        self._taken: str | None = None

    # --- what the application registers ----------------------------------------------------------------------------

    def authenticate(self, handler: Authenticate, /) -> Authenticate:
        """Registers who decides about a handshake: gets a :class:`Request`, returns :class:`Accept` or
        :class:`Reject`. The option ``auth`` is then ``"callback"``, also when it is not stated.

        An exception, anything else returned, and silence beyond ``auth_timeout_ms`` answer 503. A coroutine is
        cancelled when its handshake no longer waits: it is too late, or the peer has left.
        """
        return self._register("authenticate", handler)

    @overload
    def on(
        self, event: str, /, *, raw: Literal[True], schema: Any = None, cost: float | None = None
    ) -> Callable[[Callable[[Connection, bytes], Any]], Callable[[Connection, bytes], Any]]: ...
    @overload
    def on(
        self, event: str, /, *, model: type[Model], schema: Any = None, cost: float | None = None
    ) -> Callable[[Callable[[Connection, Model], Any]], Callable[[Connection, Model], Any]]: ...
    @overload
    def on(
        self, event: str, /, *, schema: type[Model], cost: float | None = None
    ) -> Callable[[Callable[[Connection, Model], Any]], Callable[[Connection, Model], Any]]: ...
    @overload
    def on(
        self,
        event: str,
        /,
        *,
        schema: Any = None,
        model: Any = None,
        cost: float | None = None,
        raw: Literal[False] = False,
    ) -> Callable[[DataHandler], DataHandler]: ...
    def on(
        self, event: str, /, *, schema: Any = None, model: Any = None, cost: float | None = None, raw: bool = False
    ) -> Callable[[Any], Any]:
        """Registers the handler of an event, called with the connection and the message's data.

        Args:
            event: its name; it becomes part of the contract, as in the option ``events``.
            schema: JSON Schema 2020-12, a Pydantic model, or what a ``TypeAdapter`` takes (a dataclass, a
                ``TypedDict``, ``list[int]``). The core checks the schema before Python sees the message; with a model
                the handler gets its instance.
            model: the model alone: its instance is made of whatever ``schema`` let pass (any data when there is none).
                For models that take more than their JSON Schema says.
            cost: units of the rate limit; default 1.
            raw: the data is ``bytes`` of JSON text instead of Python objects.

        A model's own validators run after the schema; what they refuse closes the connection with 1008.

        Raises:
            ConfigError: the schema or the cost is not accepted.
            TypeError: the handler would not take what it is called with.
        """
        self._declare(event, "on", schema=schema, model=model, cost=cost, raw=raw)

        def register(handler: Any) -> Any:
            self._check_not_running()
            _handlers.check(f'@server.on("{event}")', handler, ("the connection", "the message's data"))
            self._contract.handle(event, handler)
            return handler

        return register

    def event(
        self, name: str, /, *, schema: Any = None, model: Any = None, cost: float | None = None, raw: bool = False
    ) -> None:
        """Declares an event without a handler, for ``on_message`` or ``async for``. As :meth:`on` otherwise."""
        self._declare(name, "event", schema=schema, model=model, cost=cost, raw=raw)

    def _declare(self, name: str, method: str, **stated: Any) -> None:
        if not isinstance(name, str):
            found = "the function itself: it is decorated without parentheses" if callable(name) else repr(name)
            raise TypeError(f'{method} needs the event\'s name, @server.{method}("say"), not {found}')
        self._check_not_running()
        self._contract.declare(name, **stated)
        self._contract.check(name, self._options.get("protocol"))

    def on_message(self, handler: MessageHandler, /) -> MessageHandler:
        """Registers the handler of messages: in ``raw`` called with the connection and ``str`` or ``bytes``; in
        ``json`` with the connection and a :class:`Message`, for events without a handler of their own."""
        return self._register("message", handler)

    def on_open(self, handler: OpenHandler, /) -> OpenHandler:
        """Registers the handler of a new connection. A coroutine may iterate over the connection
        (``async for message in conn``): then it gets the messages, and the connection closes when it returns."""
        return self._register("open", handler)

    def on_close(self, handler: CloseHandler, /) -> CloseHandler:
        """Registers the handler of a connection that has ended, called with it and a :class:`Close`."""
        return self._register("close", handler)

    def on_violation(self, handler: ViolationHandler, /) -> ViolationHandler:
        """Registers the handler of verdicts, called with a :class:`Violation`. The log has them anyway."""
        return self._register("violation", handler)

    def _register(self, name: str, handler: Handler) -> Handler:
        self._check_not_running()
        written = "@server.authenticate" if name == "authenticate" else f"@server.on_{name}"
        _handlers.check(written, handler, _ARGUMENTS[name])
        if name in self._calls:
            raise ConfigError(f"{name} has a handler already", code="contradiction", option=name)
        self._calls[name] = handler
        return handler

    def _check_not_running(self) -> None:
        if self._is_forked:
            raise UsageError("the server belongs to the parent process: make one in each process", code="forked")
        if self._is_running:
            raise UsageError("the server was started already", code="started")

    # --- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Checks the policy, binds, starts the threads and delivers events on the running loop.

        Raises:
            ConfigError: the options are not a policy; names the option.
            StartError: the address cannot be listened on.
            UsageError: it runs already, or no asyncio loop does. A server that has ended may be started again.
        """
        self._begin(_running_loop())

    async def serve(self, started: Callable[[], object] | None = None) -> None:
        """Starts, and returns when the server has stopped. When it is cancelled it drains. ``started`` is called once
        it listens, when ``address`` is known."""
        async with self:
            if started is not None:
                started()
            await self._wait_stopped()

    async def __aenter__(self) -> Self:
        if not self._is_running or self._is_forked:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_forked:
            await self.drain()

    def run(
        self, loop: LoopName = "auto", *, started: Callable[[], object] | None = None, signals: bool = True
    ) -> None:
        """Starts, and returns when the server has stopped.

        On the main thread SIGINT (Ctrl-C) and SIGTERM drain, within ``drain_timeout_ms``, and ``run`` returns; a second
        one stops at once and interrupts whatever blocks (``KeyboardInterrupt``, ``SystemExit``). A signal that the
        application handles itself, or ignores, is left alone.

        Args:
            loop: ``"native"`` calls functions on this thread without asyncio, which is the fastest; coroutines need
                ``"asyncio"`` or ``"uvloop"``. ``"auto"`` is native when every handler is a plain function, else
                uvloop when it is installed.
            started: called once it listens, when ``address`` is known.
            signals: whether to listen to signals.

        Raises:
            UsageError: it runs already; or an event loop runs on this thread, where ``await server.serve()`` is right.
        """
        _check_no_loop_runs()
        if loop == "auto":
            loop = "native" if not self._needs_asyncio() else "uvloop" if _has_uvloop() else "asyncio"
        with _signals.ending(self) if signals else contextlib.nullcontext():
            if loop != "native":
                _run_on(_loop_factory(loop), functools.partial(self.serve, started))
                return
            self._begin(None)
            try:
                if started is not None:
                    started()
                self._run(threading.current_thread() is threading.main_thread())
            finally:
                self._end()

    @property
    def drain_timeout_ms(self) -> int:
        """Milliseconds that the end of ``async with``, ``serve`` and ``run`` waits for connections and handlers; what
        :meth:`drain` waits where it is not told."""
        return self._drain_timeout_ms

    @drain_timeout_ms.setter
    def drain_timeout_ms(self, stated: int) -> None:
        self._drain_timeout_ms = _milliseconds("drain_timeout_ms", stated)

    def drain(self, timeout_ms: int | None = None, jitter_ms: int = 0) -> Awaitable[None]:
        """Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over ``jitter_ms``,
        what is left after ``timeout_ms`` (``drain_timeout_ms``) is dropped. It starts at once; awaiting it waits until
        all is over, also for handlers that still run, which are cancelled then. Of several the shortest holds.

        Raises:
            InvalidArgument: a number is negative.
            UsageError: the server was not started, or belongs to the parent process.
        """
        if timeout_ms is None:
            timeout_ms = self.drain_timeout_ms if self._drains_until is None else _left_ms(self._drains_until)
        timeout_ms, jitter_ms = _milliseconds("timeout_ms", timeout_ms), _milliseconds("jitter_ms", jitter_ms)
        self._drain(timeout_ms, jitter_ms)
        until = time.monotonic() + timeout_ms / 1000
        self._drains_until = until if self._drains_until is None else min(until, self._drains_until)
        self._look_again()
        return _Drain(self._drained)

    async def _drained(self) -> None:
        running = asyncio.get_running_loop()
        if running is self._loop or self._loop is None:
            await self._wait_stopped()
        else:
            try:
                # The core stops in time; that its events are handled is its loop's to do, which may not turn any more.
                await asyncio.wait_for(self._wait_stopped(), self._left_s() + _HANDLED_WITHIN_S)
            except asyncio.TimeoutError:
                self._ended("the event loop of the server does not run: its connections are dropped")
        tasks = {task for task in self._tasks if task.get_loop() is running} - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._left_s())
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCELLED_WITHIN_S)

    def _left_s(self) -> float:
        return 0.0 if self._drains_until is None else _left_ms(self._drains_until) / 1000

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
            UsageError: the server was not started on an event loop, or belongs to the parent process.
        """
        await self._wait_stopped()

    async def _wait_stopped(self) -> None:
        if self._stopped is None:
            raise UsageError("awaiting needs a server that runs on an asyncio event loop", code="no_event_loop")
        if self._is_forked:
            raise UsageError("the server belongs to the parent process", code="forked")
        await self._stopped.wait()

    # --- for everybody ---------------------------------------------------------------------------------------------

    def to(self, room: str, /) -> Audience:
        """The connections of a room: ``server.to("lobby").emit("said", data)``. Everybody is :meth:`to_all`."""
        if not isinstance(room, str):
            kind = type(room).__name__
            raise TypeError(f"a room's name is a str, not {kind}: every connection is server.to_all()")
        return Audience(self, room)

    def to_all(self) -> Audience:
        """Every connection: ``server.to_all().emit("said", data)``."""
        return Audience(self, None)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _all_options(self) -> dict[str, Any]:
        events = self._contract.options()
        return {**self._options, **({"events": events} if events else {})}

    def _needs_asyncio(self) -> bool:
        return any(map(_handlers.is_coroutine_function, [*self._calls.values(), *self._contract.handlers]))

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        # Of two threads that start it one does.
        if not self._starting.acquire(blocking=False):
            raise UsageError("the server is being started already", code="started")
        try:
            self._check_not_running()
            self._start_with(loop, self._options_to_start())
        finally:
            self._starting.release()

    def _options_to_start(self) -> dict[str, Any]:
        # A subclass may say it as a plain attribute.
        _milliseconds("drain_timeout_ms", self.drain_timeout_ms)
        options = self._all_options()
        if "authenticate" in self._calls:
            if options.setdefault("auth", "callback") != "callback":
                raise ConfigError(
                    'auth: must be "callback" where authenticate has a handler', code="contradiction", option="auth"
                )
        elif options.get("auth") == "callback":
            raise ConfigError('auth: "callback" needs @server.authenticate', code="contradiction", option="auth")
        listen = options.get("listen")
        if listen is not None and listen == self._taken:
            raise ConfigError(
                f"listen: {listen} was taken over at the first start, and is closed: a server that starts again needs "
                "another socket",
                code="contradiction",
                option="listen",
            )
        return options

    def _start_with(self, loop: asyncio.AbstractEventLoop | None, options: dict[str, Any]) -> None:
        _log.log_to_stderr()
        _log.start_writer()
        self._drains_until = None
        text, handlers = options_text(options), self._handlers()
        if loop is None:
            self._start(text, handlers, None)
        else:
            self._start_on(loop, text, handlers)
        self._starts += 1
        listen = options.get("listen")
        if isinstance(listen, str) and listen.startswith("fd:"):
            self._taken = listen
        unheard = self._contract.unhandled
        if unheard and "message" not in self._calls and "open" not in self._calls:
            names = ", ".join(unheard)
            _log.say(logging.WARNING, f"no handler for the events {names}: their messages are dropped")

    def _handlers(self) -> dict[str, Any]:
        return {
            **self._calls,
            "events": self._contract.specs(),
            "report": _log.report,
            "refused": _log.refused,
            "only_reports": self._options.get("on_violation") == "report",
        }

    def _start_on(self, loop: asyncio.AbstractEventLoop, text: str, handlers: dict[str, Any]) -> None:
        self._watched = self._open_bell()
        # Held by the loop alone: when it goes while it is watched, the loop was closed under the server.
        deliver = functools.partial(self._deliver)
        if self._watched is not None:
            try:
                loop.add_reader(self._watched, deliver)
                self._watch = weakref.ref(deliver, self._on_loop_closed)
            except NotImplementedError:  # a proactor loop (Windows): a thread waits instead
                self._watched = None
                self._close_bell()
        del deliver
        deliver_soon = functools.partial(loop.call_soon, self._deliver)
        self._loop, self._stopped, self._tasks = loop, _tasks.Stopped(), set()
        calls = (loop.create_future, _tasks.creator(loop), deliver_soon, self._on_stopped)
        try:
            self._start(text, handlers, (*calls, loop.call_later, loop.call_soon_threadsafe, self._tasks))
        except BaseException:
            self._unwatch()
            raise
        if self._watched is None:
            threading.Thread(target=self._ring_loop, args=(loop,), name="wsguard-wait", daemon=True).start()
        # The core rings for what comes after the first look.
        deliver_soon()

    def _ring_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._wait():
                loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._on_loop_closed()

    def _unwatch(self) -> None:
        self._watch = None
        if self._watched is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._watched)
        self._watched = None

    def _on_loop_closed(self, _: object = None) -> None:
        """Nobody is left to deliver to: a server that accepts and is silent would be worse than none."""
        self._watched = self._watch = None
        if not self._is_forked:
            self._ended("the event loop of a running server was closed: its connections are dropped")

    def _ended(self, why: str) -> None:
        """Ends a server that nobody delivers to, and tells whoever waits for that."""
        if self._end():
            _log.say(logging.ERROR, why)
        if self._stopped is not None:
            self._stopped.set()

    def _on_stopped(self) -> None:
        self._unwatch()
        if self._stopped is not None:
            self._stopped.set()


#: Beyond the time a drain has: for the loop to handle the last events, for cancelled handlers to end.
_HANDLED_WITHIN_S = 2.0
_CANCELLED_WITHIN_S = 5.0


def _left_ms(until: float) -> int:
    return max(0, round((until - time.monotonic()) * 1000))


def _milliseconds(name: str, stated: object) -> int:
    if isinstance(stated, bool) or not isinstance(stated, int):
        raise TypeError(f"{name} must be an int, not {type(stated).__name__}")
    if not 0 <= stated <= _MAX_MS:
        raise InvalidArgument(f"{name} must be 0 to {_MAX_MS}, not {stated}", code="invalid_argument")
    return stated


#: A thousand years.
_MAX_MS = 1000 * 366 * 24 * 3600 * 1000


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = "a running asyncio event loop is needed here (trio is none); without one, use server.run()"
        raise UsageError(message, code="no_event_loop") from None


def _check_no_loop_runs() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        message = "run() inside of a running event loop would stop it: use await server.serve(), or async with server"
        raise UsageError(message, code="running_event_loop")
    if _patched.in_greenlet():
        message = (
            f"run() in a greenlet of {_patched.by()} would stop all others: run it in a thread of the system, "
            "for gevent: gevent.get_hub().threadpool.spawn(server.run)"
        )
        raise UsageError(message, code="monkey_patched")


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
