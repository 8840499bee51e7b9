"""The native part. Names that begin with an underscore are for the Python part of the package."""

from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from types import GenericAlias, TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, final

from typing_extensions import Self, TypeVar, disjoint_base

from ._request import Headers, Query, Tls
from ._types import Payload, SendStatus, Stats, VerdictCode, Wait

__all__ = [
    "VERSION",
    "Accept",
    "Awaiting",
    "Close",
    "Connection",
    "Done",
    "Json",
    "Message",
    "NativeServer",
    "Pipe",
    "Reject",
    "Request",
    "Violation",
    "begin_ending",
    "busy_threads",
    "command",
    "dumps",
    "end_of_records",
    "forked",
    "loads",
    "log_to_queue",
    "log_to_stderr",
    "made_close",
    "made_message",
    "made_request",
    "made_violation",
    "panic_for_tests",
    "policy_in_force",
    "stop_all",
    "verdicts",
    "wait_for_records",
]

VERSION: str

#: What an application keeps with a connection.
_Data = TypeVar("_Data", default=Any)
_CloseHandler = TypeVar("_CloseHandler", bound=Callable[[Any, Close], Any])

def policy_in_force(options: str) -> str: ...
def command(arguments: list[str], /, *, is_module: bool) -> int: ...
def dumps(value: Any, /) -> str: ...
def loads(text: str, /) -> Any: ...
def verdicts() -> list[tuple[VerdictCode, int, int, str, Literal["notice", "violation", "fault"]]]: ...
def forked() -> None: ...
def stop_all() -> None: ...
def log_to_stderr() -> None: ...
def log_to_queue() -> bool: ...
def wait_for_records() -> list[tuple[int, str, str, list[tuple[str, str]]]] | None: ...
def end_of_records() -> None: ...
def begin_ending() -> None: ...
def busy_threads() -> list[int]: ...
def panic_for_tests() -> None: ...
def made_request(
    path: str,
    query: str | None,
    headers: list[tuple[str, str]],
    ip: str | None,
    token: str | None,
    route: str | None,
    params: list[tuple[str, str]],
    peer_certificate: bytes | None,
) -> Request: ...
def made_message(
    event: str, data: Any, id: str | int | None, status: Literal["ok", "error"] | None, size_bytes: int
) -> Message: ...
def made_close(code: int, reason: str, clean: bool, verdict: VerdictCode | None) -> Close: ...
def made_violation(
    code: VerdictCode, ip: str | None, user: str | None, conn_id: str | None, event: str | None, detail: str
) -> Violation: ...

@final
class Awaiting:
    """The awaitable of a :class:`Connection` that has to wait. It is a coroutine for asyncio and anyio."""

    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, kind: Any, value: Any = None, _traceback: TracebackType | None = None, /) -> Any: ...
    def close(self) -> None: ...

@final
class Done:
    """The awaitable of a :class:`Connection` that has nothing to wait for."""

    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any, /) -> Any: ...
    def throw(self, kind: Any, value: Any = None, _traceback: TracebackType | None = None, /) -> Any: ...
    def close(self) -> None: ...

@final
class Accept:
    """Accepts a handshake: the answer of ``@server.authenticate``.

    Args:
        user: the name of the user, 1 to 256 bytes without control characters. Connections of one user share limits, and
            ``disconnect_user`` finds them by this name. For a session without a name use :meth:`anonymous`.
        data: an object of the application's; ``Connection.data`` starts with it.
        roles: what the session may do, for events that ask for a role: at most 64, each 1 to 64 bytes without control
            characters or spaces; default none.
        expires_at_ms: the end of the session (1008, ``session_expired``), in milliseconds since the Unix epoch;
            default: never.
        expires_at: the same as a ``datetime`` with a time zone.
        subprotocol: the subprotocol of the 101, one that the client offers; default: the first of the option
            ``subprotocols`` that it offers.
        headers: what the 101 has besides its own headers, such as ``Set-Cookie``: a mapping, or pairs of name and
            value; at most 64, of 16 KiB together; default none. One that may not be is logged, and the peer gets 503.

    Raises:
        InvalidArgument: the user's name, a role or the time is not accepted.
        TypeError: the user is not a ``str``. ``None`` is not accepted, so that an oversight lets nobody in.
        ValueError: both times are given, or the ``datetime`` has no time zone.
    """

    def __new__(
        cls,
        user: str,
        data: Any = None,
        *,
        roles: Iterable[str] | None = None,
        expires_at_ms: int | None = None,
        expires_at: datetime | None = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Self: ...
    @classmethod
    def anonymous(
        cls,
        data: Any = None,
        *,
        roles: Iterable[str] | None = None,
        expires_at_ms: int | None = None,
        expires_at: datetime | None = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Self:
        """Accepts without a user: limits per user do not apply, and ``disconnect_user`` does not find the session."""
    @property
    def user(self) -> str | None:
        """The name of the user; ``None`` for an anonymous session."""
    @property
    def data(self) -> Any:
        """The first value of ``Connection.data``."""
    @property
    def expires_at_ms(self) -> int | None:
        """The end of the session, in milliseconds since the Unix epoch; ``None``: it does not end."""
    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the session."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol of the 101; ``None``: the first of the option ``subprotocols`` that the client offers."""
    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that the 101 has besides its own, as pairs of name and value."""
    def __eq__(self, other: object, /) -> bool: ...

@final
class Reject:
    """Refuses a handshake: the answer of ``@server.authenticate``.

    Args:
        status: the HTTP status of the refusal, 300 to 599; default 401.
        headers: what the answer has besides its own headers, such as ``Location`` or ``WWW-Authenticate``: a mapping,
            or pairs of name and value; at most 64, of 16 KiB together; default none. One that may not be is logged, and
            the peer gets 503.
        body: the body, at most 64 KiB; default: the name of the verdict.

    Raises:
        TypeError: the headers or the body are of another type.
        ValueError: the status is not 300 to 599.
    """

    def __new__(
        cls,
        status: int = 401,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        body: Payload | None = None,
    ) -> Self: ...
    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that the answer has besides its own, as pairs of name and value."""
    @property
    def body(self) -> bytes:
        """The body; empty: the name of the verdict."""
    @property
    def status(self) -> int:
        """The HTTP status, 300 to 599."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Json:
    """JSON text that is sent as it is, for data that is serialised already.

    Raises:
        ValueError: the text is not JSON, or its bytes are not UTF-8.
    """

    def __new__(cls, text: str | bytes, /) -> Self: ...

@final
class Request:
    """An opening handshake that waits for :class:`Accept` or :class:`Reject`. It holds credentials: do not log it."""

    @property
    def method(self) -> str:
        """Always ``"GET"``."""
    @property
    def path(self) -> str:
        """The path of the request target, as received."""
    @property
    def route(self) -> str | None:
        """The route that the path is of, as the option ``routes`` has it; ``None`` if it is of none."""
    @property
    def reported(self) -> bool:
        """``True`` if its ``Origin``, ``Host`` or credential would be refused, were ``report_handshakes`` off: no
        cookie or header of it says who it is."""
    @property
    def params(self) -> dict[str, str]:
        """The parameters of the path, percent-decoded: ``{"name": "lobby"}`` for ``/room/{name}`` and
        ``/room/lobby``."""
    @property
    def query(self) -> str | None:
        """The query without ``?``, as received; ``None`` if the target has no ``?``."""
    @property
    def headers(self) -> Headers:
        """Every header, in a mapping that ignores the case of names."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; of several with one name the first."""
    @property
    def ip(self) -> str | None:
        """The client's address; ``None`` on a Unix socket without a proxy."""
    @property
    def token(self) -> str | None:
        """The token that ``token_sources`` found, unchecked; ``None`` if there is none."""
    @property
    def peer_certificate(self) -> bytes | None:
        """The client's own certificate (DER); ``None`` unless ``tls.client_ca`` asks for one."""

@final
class Close:
    """How a connection ended."""

    @property
    def code(self) -> int:
        """The close code: the server's if it closed first, else the peer's. 1005 after an empty close frame, 1006
        without a closing handshake (RFC 6455 section 7.1.5)."""
    @property
    def reason(self) -> str:
        """The reason of the close frame; empty if there is none."""
    @property
    def clean(self) -> bool:
        """``True`` if both sides sent a close frame."""
    @property
    def verdict(self) -> VerdictCode | None:
        """The verdict that closed it; ``None`` if the peer or the application did, or the connection broke."""

@final
class Message:
    """A message of the ``json`` protocol."""

    @property
    def event(self) -> str:
        """The name of the event."""
    @property
    def data(self) -> Any:
        """The data: Python objects, an instance of the event's model, or ``bytes`` of JSON text (``raw=True``)."""
    @property
    def id(self) -> str | int | None:
        """The id that a reply carries; ``None`` if the message has none."""
    @property
    def status(self) -> Literal["ok", "error"] | None:
        """The status that the peer sent; ``None`` if the message has none."""
    @property
    def size_bytes(self) -> int:
        """The length of the message's payload in bytes."""

@final
class Violation:
    """A verdict against a peer. A flood of them is sampled; ``Server.stats()`` counts every one. A ``match`` statement
    takes the fields in the order of ``__match_args__``, which is the same in every language."""

    __match_args__: Final = ("code", "close_code", "http_status", "ip", "user", "conn_id", "event", "detail")

    @property
    def code(self) -> VerdictCode:
        """The stable name of the verdict: ``"origin_denied"``."""
    @property
    def close_code(self) -> int | None:
        """The close code of the verdict; ``None`` before the 101."""
    @property
    def http_status(self) -> int | None:
        """The HTTP status of the verdict; ``None`` after the 101."""
    @property
    def ip(self) -> str | None:
        """The client's address; ``None`` on a Unix socket without a proxy."""
    @property
    def user(self) -> str | None:
        """The user; ``None`` before authentication, and for anonymous sessions."""
    @property
    def conn_id(self) -> str | None:
        """The id of the connection; ``None`` before the 101."""
    @property
    def event(self) -> str | None:
        """The event of the message, escaped and cut to 64 characters."""
    @property
    def detail(self) -> str:
        """The cause, in the words of the log record: the option or header, the limit, the place in the data. At most
        256 characters, none of them a control character."""
    @property
    def conn(self) -> Connection | None:
        """The connection; ``None`` before the 101, and after its end."""

@final
class Connection(Generic[_Data]):
    """A connection. Any thread may call its methods. Awaiting them belongs to the server's event loop.

    ``send``, ``emit`` and ``reply`` send at once, awaited or not. Awaiting them adds back-pressure: it waits until the
    peer has read what was queued, and raises :class:`ConnectionClosed` if the connection ends first. In a plain
    function call them without ``await``. The ``_nowait`` forms return ``"sent"``, ``"queued"`` or ``"closed"``, and do
    not raise for a closed connection. ``send`` belongs to protocol ``raw``, ``emit`` and ``reply`` belong to ``json``;
    the other one raises :class:`InvalidArgument`.

    ``compress=False`` sends a message plain on a connection that has agreed to ``compression``: what is compressed
    already (images), and a secret beside text that a peer chose. Elsewhere it changes nothing.

    ``Connection[Session]`` types ``data``.

    The handlers of a connection share one ``contextvars`` context. It begins with what ``authenticate`` set, and no
    other connection sees it.
    """

    @property
    def id(self) -> str:
        """The id, as the log has it. It is unique while the server runs."""
    @property
    def ip(self) -> str | None:
        """The client's address; ``None`` on a Unix socket without a proxy."""
    @property
    def user(self) -> str | None:
        """The user; ``None`` for an anonymous session, and without authentication."""
    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of its token, of its JWT's ``roles_claim``, or of ``Accept(roles=...)``, as of the open. A reload
        may give a static token others: those decide what it may send."""
    @property
    def path(self) -> str:
        """The path of the request target."""
    @property
    def route(self) -> str | None:
        """The route that the path is of, as the option ``routes`` has it; ``None`` if it is of none."""
    @property
    def params(self) -> dict[str, str]:
        """The parameters of the path, percent-decoded: ``{"name": "lobby"}`` for ``/room/{name}`` and
        ``/room/lobby``."""
    @property
    def query_string(self) -> str | None:
        """The query without ``?``, as received; ``None`` if the target has no ``?``."""
    @property
    def query(self) -> Query:
        """The parameters of the query, percent-decoded, in a mapping; of several with one name it gives the first."""
    @property
    def headers(self) -> Headers:
        """The headers of the handshake that the option ``keep_headers`` names, in a mapping that ignores the case of
        names."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of the handshake that the option ``keep_cookies`` names."""
    @property
    def claims(self) -> dict[str, Any] | None:
        """The claims of the JSON Web Token, at most 8 KiB of them: a new dictionary at each access. ``None`` without
        ``auth.jwt``."""
    @property
    def origin(self) -> str | None:
        """The ``Origin`` header; ``None`` if the client sent none."""
    @property
    def tls(self) -> Tls | None:
        """What TLS has agreed upon; ``None`` in plaintext."""
    @property
    def port(self) -> int | None:
        """The client's port; ``None`` where it is not known: on a Unix socket, and behind a proxy that does not
        tell."""
    @property
    def local_address(self) -> tuple[str, int] | None:
        """The address and port that it came in on; ``None`` on a Unix socket."""
    @property
    def reported(self) -> bool:
        """``True`` if its ``Origin``, ``Host`` or credential would have been refused, were ``report_handshakes`` off.
        It has no user then, and ``data`` that ``authenticate`` gave it is no proof of who it is."""
    @property
    def opened_at_ms(self) -> int:
        """When it opened, in milliseconds since the Unix epoch."""
    @property
    def expires_at_ms(self) -> int | None:
        """When its session ends, in milliseconds since the Unix epoch; ``None``: it does not end."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the handshake selected; ``None`` if it selected none."""
    @property
    def compressed(self) -> bool:
        """``True`` if the handshake has agreed to compress messages: the option ``compression`` is stated, and the
        client offered it. A reload does not change it."""
    @property
    def data(self) -> _Data:
        """An object of the application's. It starts as ``Accept(data=...)``, else as ``None``."""
    @data.setter
    def data(self, value: _Data) -> None: ...
    @property
    def is_open(self) -> bool:
        """``True`` while it takes messages: no longer after ``close``, ``disconnect_user`` or a failed handler, even
        while ``closed`` is still ``None``."""
    @property
    def closed(self) -> Close | None:
        """How it ended; ``None`` before its end."""
    @property
    def message(self) -> Message | None:
        """The message that a handler handles now (``json``); ``None`` outside a handler."""
    def send(self, message: Payload, /, *, compress: bool = True) -> Wait[None]:
        """Sends a message (``raw``): ``str`` as text, bytes as binary. Awaiting waits until the peer has read it.

        Raises:
            ConnectionClosed: the connection has ended.
            InvalidArgument: the protocol is ``json``, or the message is over ``max_outbox_bytes``.
            TypeError: ``message`` is neither ``str`` nor bytes, or ``compress`` is no ``bool``.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def send_nowait(self, message: Payload, /, *, compress: bool = True) -> SendStatus:
        """Sends a message (``raw``), and returns ``"sent"``, ``"queued"`` or ``"closed"``. It raises what :meth:`send`
        raises, except ``ConnectionClosed``."""
    def emit(self, event: str, data: Any = None, /, *, compress: bool = True) -> Wait[None]:
        """Emits an event (``json``): ``{"event": …, "data": …, "status": "ok"}``. Awaiting waits until the peer has
        read it.

        Args:
            event: the name of the event.
            data: what ``json.dumps`` takes, a Pydantic model, or :class:`Json`; default ``None``.

        Raises:
            ConnectionClosed: the connection has ended.
            InvalidArgument: the protocol is ``raw``.
            TypeError: ``data`` is not JSON (the error names the type), or ``compress`` is no ``bool``.
            ValueError: ``data`` holds NaN or infinity, or is nested deeper than 256.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def emit_nowait(self, event: str, data: Any = None, /, *, compress: bool = True) -> SendStatus:
        """Emits an event (``json``), and returns ``"sent"``, ``"queued"`` or ``"closed"``. It raises what :meth:`emit`
        raises, except ``ConnectionClosed``."""
    def reply(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> Wait[None]:
        """Emits an event (``json``) with the ``id`` of the message that a handler handles now, or with the given one.
        As :meth:`emit` otherwise."""
    def reply_nowait(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> SendStatus:
        """Replies (``json``), and returns ``"sent"``, ``"queued"`` or ``"closed"``. As :meth:`reply` otherwise."""
    def reply_error(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> Wait[None]:
        """Replies (``json``) with the status ``error``: what the message asked for could not be done. As :meth:`reply`
        otherwise."""
    def reply_error_nowait(
        self, event: str, data: Any = None, /, *, id: str | int | None = None, compress: bool = True
    ) -> SendStatus:
        """Replies with the status ``error``, and returns ``"sent"``, ``"queued"`` or ``"closed"``. As
        :meth:`reply_error` otherwise."""
    def call(
        self, event: str, data: Any = None, /, *, timeout_ms: int = 10_000, compress: bool = True
    ) -> Coroutine[Any, Any, Any]:
        """Asks the peer (``json``), and waits for its answer: a message with the ``id`` of the question. Returns the
        data of the answer. It does not wait for handlers, nor they for it.

        The event of the answer must be declared, as for every message: its schema is checked. An answer that comes too
        late is dropped. Answers of other connections never match. The question is sent when it is awaited. While it is
        under way, four times as many messages of the connection may wait for their handlers (256) before it is not
        read: an answer behind more of them than that is not found until handlers have ended.

        Args:
            event: the name of the event.
            data: as for :meth:`emit`; default ``None``.
            timeout_ms: milliseconds to wait for the answer; default 10 000.
            compress: ``False`` asks plain.

        Raises:
            CallRefused: the peer has answered with the status ``error``.
            CallTimeout: no answer came in time.
            ConnectionClosed: the connection has ended.
            InvalidArgument: the protocol is ``raw``, or ``timeout_ms`` is negative.
            TypeError: ``data`` is not JSON; the error names the type.
            UsageError: 1024 calls of the connection are under way (``too_many_calls``), the server runs without asyncio
                or on another event loop than this (``no_event_loop``), or belongs to the parent process (``forked``).
        """
    def ping(self, *, timeout_ms: int = 10_000) -> Coroutine[Any, Any, float]:
        """Sends a ping, and waits for the pong. Returns the milliseconds between.

        Messages that the peer has sent before the pong wait meanwhile, as for :meth:`call`.

        Args:
            timeout_ms: milliseconds to wait for the pong; default 10 000.

        Raises:
            CallTimeout: no pong came in time.
            ConnectionClosed: the connection has ended.
            InvalidArgument: 16 pings of the connection have no answer yet, or ``timeout_ms`` is negative.
            UsageError: the server runs without asyncio or on another event loop than this (``no_event_loop``), or
                belongs to the parent process (``forked``).
        """
    def ping_nowait(self, handler: Callable[[Any, float], object], /) -> SendStatus:
        """Sends a ping, and returns ``"sent"``, ``"queued"`` or ``"closed"``. When the pong comes, the handler is
        called with the connection and the milliseconds between; it works without asyncio, too.

        Raises:
            InvalidArgument: 16 pings of the connection have no answer yet.
            TypeError: the handler does not take what it is called with, or is a coroutine function.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def on_close(self, handler: _CloseHandler, /) -> _CloseHandler:
        """Registers a function or coroutine function that is called when the connection has ended, before the server's
        ``on_close``, with the same arguments. On a connection that has ended it is called at once; one that a close
        handler registers, after that handler.

        Raises:
            TypeError: the handler does not take what it is called with.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def terminate(self) -> None:
        """Drops the connection at once, without a closing handshake. What was sent before is offered to the socket
        once: what that has no room for is lost. It ends with 1006.

        Raises:
            UsageError: the server belongs to the parent process (``forked``).
        """
    @property
    def buffered_bytes(self) -> int:
        """The bytes that were sent to it and that its socket has not taken; 0 after its end."""
    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it is in; empty after its end."""
    @property
    def _is_over(self) -> bool: ...
    def _begin_call(self, event: str, data: Any, compress: bool) -> tuple[int, Future[Any]]: ...
    def _end_call(self, number: int) -> None: ...
    def _begin_ping(self) -> Future[Any]: ...
    def _end_ping(self) -> None: ...
    def _check_loop(self, asks: str) -> None: ...
    def _closed_error(self) -> Exception: ...
    def _send(self, message: Any, /) -> Wait[None] | None: ...
    def _receive(self) -> Wait[dict[str, Any]]: ...
    def _leave(self) -> None: ...
    def join(self, room: str, /) -> None:
        """Joins a room: a name of 1 to 256 bytes. A connection joins at most 1024, and leaves them when it closes.

        Raises:
            ConnectionClosed: the connection has ended.
            InvalidArgument: the name or the number of rooms is not accepted.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def leave(self, room: str, /) -> None:
        """Leaves a room. It raises what :meth:`join` raises."""
    def close(self, code: int | None = None, reason: str = "") -> None:
        """Starts the closing handshake. From here on none of its messages reaches a handler, and it sends nothing. A
        second call does nothing.

        Args:
            code: the close code; default 1000.
            reason: the reason, at most 123 bytes; default empty.

        Raises:
            InvalidArgument: ``code`` is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4), or
                ``reason`` is over 123 bytes.
            TypeError: ``code`` is not an ``int``.
            UsageError: the server belongs to the parent process (``forked``).
        """
    def wait_closed(self) -> Wait[Close]:
        """Waits until it has ended, and returns how.

        Raises:
            UsageError: the server runs without asyncio or on another event loop than this (``no_event_loop``), or
                belongs to the parent process (``forked``).
        """
    def recv(self) -> Wait[Any]:
        """Waits for the next message: ``str`` or ``bytes`` in ``raw``, :class:`Message` in ``json``. Until the task
        that calls it has ended, it gets the messages instead of the handlers.

        Raises:
            ConnectionClosed: the connection has ended, and every message was taken.
            UsageError: the server runs without asyncio or on another event loop than this (``no_event_loop``), or
                belongs to the parent process (``forked``).
        """
    def __class_getitem__(cls, data: Any) -> GenericAlias: ...
    def __aiter__(self) -> Self:
        """Iterates over the messages, as :meth:`recv` gives them, until the connection has ended."""
    def __anext__(self) -> Wait[Any]: ...

@final
class Pipe:
    """The application's end of a connection whose bytes somebody else brings and takes."""

    @property
    def id(self) -> int: ...
    def push(self, received: bytes) -> bool:
        """Hands over bytes of the peer. ``False``: push no more until there is room."""
    def end(self) -> None:
        """The peer has ended its side."""
    def abort(self) -> None:
        """The transport is broken."""
    def take(self, most: int) -> tuple[bytes, bool, bool]:
        """The next bytes for the peer, at most ``most``; whether nothing follows; and whether there is more at once."""

_LoopCalls: TypeAlias = tuple[
    AbstractEventLoop,
    Callable[[], Future[Any]],
    Callable[..., Any],
    Callable[[], object],
    Callable[[], object],
    Callable[..., object],
    Callable[..., object],
    set[Task[Any]],
]

@disjoint_base
class NativeServer:
    """The native side of :class:`wsguard.Server`."""

    def __new__(cls, *_args: Any, **_options: Any) -> Self: ...
    @property
    def address(self) -> str:
        """The address that it listens on, with the real port; the first of :attr:`addresses`.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    @property
    def addresses(self) -> list[str]:
        """Every address that it listens on, IPv4 first: a name in ``listen`` may resolve to several."""
    @property
    def admin_address(self) -> str | None:
        """The address of ``admin_listen``, with the real port; ``None`` without that option."""
    def stop(self) -> None:
        """Stops at once, and drops every connection. :meth:`Server.drain` closes them first.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    def disconnect_user(self, user: str, /) -> None:
        """Closes every connection of a user with 1008 (``session_revoked``). None of their messages reaches a handler
        any more. The user may connect again.

        Raises:
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
    def get(self, conn_id: str, /) -> Connection | None:
        """The open connection of an id; ``None`` if there is none.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    def reload_tls(self) -> None:
        """Reads certificate and key again. New connections use them.

        Raises:
            ConfigError: the files are not a certificate and its key; the old pair stays in use.
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    def metrics(self) -> str:
        """The numbers of the server as OpenMetrics text, as ``admin_listen`` serves them: for an HTTP server of your
        own. Its media type is ``application/openmetrics-text; version=1.0.0; charset=utf-8``.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    def stats(self) -> Stats:
        """The counters at this moment.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
    def _compile(self, options: str) -> None: ...
    def _open_notifier(self) -> int | None: ...
    def _close_notifier(self) -> None: ...
    def _start(
        self,
        options: str,
        handlers: dict[str, Any],
        loop_calls: _LoopCalls | None,
        *,
        listens: bool = True,
        consults: bool = False,
    ) -> None: ...
    def _adopt(self, number: int, received: bytes, tag: int | None = None, *, is_secure: bool = False) -> None: ...
    def _adopt_pipe(
        self,
        received: bytes,
        tag: int,
        *,
        peer: tuple[str, int] | None,
        local: tuple[str, int] | None,
        is_secure: bool,
    ) -> Pipe: ...
    def _answer(self, ticket: int, answer: Accept | Reject | None) -> bool: ...
    def _deliver(self) -> None: ...
    def _wait(self) -> bool: ...
    def _run(self, signals: bool) -> None: ...
    def _end(self) -> bool: ...
    def _wake_waits(self) -> None: ...
    @property
    def _is_running(self) -> bool: ...
    @property
    def _is_forked(self) -> bool: ...
    def _reload(self, options: str, handlers: dict[str, Any]) -> int: ...
    def _ban(self, ip: str | None, user: str | None, for_ms: int | None, reason: str) -> None: ...
    def _unban(self, ip: str | None, user: str | None) -> bool: ...
    def _bans(self) -> list[tuple[str | None, str | None, int | None, str, bool]]: ...
    def _drain(self, timeout_ms: int, jitter_ms: int) -> None: ...
    def _emit_to(
        self,
        rooms: list[str] | None,
        user: str | None,
        except_: list[Connection],
        event: str,
        data: Any,
        compress: bool,
    ) -> None: ...
    def _send_to(
        self, rooms: list[str] | None, user: str | None, except_: list[Connection], message: Payload, compress: bool
    ) -> None: ...
    def _members(self, rooms: list[str] | None, user: str | None) -> list[Connection]: ...
    def _room_size(self, room: str) -> int: ...
    def _count_everywhere(
        self,
        rooms: list[str] | None,
        user: str | None,
        except_: list[Connection],
        timeout_ms: int,
        then: Callable[[tuple[int, int] | None, BaseException | None], object],
    ) -> int: ...
    def _forget_count(self, ticket: int) -> None: ...
    def _clear_rooms(self, rooms: list[str], except_: list[Connection]) -> None: ...
    def _close_elsewhere(self, rooms: list[str] | None, user: str | None, code: int, reason: str) -> None: ...
