"""The server: options and handlers in, events out, on asyncio, uvloop or a plain thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import _drain, _log, _loops, _signals
from ._audience import Audience
from ._contract import options_text
from ._errors import UsageError
from ._on_loop import OnLoop

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._options import Options


class Server(OnLoop):
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
        super().__init__(base, **options)
        self._drains_until: float | None = None
        self._drain_timeout_ms = _drain.TIMEOUT_MS
        self._starting = threading.Lock()
        self._starts = 0

    # --- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Checks the policy, binds, starts the threads and delivers events on the running loop.

        Raises:
            ConfigError: the options are not a policy; names the option.
            StartError: the address cannot be listened on.
            UsageError: it runs already, or no asyncio loop does. A server that has ended may be started again.
        """
        self._begin(_loops.running())

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
        self, loop: _loops.LoopName = "auto", *, started: Callable[[], object] | None = None, signals: bool = True
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
        _loops.check_none_runs()
        if loop == "auto":
            loop = _loops.best(self._needs_asyncio())
        with _signals.ending(self) if signals else contextlib.nullcontext():
            if loop != "native":
                _loops.run(_loops.factory(loop), functools.partial(self.serve, started))
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
        self._drain_timeout_ms = _drain.milliseconds("drain_timeout_ms", stated)

    def drain(self, timeout_ms: int | None = None, jitter_ms: int = 0) -> Awaitable[None]:
        """Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over ``jitter_ms``,
        what is left after ``timeout_ms`` (``drain_timeout_ms``) is dropped. It starts at once; awaiting it waits until
        all is over, also for handlers that still run, which are cancelled then. Of several the shortest holds.

        Raises:
            InvalidArgument: a number is negative.
            UsageError: the server was not started, or belongs to the parent process.
        """
        if timeout_ms is None:
            timeout_ms = self.drain_timeout_ms if self._drains_until is None else _drain.left_ms(self._drains_until)
        timeout_ms = _drain.milliseconds("timeout_ms", timeout_ms)
        jitter_ms = _drain.milliseconds("jitter_ms", jitter_ms)
        self._drain(timeout_ms, jitter_ms)
        until = time.monotonic() + timeout_ms / 1000
        self._drains_until = until if self._drains_until is None else min(until, self._drains_until)
        self._look_again()
        return _drain.Drain(self._drained)

    async def _drained(self) -> None:
        self._check_own_process()
        running = asyncio.get_running_loop()
        if running is self._loop or self._loop is None:
            await self._wait_stopped()
        else:
            try:
                # The core stops in time; that its events are handled is its loop's to do, which may not turn any more.
                await asyncio.wait_for(self._wait_stopped(), self._left_s() + _drain.HANDLED_WITHIN_S)
            except asyncio.TimeoutError:
                self._ended("the event loop of the server does not run: its connections are dropped")
        tasks = {task for task in self._tasks if task.get_loop() is running} - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._left_s())
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_drain.CANCELLED_WITHIN_S)

    def _left_s(self) -> float:
        return 0.0 if self._drains_until is None else _drain.left_ms(self._drains_until) / 1000

    def stop(self) -> None:
        """Stops at once: every connection is dropped. :meth:`drain` is the gentle way.

        Raises:
            UsageError: the server was not started, or belongs to the parent process.
        """
        super().stop()
        self._look_again()

    async def wait_stopped(self) -> None:
        """Waits until the server has stopped and every event was handled.

        Raises:
            UsageError: the server was not started on an event loop, or belongs to the parent process.
        """
        await self._wait_stopped()

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
        return self._policy()

    def _start_with(self, loop: asyncio.AbstractEventLoop | None, options: dict[str, Any]) -> None:
        _log.begin()
        self._drains_until = None
        text, handlers = options_text(options), self._handlers()
        if loop is None:
            self._leave_loop()
            self._start(text, handlers, None)
        else:
            self._start_on(loop, text, handlers)
        self._starts += 1
        listen = options.get("listen")
        if isinstance(listen, str) and listen.startswith("fd:"):
            self._taken = listen
        self._tell_unheard()
