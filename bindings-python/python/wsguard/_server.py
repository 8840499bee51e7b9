"""The server: options and handlers in, events out, on asyncio, uvloop or a plain thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import _checks, _drain, _log, _loops, _signals, _tasks
from ._audience import Audience
from ._contract import options_text
from ._errors import ConfigError, UsageError
from ._operation import Operated

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._options import Options
    from ._wsguard import Connection


class Server(Operated):
    """A WebSocket server. Its options are the policy: the table in the project's README has each with its default.

    ::

        server = Server(origins=["https://app.example.com"], auth="none")

        @server.on("echo")
        def echo(conn, data):
            conn.reply("echo", data)

        server.run()

    A handler is a function or a coroutine function. A function is called at once. A coroutine becomes a task, and the
    next message of the same connection waits until it has ended. Messages of different connections have no order.

    Raises:
        ConfigError: the options are invalid; the error names the option. A missing ``auth``, and what the handlers
            add to the policy, is checked at the start.
    """

    def __init__(self, base: Options | None = None, /, **options: Unpack[Options]) -> None:
        super().__init__(base, **options)
        self._drains_until: float | None = None
        self._drain_timeout_ms = _drain.TIMEOUT_MS
        self._starting = threading.Lock()
        self._starts = 0

    # --- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens, starts the threads, and calls the handlers on the running event loop. A server that has ended may
        start again.

        Raises:
            ConfigError: the options are invalid; the error names the option.
            StartError: the server cannot listen on the address, or cannot start a thread.
            UsageError: it runs already (``already_started``), no asyncio event loop runs (``no_event_loop``), or it
                belongs to the parent process (``forked``).
        """
        self._begin(_loops.running())

    async def serve(self, started: Callable[[], object] | None = None) -> None:
        """Starts, and returns when the server has stopped. When it is cancelled, it drains.

        Args:
            started: called when the server listens and ``address`` is known.

        Raises: what :meth:`start` raises.
        """
        await self.__aenter__()
        starts = self._starts
        try:
            if started is not None:
                started()
            await self._wait_stopped(self._stopped)
        finally:
            # One that has started again meanwhile is another's to end.
            if self._starts == starts and not self._is_forked:
                await self.drain()

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
        self, loop: _loops.LoopName = "auto", *, started: Callable[[], object] | None = None, signals: bool = True
    ) -> None:
        """Starts, and returns when the server has stopped.

        On the main thread SIGINT (Ctrl-C) and SIGTERM drain, within ``drain_timeout_ms``, and ``run`` returns; a second
        one stops at once and interrupts whatever blocks (``KeyboardInterrupt``, ``SystemExit``). SIGHUP reads the file
        of :meth:`from_file` again, on a thread of its own; what is wrong with the file goes to the log, and the policy
        stays. A signal that the application handles itself, or ignores, is left alone.

        Args:
            loop: ``"native"`` calls functions on this thread without asyncio, which is the fastest; coroutines need
                ``"asyncio"`` or ``"uvloop"``. ``"auto"`` is native when every handler is a plain function, else
                uvloop when it is installed.
            started: called when the server listens and ``address`` is known.
            signals: ``False`` leaves every signal alone; default ``True``.

        Raises:
            ConfigError: the options are invalid; the error names the option.
            StartError: the server cannot listen on the address, or cannot start a thread.
            UsageError: it runs already (``already_started``), an event loop runs on this thread
                (``running_event_loop``: use ``await server.serve()``), or it belongs to the parent process
                (``forked``).
            ValueError: ``loop`` is not one of these names.
        """
        _loops.check_none_runs()
        if loop == "auto":
            loop = _loops.best(self._needs_asyncio())
        with _signals.ending(self) if signals else contextlib.nullcontext():
            if loop != "native":
                _loops.run(_loops.factory(loop), functools.partial(self.serve, started))
                return
            self._begin(None)
            starts = self._starts
            try:
                if started is not None:
                    started()
                self._run(threading.current_thread() is threading.main_thread())
            finally:
                # One that has started again meanwhile is another's to end.
                if self._starts == starts:
                    self._end()

    @property
    def drain_timeout_ms(self) -> int:
        """Milliseconds that :meth:`drain` waits by default, and the end of ``async with``, ``serve`` and ``run``.
        Default 10 000."""
        return self._drain_timeout_ms

    @drain_timeout_ms.setter
    def drain_timeout_ms(self, stated: int) -> None:
        self._drain_timeout_ms = _drain.milliseconds("drain_timeout_ms", stated)

    def drain(self, timeout_ms: int | None = None, jitter_ms: int = 0) -> Awaitable[None]:
        """Shuts down gently. New handshakes are refused with 503, and open connections close with 1012. It begins at
        once; awaiting it waits until the server has stopped and its handlers have ended. Of several drains the shortest
        timeout holds. A handler may await it: it waits for no other that does. In a task that a handler has made and
        awaits, it would wait for that handler.

        Args:
            timeout_ms: milliseconds until connections that are still open are dropped, and handlers that still run are
                cancelled; default :attr:`drain_timeout_ms`.
            jitter_ms: milliseconds over which the close frames are spread; default 0.

        Raises:
            InvalidArgument: a number is negative, or more than a thousand years.
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
        if timeout_ms is None:
            timeout_ms = self.drain_timeout_ms if self._drains_until is None else _drain.left_ms(self._drains_until)
        timeout_ms = _drain.milliseconds("timeout_ms", timeout_ms)
        jitter_ms = _drain.milliseconds("jitter_ms", jitter_ms)
        self._drain(timeout_ms, jitter_ms)
        until = time.monotonic() + timeout_ms / 1000
        self._drains_until = until if self._drains_until is None else min(until, self._drains_until)
        self._look_again()
        # Of this run: the server may have started again before it is awaited, or while it is.
        asks = _tasks.current()
        return _drain.Drain(functools.partial(self._drained, self._loop, self._stopped, self._tasks, until, asks))

    async def _drained(
        self,
        loop: asyncio.AbstractEventLoop | None,
        stopped: _tasks.Stopped | None,
        tasks: _tasks.Handling,
        until: float,
        asks: asyncio.Task[Any] | None,
    ) -> None:
        self._check_own_process()
        if loop is None or loop is asyncio.get_running_loop():
            await self._wait_stopped(stopped)
            await self._handled(tasks, until, asks)
            # One of them may have forked, and this may be the child.
            self._check_own_process()
            return
        try:
            # The core stops in time. Its loop handles the events, and may not run any more.
            await asyncio.wait_for(self._wait_stopped(stopped), self._left_s(until) + _drain.HANDLED_WITHIN_S)
        except asyncio.TimeoutError:
            if self._stopped is stopped:
                self._ended("the event loop of the server does not run: its connections are dropped")
            return
        await self._handled_on(loop, tasks, until)

    async def _handled_on(self, loop: asyncio.AbstractEventLoop, tasks: _tasks.Handling, until: float) -> None:
        """Waits for the handlers from another loop than theirs."""
        handled = _tasks.Stopped()
        kept: list[asyncio.Task[None]] = []

        def begin() -> None:
            kept.append(loop.create_task(self._handled(tasks, until)))
            kept[0].add_done_callback(lambda _: handled.set())

        with contextlib.suppress(RuntimeError):  # it is closed
            _loops.soon(loop, begin)
        late = time.monotonic() + self._left_s(until) + _drain.CANCELLED_WITHIN_S
        # A loop that stops says so to nobody: it is looked at.
        while not handled.is_set() and loop.is_running() and time.monotonic() < late:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(handled.wait(), _drain.LOOK_EVERY_S)

    async def _handled(self, tasks: _tasks.Handling, until: float, asks: asyncio.Task[Any] | None = None) -> None:
        """Waits for the handlers, and for those whose messages wait behind them; at the end of the time those that run
        are cancelled, and no message is handled any more. ``asks``: the task that called for it, which may be another
        than the one that awaits."""
        own: set[asyncio.Task[Any]] = {task for task in (asyncio.current_task(), asks) if task is not None}
        # One that is done may have its callback before it, which begins what waits behind it: it is waited for, once.
        waited: set[asyncio.Task[Any]] = set()
        with tasks.draining(own):
            while left := tasks.besides(own) - waited:
                done, late = await tasks.ended(left, self._left_s(until))
                waited |= done
                if late:
                    if self._tasks is tasks:
                        super().stop()
                    for task in late:
                        task.cancel()
                    break
            ends_at = time.monotonic() + _drain.CANCELLED_WITHIN_S
            while (left := tasks.besides(own) - waited) and (left_s := ends_at - time.monotonic()) > 0:
                done, _ = await tasks.ended(left, left_s)
                waited |= done

    def _left_s(self, until: float) -> float:
        return _drain.left_ms(until if self._drains_until is None else min(until, self._drains_until)) / 1000

    def adopt(self, sock: socket.socket, received: bytes = b"", *, is_secure: bool = False) -> None:
        """Takes over a connection that an accept loop of your own has accepted, on TCP or on a Unix socket. It gets the
        verdicts of any other handshake. ``sock`` is detached, whatever comes of it: it is the server's to close. A
        server that gets all its connections so listens nowhere with ``listens`` set to ``False`` before the start.

        Args:
            sock: the connection, without TLS of Python's own.
            received: what was read from it: the whole request head, and whatever came behind it; default: nothing was.
            is_secure: ``True``: TLS was ended before it came here, so that it is not plain text; default ``False``.

        Raises:
            ConnectionClosed: the peer has left, or there is none: the socket listens, or was not connected.
            InvalidArgument: the policy cannot be kept on such a connection: it asks for ``tls`` or a PROXY header, or
                does not allow plain text on its address.
            TypeError: ``sock`` is a socket of TLS, or no stream of these families, or ``received`` is not bytes: then
                ``sock`` stays the caller's.
            ValueError: ``sock`` is closed, or was detached.
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
        families = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
        if sock.family not in families or sock.type != socket.SOCK_STREAM or hasattr(sock, "do_handshake"):
            raise TypeError(f"a connection of plain TCP or of a Unix socket can be adopted, not {type(sock).__name__}")
        if not isinstance(received, (bytes, bytearray, memoryview)):
            raise TypeError(f"received must be bytes, not {type(received).__name__}")
        self._check_own_process()
        # Nothing may fail between: a descriptor that was detached and not taken is nobody's to close.
        received, is_secure = bytes(received), bool(is_secure)
        self._adopt(sock.detach(), received, is_secure=is_secure)

    def stop(self) -> None:
        """Stops at once, and drops every connection. :meth:`drain` closes them first.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
        super().stop()
        self._look_again()

    async def wait_stopped(self) -> None:
        """Waits until the server has stopped, and every event has come to its handler or waits behind a coroutine.
        ``await server.drain()`` waits for coroutines, too.

        Raises:
            UsageError: the server was not started on an event loop (``no_event_loop``), or belongs to the parent
                process (``forked``).
        """
        await self._wait_stopped(self._stopped)

    # --- broadcasts ------------------------------------------------------------------------------------------------

    def to(self, *rooms: str) -> Audience:
        """The connections of a room: ``server.to("lobby").emit("said", data)``; of several rooms each connection once.
        For all connections use :meth:`to_all`.

        Raises:
            InvalidArgument: a room's name is not 1 to 256 bytes.
            TypeError: no room is given, or one is not a ``str``.
        """
        for room in rooms:
            _checks.room(room)
        if not rooms:
            raise TypeError("server.to needs a room: every connection is server.to_all()")
        return Audience(self, list(rooms))

    def to_user(self, user: str, /) -> Audience:
        """The connections of a user: ``server.to_user("alice").emit("mail", data)``.

        Raises:
            InvalidArgument: ``user`` has lone surrogates.
            TypeError: ``user`` is not a ``str``: an anonymous session has none.
        """
        _checks.user(user)
        return Audience(self, user=user)

    def connections_of(self, user: str, /) -> list[Connection]:
        """The open connections of a user. It raises what :meth:`to_user` and :meth:`Audience.members` raise."""
        return self.to_user(user).members()

    @property
    def connections(self) -> list[Connection]:
        """Every open connection whose ``on_open`` was called. It raises what :meth:`Audience.members` raises."""
        return self.to_all().members()

    def to_all(self) -> Audience:
        """Every connection: ``server.to_all().emit("said", data)``."""
        return Audience(self)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        # Of two threads that start it one does.
        if not self._starting.acquire(blocking=False):
            raise UsageError("the server is being started already", code="already_started")
        try:
            self._check_not_running()
            self._start_with(loop, self._options_to_start())
        finally:
            self._starting.release()

    def _options_to_start(self) -> dict[str, Any]:
        # A subclass may say it as a plain attribute.
        _drain.milliseconds("drain_timeout_ms", self.drain_timeout_ms)
        if not isinstance(self.listens, bool):
            raise TypeError(f"listens must be a bool, not {type(self.listens).__name__}")
        options = self._policy(self._events)
        listen = options.get("listen")
        if self.listens and listen is not None and listen == self._taken:
            raise ConfigError(
                f"listen: {listen} was taken over at the first start, and is closed: a server that starts again needs "
                "another socket",
                code="contradiction",
                option="listen",
            )
        return options

    def _start_with(self, loop: asyncio.AbstractEventLoop | None, options: dict[str, Any]) -> None:
        _log.begin()
        self._drains_until = None
        text, handlers = options_text(options), self._handlers(self._events, options)
        if loop is None:
            self._leave_loop()
            self._start(text, handlers, None, **self._how())
        else:
            self._start_on(loop, text, handlers)
        self._starts += 1
        listen = options.get("listen") if self._how()["listens"] else None
        if isinstance(listen, str) and listen.startswith("fd:"):
            self._taken = listen
        self._tell_unheard()
