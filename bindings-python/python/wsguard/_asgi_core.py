"""The core's server inside of an ASGI server, one in each worker: every connection comes from there, and every answer
from the application."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import _asgi_policy, _log
from ._contract import options_text
from ._errors import Error
from ._on_loop import OnLoop

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ._wsguard import Accept, Close, Connection, Pipe, Reject


class Adopted(Protocol):
    """A connection as the core tells of it."""

    tag: int

    def asked(self, core: Core, tag: int, ticket: int, facts: dict[str, Any]) -> None:
        """The core has let the handshake pass: `Core.answer` answers the ticket."""

    def ended(self, code: str | None, status: int) -> None:
        """There will be no connection."""

    def opened(self, conn: Connection) -> None: ...
    def closed(self, close: Close) -> None: ...
    def pipe_tells(self, is_room: bool) -> None:
        """Its pipe has room again, or bytes."""


#: Milliseconds of a drain that waits as long as uvicorn does.
_NO_END_MS = 2**64 - 1

#: The default of ``close_timeout_ms``.
_CLOSE_TIMEOUT_MS = 2000

#: How long a start that has failed is not tried again. It may wait seconds for others (``jwks_url``, ``cluster``), and
#: the whole event loop with it, while peers choose how often they come.
_NOT_AGAIN_S = 30.0

#: The cores by the state of their uvicorn server: a process may run several, one after the other.
_cores: weakref.WeakKeyDictionary[ServerState, Core] = weakref.WeakKeyDictionary()

#: The starts of those that have none.
_starts: weakref.WeakKeyDictionary[ServerState, Start] = weakref.WeakKeyDictionary()


def of(state: ServerState, policy: dict[str, Any], config: Config, loop: asyncio.AbstractEventLoop) -> Core:
    """The core of a worker; the first upgrade starts it. Raises what a start raises."""
    core = _cores.get(state)
    if core is None:
        start = _starts.setdefault(state, Start())
        core = start(lambda: _asgi_policy.of_worker(policy, config), loop, config.timeout_graceful_shutdown)
        del _starts[state]
        _cores[state] = core
        weakref.finalize(state, core.leave)
    return core


class Start:
    """The start of a core, which is not tried for every peer where it fails."""

    def __init__(self) -> None:
        self._fault: Error | None = None
        self._again_at = 0.0

    def __call__(
        self, policy: Callable[[], dict[str, Any]], loop: asyncio.AbstractEventLoop, drain_s: float | None
    ) -> Core:
        """Raises what a start raises, and the same without a try while the last one is not long ago."""
        if self._fault is not None and time.monotonic() < self._again_at:
            # Without the frames of those who were told before.
            raise self._fault.with_traceback(None)
        try:
            core = Core(policy())
            core.begin(loop, drain_s)
        except Error as error:
            self._fault, self._again_at = error, time.monotonic() + _NOT_AGAIN_S
            raise
        return core


class Core(OnLoop):
    """A server that does not listen."""

    _is_inside = True

    def __init__(self, policy: dict[str, Any]) -> None:
        super().__init__(policy)  # type: ignore[arg-type]
        self._last_tag = 0
        #: Those that are no connections yet, by tag.
        self._adopted: dict[int, Adopted] = {}
        self._pipes: dict[int, Adopted] = {}
        self._drain_ms = _NO_END_MS
        self._drains = False
        self.close_timeout_s: float = policy.get("close_timeout_ms", _CLOSE_TIMEOUT_MS) / 1000

    def begin(self, loop: asyncio.AbstractEventLoop, drain_s: float | None) -> None:
        _log.begin()
        if drain_s is not None:
            self._drain_ms = round(drain_s * 1000)
        options = self._events.options()
        handlers = {
            **self._handlers(self._events, options),
            "inside": (self._on_asked, self._on_ended, self._on_pipe),
            "open": self._on_opened,
            "close": self._on_closed,
        }
        # The first upgrade starts the core: what is set in the context of that request is no other peer's to see.
        contextvars.Context().run(self._start_on, loop, options_text(options), handlers)

    def adopt(self, protocol: Adopted, number: int, received: bytes) -> None:
        """Hands a socket over for good."""
        tag = self._tag(protocol)
        try:
            self._adopt(number, received, tag)
        except BaseException:
            del self._adopted[tag]
            raise

    def adopt_pipe(self, protocol: Adopted, received: bytes, **known: Any) -> Pipe:
        """Hands over a connection whose bytes the protocol brings and takes."""
        tag = self._tag(protocol)
        try:
            pipe = self._adopt_pipe(received, tag, **known)
        except BaseException:
            del self._adopted[tag]
            raise
        self._pipes[pipe.id] = protocol
        return pipe

    def _tag(self, protocol: Adopted) -> int:
        self._last_tag += 1
        self._adopted[self._last_tag] = protocol
        return self._last_tag

    def answer(self, ticket: int, answer: Accept | Reject | None) -> bool:
        """The application's answer to a handshake; false: it no longer waits."""
        return self._answer(ticket, answer)

    def drain(self) -> None:
        """Closes every connection with 1012; uvicorn tells each of them, and waits."""
        if not self._drains and self._is_running:
            self._drains = True
            self._drain(self._drain_ms, 0)

    def leave(self) -> None:
        """uvicorn's server is gone."""
        if self._is_running and not self._is_forked:
            self.stop()

    # --- what the core tells ----------------------------------------------------------------------------------------

    def _on_asked(self, ticket: int, tag: int, facts: dict[str, Any]) -> None:
        self._adopted[tag].asked(self, tag, ticket, facts)

    def _on_ended(self, tag: int, code: str | None, status: int) -> None:
        protocol = self._adopted.pop(tag, None)
        if protocol is not None:
            protocol.ended(code, status)

    def _on_opened(self, conn: Connection) -> None:
        protocol: Adopted = conn.data
        del self._adopted[protocol.tag]
        protocol.opened(conn)

    def _on_closed(self, conn: Connection, close: Close) -> None:
        protocol: Adopted = conn.data
        protocol.closed(close)

    def _on_pipe(self, number: int, is_room: bool) -> None:
        protocol = self._pipes.get(number)
        if protocol is not None:
            protocol.pipe_tells(is_room)

    def forget(self, pipe: Pipe) -> None:
        self._pipes.pop(pipe.id, None)

    def _ended(self, why: str) -> None:
        # uvicorn closes its loop when its server is done; only what is open then is worth a word.
        was_open = self._is_running and self.stats()["open"] > 0
        self._end()
        if was_open:
            _log.say(logging.ERROR, why)
        if self._stopped is not None:
            self._stopped.set()
