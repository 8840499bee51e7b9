"""The types of the native part, for type checkers."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, TypeVar

Result = TypeVar("Result", covariant=True)


class Wait(Coroutine[Any, Any, Result]):
    """The awaitable that the methods of a connection return. It is a coroutine for asyncio (``create_task``, task
    groups) and anyio. It need not be awaited: the call itself has done its work."""


#: The stable names of verdicts; a test compares them with the core's table.
VerdictCode: TypeAlias = Literal[
    "handshake_malformed",
    "method_not_allowed",
    "http_version",
    "upgrade_required",
    "head_too_large",
    "handshake_timeout",
    "path_not_found",
    "host_denied",
    "origin_denied",
    "ip_rate_limited",
    "ip_full",
    "user_full",
    "server_full",
    "auth_unavailable",
    "auth_failed",
    "tls_failed",
    "proxy_header_invalid",
    "bad_frame",
    "bad_utf8",
    "message_too_big",
    "too_many_fragments",
    "message_timeout",
    "rate_limited",
    "control_flood",
    "unexpected_binary",
    "bad_envelope",
    "unknown_event",
    "schema_mismatch",
    "slow_consumer",
    "session_expired",
    "session_revoked",
    "idle_timeout",
    "draining",
    "internal",
    "proxy_required",
    "banned",
    "event_denied",
    "bad_compression",
    "cluster_unavailable",
]
#: The state of a message after a send: the peer's to read, queued until the peer reads, or not sent because the
#: connection is closed.
SendStatus: TypeAlias = Literal["sent", "queued", "closed"]
#: A message of protocol ``raw``: ``str`` is sent as text, the others as binary.
Payload: TypeAlias = str | bytes | bytearray | memoryview


class Ban(NamedTuple):
    """A ban that is in force."""

    #: The address or the CIDR that is banned; ``None`` if a user is.
    ip: str | None
    #: The user that is banned; ``None`` if an address is.
    user: str | None
    #: Its end, in milliseconds since the Unix epoch; ``None``: it does not end by itself.
    ends_at_ms: int | None
    #: Why, as :meth:`Server.ban` was told.
    reason: str
    #: ``True`` if the option ``auto_ban`` made it.
    is_automatic: bool


class EventDetails(TypedDict, total=False):
    """What :meth:`Server.on` and :meth:`Server.event` may state of an event."""

    #: Units of the rate limit, fractions allowed.
    cost: float | None
    #: The roles of which a connection needs one to send the event.
    roles: Sequence[str] | None
    #: The answer to data that does not fit.
    on_mismatch: Literal["close", "reply"] | None
    #: The route that the event is of.
    route: str | None


class Stats(TypedDict):
    """The counters of a server at one moment."""

    #: Connections, handshakes included.
    connections: int
    #: Open connections.
    open: int
    #: Connections opened since the start.
    opened_total: int
    #: Valid messages received since the start.
    messages_in: int
    #: Bytes received after handshakes since the start, framing included.
    bytes_in: int
    #: Bytes written after handshakes since the start, framing included.
    bytes_out: int
    #: Bytes of events that the application has not handled yet.
    inbox_bytes: int
    #: Bytes that peers have not read yet.
    outbox_bytes: int
    #: Messages that wait for their rate limit.
    delayed: int
    #: Handshakes that wait for ``authenticate``.
    pending_auth: int
    #: Handshakes among the events that the application has not handled yet.
    upgrades_in_inbox: int
    #: Handshakes that are being refused.
    refusing: int
    #: Rooms with a member, counted on each thread of the server.
    rooms: int
    #: Memberships of all connections in all rooms.
    room_memberships: int
    #: Messages received since the start that were compressed, and that could be decompressed.
    messages_compressed_in: int
    #: Bytes that they were decompressed to since the start, also of what was refused.
    bytes_inflated: int
    #: Messages sent compressed since the start; a broadcast counts once for each connection.
    messages_compressed_out: int
    #: Messages since the start that went plain although they were long enough: over 1 MiB, or behind the mebibyte that
    #: a thread compresses in one go.
    messages_left_plain: int
    #: Bytes that compression has saved since the start of what was sent.
    compression_saved_bytes: int
    #: Bytes in pipes (connections under TLS of somebody else) that the server has not read, or that were not taken yet.
    pipe_bytes: int
    #: 1 while the cluster can be reached; 0 without a cluster.
    cluster_up: int
    #: Messages for other nodes that were dropped since the start: the cluster could not be reached, or was too slow.
    cluster_dropped: int
    #: Verdicts since the start: a count for every code, also where it is 0.
    verdicts: dict[VerdictCode, int]
