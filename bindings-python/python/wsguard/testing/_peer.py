"""What both clients do alike: whom they connect as, and what they say when nothing came."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from . import _credentials, _wire

if TYPE_CHECKING:
    from .._server import Server

#: Milliseconds that a test waits for what it expects.
TIMEOUT_MS = 2000


def prepared(
    server: Server,
    path: str,
    user: str | None,
    roles: Iterable[str],
    token: str | None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    origin: str | None,
    subprotocols: Iterable[str],
) -> tuple[str, tuple[str, str, list[tuple[str, str]]]]:
    """The address of a server, and the host, target and headers of a handshake."""
    address = server.address
    options = _credentials.options_for(server, path)
    if user is not None:
        if token is not None:
            raise ValueError("give either user= or token=")
        token = _credentials.token_of(server, user=user, roles=roles, path=path)
    said = _wire.pairs(headers)
    offered = list(subprotocols)
    origin = origin if origin is not None else _credentials.origin_of(options)
    if origin is not None:
        said.append(("Origin", origin))
    if token is not None:
        more, protocol, query = _credentials.carried(options, token)
        said += more
        offered = [*([protocol] if protocol else []), *offered]
        if query:
            path += ("&" if "?" in path else "?") + query
    if offered:
        said.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    host = next((value for name, value in said if name.lower() == "host"), None)
    others = [(name, value) for name, value in said if name.lower() != "host"]
    return address, (_credentials.host_of(options, address) if host is None else host, path, others)


def context(server: Server, stated: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """How TLS is spoken with a server; ``None``: it is not."""
    if stated is not None or server._events.options().get("tls") is None:
        return stated
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return trusting


def waited(wire: _wire.Wire, what: str, timeout_ms: int) -> str:
    """What is said of something that did not come."""
    came = ", ".join(repr(each)[:100] for each in wire.messages[:5]) or "nothing"
    return f"{what} did not come within {timeout_ms} ms; what came: {came}"


def assert_nothing(wire: _wire.Wire) -> None:
    """Raises ``AssertionError`` if something came."""
    if wire.messages:
        raise AssertionError(f"nothing was expected, and there came: {wire.messages[0]!r}")
    if wire.ended is not None:
        raise AssertionError(f"nothing was expected: {wire.ended}")
