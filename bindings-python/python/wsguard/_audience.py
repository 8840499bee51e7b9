"""The connections that a broadcast goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import InvalidArgument
from ._wsguard import Connection, NativeServer

if TYPE_CHECKING:
    from ._types import Payload


class Audience:
    """The connections that a broadcast goes to: those of a room, or all, without the one that :meth:`except_` names."""

    __slots__ = ("_except", "_room", "_server")

    def __init__(self, server: NativeServer, room: str | None, except_: Connection | None = None) -> None:
        self._server = server
        self._room = room
        self._except = except_

    def except_(self, conn: Connection) -> Audience:
        """The same audience without ``conn``.

        Raises:
            InvalidArgument: another connection is left out already.
            TypeError: ``conn`` is not a connection.
        """
        if not isinstance(conn, Connection):
            raise TypeError(f"except_ takes a connection, not {type(conn).__name__}")
        if self._except is not None and self._except is not conn:
            raise InvalidArgument("except_ leaves out one connection, and one is left out", code="invalid_argument")
        return Audience(self._server, self._room, conn)

    def emit(self, event: str, data: Any = None, /) -> None:
        """Emits an event (``json``). It is encoded once, for any number of connections.

        Args:
            event: the name of the event.
            data: what ``json.dumps`` takes, a Pydantic model, or :class:`Json`; default ``None``.

        Raises:
            InvalidArgument: the room's name is not 1 to 256 bytes, or the protocol is ``raw``.
            TypeError: ``data`` is not JSON; the error names the type.
            ValueError: ``data`` holds NaN or infinity, or is nested deeper than 256.
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
        self._server._emit_to(self._room, self._except, event, data)

    def send(self, message: Payload, /) -> None:
        """Sends a message (``raw``): ``str`` as text, bytes as binary.

        Raises:
            InvalidArgument: the room's name is not 1 to 256 bytes, or the protocol is ``json``.
            TypeError: ``message`` is neither ``str`` nor bytes.
            UsageError: as :meth:`emit`.
        """
        self._server._send_to(self._room, self._except, message)
