"""The core's server of one uvicorn worker: every connection comes from uvicorn, and every answer from the application."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from . import _asgi_policy, _log
from ._contract import options_text
from ._on_loop import OnLoop
from ._wsguard import Accept, Close, Connection, Reject, Request

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ._asgi_protocol import WebSocketProtocol

#: Milliseconds of a drain that waits as long as uvicorn does.
_NO_END_MS = 2**64 - 1

#: The cores by the state of their uvicorn server: a process may run several, one after the other.
_cores: weakref.WeakKeyDictionary[ServerState, Core] = weakref.WeakKeyDictionary()


def of(state: ServerState, policy: dict[str, Any], config: Config, loop: asyncio.AbstractEventLoop) -> Core:
    """The core of a worker; the first upgrade starts it. Raises what a start raises."""
    core = _cores.get(state)
    if core is None:
        core = Core(_asgi_policy.of_worker(policy, config))
        core.begin(loop, config.timeout_graceful_shutdown)
        _cores[state] = core
        weakref.finalize(state, core.leave)
    return core


class Core(OnLoop):
    """A server that does not listen."""

    _listens = False

    def __init__(self, policy: dict[str, Any]) -> None:
        super().__init__({**policy, "auth": "callback"})  # type: ignore[arg-type]
        self._last_tag = 0
        #: Connections that have not asked, and handshakes that wait, by tag and by ticket.
        self._adopted: dict[int, WebSocketProtocol] = {}
        self._asking: dict[int, WebSocketProtocol] = {}
        self._drain_ms = _NO_END_MS
        self._drains = False

    def begin(self, loop: asyncio.AbstractEventLoop, drain_s: float | None) -> None:
        _log.begin()
        if drain_s is not None:
            self._drain_ms = round(drain_s * 1000)
        options = self._events.options()
        handlers = {
            **self._handlers(self._events, options),
            "inside": (self._on_asked, self._on_gone, self._on_ended, self._on_pipe),
            "open": self._on_opened,
            "close": self._on_closed,
        }
        self._start_on(loop, options_text(options), handlers)

    def adopt(self, protocol: WebSocketProtocol, descriptor: int, received: bytes) -> None:
        self._last_tag += 1
        self._adopted[self._last_tag] = protocol
        try:
            self._adopt(descriptor, received, self._last_tag)
        except BaseException:
            del self._adopted[self._last_tag]
            raise

    def answer(self, ticket: int, answer: Accept | Reject | None) -> bool:
        """Answers a handshake; false: it no longer waits."""
        if isinstance(answer, Accept):
            return self._answer(ticket, answer)
        # Of a refusal nothing more is told.
        self._asking.pop(ticket, None)
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

    def _on_asked(self, ticket: int, tag: int, request: Request) -> None:
        protocol = self._adopted.pop(tag)
        self._asking[ticket] = protocol
        protocol.asked(ticket, request)

    def _on_gone(self, ticket: int) -> None:
        protocol = self._asking.pop(ticket, None)
        if protocol is not None:
            protocol.ended()

    def _on_ended(self, tag: int, code: str | None, status: int) -> None:
        protocol = self._adopted.pop(tag, None)
        if protocol is not None:
            protocol.refused(code, status)

    def _on_opened(self, conn: Connection) -> None:
        protocol: WebSocketProtocol = conn.data
        self._asking.pop(protocol.ticket, None)
        protocol.opened(conn)

    def _on_closed(self, conn: Connection, close: Close) -> None:
        protocol: WebSocketProtocol = conn.data
        protocol.closed(close)

    def _on_pipe(self, pipe: int, is_room: bool) -> None:
        pass

    def _ended(self, why: str) -> None:
        # uvicorn closes its loop when its server is done; only what is open then is worth a word.
        was_open = self._is_running and self.stats()["open"] > 0
        self._end()
        if was_open:
            _log.say(logging.ERROR, why)
        if self._stopped is not None:
            self._stopped.set()
