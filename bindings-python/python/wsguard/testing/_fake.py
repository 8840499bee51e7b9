"""A connection without a server: it notes what a handler does with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _wsguard
from .._errors import ConnectionClosed
from .._request import Headers, Query, Tls
from ._records import close as made_close
from ._wire import pairs

if TYPE_CHECKING:
    from .._types import Payload, SendStatus
    from .._wsguard import Close, Message

_ids = itertools.count(1)


class FakeConnection:
    """What a handler may be called with in a test of its own, in place of a :class:`Connection`. What it sends is in
    ``sent``: tuples of event, data and status, or messages. Data is what a peer would read.

    ::

        conn = FakeConnection(user="alice")
        say(conn, {"text": "hello"})
        assert conn.sent == [("said", {"text": "hello"}, "ok")]
    """

    def __init__(
        self,
        *,
        user: str | None = None,
        roles: Iterable[str] = (),
        ip: str | None = "127.0.0.1",
        path: str = "/",
        route: str | None = None,
        params: Mapping[str, str] | None = None,
        query: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        cookies: Mapping[str, str] | None = None,
        claims: Mapping[str, Any] | None = None,
        origin: str | None = None,
        subprotocol: str | None = None,
        tls: Tls | None = None,
        data: Any = None,
        message: Message | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = f"fake{next(_ids)}"
        self.user = user
        self.roles = tuple(roles)
        self.ip = ip
        self.port: int | None = None
        self.path = path
        self.route = route
        self.params = dict(params or {})
        self.query_string = query
        self.query = Query(query)
        self.headers = Headers(pairs(headers))
        self.cookies = dict(cookies or {})
        self.claims = None if claims is None else dict(claims)
        self.origin = origin
        self.subprotocol = subprotocol
        self.tls = tls
        self.opened_at_ms = 0
        self.expires_at_ms: int | None = None
        self.data = data
        self.message = message
        self.closed: Close | None = None
        self.buffered_bytes = 0
        #: What it has sent, in its order.
        self.sent: list[Any] = []
        self._answers = dict(answers or {})
        self._rooms: dict[str, None] = {}
        self._on_close: list[Callable[[Any, Close], Any]] = []

    @property
    def is_open(self) -> bool:
        """``True`` until it is closed."""
        return self.closed is None

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it is in."""
        return tuple(self._rooms)

    def _note(self, sent: Any) -> SendStatus:
        if self.closed is not None:
            return "closed"
        self.sent.append(sent)
        return "sent"

    def _send(self, sent: Any) -> _Sent:
        if self._note(sent) == "closed" and self.closed is not None:
            raise ConnectionClosed(self.closed.code, self.closed.reason)
        return _Sent()

    def send(self, message: Payload) -> _Sent:
        """Notes a message. It raises ``ConnectionClosed`` after :meth:`close`; the ``_nowait`` forms do not."""
        return self._send(message)

    def send_nowait(self, message: Payload) -> SendStatus:
        return self._note(message)

    def emit(self, event: str, data: Any = None) -> _Sent:
        """Notes an event, as :meth:`send` does a message. Data that is no JSON raises as it does in production."""
        return self._send((event, _plain(data), "ok"))

    def emit_nowait(self, event: str, data: Any = None) -> SendStatus:
        return self._note((event, _plain(data), "ok"))

    def reply(self, event: str, data: Any = None, *, id: str | int | None = None) -> _Sent:
        return self.emit(event, data)

    def reply_nowait(self, event: str, data: Any = None, *, id: str | int | None = None) -> SendStatus:
        return self.emit_nowait(event, data)

    def reply_error(self, event: str, data: Any = None, *, id: str | int | None = None) -> _Sent:
        return self._send((event, _plain(data), "error"))

    def reply_error_nowait(self, event: str, data: Any = None, *, id: str | int | None = None) -> SendStatus:
        return self._note((event, _plain(data), "error"))

    async def call(self, event: str, data: Any = None, *, timeout_ms: int = 10_000) -> Any:
        """Returns what ``answers`` has for the event, or raises it if it is an exception."""
        self._send((event, _plain(data), None))
        answer = self._answers[event]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def ping(self, *, timeout_ms: int = 10_000) -> float:
        return 0.0

    def ping_nowait(self, handler: Callable[[Any, float], object]) -> SendStatus:
        if self.closed is not None:
            return "closed"
        handler(self, 0.0)
        return "sent"

    def join(self, room: str) -> None:
        self._rooms[room] = None

    def leave(self, room: str) -> None:
        self._rooms.pop(room, None)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Ends it, and calls what :meth:`on_close` has registered."""
        if self.closed is not None:
            return
        self.closed = made_close(1000 if code is None else code, reason)
        self._rooms.clear()
        for handler in self._on_close:
            handler(self, self.closed)

    def terminate(self) -> None:
        self.close(1006)

    def on_close(self, handler: Callable[[Any, Close], Any]) -> Callable[[Any, Close], Any]:
        self._on_close.append(handler)
        return handler


class _Sent:
    """Nothing to wait for."""

    def __await__(self) -> Any:
        return iter(())


def _plain(data: Any) -> Any:
    """Data as a peer would read it."""
    return _wsguard.loads(_wsguard.dumps(data))
