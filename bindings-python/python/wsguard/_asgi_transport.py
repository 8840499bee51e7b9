"""The way of a connection from uvicorn to the core: its descriptor, or its bytes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, ClassVar, cast

from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from . import _asgi_core, _log
from ._asgi_scope import judged_head
from ._asgi_waits import Changing
from ._errors import Error

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ._wsguard import Pipe

_logger = logging.getLogger("uvicorn.error")

#: Where descriptors can be handed over.
_HAS_DESCRIPTORS = sys.platform != "win32"

#: What is logged of handshakes that are refused here: peers choose how many there are.
_refused = _log.Sampler()

#: Bytes that are taken from a pipe at once.
_PIECE_BYTES = 65_536


class HandedOver(Changing, asyncio.Protocol):
    """What uvicorn sees of a connection."""

    #: The options, as stated.
    policy: ClassVar[dict[str, Any]]
    #: The query may hold a token, which no log may.
    hides_query: ClassVar[bool] = False

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(_loop or asyncio.get_event_loop())
        if not config.loaded:
            config.load()
        self.config = config
        self.app_state = app_state
        self.server_state = server_state
        self.transport: asyncio.Transport = cast(Any, None)
        #: What the core knows it by until it is a connection.
        self.tag = 0
        self._core: _asgi_core.Core | None = None
        self._pipe: Pipe | None = None
        #: uvicorn's transport takes more; it is gone.
        self._may_write = True
        self._is_lost = False
        self._head = b""
        #: uvicorn's protocol, where the connection is left to it.
        self._http: Any = None

    # --- uvicorn ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server_state.connections.add(cast(Any, self))
        self.server = get_local_addr(self.transport)
        self.client = get_remote_addr(self.transport)
        self.scheme = "wss" if is_ssl(self.transport) else "ws"

    def data_received(self, data: bytes) -> None:
        if self._pipe is not None:
            if not self._pipe.push(data):
                self.transport.pause_reading()
        elif self._core is None and self._http is None:
            self._begin(data)

    def eof_received(self) -> bool:
        if self._pipe is not None:
            self._pipe.end()
        # The core ends our side, when it has said what it has to say; under TLS asyncio ends both.
        return self._pipe is not None and self.scheme == "ws"

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pipe is not None:
            self._pipe.abort()
            self._drop_pipe()
            # Whoever waits for room finds that nobody is there.
            self._is_lost = True
            self._wake()
        if self._http is not None:
            self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._take()
        self._wake()

    def shutdown(self) -> None:
        """uvicorn shuts down, and tells each connection."""
        if self._core is not None:
            self._core.drain()

    def _begin(self, head: bytes) -> None:
        if self._is_left_to_http():
            return
        self._head = head
        judged = judged_head(head)
        try:
            core = _asgi_core.of(self.server_state, self.policy, self.config, self.loop)
            self._core = core
            duplicate = self._duplicate()
            if duplicate is None:
                self._feed(core, judged)
            else:
                core.adopt(cast(_asgi_core.Adopted, self), duplicate, judged)
                # Closes uvicorn's own descriptor, and nothing else: the connection has another.
                self.transport.abort()
        except (Error, OSError) as error:
            # Peers choose how often this comes.
            suppressed = _refused.passes(str(error), self.loop.time())
            if suppressed is not None:
                more = f" ({suppressed} more like it were not logged)" if suppressed else ""
                _logger.error("WebSocket refused: %s%s", error, more)
            self._over()
            self._refuse_here(is_over=getattr(error, "code", None) == "stopped")

    def _is_left_to_http(self) -> bool:
        """Whether uvicorn has still to answer a request before this one: our answer would come for that, and its answer
        be lost (RFC 9112 section 9.3.2). It says its last answer, and that the connection ends with it."""
        # Not every transport has it: uvicorn asks for none.
        http: Any = getattr(self.transport, "get_protocol", lambda: None)()
        cycle = getattr(http, "cycle", None)
        if cycle is None or cycle.response_complete:
            return False
        cycle.keep_alive = False
        self._http = http
        self.server_state.connections.add(http)
        # Behind uvicorn's own step, which gives the transport to us for a moment.
        self.loop.call_soon(self.transport.set_protocol, http)
        self._over()
        return True

    def _duplicate(self) -> int | None:
        """A descriptor of the connection for the core; `None`: its bytes are fed through."""
        transport = self.transport
        sock = transport.get_extra_info("socket")
        if not _HAS_DESCRIPTORS or sock is None or is_ssl(transport) or transport.get_write_buffer_size():
            return None
        if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
            return None
        # Before the descriptor is duplicated: what the peer sends from here on is the core's to read.
        transport.pause_reading()
        return os.dup(sock.fileno())

    def _feed(self, core: _asgi_core.Core, head: bytes) -> None:
        secure = is_ssl(self.transport)
        local = self.server if self.server and self.server[1] is not None else None
        self._pipe = core.adopt_pipe(
            cast(_asgi_core.Adopted, self), head, peer=self.client, local=local, is_secure=secure
        )
        self._take()

    # --- bytes that are fed through ---------------------------------------------------------------------------------

    def pipe_tells(self, is_room: bool) -> None:
        if is_room:
            self.transport.resume_reading()
        else:
            self._take()

    def _take(self) -> None:
        while self._pipe is not None and self._may_write:
            data, is_ended, is_more = self._pipe.take(_PIECE_BYTES)
            if data:
                self.transport.write(data)
            if is_ended:
                self.transport.close()
                self._drop_pipe()
            elif not is_more:
                return

    def _drop_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None and self._core is not None:
            self._core.forget(pipe)

    def _refuse_here(self, *, is_over: bool) -> None:
        """``is_over``: the core has stopped, as it does when uvicorn shuts down."""
        status = "503 Service Unavailable" if is_over else "500 Internal Server Error"
        body = status[4:].encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _over(self) -> None:
        self.server_state.connections.discard(cast(Any, self))
        self._wake()
