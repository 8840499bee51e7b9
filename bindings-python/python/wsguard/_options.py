"""The options, for type checkers. What they mean and what is accepted is the core's: see the table in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict


class EventOptions(TypedDict, total=False):
    """One event of the ``json`` protocol."""

    schema: Any
    """JSON Schema 2020-12 for ``data``, a Pydantic model or a ``TypeAdapter``. Default: any data."""
    cost: float
    """Units of the rate limit. Default 1.0; 0: free."""


class JsonLimits(TypedDict, total=False):
    """Bounds on the JSON of a message."""

    max_depth: int
    """Nesting. Default 32."""
    max_keys: int
    """Keys of one object. Default 256."""


class RateLimit(TypedDict, total=False):
    """The leaky bucket of messages and bytes."""

    per_second: float
    """What drains, in messages (of cost 1). Default 20."""
    burst: float
    """What passes at once. Default 40."""
    queue: int
    """What is delayed beyond that, in order; more closes the connection. Default 20."""
    bytes_per_second: float | None
    """Payload bytes, a bucket of their own. Default 262 144; ``None``: no limit."""
    key: Literal["user", "ip", "connection"]
    """Whose bucket it is. Default ``"user"``: the address where there is no user."""


class BurstLimit(TypedDict, total=False):
    """A leaky bucket without a queue."""

    per_second: float
    """What drains."""
    burst: float
    """What passes at once."""


class Token(TypedDict, total=False):
    """A static token: itself, or its SHA-256 in hexadecimal."""

    token: str
    """The token."""
    sha256: str
    """Or its SHA-256."""
    user: str
    """Who it is."""


class Tokens(TypedDict):
    """Static tokens."""

    tokens: Sequence[Token]
    """Each with its user."""


class JwtOptions(TypedDict, total=False):
    """JSON Web Tokens."""

    algorithms: Sequence[str]
    """Those that are accepted: ``["ES256"]``; never ``none``."""
    key: Any
    """The key: a secret for HS*, else a PEM text or its path, or a JWK."""
    keys: Any
    """Or several, by the ``kid`` of a token: an object, a list, or a JWKS."""
    issuer: Any
    """What ``iss`` must be."""
    audience: Any
    """What ``aud`` must be or hold."""
    leeway_s: int
    """How far clocks may be apart. Default 30."""
    user_claim: str
    """The claim that names the user. Default ``"sub"``."""


class Jwt(TypedDict):
    """A signed JSON Web Token."""

    jwt: JwtOptions
    """Which tokens are accepted."""


class _TlsPair(TypedDict):
    cert: str | PathLike[str]
    """The certificate chain."""
    key: str | PathLike[str]
    """Its private key."""


class Tls(_TlsPair, total=False):
    """PEM texts or paths of PEM files."""

    client_ca: str | PathLike[str]
    """Clients must show a certificate of this authority."""
    min_version: Literal["1.2", "1.3"]
    """Default ``"1.2"``."""


class Options(TypedDict, total=False):
    """The policy as stated. ``origins`` and ``auth`` have no default: a server does not start without them."""

    listen: str
    """``"host:port"`` (port 0: any free one; a name binds every address it resolves to), ``"unix:PATH"``, or
    ``"fd:N"``: an inherited listening socket. Default ``"127.0.0.1:8080"``."""
    unix_mode: str | None
    """Permission bits of the socket file, as text: ``"0660"``. Default: the umask."""
    reuse_port: bool
    """Several processes share the port (Linux). Default false."""
    threads: int
    """I/O threads; 0, the default: one per core."""
    paths: Sequence[str] | None
    """Exact request paths that upgrade; others answer 404. Default: every path."""
    origins: Sequence[str] | None
    """Who may connect: ``"https://app.example.com"``, ``"https://*.example.com"``, ``"http://localhost:*"``.
    Required."""
    dangerously_allow_any_origin: bool
    """Instead of ``origins``. Default false."""
    missing_origin: Literal["deny", "allow"]
    """``"allow"`` lets clients in that are no browsers. Default ``"deny"``."""
    hosts: Sequence[str] | None
    """Allow-list for the ``Host`` header, against DNS rebinding: ``name`` (any port) or ``name:port``. Default: any."""
    auth: Literal["callback", "none"] | Tokens | Jwt | None
    """``"callback"`` (``@server.authenticate``), ``"none"``, static tokens or JSON Web Tokens. Required."""
    token_sources: Sequence[str] | None
    """Where a token may come: ``"bearer"``, ``"header:NAME"``, ``"cookie:NAME"``, ``"subprotocol"``, ``"query:NAME"``.
    Default ``["bearer", "header:x-auth-token"]``."""
    auth_timeout_ms: int
    """How long ``@server.authenticate`` may take; then 503. Default 5000."""
    max_pending_auth: int
    """Handshakes that wait for ``@server.authenticate``; beyond it 503. Default 1024."""
    subprotocols: Sequence[str]
    """What is offered, in the server's order of preference. Default: none."""
    protocol: Literal["json", "raw"]
    """``"json"``, the default: events with a contract. ``"raw"``: text and binary as they come; all other protections
    stay."""
    events: Mapping[str, EventOptions]
    """The events of ``"json"`` by name; what is not listed here or by ``@server.on`` is a violation."""
    json_limits: JsonLimits
    """Bounds on the JSON of a message."""
    rate_limit: RateLimit | None
    """Messages and bytes of a user; ``None`` disables."""
    control_rate_limit: BurstLimit | None
    """The peer's pings and pongs; default 10 a second, 20 at once. ``None`` disables."""
    handshakes_per_ip: BurstLimit | None
    """Default 10 a second, 50 at once; IPv6 is counted per /64. ``None`` disables."""
    max_connections: int
    """Then 503. Default 100 000."""
    max_connections_per_ip: int
    """Then 429. Default 256."""
    max_connections_per_user: int
    """Then 429. Default 64."""
    max_message_bytes: int
    """Refused from the header that crosses it; fragments add up. Default 65 536."""
    max_fragments: int
    """Of a message, empty ones counted. Default 1024."""
    message_timeout_ms: int
    """How long a message that has begun may take. Default 30 000."""
    max_head_bytes: int
    """Request line and headers of a handshake. Default 16 384."""
    handshake_timeout_ms: int
    """From the TCP connection to the 101, everything together. Default 5000."""
    ping_interval_ms: int
    """How often a quiet peer is pinged. Default 20 000; 0: off."""
    idle_timeout_ms: int
    """Nothing received for so long: the peer is dead. At least a second over ``ping_interval_ms``. Default 45 000; 0:
    off."""
    close_timeout_ms: int
    """How long a closing handshake may take; then the socket is dropped. Default 2000."""
    drain_close_code: Literal[1001, 1012]
    """Close code of a drain: 1012, the default, or 1001 for old clients that read 1012 as an error."""
    max_outbox_bytes: int
    """Bytes for one connection that it has not read; beyond it ``slow_consumer``. Default 1 MiB."""
    max_inbox_bytes: int
    """Events that handlers have not taken, of all connections; beyond it reading stops. Default 64 MiB."""
    tls: Tls | None
    """Certificate and key; without it plaintext, which is for loopback and behind proxies."""
    dangerously_allow_plaintext: bool
    """Plaintext on a public address without a proxy. Default false."""
    trusted_proxies: Sequence[str]
    """Addresses (CIDR) whose ``Forwarded`` or ``X-Forwarded-For`` is believed; ``"unix"``: peers of a Unix socket."""
    proxy_protocol: bool
    """Every connection begins with a PROXY header, v1 or v2, from ``trusted_proxies`` only. Default false."""
    on_violation: Literal["enforce", "report"]
    """``"report"``: rules about messages only report, so that a policy can be tried. Default ``"enforce"``."""
    server_header: str | None
    """The ``Server`` header of responses. Default: none."""
