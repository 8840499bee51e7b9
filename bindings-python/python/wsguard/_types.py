"""What the native part takes and gives, for type checkers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

Result = TypeVar("Result", covariant=True)


class Wait(Coroutine[Any, Any, Result]):
    """What a call of a connection gives to ``await``. It is a coroutine for asyncio (``create_task``, task groups) and
    anyio, but need not be awaited: the call itself has done its work."""


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
]
#: What became of a message: on its way, waiting for its peer to read, or the connection has closed.
SendStatus: TypeAlias = Literal["sent", "queued", "closed"]
#: A message as it is sent: ``str`` as text, the others as binary.
Payload: TypeAlias = str | bytes | bytearray | memoryview


class Stats(TypedDict):
    """The counters at one moment."""

    connections: int
    open: int
    opened_total: int
    messages_in: int
    bytes_in: int
    bytes_out: int
    inbox_bytes: int
    outbox_bytes: int
    delayed: int
    pending_auth: int
    upgrades_in_inbox: int
    refusing: int
    rooms: int
    room_memberships: int
    verdicts: dict[VerdictCode, int]
