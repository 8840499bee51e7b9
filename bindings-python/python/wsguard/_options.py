"""The options, for type checkers. Written by scripts/options.py from the core's table; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict


class AuthTokens(TypedDict):
    """The tokens that are accepted, compared in constant time."""

    tokens: Sequence[TokenEntry]


class AuthJwt(TypedDict):
    """The JSON Web Tokens that are accepted."""

    jwt: JwtOptions


class _TokenEntry(TypedDict):
    user: str
    """The user that the token stands for, without control characters. Two tokens may name the same user. Required."""


class TokenEntry(_TokenEntry, total=False):
    """One of ``auth.tokens``: a token, as text or as its digest, and its user."""

    token: str | None
    """The token itself: visible ASCII, at most 262144 bytes. Either this or ``sha256``. Default: none."""
    sha256: str | None
    """The SHA-256 of the token in hexadecimal. Either this or ``token``. Default: none."""
    roles: Sequence[str]
    """The roles that the token gives, for events that ask for one. Default: none."""


class _JwtOptions(TypedDict):
    algorithms: Sequence[str]
    """The algorithms that are accepted: ``HS256``, ``HS384``, ``HS512``, ``RS256``, ``RS384``, ``RS512``, ``PS256``,
    ``PS384``, ``PS512``, ``ES256``, ``ES384``, ``EdDSA``. Each must fit a key. Required."""


class JwtOptions(_JwtOptions, total=False):
    """The JSON Web Tokens that are accepted. They must have an ``exp``."""

    key: Any
    """The key: the secret for HS*, at least as long as the hash (32 bytes for HS256); a PEM text or the path of a PEM
    file for the others; or a JWK object. Either this or ``keys``. A token's ``kid`` is ignored. Default: none."""
    keys: Any
    """The keys by the token's ``kid``, which is then required: an object from ``kid`` to what ``key`` accepts, a list
    of ``{"kid", "key", optional "algorithm"}``, or a JWKS ``{"keys": [JWK…]}``. Default: none."""
    jwks_url: str | None
    """The URL of a JWK Set to take the keys from, by the token's ``kid``, instead of ``key`` or ``keys``: ``https``, or
    ``http`` on this machine. Public keys only; the set is fetched at start, in turn, and when a token names an unknown
    ``kid``. Default: none."""
    jwks_max_age_s: int
    """The longest time between two fetches of ``jwks_url``, in seconds. A ``max-age`` of the response shortens it; it
    is 60 at least. From 1 to 31536000. Default: ``600``."""
    jwks_stale_s: int
    """The time that the last set serves while ``jwks_url`` cannot be fetched, in seconds from the first failure; then
    503. From 0 to 31536000. Default: ``86400``."""
    jwks_ca: str | None
    """The only authorities that ``jwks_url`` is believed by. Default: the system's."""
    issuer: str | Sequence[str] | None
    """The values of ``iss`` that are accepted. Default: any, or none."""
    audience: str | Sequence[str] | None
    """The values of ``aud`` of which a token must have at least one. Default: not looked at."""
    leeway_s: int
    """The difference between clocks that ``exp`` and ``nbf`` allow for, in seconds. From 0 to 3600. Default: ``30``."""
    user_claim: str
    """The claim that names the user. Default: ``"sub"``."""
    roles_claim: str | None
    """The claim that has the roles: a list of strings, or one string with spaces between them. A token without it has
    no role; one in which it is anything else is refused. Default: none."""


class EventOptions(TypedDict, total=False):
    """One event of the ``json`` protocol."""

    schema: Any
    """The JSON Schema 2020-12 for ``data``. Default: any data. A Pydantic model or a ``TypeAdapter`` will do."""
    cost: float
    """The number of messages that this one counts for in ``rate_limit``, fractions allowed; 0: only its bytes count.
    From 0 to 1000000. Default: ``1``."""
    roles: Sequence[str] | None
    """The roles of which a connection needs one to send this event; for others it is ``event_denied``. Default: every
    user."""
    on_mismatch: Literal["close", "reply"]
    """The answer to ``data`` that does not fit the schema: ``close`` closes the connection, ``reply`` answers with an
    error that names the place, and counts, logs and charges the message all the same. Default: ``"close"``."""


class JsonLimits(TypedDict, total=False):
    """The bounds on a message's JSON that its length does not give."""

    max_depth: int
    """The number of objects and arrays that may be open at once, the envelope among them. From 1 to 128. Default:
    ``32``."""
    max_keys: int
    """The number of keys of an object inside ``data``. The envelope has four at most. From 1 to 65536. Default:
    ``256``."""


class RateLimit(TypedDict, total=False):
    """The message bucket and the byte bucket of one key."""

    per_second: float
    """The cost units that leak in a second. From 0.000001 to 1000000000000. Default: ``20``."""
    burst: float
    """The cost units that pass at once. From 1 to 1000000000000. Default: ``40``."""
    queue: int
    """The messages of one key that may wait, none longer than ``queue`` / ``per_second`` seconds; what overflows closes
    the connection. From 0 to 4294967295. Default: ``20``."""
    bytes_per_second: float | None
    """The payload bytes in a second, charged as they come; a frame header that announces too many is refused. ``None``
    disables it. From 1 to 1000000000000. Default: ``262144``."""
    key: Literal["user", "ip", "connection"]
    """The connections that share a bucket: those of a ``user`` (of an address where there is no user), those of an
    ``ip``, or each ``connection`` alone. Default: ``"user"``."""


class ControlRateLimit(TypedDict, total=False):
    """The rate of pings and pongs of one connection."""

    per_second: float
    """The control frames that leak in a second. From 0.000001 to 1000000000000. Default: ``10``."""
    burst: float
    """The control frames that pass at once; the next one is ``control_flood``. From 1 to 1000000000000. Default:
    ``20``."""


class HandshakeRate(TypedDict, total=False):
    """The rate of handshakes from one address."""

    per_second: float
    """The handshakes that leak in a second. From 0.000001 to 1000000000000. Default: ``10``."""
    burst: float
    """The handshakes that pass at once; the next one answers 429. From 1 to 1000000000000. Default: ``50``."""


class Compression(TypedDict, total=False):
    """When and how much messages to clients are compressed."""

    threshold_bytes: int
    """The smallest payload that is compressed, in bytes; a message of a smaller one goes as it is. From 0 to 16777216.
    Default: ``1024``."""
    level: int
    """The effort: 1 is the fastest, 9 the smallest. From 1 to 9. Default: ``3``."""


class _TlsOptions(TypedDict):
    cert: str | PathLike[str]
    """The certificate chain, leaf first. Required."""
    key: str | PathLike[str]
    """The private key. Required."""


class TlsOptions(_TlsOptions, total=False):
    """The certificate and key of the server: PEM texts or paths of PEM files. Paths are read again by
    ``reload_tls``."""

    client_ca: str | PathLike[str] | None
    """The authorities for client certificates; when given, a client without one is refused. Default: none."""
    min_version: Literal["1.2", "1.3"]
    """The lowest TLS version that is accepted. Default: ``"1.2"``."""


class AutoBan(TypedDict, total=False):
    """When an address is banned for what it does; an IPv6 /64 counts as one."""

    violations: int
    """The number of violations within ``window_ms`` that ban an address. What a foreign page can make the browser of
    its visitor do does not count, such as ``origin_denied``. From 1 to 1000000. Default: ``10``."""
    window_ms: int
    """The time in which violations are counted, in milliseconds. From 1 to 86400000. Default: ``60000``."""
    ban_ms: int
    """The time for which the address is banned, in milliseconds. From 1 to 315360000000. Default: ``600000``."""


class _ClusterOptions(TypedDict):
    url: str
    """The URL of Redis or Valkey: ``redis://``, with TLS ``rediss://``; ``redis+sentinel://host:port,…/service`` and
    ``redis+cluster://host:port,…`` likewise. Required."""


class ClusterOptions(_ClusterOptions, total=False):
    """Several nodes as one server, over Redis or Valkey."""

    name: str
    """The name that the nodes of one server have in common: letters, digits, ``.``, ``_`` and ``-``. Default:
    ``"default"``."""
    on_outage: Literal["local", "closed"]
    """The way to go on while Redis cannot be reached: ``local`` serves, each node with the whole limits for itself;
    ``closed`` refuses new connections besides: ``cluster_unavailable``. Default: ``"local"``."""
    lease_ms: int
    """The time after which nothing is left of a node that has died, in milliseconds. From 2000 to 600000. Default:
    ``10000``."""
    user_limits: bool
    """Whether ``max_connections_per_user``, and ``rate_limit`` by user, count over all nodes. Default: ``True``."""


class Options(TypedDict, total=False):
    """The policy as stated. ``origins`` and ``auth`` have no default: a server does not start without them."""

    listen: str
    """The address to listen on: ``host:port`` (port 0: any free one; a name binds every address it resolves to),
    ``unix:PATH``, or ``fd:N``, an inherited listening socket. Default: ``"127.0.0.1:8080"``."""
    unix_mode: str | None
    """The permission bits of the socket files of ``unix:PATH`` in ``listen`` and ``admin_listen``, as text: ``0660``.
    Default: what the umask leaves."""
    reuse_port: bool
    """Whether several processes may listen on the port, so that the kernel spreads connections over them (Linux only).
    Default: ``False``."""
    threads: int
    """The number of I/O threads; 0: one per core. From 0 to 255. Default: ``0``."""
    paths: Sequence[str] | None
    """The request paths that upgrade; others answer 404. ``{name}`` stands for any one segment: ``/room/{name}``.
    Default: every path."""
    routes: Mapping[str, Options]
    """The paths for which other options count, and which: what a route does not state it has from the top. A path that
    is neither a route nor in ``paths`` answers 404. Default: none."""
    origins: Sequence[str] | None
    """The origins that may connect: ``https://app.example.com``, ``https://*.example.com``, ``http://localhost:*``,
    ``"null"``. Required."""
    dangerously_allow_any_origin: bool
    """Permission for any page on the web to connect with the visitor's cookies, in place of ``origins``. Default:
    ``False``."""
    missing_origin: Literal["deny", "allow"]
    """The answer to a handshake without an ``Origin`` header, as non-browser clients send it: ``deny`` is 403. Default:
    ``"deny"``."""
    hosts: Sequence[str] | None
    """The values of the ``Host`` header that are served, against DNS rebinding: ``name`` (any port) or ``name:port``.
    Default: any."""
    auth: Literal["callback", "none"] | AuthTokens | AuthJwt | None
    """The way of authentication before the 101: ``callback`` asks the application, ``none`` accepts every peer,
    ``tokens`` and ``jwt`` are checked by the server. Required. ``@server.authenticate`` implies ``callback``."""
    token_sources: Sequence[str] | None
    """The places where a token is looked for, in this order: ``bearer``, ``header:NAME``, ``cookie:NAME``,
    ``subprotocol``, ``query:NAME``. Default: ``["bearer", "header:x-auth-token"]``."""
    auth_timeout_ms: int
    """The time the application has to answer a handshake, in milliseconds; then 503. From 1 to 315360000000. Default:
    ``5000``."""
    max_pending_auth: int
    """The number of handshakes that may wait for the application, and of requests that it has not let go; beyond it
    503, for whoever holds most of them. From 1 to 16777216. Default: ``1024``."""
    subprotocols: Sequence[str]
    """The subprotocols that the server speaks, best first. Default: none."""
    keep_headers: Sequence[str]
    """The request headers that the application has with an open connection, at most 32; none that may carry a
    credential. Default: none."""
    keep_cookies: Sequence[str]
    """The cookies that the application has with an open connection, at most 32; none of ``token_sources``. Default:
    none."""
    protocol: Literal["json", "raw"]
    """The form of a message: ``json`` has an envelope that is checked against ``events``; ``raw`` is text and binary as
    they come. Default: ``"json"``."""
    events: Mapping[str, EventOptions]
    """The events of the ``json`` protocol by name; a message of any other event is a violation. Default: ``{}``. Those
    of ``@server.on`` need not be listed."""
    json_limits: JsonLimits
    """The bounds on the JSON of a message."""
    rate_limit: RateLimit | None
    """The rate of messages and bytes, a leaky bucket for each user; ``None`` disables it."""
    control_rate_limit: ControlRateLimit | None
    """The rate of a connection's pings and pongs; ``None`` disables it."""
    handshakes_per_ip: HandshakeRate | None
    """The rate of handshakes from one address: an IPv6 /64 counts as one, a /56 and a /48 have 4 and 16 times as much;
    ``None`` disables it."""
    max_connections: int
    """The number of connections of the server; beyond it 503. From 1 to 16777216. Default: ``100000``."""
    max_connections_per_ip: int
    """The number of connections of one address, IPv6 of one /64; beyond it 429. From 1 to 16777216. Default:
    ``256``."""
    max_connections_per_user: int
    """The number of connections of one user; beyond it 429. From 1 to 16777216. Default: ``64``."""
    max_message_bytes: int
    """The largest payload of a message in bytes, fragments added up; refused from the frame header that crosses it.
    From 1 to 1073741824. Default: ``65536``."""
    max_fragments: int
    """The largest number of frames of a message, empty ones counted. From 1 to 16777216. Default: ``1024``."""
    message_timeout_ms: int
    """The time from a message's first frame to its last, in milliseconds. From 1 to 315360000000. Default:
    ``30000``."""
    compression: Compression | None
    """The compression of messages, by permessage-deflate (RFC 7692) without context takeover, for clients that offer
    it. Limits of size and rate count inflated bytes. Default: none."""
    max_session_ms: int
    """The longest life of a connection in milliseconds, whatever its token says; 0: no limit. From 0 to 315360000000.
    Default: ``0``."""
    max_head_bytes: int
    """The largest request line and headers together, in bytes; at most 100 headers. From 1024 to 262144. Default:
    ``16384``."""
    handshake_timeout_ms: int
    """The time from the TCP connection to the 101 in milliseconds: TLS, head and authentication together. From 1 to
    315360000000. Default: ``5000``."""
    ping_interval_ms: int
    """The time between the server's pings, in milliseconds; 0: off. From 0 to 315360000000. Default: ``20000``."""
    idle_timeout_ms: int
    """The time without anything received after which a peer is dead, in milliseconds; 0: off. At least a second more
    than ``ping_interval_ms``. From 0 to 315360000000. Default: ``45000``."""
    close_timeout_ms: int
    """The time for the closing handshake in milliseconds; then the socket is dropped. From 1 to 315360000000. Default:
    ``2000``."""
    drain_close_code: Literal[1012, 1001]
    """The close code of connections that a drain closes: 1001 is for old clients that read 1012 as an error. Default:
    ``1012``."""
    max_outbox_bytes: int
    """The bytes that one connection may leave unread; beyond it ``slow_consumer``. From 1 to 2147483648. Default:
    ``1048576``."""
    max_inbox_bytes: int
    """The bytes of events that the application has not taken yet; beyond it the server stops reading. From 1 to
    2147483648. Default: ``67108864``."""
    tls: TlsOptions | None
    """The certificate and key of the server. Default: none."""
    dangerously_allow_plaintext: bool
    """Permission to listen in plaintext on a public address without a proxy. Default: ``False``."""
    trusted_proxies: Sequence[str]
    """The addresses and CIDRs whose ``Forwarded`` and ``X-Forwarded-For`` headers are believed; ``unix``: peers of a
    Unix socket. Default: none."""
    proxy_protocol: bool
    """Whether every connection must begin with a PROXY header, v1 or v2, from one of ``trusted_proxies``. Default:
    ``False``."""
    on_violation: Literal["enforce", "report"]
    """The effect of message rules: ``report`` tries them on live traffic without acting on them. Default:
    ``"enforce"``."""
    report_handshakes: bool
    """Whether the rules for ``Origin``, ``Host`` and credentials only report, too: for trying a policy on live traffic,
    with ``on_violation: "report"``. Whom they would refuse is let in without a user. Default: ``False``."""
    admin_listen: str | None
    """The address of ``/metrics`` (OpenMetrics), ``/healthz`` and ``/readyz``: ``host:port`` of this machine, or
    ``unix:PATH``. Default: none."""
    dangerously_public_admin: bool
    """Permission for ``admin_listen`` to be an address that other machines can reach, and to be asked by any ``Host``.
    Default: ``False``."""
    deny_ips: Sequence[str]
    """The addresses and CIDRs that are refused: ``banned``. An IPv6 address stands for its /64. Default: none."""
    auto_ban: AutoBan | None
    """The ban of an address that breaks rules again and again. Default: none."""
    cluster: ClusterOptions | None
    """The nodes of a cluster, which are one server: rooms, users, bans and the limits of users are common to those with
    the same ``name`` on the same Redis or Valkey (6.2 or later). Default: none."""
    server_header: str | None
    """The ``Server`` header of responses. Default: none."""
