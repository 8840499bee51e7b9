"""The native part. Names that begin with an underscore are for the Python part of the package."""

from asyncio import Future, Task
from collections.abc import Callable
from datetime import datetime
from types import GenericAlias, TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, final

from typing_extensions import Self, TypeVar, disjoint_base

from ._request import Headers
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
    "Reject",
    "Request",
    "Violation",
    "begin_ending",
    "busy_threads",
    "dumps",
    "end_of_records",
    "forked",
    "loads",
    "log_to_queue",
    "log_to_stderr",
    "panic_for_tests",
    "policy_in_force",
    "stop_all",
    "verdicts",
    "wait_for_records",
]

VERSION: str

#: What an application keeps with a connection.
_Data = TypeVar("_Data", default=Any)

def policy_in_force(options: str) -> str: ...
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

@final
class Awaiting:
    """Waits for something of a connection: a coroutine for asyncio. One that is never awaited is no fault."""

    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, kind: Any, value: Any = None, _traceback: TracebackType | None = None, /) -> Any: ...
    def close(self) -> None: ...

@final
class Done:
    """What there is nothing to wait for."""

    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any, /) -> Any: ...
    def throw(self, kind: Any, value: Any = None, _traceback: TracebackType | None = None, /) -> Any: ...
    def close(self) -> None: ...

@final
class Accept:
    """A session the application grants: the answer of ``@server.authenticate``.

    Args:
        user: who it is: shares limits and can be disconnected by name; 1 to 256 bytes without control characters.
            Whoever has no name is :meth:`anonymous`.
        data: the application's own; ``Connection.data`` starts with it.
        expires_at_ms: when the session ends (1008, ``session_expired``), in milliseconds since the Unix epoch.
        expires_at: the same as an aware ``datetime``.

    Raises:
        InvalidArgument: the user's name or the time is not accepted.
        TypeError: the user is no ``str``: ``None`` is nobody, and nobody is let in by an oversight.
    """

    def __new__(
        cls,
        user: str,
        data: Any = None,
        *,
        expires_at_ms: int | None = None,
        expires_at: datetime | None = None,
    ) -> Self: ...
    @classmethod
    def anonymous(
        cls,
        data: Any = None,
        *,
        expires_at_ms: int | None = None,
        expires_at: datetime | None = None,
    ) -> Self:
        """A session without a user: limits per user do not apply to it, and ``disconnect_user`` does not find it."""
    @property
    def user(self) -> str | None: ...
    @property
    def data(self) -> Any: ...
    @property
    def expires_at_ms(self) -> int | None: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Reject:
    """A refusal: the answer of ``@server.authenticate``. ``status`` is the HTTP status, 300 to 599; default 401."""

    def __new__(cls, status: int = 401) -> Self: ...
    @property
    def status(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Json:
    """JSON text that is sent as it is: for data that was serialised elsewhere. ``ValueError`` when it is none."""

    def __new__(cls, text: str | bytes, /) -> Self: ...

@final
class Request:
    """An opening handshake that waits for :class:`Accept` or :class:`Reject`. It holds credentials: do not log it."""

    @property
    def method(self) -> str:
        """Always ``"GET"``."""
    @property
    def path(self) -> str:
        """The path, as sent."""
    @property
    def query(self) -> str | None:
        """The query without ``?``, as sent."""
    @property
    def headers(self) -> Headers:
        """Every header: a mapping whose keys may be in any case."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies; of two with the same name the first."""
    @property
    def ip(self) -> str | None:
        """The client's address; ``None`` on a Unix socket without a proxy."""
    @property
    def token(self) -> str | None:
        """The token that ``token_sources`` found, not yet checked by anyone."""
    @property
    def peer_certificate(self) -> bytes | None:
        """The leaf of the client's certificate chain (DER), where ``tls.client_ca`` asks for one."""

@final
class Close:
    """How a connection ended."""

    @property
    def code(self) -> int:
        """Ours when we closed, else the peer's; 1005 for an empty close frame, 1006 when it broke (RFC 6455 7.1.5)."""
    @property
    def reason(self) -> str:
        """The reason with it."""
    @property
    def clean(self) -> bool:
        """Whether both sides sent a close frame."""

@final
class Message:
    """A message of the ``json`` protocol."""

    @property
    def event(self) -> str:
        """Its event."""
    @property
    def data(self) -> Any:
        """Its data: Python objects, the event's model, or ``bytes`` of JSON text where ``raw`` was asked for."""
    @property
    def id(self) -> str | int | None:
        """What a reply carries."""
    @property
    def status(self) -> Literal["ok", "error"] | None:
        """The peer's status."""
    @property
    def size_bytes(self) -> int:
        """Payload bytes of the whole message."""

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
    """A connection. Any thread may call its methods; what is awaited belongs to the server's event loop.

    ``send``, ``emit`` and ``reply`` hand the message over at once, awaited or not; awaiting waits until the peer has
    taken what was queued for it (back-pressure), and raises :class:`ConnectionClosed` when it never will. In a plain
    function call them without ``await``, or the ``_nowait`` forms, which raise nothing when the connection has closed:
    they tell ``"sent"``, ``"queued"`` or ``"closed"``. ``send`` is of protocol ``raw``, ``emit`` and ``reply`` are of
    ``json``: the other kind is an ``InvalidArgument``.

    ``Connection[Session]`` says what its ``data`` is.

    Handlers of a connection share one ``contextvars`` context, which begins with what ``authenticate`` set: what is set
    there is seen by later handlers of the same connection, and by no other.
    """

    @property
    def id(self) -> str:
        """Unique for the server's life; the one in the log."""
    @property
    def ip(self) -> str | None:
        """The client's address; ``None`` on a Unix socket without a proxy."""
    @property
    def user(self) -> str | None:
        """The user, where authentication names one."""
    @property
    def path(self) -> str:
        """The request path."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol of the 101."""
    @property
    def data(self) -> _Data:
        """The application's own; what ``Accept(data=...)`` carried, until it is set."""
    @data.setter
    def data(self, value: _Data) -> None: ...
    @property
    def is_open(self) -> bool:
        """Whether something may still be sent to it: no more after ``close``, ``disconnect_user`` or a failed handler,
        though its end may not be known yet (``closed``)."""
    @property
    def closed(self) -> Close | None:
        """How it ended; ``None`` while it has not."""
    @property
    def message(self) -> Message | None:
        """The message that is handled now (``json``); ``None`` outside a handler."""
    def send(self, message: Payload, /) -> Wait[None]:
        """Sends a message: ``str`` as text, bytes as binary.

        Raises:
            ConnectionClosed: it has ended.
            InvalidArgument: the protocol is ``json``.
            TypeError: ``message`` is neither.
            UsageError: the server belongs to the parent process.
        """
    def send_nowait(self, message: Payload, /) -> SendStatus:
        """Sends a message and tells what became of it."""
    def emit(self, event: str, data: Any = None, /) -> Wait[None]:
        """Emits an event (``json``): ``{"event": …, "data": …, "status": "ok"}``.

        ``data`` is what ``json.dumps`` takes, a Pydantic model, or :class:`Json`.

        Raises:
            ConnectionClosed: it has ended.
            InvalidArgument: the protocol is ``raw``.
            TypeError: ``data`` is not JSON; names the type.
            ValueError: NaN, infinity, or nested too deep.
        """
    def emit_nowait(self, event: str, data: Any = None, /) -> SendStatus:
        """Emits an event and tells what became of it."""
    def reply(self, event: str, data: Any = None, /, *, id: str | int | None = None) -> Wait[None]:
        """Emits an event with the ``id`` of the message that is handled now, or with this one. As :meth:`emit`."""
    def reply_nowait(self, event: str, data: Any = None, /, *, id: str | int | None = None) -> SendStatus:
        """Replies and tells what became of it."""
    def join(self, room: str, /) -> None:
        """Enters a room; 1 to 256 bytes, at most 1024 rooms. A connection leaves its rooms when it closes."""
    def leave(self, room: str, /) -> None:
        """Leaves a room."""
    def close(self, code: int | None = None, reason: str = "") -> None:
        """Starts the closing handshake, by default with 1000; does nothing when it was closed. From here on no message
        of it reaches a handler, and nothing is sent.

        Raises:
            InvalidArgument: ``code`` is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4), or
                ``reason`` is over 123 bytes.
        """
    def wait_closed(self) -> Wait[Close]:
        """Waits until it has ended."""
    def recv(self) -> Wait[Any]:
        """Waits for the next message: ``str`` or ``bytes`` in ``raw``, :class:`Message` in ``json``. From the first
        call on, messages come here instead of to handlers, until the task that calls it has ended.

        Raises:
            ConnectionClosed: it has ended, and every message was taken.
            UsageError: the server runs without asyncio.
        """
    def __class_getitem__(cls, data: Any) -> GenericAlias: ...
    def __aiter__(self) -> Self:
        """The messages, until the connection has ended."""
    def __anext__(self) -> Wait[Any]: ...

_LoopCalls: TypeAlias = tuple[
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
        """The address it listens on, with the real port; the first of :attr:`addresses`."""
    @property
    def addresses(self) -> list[str]:
        """Every address it listens on: a name in ``listen`` may resolve to several, IPv4 first."""
    def stop(self) -> None:
        """Stops at once: every connection is dropped. :meth:`Server.drain` is the gentle way."""
    def disconnect_user(self, user: str, /) -> None:
        """Closes every connection of a user: 1008, ``session_revoked``."""
    def reload_tls(self) -> None:
        """Reads certificate and key again; a bad pair keeps the old one, and raises ``ConfigError``."""
    def stats(self) -> Stats:
        """The counters now."""
    def _compile(self, options: str) -> None: ...
    def _open_notifier(self) -> int | None: ...
    def _close_notifier(self) -> None: ...
    def _start(self, options: str, handlers: dict[str, Any], loop_calls: _LoopCalls | None) -> None: ...
    def _deliver(self) -> None: ...
    def _wait(self) -> bool: ...
    def _run(self, signals: bool) -> None: ...
    def _end(self) -> bool: ...
    def _wake_waits(self) -> None: ...
    @property
    def _is_running(self) -> bool: ...
    @property
    def _is_forked(self) -> bool: ...
    def _drain(self, timeout_ms: int, jitter_ms: int) -> None: ...
    def _emit_to(self, room: str | None, except_: Connection | None, event: str, data: Any) -> None: ...
    def _send_to(self, room: str | None, except_: Connection | None, message: Payload) -> None: ...
