"""The connections that a broadcast goes to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _checks, _drain, _loops
from ._errors import InvalidArgument
from ._wsguard import Connection, NativeServer

if TYPE_CHECKING:
    from ._types import Payload


@dataclass(frozen=True)
class Everywhere:
    """How many connections an audience has on all nodes of a cluster, as far as these have answered. ``len()`` is their
    number, too."""

    #: The connections of all nodes, those of this one among them: each once.
    connections: int
    #: How many nodes did not answer in time: what they have is not counted.
    missing: int

    def __len__(self) -> int:
        return self.connections


class Audience:
    """The connections that a broadcast goes to, each once: those of rooms, those of a user, or all, without those that
    :meth:`except_` names."""

    __slots__ = ("_except", "_rooms", "_server", "_user")

    def __init__(
        self,
        server: NativeServer,
        rooms: list[str] | None = None,
        user: str | None = None,
        except_: tuple[Connection, ...] = (),
    ) -> None:
        self._server = server
        self._rooms = rooms
        self._user = user
        self._except = except_

    def except_(self, *conns: Connection) -> Audience:
        """The same audience without these connections.

        Raises:
            TypeError: one of them is not a connection.
        """
        for conn in conns:
            if not isinstance(conn, Connection):
                raise TypeError(f"except_ takes connections, not {type(conn).__name__}")
        return Audience(self._server, self._rooms, self._user, self._except + conns)

    def emit(self, event: str, data: Any = None, /, *, compress: bool = True) -> None:
        """Emits an event (``json``). It is encoded once, and compressed once, for any number of connections.

        Args:
            event: the name of the event.
            data: what ``json.dumps`` takes, a Pydantic model, or :class:`Json`; default ``None``.
            compress: ``False`` sends it plain also to connections that have agreed to ``compression``.

        Raises:
            InvalidArgument: the protocol is ``raw``.
            TypeError: ``data`` is not JSON (the error names the type), or ``compress`` is no ``bool``.
            ValueError: ``data`` holds NaN or infinity, or is nested deeper than 256.
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
        self._server._emit_to(self._rooms, self._user, list(self._except), event, data, compress)

    def send(self, message: Payload, /, *, compress: bool = True) -> None:
        """Sends a message (``raw``): ``str`` as text, bytes as binary. ``compress`` as for :meth:`emit`.

        Raises:
            InvalidArgument: the protocol is ``json``.
            TypeError: ``message`` is neither ``str`` nor bytes, or ``compress`` is no ``bool``.
            UsageError: as :meth:`emit`.
        """
        self._server._send_to(self._rooms, self._user, list(self._except), message, compress)

    def members(self) -> list[Connection]:
        """The connections that there are now, each once. A connection that joins a room is one of its members at once.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
        members = self._server._members(self._rooms, self._user)
        return [conn for conn in members if conn not in self._except] if self._except else members

    @property
    def size(self) -> int:
        """How many connections there are now. It raises what :meth:`members` raises."""
        if self._rooms is not None and len(self._rooms) == 1 and not self._except:
            return self._server._room_size(self._rooms[0])
        return len(self.members())

    async def everywhere(self, *, timeout_ms: int = 1000) -> Everywhere:
        """How many connections there are on all nodes of the ``cluster``. Without one, and where no other node has any,
        nobody is asked: it is the number of this node. It can be awaited on any event loop.

        Args:
            timeout_ms: milliseconds that the other nodes have to answer, a minute at most; default 1000.

        Raises:
            InvalidArgument: ``timeout_ms`` is negative, or the name of a room is not 1 to 256 bytes.
            UsageError: as :meth:`members`; or the server has stopped, also while this waits (``stopped``).
        """
        timeout_ms = _drain.milliseconds("timeout_ms", timeout_ms)
        loop = _loops.running()
        counted: asyncio.Future[tuple[int, int]] = loop.create_future()

        def settle(result: tuple[int, int] | None, failure: BaseException | None) -> None:
            if counted.done():
                return
            if failure is not None:
                counted.set_exception(failure)
            elif result is not None:
                counted.set_result(result)

        def told(result: tuple[int, int] | None, failure: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                _loops.soon(loop, settle, result, failure)

        ticket = self._server._count_everywhere(self._rooms, self._user, list(self._except), timeout_ms, told)
        try:
            return Everywhere(*await counted)
        finally:
            self._server._forget_count(ticket)

    def clear(self) -> None:
        """Lets every member leave the rooms, on all nodes of a ``cluster``; the connections stay open.

        Raises:
            InvalidArgument: these are not the connections of rooms.
            UsageError: as :meth:`members`.
        """
        if self._rooms is None:
            raise InvalidArgument("only rooms are cleared: server.to(room).clear()", code="invalid_argument")
        self._server._clear_rooms(self._rooms, list(self._except))

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Closes each of the connections, as :meth:`Connection.close` does, on all nodes of a ``cluster``.

        Raises:
            InvalidArgument: as :meth:`Connection.close`.
            TypeError: as :meth:`Connection.close`.
            UsageError: as :meth:`members`.
        """
        _checks.close(code, reason)
        for conn in self.members():
            conn.close(code, reason)
        self._server._close_elsewhere(self._rooms, self._user, 1000 if code is None else code, reason)
