"""A connection without a server: it notes what a handler does with it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic

from .. import _checks, _drain, _handlers, _wsguard
from .._errors import ConnectionClosed, InvalidArgument
from .._request import Headers, Query, Tls
from .._types import Wait
from ._records import close as made_close
from ._wire import pairs

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    from .._types import Payload, SendStatus
    from .._wsguard import Close, Message

    #: What an application keeps with a connection.
    Data = TypeVar("Data", default=Any)
else:
    from typing import TypeVar

    Data = TypeVar("Data")

_ids = itertools.count(1)

#: The rooms that a connection may be in.
_MAX_ROOMS = 1024


class FakeConnection(Generic[Data]):
    """What a handler may be called with in a test of its own, in place of a :class:`Connection`. It has all that a
    connection has, and refuses what a connection refuses. What it sends is in ``sent``: tuples of event, data and
    status, or messages. Data is what a peer would read.

    ::

        conn = FakeConnection(user="alice")
        say(conn, {"text": "hello"})
        assert conn.sent == [("said", {"text": "hello"}, "ok")]

    Args:
        messages: what ``recv`` and ``async for`` get; after the last of them the peer has left. Default none.
        answers: what ``call`` returns for an event, or raises if it is an exception. Default none.
        message: what ``conn.message`` is; default ``None``.

    The others are the properties of the same names.
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
        messages: Iterable[Any] = (),
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
        self.local_address: tuple[str, int] | None = None
        self.reported = False
        self.compressed = False
        self.opened_at_ms = 0
        self.expires_at_ms: int | None = None
        self.data = data
        self.message = message
        self.closed: Close | None = None
        self.buffered_bytes = 0
        #: What it has sent, in its order.
        self.sent: list[Any] = []
        self._messages = deque(messages)
        self._waits: list[asyncio.Future[Close]] = []
        self._answers = dict(answers or {})
        self._rooms: dict[str, None] = {}
        self._on_close: list[Callable[[Any, Close], Any]] = []
        self._is_telling = False
        self._tasks: set[asyncio.Future[Any]] = set()

    @property
    def is_open(self) -> bool:
        """``True`` until it is closed."""
        return self.closed is None

    @property
    def _is_over(self) -> bool:
        return self.closed is not None

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it is in."""
        return tuple(self._rooms)

    def _check_open(self) -> None:
        if self.closed is not None:
            raise ConnectionClosed(self.closed.code, self.closed.reason)

    def _note(self, sent: Any) -> SendStatus:
        if self.closed is not None:
            return "closed"
        self.sent.append(sent)
        return "sent"

    def _send(self, sent: Any) -> Wait[None]:
        self._check_open()
        self.sent.append(sent)
        return _Sent()

    def send(self, message: Payload, /, *, compress: bool = True) -> Wait[None]:
        """Notes a message. It raises ``ConnectionClosed`` after :meth:`close`; the ``_nowait`` forms do not."""
        _checks.compress(compress)
        return self._send(_payload(message))

    def send_nowait(self, message: Payload, /, *, compress: bool = True) -> SendStatus:
        """As :meth:`send`."""
        _checks.compress(compress)
        return self._note(_payload(message))

    def emit(self, event: str, data: Any = None, /, *, compress: bool = True) -> Wait[None]:
        """Notes an event, as :meth:`send` does a message. Data that is no JSON raises as it does in production."""
        _checks.compress(compress)
        return self._send(_said(event, data, "ok"))

    def emit_nowait(self, event: str, data: Any = None, /, *, compress: bool = True) -> SendStatus:
        """As :meth:`emit`."""
        _checks.compress(compress)
        return self._note(_said(event, data, "ok"))

    def reply(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> Wait[None]:
        """As :meth:`emit`."""
        _check_id(id)
        _checks.compress(compress)
        return self._send(_said(event, data, "ok"))

    def reply_nowait(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> SendStatus:
        """As :meth:`emit`."""
        _check_id(id)
        _checks.compress(compress)
        return self._note(_said(event, data, "ok"))

    def reply_error(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> Wait[None]:
        """As :meth:`emit`, with the status ``"error"``."""
        _check_id(id)
        _checks.compress(compress)
        return self._send(_said(event, data, "error"))

    def reply_error_nowait(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> SendStatus:
        """As :meth:`reply_error`."""
        _check_id(id)
        _checks.compress(compress)
        return self._note(_said(event, data, "error"))

    def call(
        self, event: str, data: Any = None, /, *, timeout_ms: int = 10_000, compress: bool = True
    ) -> Coroutine[Any, Any, Any]:
        """Returns what ``answers`` has for the event, or raises it if it is an exception."""
        _checks.compress(compress)
        _drain.milliseconds("timeout_ms", timeout_ms)
        return self._call(event, data)

    async def _call(self, event: str, data: Any) -> Any:
        self._send(_said(event, data, None))
        if event not in self._answers:
            raise KeyError(f"FakeConnection(answers=...) has none for {event!r}")
        answer = self._answers[event]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def ping(self, *, timeout_ms: int = 10_000) -> Coroutine[Any, Any, float]:
        """Its pong comes at once."""
        _drain.milliseconds("timeout_ms", timeout_ms)
        return self._ping()

    async def _ping(self) -> float:
        self._check_open()
        return 0.0

    def ping_nowait(self, handler: Callable[[Any, float], object], /) -> SendStatus:
        """Its pong comes at once."""
        _handlers.check_pong(handler)
        if self.closed is not None:
            return "closed"
        handler(self, 0.0)
        return "sent"

    def join(self, room: str, /) -> None:
        """Joins a room: it is in ``rooms``."""
        self._check_open()
        _checks.room(room)
        if room not in self._rooms and len(self._rooms) >= _MAX_ROOMS:
            raise InvalidArgument(
                f"a connection can be in at most {_MAX_ROOMS} rooms: leave one first", code="invalid_argument"
            )
        self._rooms[room] = None

    def leave(self, room: str, /) -> None:
        """Leaves a room."""
        self._check_open()
        _checks.room(room)
        self._rooms.pop(room, None)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Ends it, and calls what :meth:`on_close` has registered."""
        _checks.close(code, reason)
        self._end(made_close(1000 if code is None else code, reason))

    def terminate(self) -> None:
        """Ends it with 1006."""
        self._end(made_close(1006, clean=False))

    def _end(self, close: Close) -> None:
        if self.closed is not None:
            return
        self.closed = close
        self._rooms.clear()
        self._messages.clear()
        for waiting in self._waits:
            if not waiting.done():
                waiting.set_result(close)
        self._tell_all(close)

    def on_close(self, handler: Callable[[Any, Close], Any], /) -> Callable[[Any, Close], Any]:
        """Registers what is called at its end; a coroutine becomes a task of the loop that runs."""
        _handlers.check_close(handler)
        self._on_close.append(handler)
        if self.closed is not None:
            self._tell_all(self.closed)
        return handler

    def _tell_all(self, close: Close) -> None:
        # One that a handler registers follows that handler.
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._on_close:
                self._tell(self._on_close.pop(0), close)
        finally:
            self._is_telling = False

    def _tell(self, handler: Callable[[Any, Close], Any], close: Close) -> None:
        returned = handler(self, close)
        if inspect.isawaitable(returned):
            task = asyncio.ensure_future(returned)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def wait_closed(self) -> Coroutine[Any, Any, Close]:
        """Waits until it is closed, and returns how."""
        return self._wait_closed()

    async def _wait_closed(self) -> Close:
        if self.closed is not None:
            return self.closed
        waiting: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._waits.append(waiting)
        try:
            return await waiting
        finally:
            self._waits.remove(waiting)

    def recv(self) -> Coroutine[Any, Any, Any]:
        """The next of ``messages``. After the last one the peer has left: it raises ``ConnectionClosed``."""
        return self._recv()

    async def _recv(self) -> Any:
        if self._messages:
            return self._messages.popleft()
        self._end(made_close(1001))
        self._check_open()

    def __aiter__(self) -> Self:
        """Iterates over ``messages``."""
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None


class _Sent(Wait[None]):
    """Nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def send(self, _value: Any, /) -> Any:
        raise StopIteration

    def throw(self, kind: Any, value: Any = None, _traceback: Any = None, /) -> Any:
        raise kind if value is None else value

    def close(self) -> None:
        """Nothing is open."""


def _payload(message: Payload) -> Payload:
    if not isinstance(message, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a message is str, bytes, bytearray or memoryview, not {type(message).__name__}")
    if isinstance(message, str):
        _checks.text("message", message)
    return message


def _check_id(id: object) -> None:
    if id is not None and (isinstance(id, bool) or not isinstance(id, (str, int))):
        raise TypeError("id must be a str or an int")


def _said(event: str, data: Any, status: str | None) -> tuple[str, Any, str | None]:
    """What is noted: the data as a peer would read it."""
    if not isinstance(event, str):
        raise TypeError(f"the name of an event is a str, not {type(event).__name__}")
    _checks.text("event", event)
    return event, _wsguard.loads(_wsguard.dumps(data)), status
