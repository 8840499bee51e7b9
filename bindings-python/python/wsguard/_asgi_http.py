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
            if self._has_upgraded:
                self._drop_deadline()
            return
        is_part = self._is_behind_body() or (awaited and self._awaits_head() and self.cycle is cycle)
        if is_part:
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head_bytes:
                self._refuse("head_too_large", b"431 Request Header Fields Too Large")
                return
        else:
            self._head_bytes = 0
        # While there is an answer to wait for, the application says for how long. Behind it a head has its time, and so
        # has each piece of a body that nobody reads any more.
        if not is_part or not self._is_answered():
            self._drop_deadline()
        if self._deadline is None and self._is_answered() and (is_part or not self._awaits_head()):
            self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deadline is None and self._has_begun() and not self._is_over():
            # It came with the end of the request before it.
            self._set_deadline()

    def _has_begun(self) -> bool:
        """Whether a part of the next head is there."""
        raise NotImplementedError

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_behind_body(self) -> bool:
        """Whether what the peer has sent last was trailers, or the like: neither of a head nor of a body."""
        return False

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
        if self._head_bytes and self._is_answered():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.close()
        # A peer that does not read, or does not end TLS, is not waited for.
        self._deadline = self.loop.call_later(self._timeout_s, self.transport.abort)


class OfH11(_Bounded, H11Protocol):
    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _has_begun(self) -> bool:
        return self._awaits_head() and bool(self.conn.trailing_data[0])


HttpProtocol: type[H11Protocol] = OfH11

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    # uvicorn does without it as well.
    pass
else:

    class OfHttpTools(_Bounded, HttpToolsProtocol):  # type: ignore[misc]
        _is_between = True
        _is_begun = False
        #: Of a body, since the last bytes came.
        _has_body = False

        def data_received(self, data: bytes) -> None:
            self._has_body = False
            super().data_received(data)

        def _awaits_head(self) -> bool:
            return self._is_between

        def _is_behind_body(self) -> bool:
            return not self._is_between and not self._has_body

        def _has_begun(self) -> bool:
            return self._is_begun

        def on_message_begin(self) -> None:
            self._is_begun = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            # Trailers come to no application.
            if self._is_between:
                super().on_header(name, value)

        def on_body(self, body: bytes) -> None:
            self._has_body = True
            super().on_body(body)

        def on_headers_complete(self) -> None:
            # What follows the head in the same bytes counts for nothing yet.
            self._is_between, self._is_begun, self._has_body = False, False, True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_between = True
            super().on_message_complete()

    HttpProtocol = OfHttpTools
