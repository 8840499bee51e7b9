"""The scope of a connection, as uvicorn makes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from ._asgi_protocol import WebSocketProtocol


#: A slash within a segment, for the core. An ASGI application sees the path decoded, and there it is like any other.
_SLASH = re.compile(b"%2f", re.IGNORECASE)


def judged(path: bytes) -> bytes:
    """A path as the core is to judge it: by the segments that the application sees. A `{name}` of a route that took
    ``x%2fadmin`` whole would let in by the rules of another path than the application serves."""
    return _SLASH.sub(b"/", path)


def judged_head(head: bytes) -> bytes:
    """A request head with its path so."""
    if b"%2" not in head:
        return head
    method, target, rest = head.split(b" ", 2)
    path, mark, query = target.partition(b"?")
    return b" ".join((method, judged(path) + mark + query, rest))


def _origin_form(path: bytes) -> bytes:
    """The path of a target, which may be an absolute URI (RFC 9112 section 3.2.2): the core judges its path alone."""
    if path.startswith(b"/"):
        return path
    return b"/" + b"".join(path.split(b"/", 3)[3:])


def scope_of(protocol: WebSocketProtocol, head: bytes, facts: dict[str, Any]) -> dict[str, Any]:
    """The scope by a request head, which the core has accepted: one line each, ended by CRLF."""
    request_line, *lines = head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
    target = request_line.split(b" ")[1]
    raw_path, _, query = target.partition(b"?")
    raw_path = _origin_form(raw_path)
    headers = []
    subprotocols: list[str] = []
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        headers.append((name, value))
        if name == b"sec-websocket-protocol":
            subprotocols += [offered.strip() for offered in value.decode("latin-1").split(",")]
    root_path = protocol.config.root_path
    return {
        "type": "websocket",
        "asgi": {"version": protocol.config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": protocol.scheme,
        "server": protocol.server,
        "client": protocol.client,
        "root_path": root_path,
        "path": root_path + unquote(raw_path.decode("ascii")),
        "raw_path": root_path.encode("ascii") + raw_path,
        "query_string": query,
        "headers": headers,
        "subprotocols": subprotocols,
        "state": protocol.app_state.copy(),
        "extensions": {
            "websocket.http.response": {},
            "wsguard": facts,
        },
    }
