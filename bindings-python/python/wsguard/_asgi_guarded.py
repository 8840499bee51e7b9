"""A WebSocket of an ASGI server, judged by the core: what the client sends goes through a pipe as frames, what the
application sends goes to the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote

from . import _asgi_frames
from ._asgi_core import Core
from ._asgi_scope import judged
from ._asgi_waits import Changing
from ._errors import Error
from ._wsguard import Accept, Close, Connection, Pipe, Reject

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Bytes that go through the pipe at once.
_PIECE_BYTES = 65_536

#: What the core says and the server has not taken yet, at most: what comes then waits in the core, by its rules.
_SAYINGS = 64

#: After so many messages others get their turn: some servers take those for a client that has gone without ever waiting
#: (granian), and what tells of that could not run.
_SENDS_AT_ONCE = 32

#: What is added to the core's code for a server that takes no other than those of applications: 1008 is 4008.
_PRIVATE = 3000

#: What a path has besides letters and digits (RFC 3986 section 3.3).
_PATH = "/-._~!$&'()*+,;=:@"

#: What a server on HTTP/2 leaves out, and the core asks for.
_HANDSHAKE = {
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"AAAAAAAAAAAAAAAAAAAAAA==",
}
#: What the server has agreed upon with the client is not the core's.
_NOT_TOLD = frozenset({b"sec-websocket-extensions", *_HANDSHAKE})


class Disconnected(OSError):
    """The application sends to a client that has gone, or that the core has closed."""


async def _nobody(*_: object) -> Any:
    raise Disconnected("the application has ended")


class Guarded(Changing):
    """One WebSocket, from its scope to its end."""

    def __init__(self, core: Core, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        super().__init__(asyncio.get_running_loop())
        self._core, self._scope, self._receive, self._send = core, scope, receive, send
        self.tag = self._ticket = 0
        self._pipe: Pipe | None = None
        self._server = _asgi_frames.OfServer()
        self._conn: Connection | None = None
        self._facts: dict[str, Any] | None = None
        #: How the core has refused the handshake, or that there is no connection.
        self._refused: tuple[str | None, int] | None = None
        self._told = self._answered = self._app_closed = False
        #: The application accepts, and the server has not been told.
        self._accepting: asyncio.Task[None] | None = None
        self._end: Message | None = None
        self._has_room = True
        #: The core says nothing more.
        self._is_ended = False
        #: The server has been told that the core has closed the connection.
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._sends_left = _SENDS_AT_ONCE

    # --- what the core tells ----------------------------------------------------------------------------------------

    def asked(self, core: Core, tag: int, ticket: int, facts: dict[str, Any]) -> None:
        self.tag, self._ticket, self._facts = tag, ticket, facts
        self._wake()

    def ended(self, code: str | None, status: int) -> None:
        self._refused = (code, status)
        self._take()
        self._wake()

    def opened(self, conn: Connection) -> None:
        self._conn = conn
        self._wake()

    def closed(self, close: Close) -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
            self._close_server(close.code, close.reason)
        self._wake()

    def pipe_tells(self, is_room: bool) -> None:
        self._has_room |= is_room
        self._take()
        self._wake()

    def _take(self) -> None:
        while self._pipe is not None and len(self._tasks) < _SAYINGS:
            data, self._is_ended, is_more = self._pipe.take(_PIECE_BYTES)
            for opcode, payload in self._server.feed(data):
                # Answers of the core (`on_mismatch`): nothing else of it is the client's.
                if opcode == _asgi_frames.TEXT:
                    self._later(self._send({"type": "websocket.send", "text": payload.decode()}))
                elif opcode == _asgi_frames.CLOSE:
                    self._closed_by_core(payload)
            if not is_more:
                return

    def _closed_by_core(self, payload: bytes) -> None:
        """The core has closed the connection: the client hears of it now, and the core need not wait for its answer,
        which is the server's to take."""
        if self._end is None and self._pipe is not None:
            code, reason = _asgi_frames.close_of(payload)
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._close_server(code, reason)
            self._pipe.end()

    def _later(self, said: Awaitable[None]) -> None:
        async def say() -> None:
            # A client that has gone hears nothing.
            with contextlib.suppress(Exception):
                await said

        task = self._task(say())
        self._tasks.add(task)
        task.add_done_callback(self._said)

    def _said(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._take()

    def _close_server(self, code: int, reason: str) -> None:
        if code not in (1005, 1006) and not self._is_closed:
            self._is_closed = True
            self._later(self._close_by_code(code, reason))

    async def _close_by_code(self, code: int, reason: str) -> None:
        message = {"type": "websocket.close", "code": code, "reason": reason}
        try:
            await self._send(message)
        except Exception:
            # daphne takes 1000 and 3000 to 4999, and would leave the client where it is. One that has gone hears
            # neither.
            await self._send({**message, "code": _PRIVATE + code})

    # --- the server -------------------------------------------------------------------------------------------------

    async def run(self, app: Callable[..., Awaitable[None]]) -> None:
        first = await self._receive()
        if first["type"] != "websocket.connect":
            return
        head = head_of(self._scope)
        if head is None:
            return await self._refuse(400, [], b"")
        try:
            peer = peer_of(self._scope)
            self._pipe = self._core.adopt_pipe(self, head, peer=peer, local=None, is_secure=True)
        except Error:
            # The server shuts down.
            return await self._refuse(503, [], b"")
        pump: asyncio.Task[None] | None = None
        try:
            while self._facts is None and self._refused is None:
                await self._changes()
            if self._facts is None:
                return await self._refuse_as_core()
            pump = self.loop.create_task(self._pump())
            pump.add_done_callback(self._pumped)
            extensions = {**(self._scope.get("extensions") or {}), "wsguard": self._facts}
            # Whoever sends to a client that has gone is told by an error, and an application that leaves it at that has
            # not failed: peers choose how often they go.
            with contextlib.suppress(Disconnected):
                await app({**self._scope, "extensions": extensions}, self.receive, self.send)
            await self._all_is_said()
            if pump.done():
                # What the server's `receive` has raised is the server's to know.
                pump.result()
        except Exception:
            # Frameworks raise at a client that the core has closed (`WebSocketDisconnect`). Whoever is cancelled, as at
            # the end of the server, waits for no client.
            await self._all_is_said()
            raise
        finally:
            for task in (pump, self._accepting):
                if task is not None:
                    task.cancel()
            if self._tasks:
                # Of whoever was cancelled: what the core has said has its time as well, though nobody waits for it.
                self.loop.call_later(self._core.close_timeout_s, self._unsay)
            self._leave()
            # granian ends a connection whose application has raised when nobody has these any more.
            self._receive = self._send = _nobody

    async def _all_is_said(self) -> None:
        """The server ends the connection when the application has ended: the close frame goes before. A server may wait
        with it for a client that does not read; here the closing handshake has its time, and no more."""
        until = self.loop.time() + self._core.close_timeout_s
        while saying := {*self._tasks, *([self._accepting] if self._accepting is not None else [])}:
            await asyncio.wait(saying, timeout=until - self.loop.time())
            if self.loop.time() >= until:
                break
        self._unsay()

    def _unsay(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _refuse_as_core(self) -> None:
        assert self._refused is not None
        if not self._refused[1]:
            # It was over before it was one (a ban): what the core has said by then may be a 101, and a close behind it.
            if self._is_closed:
                return None
            # The close that the core may say from here on is no second answer.
            self._is_closed = True
            return await self._refuse(403, [], b"")
        while not self._is_ended:
            await self._changes()
        pairs = [line.partition(b": ") for line in (self._server.head or b"").split(b"\r\n")[1:]]
        headers = [(name.lower(), value) for name, _, value in pairs if name.lower() != b"connection"]
        await self._refuse(self._refused[1], headers, self._server.body)

    async def _refuse(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            return await self._send({"type": "websocket.close", "code": 1008})
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": body})

    def _leave(self) -> None:
        if self._facts is not None and not self._answered:
            self._core.answer(self._ticket, Reject(500))
        if self._conn is not None:
            self._conn._leave()
        if self._pipe is not None:
            self._core.forget(self._pipe)
            self._pipe.abort()
            self._pipe = None

    def _pumped(self, pump: asyncio.Task[None]) -> None:
        """Nothing more comes from the server: as it has said, or because it has failed."""
        if not pump.cancelled():
            # Looked at here as well: an application that fails itself is what the server hears of.
            pump.exception()
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": 1006}
        if self._pipe is not None:
            self._pipe.end()
        self._wake()

    async def _pump(self) -> None:
        """What the client sends, to the core."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                if self._end is None:
                    self._end = message
                return await self._push(_asgi_frames.close(message.get("code", 1005), message.get("reason")))
            text = message.get("text")
            if text is None:
                await self._push(_asgi_frames.of_client(_asgi_frames.BINARY, message.get("bytes") or b""))
            else:
                await self._push(_asgi_frames.of_client(_asgi_frames.TEXT, text.encode()))

    async def _push(self, frame: bytes) -> None:
        for start in range(0, len(frame), _PIECE_BYTES):
            while not self._has_room and self._pipe is not None and self._end is None:
                await self._changes()
            if self._pipe is None:
                return
            self._has_room = self._pipe.push(frame[start : start + _PIECE_BYTES])

    # --- the application --------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        while self._conn is None:
            if self._end is not None:
                return self._end
            if self._refused is not None:
                return {"type": "websocket.disconnect", "code": 1006}
            await self._changes()
        return await self._conn._receive()

    def end_message(self) -> Message | None:
        """What the application receives at the end; `None`: it is not told yet how the connection has ended."""
        return self._end

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            if self._answered:
                # The server might take it: for a connection that the core has refused, it would be the first.
                raise RuntimeError("Unexpected ASGI message 'websocket.accept': the handshake has its answer.")
            return await self._accept(message)
        while self._accepting is not None:
            # Another task accepts: what this one says comes behind.
            await self._changes()
        if self._answered and self._conn is None and not self._app_closed:
            raise Disconnected("the handshake was refused")
        if not self._answered and kind in ("websocket.close", "websocket.http.response.start"):
            self._answered = self._app_closed = True
            # The client gets the application's own answer; the core hears that it is refused.
            self._core.answer(self._ticket, Reject(403))
        elif kind == "websocket.close":
            if self._is_closed and not self._app_closed:
                raise Disconnected("the connection is closed")
            self._app_closed = True
            if self._conn is not None and self._end is None:
                self._end = {"type": "websocket.disconnect", "code": message.get("code", 1000)}
                self._conn._leave()
        elif self._end is not None:
            raise Disconnected("the connection is closed")
        await self._send(message)
        self._sends_left -= 1
        if self._sends_left == 0:
            self._sends_left = _SENDS_AT_ONCE
            await asyncio.sleep(0)

    async def _accept(self, message: Message) -> None:
        self._answered = True
        # Whoever is cancelled here has accepted nevertheless: the core may have said 101 by now and is asked once.
        self._accepting = self._task(self._accept_at_core(message))
        self._accepting.add_done_callback(self._accepted)
        await asyncio.shield(self._accepting)

    def _accepted(self, accepting: asyncio.Task[None]) -> None:
        self._accepting = None
        if not accepting.cancelled():
            # Looked at here as well: who has accepted may not wait any more.
            accepting.exception()
        self._wake()

    async def _accept_at_core(self, message: Message) -> None:
        try:
            accept = Accept.anonymous(self, subprotocol=message.get("subprotocol") or None)
            self._core.answer(self._ticket, accept)
        except Exception:
            # An answer that cannot be sent (a subprotocol that nobody offers): the client need not wait for the end of
            # the application. Some the core has refused itself, and waits for no other.
            self._core.answer(self._ticket, Reject(500))
            while self._refused is None:
                await self._changes()
            await self._refuse_as_core()
            raise
        while self._conn is None:
            if self._refused is not None:
                await self._refuse_as_core()
                raise Disconnected("the handshake was refused")
            await self._changes()
        # The core may have chosen one of `subprotocols`.
        if self._conn.subprotocol is not None:
            message = {**message, "subprotocol": self._conn.subprotocol}
        await self._send(message)


def _path_of(scope: dict[str, Any]) -> bytes:
    """The path as the application sees it: what is around this middleware may have changed it."""
    path, raw_path = scope["path"], scope.get("raw_path")
    if not raw_path or unquote(raw_path.decode("ascii", "replace")) != path:
        raw_path = quote(path, safe=_PATH).encode()
    return judged(raw_path)


def peer_of(scope: dict[str, Any]) -> tuple[str, int] | None:
    """The address of the client. Only its host is judged: a port that is none, as some servers say it, is 0."""
    host, port = (*(scope.get("client") or ()), None, None)[:2]
    if not isinstance(host, str):
        return None
    return host, port if isinstance(port, int) and 0 <= port < 65_536 else 0


def head_of(scope: dict[str, Any]) -> bytes | None:
    """A request head of the scope; `None`: it cannot be one."""
    target = _path_of(scope) + (b"?" + scope["query_string"] if scope.get("query_string") else b"")
    lines = [b"GET " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in _HANDSHAKE.items()]
    lines += [name + b": " + value for name, value in scope["headers"] if name.lower() not in _NOT_TOLD]
    # The core would judge the path within an absolute URI, which the application takes for a path as it is.
    if not target.startswith(b"/") or b" " in target:
        return None
    # A line break in a header would be another header.
    if any(b"\r" in line or b"\n" in line for line in lines):
        return None
    return b"\r\n".join(lines) + b"\r\n\r\n"
