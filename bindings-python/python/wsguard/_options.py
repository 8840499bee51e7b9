"""The options, for type checkers. What they mean and what is accepted is the core's: see the table in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict


class EventOptions(TypedDict, total=False):
    """One event of the ``json`` protocol."""

    #: JSON Schema 2020-12 for ``data``, a Pydantic model or a ``TypeAdapter``. Default: any data.
    schema: Any
    #: Units of the rate limit. Default 1.
    cost: float


class JsonLimits(TypedDict, total=False):
    """Bounds on the JSON of a message."""

    max_depth: int
    max_keys: int


class RateLimit(TypedDict, total=False):
    """The leaky bucket of messages and bytes."""

    per_second: float
    burst: float
    queue: int
    bytes_per_second: float | None
    key: Literal["user", "ip", "connection"]


class BurstLimit(TypedDict, total=False):
    """A leaky bucket without a queue."""

    per_second: float
    burst: float


class Token(TypedDict, total=False):
    """A static token: itself, or its SHA-256 in hexadecimal."""

    token: str
    sha256: str
    user: str


class Tokens(TypedDict):
    """Static tokens."""

    tokens: Sequence[Token]


class JwtOptions(TypedDict, total=False):
    """JSON Web Tokens."""

    algorithms: Sequence[str]
    key: Any
    keys: Any
    issuer: Any
    audience: Any
    leeway_s: int
    user_claim: str


class Jwt(TypedDict):
    """A signed JSON Web Token."""

    jwt: JwtOptions


class _TlsPair(TypedDict):
    cert: str | PathLike[str]
    key: str | PathLike[str]


class Tls(_TlsPair, total=False):
    """PEM texts or paths of PEM files."""

    client_ca: str | PathLike[str]
    min_version: Literal["1.2", "1.3"]


class Options(TypedDict, total=False):
    """The policy as stated. ``origins`` and ``auth`` have no default: a server does not start without them."""

    listen: str
    unix_mode: str | None
    reuse_port: bool
    threads: int
    paths: Sequence[str] | None
    origins: Sequence[str] | None
    dangerously_allow_any_origin: bool
    missing_origin: Literal["deny", "allow"]
    hosts: Sequence[str] | None
    auth: Literal["callback", "none"] | Tokens | Jwt | None
    token_sources: Sequence[str] | None
    auth_timeout_ms: int
    max_pending_auth: int
    subprotocols: Sequence[str]
    protocol: Literal["json", "raw"]
    events: Mapping[str, EventOptions]
    json_limits: JsonLimits
    rate_limit: RateLimit | None
    control_rate_limit: BurstLimit | None
    handshakes_per_ip: BurstLimit | None
    max_connections: int
    max_connections_per_ip: int
    max_connections_per_user: int
    max_message_bytes: int
    max_fragments: int
    message_timeout_ms: int
    max_head_bytes: int
    handshake_timeout_ms: int
    ping_interval_ms: int
    idle_timeout_ms: int
    close_timeout_ms: int
    drain_close_code: Literal[1001, 1012]
    max_outbox_bytes: int
    max_inbox_bytes: int
    tls: Tls | None
    dangerously_allow_plaintext: bool
    trusted_proxies: Sequence[str]
    proxy_protocol: bool
    on_violation: Literal["enforce", "report"]
    server_header: str | None
