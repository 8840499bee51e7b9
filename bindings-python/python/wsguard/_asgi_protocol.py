"""A connection between uvicorn, the core and an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)

from . import _asgi_core, _log
from ._asgi_scope import scope_of
from ._errors import ConnectionClosed, Error
from ._wsguard import Accept, Done, Reject

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ._wsguard import Close, Connection, Pipe

_logger = logging.getLogger("uvicorn.error")

#: Where descriptors can be handed over.
_HAS_DESCRIPTORS = sys.platform != "win32"

#: What is logged of handshakes that are refused here, and by the core.
_refused = _log.Sampler()
_not_opened = _log.Sampler()

#: Bytes that are taken from a pipe at once.
_PIECE_BYTES = 65_536

#: How long an application that has ended leaves a peer to take what was sent to it, and how often that is looked at.
_WRITTEN_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.01

#: What an answer says itself.
_OWN_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"connection"})

#: The awaitable of a message that went out at once.
_SENT = Done()

_TEXT = ("content-type", "text/plain; charset=utf-8")


class WebSocketProtocol(asyncio.Protocol):
    """The class that uvicorn makes for each upgrade."""

    #: The options, as stated.
    policy: ClassVar[dict[str, Any]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.app = config.loaded_app
        self.loop = _loop or asyncio.get_event_loop()
        self.app_state = app_state
        self.server_state = server_state
        self.transport: asyncio.Transport = cast(Any, None)
        #: What the core knows it by until it is a connection, and the handshake that waits for the application.
        self.tag = self._ticket = 0
        self._core: _asgi_core.Core | None = None
        self._conn: Connection | None = None
        self._pipe: Pipe | None = None
        #: uvicorn's transport takes more; it is gone.
        self._may_write = True
        self._is_lost = False
        self._head = b""
        self._scope: dict[str, Any] = {}
        #: The application was told that a client connects.
        self._told = False
        #: It has accepted, or refused, or nobody waits for its answer.
        self._answered = False
        #: The start of its own response, and the body so far.
        self._response: tuple[int, list[tuple[str, str]], bytearray] | None = None
        #: It has closed the connection.
        self._app_closed = False
        #: What the application receives at the end; `None` while the connection lives.
        self._end: dict[str, Any] | None = None
        #: Whoever waits for the handshake, or for its end.
        self._waiting: list[asyncio.Future[None]] = []

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
        elif self._core is None:
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
        self._head = head
        try:
            core = _asgi_core.of(self.server_state, self.policy, self.config, self.loop)
            self._core = core
            duplicate = self._duplicate()
            if duplicate is None:
                self._feed(core, head)
            else:
                number, is_unix = duplicate
                core.adopt(self, number, head, is_unix=is_unix)
                # Closes uvicorn's own descriptor, and nothing else: the connection has another.
                self.transport.abort()
        except (Error, OSError) as error:
            # Peers choose how often this comes.
            suppressed = _refused.passes(str(error), self.loop.time())
            if suppressed is not None:
                more = f" ({suppressed} more like it were not logged)" if suppressed else ""
                _logger.error("WebSocket refused: %s%s", error, more)
            self._over()
            self._refuse_here()

    def _duplicate(self) -> tuple[int, bool] | None:
        """A descriptor of the connection for the core, and whether it is a Unix socket; `None`: its bytes are fed
        through."""
        transport = self.transport
        sock = transport.get_extra_info("socket")
        if not _HAS_DESCRIPTORS or sock is None or is_ssl(transport) or transport.get_write_buffer_size():
            return None
        is_unix = sock.family == socket.AF_UNIX
        if not is_unix and sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        # Before the descriptor is duplicated: what the peer sends from here on is the core's to read.
        transport.pause_reading()
        return os.dup(sock.fileno()), is_unix

    def _feed(self, core: _asgi_core.Core, head: bytes) -> None:
        secure = is_ssl(self.transport)
        local = self.server if self.server and self.server[1] is not None else None
        self._pipe = core.adopt_pipe(self, head, peer=self.client, local=local, is_secure=secure)
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

    def _refuse_here(self) -> None:
        body = b"Internal Server Error"
        head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()

    # --- the core ---------------------------------------------------------------------------------------------------

    def asked(self, core: _asgi_core.Core, tag: int, ticket: int, facts: dict[str, Any]) -> None:
        """The core has let the handshake pass."""
        self._core, self.tag, self._ticket = core, tag, ticket
        self._scope = scope_of(self, self._head, facts)
        self._head = b""
        task = self.loop.create_task(self._run())
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def ended(self, code: str | None, status: int) -> None:
        """There is no connection: the core has refused it, the application has, or the peer has left."""
        if not self._scope and status and _not_opened.passes(code, self.loop.time()) is not None:
            # Without the query, which may hold a token.
            path = quote(self._head.split(b" ", 2)[1].partition(b"?")[0], safe="/%")
            client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
            _logger.info('%s - "WebSocket %s" %d (%s)', client, path, status, code)
        self._answered = True
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": 1006}
        self._over()

    def opened(self, conn: Connection) -> None:
        self._conn = conn
        self._wake()

    def closed(self, close: Close) -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
            if close.code == 1006:
                # As uvicorn has it: no code came.
                self._end = {"type": "websocket.disconnect", "code": 1005}
            elif close.verdict == "draining":
                del self._end["reason"]
        self._over()

    def _over(self) -> None:
        self.server_state.connections.discard(cast(Any, self))
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _changes(self) -> None:
        future = self.loop.create_future()
        self._waiting.append(future)
        await future

    # --- the application --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            result = await self.app(cast(Any, self._scope), cast(Any, self.receive), cast(Any, self.send))
        except ClientDisconnected:
            pass
        except BaseException:
            _logger.exception("Exception in ASGI application\n")
        else:
            if not self._answered:
                _logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                _logger.error("ASGI callable should return None, but returned '%s'.", result)
        await self._leave()

    async def _leave(self) -> None:
        """The application has ended."""
        if not self._answered:
            # One that has begun a response of its own and not ended it: what there is of it goes out.
            if self._response is not None:
                self._end_response(*self._response)
            else:
                self._reject(500, [_TEXT], b"Internal Server Error")
        conn = self._conn
        if conn is None:
            return
        conn._release()
        # As uvicorn has it: what was sent goes out, and no close frame does.
        until = self.loop.time() + _WRITTEN_WITHIN_S
        while self._end is None and conn.buffered_bytes and self.loop.time() < until:
            await asyncio.sleep(_LOOK_EVERY_S)
        if self._end is None:
            conn.terminate()

    def _reject(self, status: int, headers: list[tuple[str, str]], body: bytes | bytearray) -> None:
        answer = Reject(status, headers=headers, body=bytes(body))
        self._answered = self._app_closed = True
        self._end = {"type": "websocket.disconnect", "code": 1006}
        assert self._core is not None
        try:
            self._core.answer(self._ticket, answer)
        finally:
            self._over()

    def receive(self) -> Awaitable[dict[str, Any]]:
        # Not a coroutine of its own: for each message that would cost as much as the rest.
        conn = self._conn
        return conn._receive() if conn is not None and self._told else self._receive_early()

    async def _receive_early(self) -> dict[str, Any]:
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        while self._conn is None:
            if self._end is not None:
                return self._end
            await self._changes()
        return await self._conn._receive()

    def end_message(self) -> dict[str, Any] | None:
        """What the application receives at the end; `None`: it is not told yet how the connection has ended."""
        return self._end

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        conn = self._conn
        if conn is None or message["type"] != "websocket.send" or self._app_closed or not self._may_write:
            return self._send_else(message)
        try:
            waits = conn._send(message)
        except ConnectionClosed:
            raise ClientDisconnected from None
        return _SENT if waits is None else _until_read(waits)

    async def _send_else(self, message: dict[str, Any]) -> None:
        if not self._answered:
            await self._answer(message["type"], message)
        elif self._conn is None or self._app_closed or message["type"] != "websocket.send":
            self._send_last(self._conn, message["type"], message)
        else:
            await self._writable()
            await self.send(message)

    async def _writable(self) -> None:
        """uvicorn's transport has more than it wants: its peer is slow."""
        while not self._may_write and not self._is_lost:
            await self._changes()
        if self._is_lost:
            raise ClientDisconnected

    def _send_last(self, conn: Connection | None, kind: str, message: dict[str, Any]) -> None:
        if self._app_closed:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        if conn is None:
            raise ClientDisconnected
        if kind != "websocket.close":
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")
        if self._end is not None:
            raise ClientDisconnected
        code, reason = message.get("code", 1000), message.get("reason", "") or ""
        conn.close(code, reason)
        self._app_closed = True
        self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def _answer(self, kind: str, message: dict[str, Any]) -> None:
        if self._response is not None:
            self._respond(kind, message)
        elif kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.close":
            self._log_answer(" 403")
            self._reject(403, [_TEXT], b"")
        elif kind == "websocket.http.response.start":
            status = message["status"]
            if not 300 <= status < 600:
                # Below 300 it would be no refusal. What is not noted as a response is answered with 500.
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            self._log_answer(f" {status}")
            self._response = (status, _texts(message.get("headers", []), _OWN_HEADERS), bytearray())
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    async def _accept(self, message: dict[str, Any]) -> None:
        headers = _texts([*self.server_state.default_headers, *message.get("headers", [])])
        accept = Accept.anonymous(self, subprotocol=message.get("subprotocol") or None, headers=headers)
        self._log_answer(" [accepted]")
        assert self._core is not None
        self._answered = True
        self._core.answer(self._ticket, accept)
        while self._conn is None:
            if self._end is not None:
                raise ClientDisconnected
            await self._changes()

    def _respond(self, kind: str, message: dict[str, Any]) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
        assert self._response is not None
        status, headers, body = self._response
        body += message.get("body", b"")
        if not message.get("more_body", False):
            self._end_response(status, headers, body)

    def _end_response(self, status: int, headers: list[tuple[str, str]], body: bytearray) -> None:
        names = {name.lower() for name, _ in headers}
        if "date" not in names:
            headers.append(("date", formatdate(usegmt=True)))
        if "content-type" not in names:
            headers.append(_TEXT)
        self._reject(status, headers, body)

    def _log_answer(self, what: str) -> None:
        scope = cast(Any, self._scope)
        _logger.info('%s - "WebSocket %s"%s', get_client_addr(scope), get_path_with_query_string(scope), what)


async def _until_read(waits: Awaitable[None]) -> None:
    try:
        await waits
    except ConnectionClosed:
        raise ClientDisconnected from None


def _texts(headers: Any, without: frozenset[bytes] = frozenset()) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in headers if name.lower() not in without]


def _text(stated: bytes) -> str:
    # The core writes UTF-8: bytes that are some stay the same.
    try:
        return stated.decode()
    except UnicodeDecodeError:
        return stated.decode("latin-1")
