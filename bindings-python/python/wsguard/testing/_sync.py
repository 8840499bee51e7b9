"""The client of tests, for functions: it blocks."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .. import _drain
from . import _peer, _wire
from ._wire import Ended, Received

if TYPE_CHECKING:
    from .._server import Server
    from .._types import Payload

Found = TypeVar("Found")


class SyncClient:
    """A peer of a server: made by :func:`connect_sync`. As :class:`Client`, and every call blocks."""

    def __init__(self, peer: socket.socket, wire: _wire.Wire) -> None:
        self._peer = peer
        self._wire = wire
        self._ids = itertools.count(1)

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

    def emit(self, event: str, data: Any = None, *, id: str | int | None = None) -> None:
        """As :meth:`Client.emit`."""
        self.send(_wire.envelope(event, data, id))

    def send(self, message: Payload) -> None:
        """As :meth:`Client.send`."""
        self._wire.send_message(message if isinstance(message, str) else bytes(message))
        self._flush()

    def request(self, event: str, data: Any = None, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Received:
        """As :meth:`Client.request`."""
        id = f"t{next(self._ids)}"
        self.emit(event, data, id=id)
        return self._until(lambda: self._wire.find(None, id), timeout_ms, f"a reply to {event!r}")

    def expect(self, event: str, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Received:
        """As :meth:`Client.expect`."""
        return self._until(lambda: self._wire.find(event, None), timeout_ms, f"{event!r}")

    def answer(self, asked: Received, data: Any = None, *, status: str = "ok") -> None:
        """As :meth:`Client.answer`."""
        self.send(_wire.envelope(asked.event, data, asked.id, status))

    def recv(self, *, timeout_ms: int = _peer.TIMEOUT_MS) -> str | bytes:
        """As :meth:`Client.recv`."""
        return cast("str | bytes", self._until(self._wire.take, timeout_ms, "a message"))

    def expect_nothing(self, *, for_ms: int = 50) -> None:
        """As :meth:`Client.expect_nothing`."""
        until = time.monotonic() + for_ms / 1000
        while self._wire.ended is None and self._read(until):
            pass
        _peer.assert_nothing(self._wire)

    def closed(self, *, timeout_ms: int = _peer.TIMEOUT_MS) -> Ended:
        """As :meth:`Client.closed`."""

        def ended() -> Ended | None:
            return self._wire.ended

        return self._until(ended, timeout_ms, "the end of the connection")

    def close(self, code: int = 1000, reason: str = "") -> Ended:
        """As :meth:`Client.close`."""
        self._wire.close(code, reason)
        try:
            self._flush()
            return self.closed()
        finally:
            self.drop()

    def drop(self) -> None:
        """As :meth:`Client.drop`."""
        self._wire.receive(b"")
        self._peer.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        data = bytes(self._wire.outgoing)
        self._wire.outgoing.clear()
        if data:
            self._peer.settimeout(_peer.TIMEOUT_MS / 1000)
            with contextlib.suppress(ConnectionError):
                self._peer.sendall(data)

    def _read(self, until: float) -> bool:
        """Reads what has come until then; ``False``: nothing has."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        self._peer.settimeout(left)
        try:
            data = self._peer.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self._wire.receive(data)
        self._flush()
        return True

    def _until(self, look: Callable[[], Found | None], timeout_ms: int, what: str) -> Found:
        until = time.monotonic() + _drain.milliseconds("timeout_ms", timeout_ms) / 1000
        while (found := look()) is None:
            if self._wire.ended is not None:
                raise self._wire.ended
            if not self._read(until):
                raise TimeoutError(_peer.waited(self._wire, what, timeout_ms))
        return found


@contextlib.contextmanager
def connect_sync(
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
) -> Iterator[SyncClient]:
    """A client of a server that runs on another thread (:func:`running`). As :func:`connect` otherwise."""
    address, asked = _peer.prepared(server, path, user, roles, token, headers, origin, subprotocols)
    if address.startswith("unix:"):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(address[5:])
    else:
        host, _, port = address.rpartition(":")
        peer = socket.create_connection((host.strip("[]"), int(port)), _peer.TIMEOUT_MS / 1000)
    context = _peer.context(server, ssl)
    if context is not None:
        peer = context.wrap_socket(peer)
    wire = _wire.Wire(compression)
    client = SyncClient(peer, wire)
    try:
        wire.open(*asked)
        client._flush()
        while not wire.opened(peer.recv(1 << 16)):
            pass
        client._flush()
        yield client
        if wire.ended is None:
            client.close()
    finally:
        client.drop()
