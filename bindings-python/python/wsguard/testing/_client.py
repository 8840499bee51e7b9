"""The client of tests, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _drain
from . import _peer, _wire
from ._wire import Ended, Received

if TYPE_CHECKING:
    from .._server import Server
    from .._types import Payload

Found = TypeVar("Found")


class Client:
    """A peer of a server: made by :func:`connect`. Messages that nobody has taken wait in their order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: _wire.Wire) -> None:
        self._reader = reader
        self._writer = writer
        self._wire = wire
        self._ids = itertools.count(1)
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol of the 101."""
        return self._wire.subprotocol

    @property
    def compressed(self) -> bool:
        """Whether compression was agreed on: then all that it sends goes compressed."""
        return self._wire.compressed

    @property
    def headers(self) -> Any:
        """The headers of the 101, in a mapping that ignores the case of names."""
        return self._wire.headers

    async def emit(self, event: str, data: Any = None, *, id: str | int | None = None) -> None:
        """Sends an event (``json``). It raises :class:`Ended` if the connection has ended."""
        await self.send(_wire.envelope(event, data, id))

    async def send(self, message: Payload) -> None:
        """Sends a message as it is: ``str`` as text, bytes as binary. It raises :class:`Ended` if the connection has
        ended."""
        self._wire.send_message(message if isinstance(message, str) else bytes(message))
        await self._flush()

    async def request(self, event: str, data: Any = None, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Received:
        """Sends an event with an id of its own, and waits for the reply to it. It raises what :meth:`expect` raises."""
        id = f"t{next(self._ids)}"
        await self.emit(event, data, id=id)
        return await self._until(lambda: self._wire.find(None, id), timeout_ms, f"a reply to {event!r}")

    async def expect(self, event: str, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Received:
        """Waits for the next message of an event. Messages of others stay for a later call.

        Args:
            event: the name of the event.
            timeout_ms: milliseconds to wait; default 2000.

        Raises:
            Ended: the connection has ended without it.
            TimeoutError: it did not come; the error says what came instead.
        """
        return await self._until(lambda: self._wire.find(event, None), timeout_ms, f"{event!r}")

    async def answer(self, asked: Received, data: Any = None, *, status: str = "ok") -> None:
        """Answers what the server has asked (``Connection.call``); with ``status="error"`` it is refused."""
        await self.send(_wire.envelope(asked.event, data, asked.id, status))

    async def recv(self, *, timeout_ms: int = _peer.TIMEOUT_MS) -> str | bytes:
        """Waits for the next message as it is: ``str`` or ``bytes``. It raises what :meth:`expect` raises."""
        return await self._until(self._wire.take, timeout_ms, "a message")

    async def expect_nothing(self, *, for_ms: int = 50) -> None:
        """Waits, and raises ``AssertionError`` if a message waits or comes, or the connection ends."""
        await asyncio.sleep(for_ms / 1000)
        _peer.assert_nothing(self._wire)

    async def closed(self, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Ended:
        """Waits until the connection has ended, and returns how. It raises ``TimeoutError``."""

        def ended() -> Ended | None:
            return self._wire.ended

        return await self._until(ended, timeout_ms, "the end of the connection")

    async def close(self, code: int = 1000, reason: str = "") -> Ended:
        """Closes the connection, and waits for its end."""
        self._wire.close(code, reason)
        await self._flush()
        try:
            return await self.closed()
        finally:
            self.drop()

    def drop(self) -> None:
        """Drops the connection without a closing handshake, as a peer does that has lost its network."""
        self._wire.receive(b"")
        self._writer.transport.abort()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        data = bytes(self._wire.outgoing)
        self._wire.outgoing.clear()
        if data and not self._writer.is_closing():
            self._writer.write(data)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def _read(self) -> None:
        data = b"-"
        while data and self._wire.ended is None:
            try:
                data = await self._reader.read(1 << 16)
            except OSError:
                data = b""
            self._wire.receive(data)
            await self._flush()
            self._changed.set()

    async def _until(self, look: Callable[[], Found | None], timeout_ms: int, what: str) -> Found:
        until = asyncio.get_running_loop().time() + _drain.milliseconds("timeout_ms", timeout_ms) / 1000
        while (found := look()) is None:
            if self._wire.ended is not None:
                raise self._wire.ended
            self._changed.clear()
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                raise TimeoutError(_peer.waited(self._wire, what, timeout_ms)) from None
        return found


@contextlib.asynccontextmanager
async def connect(
    server: Server,
    path: str = "/",
    *,
    user: str | None = None,
    roles: Iterable[str] = (),
    token: str | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    origin: str | None = None,
    subprotocols: Iterable[str] = (),
    ssl: SSLContext | None = None,
    compression: bool = False,
) -> AsyncIterator[Client]:
    """A client of a server that runs; at the end it is closed.

    Args:
        server: the server.
        path: the path, perhaps with a query; default ``"/"``.
        user: connects as this user, by :func:`token_of`. Not where ``authenticate`` decides.
        roles: the roles of that user, for JSON Web Tokens; default none.
        token: connects with this token, where the first of ``token_sources`` looks for it.
        headers: further headers of the handshake.
        origin: the ``Origin``; default: the first that the options allow.
        subprotocols: the subprotocols that the client offers; default none.
        ssl: for a server with TLS; default: whatever its certificate is, it is believed.
        compression: offers permessage-deflate, as browsers do. Where the server agrees (``Client.compressed``), the
            client compresses all that it sends; default ``False``.

    Raises:
        Refused: the handshake was refused.
        UsageError: the server does not run.
        ValueError: ``user`` and ``token`` are given, or :func:`token_of` knows no token.
    """
    address, asked = _peer.prepared(server, path, user, roles, token, headers, origin, subprotocols)
    context = _peer.context(server, ssl)
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address[5:], ssl=context)
    else:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    wire = _wire.Wire(compression)
    client = Client(reader, writer, wire)
    try:
        wire.open(*asked)
        await client._flush()
        while not wire.opened(await reader.read(1 << 16)):
            pass
        await client._flush()
        client._reading = asyncio.create_task(client._read())
        yield client
        if wire.ended is None:
            await client.close()
    finally:
        client.drop()
        if client._reading is not None:
            client._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await client._reading
