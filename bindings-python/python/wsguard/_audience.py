"""Whom a broadcast is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import InvalidArgument
from ._wsguard import Connection, NativeServer

if TYPE_CHECKING:
    from ._types import Payload


class Audience:
    """Whom a broadcast is for: a room, or every connection; all but one."""

    __slots__ = ("_except", "_room", "_server")

    def __init__(self, server: NativeServer, room: str | None, except_: Connection | None = None) -> None:
        self._server = server
        self._room = room
        self._except = except_

    def except_(self, conn: Connection) -> Audience:
        """The same audience without ``conn``: one connection can be left out."""
        if not isinstance(conn, Connection):
            raise TypeError(f"except_ takes a connection, not {type(conn).__name__}")
        if self._except is not None and self._except is not conn:
            raise InvalidArgument("except_ leaves out one connection, and one is left out", code="invalid_argument")
        return Audience(self._server, self._room, conn)

    def emit(self, event: str, data: Any = None, /) -> None:
        """Emits an event (``json``); encoded once, whatever the number of connections.

        Raises:
            TypeError, ValueError: ``data`` is not JSON.
            InvalidArgument: a room's name is 1 to 256 bytes; or the protocol is ``raw``.
            UsageError: the server was not started, has stopped, or belongs to the parent process.
        """
        self._server._emit_to(self._room, self._except, event, data)

    def send(self, message: Payload, /) -> None:
        """Sends a message (``raw``): ``str`` as text, bytes as binary. It raises what :meth:`emit` raises."""
        self._server._send_to(self._room, self._except, message)
