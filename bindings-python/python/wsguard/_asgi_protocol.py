"""A connection of uvicorn's between the core and an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from uvicorn.protocols.utils import ClientDisconnected, get_client_addr, get_path_with_query_string

from . import _asgi_core, _log
from ._asgi_scope import scope_of
from ._asgi_transport import HandedOver
from ._errors import ConnectionClosed
from ._wsguard import Accept, Done, Reject

if TYPE_CHECKING:
    from ._wsguard import Close, Connection

_logger = logging.getLogger("uvicorn.error")

#: What is logged of handshakes that the core has refused.
_not_opened = _log.Sampler()

#: What an answer says itself.
_OWN_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"connection"})

#: The awaitable of a message that went out at once.
_SENT = Done()

_TEXT = ("content-type", "text/plain; charset=utf-8")


class WebSocketProtocol(HandedOver):
    """The class that uvicorn makes for each upgrade."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.app = self.config.loaded_app
        #: The handshake that waits for the application.
        self._ticket = 0
        self._conn: Connection | None = None
        self._scope: dict[str, Any] = {}
        #: The application was told that a client connects.
        self._told = False
        #: It has accepted, or refused, or nobody waits for its answer.
        self._answered = False
        #: The start of its own response, and the body so far.
        self._response: tuple[int, list[tuple[str, str]], bytearray] | None = None
        #: It has closed the connection.
        self._app_closed = False
        #: It has ended.
        self._has_left = False
        #: What the application receives at the end; `None` while the connection lives.
        self._end: dict[str, Any] | None = None

    # --- the core ---------------------------------------------------------------------------------------------------

    def asked(self, core: _asgi_core.Core, tag: int, ticket: int, facts: dict[str, Any]) -> None:
        """The core has let the handshake pass."""
        self._core, self.tag, self._ticket = core, tag, ticket
        self._scope = scope_of(self, self._head, facts)
        self._head = b""
        task = self._task(self._run())
        self.server_state.tasks.add(task)
        task.add_done_callback(self._ran)

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
        if self._has_left:
            # Between its answer and this: nobody reads.
            conn._leave()
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
        self._leave()

    def _ran(self, task: asyncio.Task[None]) -> None:
        self.server_state.tasks.discard(task)
        if not self._has_left:
            # It was cancelled before its first step.
            self._leave()

    def _leave(self) -> None:
        """The application has ended."""
        self._has_left = True
        if not self._answered:
            # One that has begun a response of its own and not ended it: what there is of it goes out.
            if self._response is not None:
                self._end_response(*self._response)
            else:
                self._reject(500, [_TEXT], b"Internal Server Error")
        if self._conn is not None:
            # As uvicorn has it: what was sent goes out, and no close frame does, where the application sent none.
            self._conn._leave()

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
        try:
            if conn is None or message["type"] != "websocket.send" or self._app_closed or not self._may_write:
                return self._send_else(message)
            waits = conn._send(message)
        except ConnectionClosed:
            return _failed(ClientDisconnected())
        except Exception as error:
            return _failed(error)
        return _SENT if waits is None else _until_read(waits)

    async def _send_else(self, message: dict[str, Any]) -> None:
        if not self._answered:
            await self._answer(message["type"], message)
        elif self._conn is None and self._end is None and not self._app_closed:
            # Another task accepts, and the core has not told yet of the connection.
            while self._conn is None and self._end is None:
                await self._changes()
            await self.send(message)
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
        if self.hides_query:
            scope = {**scope, "query_string": b""}
        _logger.info('%s - "WebSocket %s"%s', get_client_addr(scope), get_path_with_query_string(scope), what)


async def _failed(error: Exception) -> None:
    """What an application awaits raises there, and not where it is called: `gather(..., return_exceptions=True)`."""
    raise error


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
