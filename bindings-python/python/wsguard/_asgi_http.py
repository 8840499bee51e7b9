"""uvicorn's HTTP protocols, with bounds for the time and the size of a request's head."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import _log

if TYPE_CHECKING:
    # What the bounds are added to: one of uvicorn's two.
    _Http = H11Protocol
else:
    _Http = object

_logger = logging.getLogger("uvicorn.error")

#: What is logged of heads that are refused: peers choose how many there are.
_refused = _log.Sampler()

#: Defaults of the core.
_HANDSHAKE_TIMEOUT_MS, _MAX_HEAD_BYTES = 5000, 16_384


class _Bounded(_Http):
    """Whoever sends a head has ``handshake_timeout_ms`` for it, and ``max_head_bytes``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        #: Those of the policy that the class for WebSockets keeps.
        policy: dict[str, Any] = getattr(self.ws_protocol_class, "policy", {})
        self._timeout_s: float = (policy.get("handshake_timeout_ms") or _HANDSHAKE_TIMEOUT_MS) / 1000
        self._max_head_bytes: int = policy.get("max_head_bytes") or _MAX_HEAD_BYTES
        #: Bytes of the head that is not over.
        self._head_bytes = 0
        #: Ends the wait for a head.
        self._deadline: asyncio.TimerHandle | None = None
        self._has_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        awaited, cycle = self._awaits_head(), self.cycle
        super().data_received(data)
        if self._is_over():
            self._drop_deadline()
        elif not awaited or not self._awaits_head() or self.cycle is not cycle:
            # A head is over; or this was of a body, in which uvicorn waits as long as the application does.
            self._head_bytes = 0
            self._drop_deadline()
        else:
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head_bytes:
                self._refuse("head_too_large", b"431 Request Header Fields Too Large")
            elif self._deadline is None:
                self._set_deadline()

    def handle_websocket_upgrade(self, *event: Any) -> None:
        self._has_upgraded = True
        super().handle_websocket_upgrade(*event)

    def _awaits_head(self) -> bool:
        """Whether what the peer sends next is of a head."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        return self._has_upgraded or self.transport.is_closing()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(
            self._timeout_s, self._refuse, "handshake_timeout", b"408 Request Timeout"
        )

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, code: str, status: bytes) -> None:
        self._drop_deadline()
        if self._is_over():
            return
        suppressed = _refused.passes(code, self.loop.time())
        if suppressed is not None:
            client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
            more = f" ({suppressed} more like it were not logged)" if suppressed else ""
            _logger.info("%s - %s, before a request was whole%s", client, code, more)
        # Who has said nothing may never have meant to: browsers open connections in advance. And an answer that is not
        # over is cut, rather than continued with this one.
        if self._head_bytes and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.close()


class OfH11(_Bounded, H11Protocol):
    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE


HttpProtocol: type[H11Protocol] = OfH11

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    # uvicorn does without it as well.
    pass
else:

    class OfHttpTools(_Bounded, HttpToolsProtocol):  # type: ignore[misc]
        _is_between = True

        def _awaits_head(self) -> bool:
            return self._is_between

        def on_headers_complete(self) -> None:
            self._is_between = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_between = True
            super().on_message_complete()

    HttpProtocol = OfHttpTools
