"""Whom a client connects as: the credential that a server's own options accept, where they tell one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from .._server import Server

_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
_SOURCES = ("bearer", "header:x-auth-token")


def options_for(server: Server, path: str) -> Mapping[str, Any]:
    """The options that count for a path: those of its route, and of the top level for the rest."""
    options = server._policy(server._events)
    routes = options.get("routes") or {}
    plain = path.partition("?")[0]
    matching = [pattern for pattern in (*routes, *(options.get("paths") or ())) if _matches(pattern, plain)]
    # A literal segment counts before a parameter, from the left.
    found = min(matching, key=lambda pattern: [part.startswith("{") for part in pattern.split("/")], default=None)
    return {**options, **routes.get(found, {})}


def _matches(pattern: str, path: str) -> bool:
    ours, theirs = pattern.split("/"), path.split("/")
    if len(ours) != len(theirs):
        return False
    return all(part == other or (part.startswith("{") and other) for part, other in zip(ours, theirs, strict=True))


def token_of(
    server: Server,
    *,
    user: str,
    roles: Iterable[str] = (),
    claims: Mapping[str, Any] | None = None,
    path: str = "/",
) -> str:
    """A token that the server accepts as ``user``: one of ``auth.tokens``, or a JSON Web Token that is signed with the
    secret of ``auth.jwt`` (HS256, HS384, HS512) and lasts an hour.

    Args:
        server: the server; it need not run.
        user: the name of the user.
        roles: the roles of a JSON Web Token; those of ``auth.tokens`` are stated there. Default none.
        claims: further claims of a JSON Web Token; they take precedence. Default none.
        path: the path that the token is for, where ``routes`` states several ways; default ``"/"``.

    Raises:
        ValueError: the options tell no such token: ``auth`` is ``"callback"`` or ``"none"``, no entry has this user as
            text, or the key is not a secret of HS*.
    """
    auth = options_for(server, path).get("auth")
    if isinstance(auth, Mapping) and "tokens" in auth:
        return _static(auth["tokens"], user)
    if isinstance(auth, Mapping) and "jwt" in auth:
        return _signed(auth["jwt"], user, roles, claims or {})
    if auth == "callback":
        raise ValueError("authenticate decides who may connect: give what it looks at, headers= or token=, not user=")
    raise ValueError(f"auth is {auth!r}: nobody connects as a user")


def _static(tokens: Any, user: str) -> str:
    entries = [entry for entry in tokens if entry.get("user") == user]
    for entry in entries:
        token = entry.get("token")
        if token is not None:
            return str(token)
    if entries:
        raise ValueError(f"auth.tokens has only the sha256 of the token of {user!r}: give the token itself, token=")
    raise ValueError(f"auth.tokens has no token of {user!r}")


def _signed(jwt: Mapping[str, Any], user: str, roles: Iterable[str], claims: Mapping[str, Any]) -> str:
    algorithm = next((name for name in jwt.get("algorithms", ()) if name in _HASHES), None)
    key, head = jwt.get("key"), {"alg": algorithm, "typ": "JWT"}
    keys = jwt.get("keys")
    if key is None and isinstance(keys, Mapping):
        head["kid"], key = next(((kid, each) for kid, each in keys.items() if isinstance(each, str)), (None, None))
    if algorithm is None or not isinstance(key, str):
        raise ValueError("auth.jwt has no secret of HS256, HS384 or HS512 as text: sign a token yourself, token=")
    said: dict[str, Any] = {jwt.get("user_claim", "sub"): user, "exp": int(time.time()) + 3600}
    for claim, stated in (("iss", jwt.get("issuer")), ("aud", jwt.get("audience"))):
        if stated is not None:
            said[claim] = stated if isinstance(stated, str) else stated[0]
    named = list(roles)
    if named:
        if jwt.get("roles_claim") is None:
            raise ValueError("auth.jwt has no roles_claim: its tokens have no roles")
        said[jwt["roles_claim"]] = named
    body = ".".join(_base64(json.dumps(part).encode()) for part in (head, {**said, **claims}))
    return f"{body}.{_base64(hmac.new(key.encode(), body.encode(), _HASHES[algorithm]).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def carried(options: Mapping[str, Any], token: str) -> tuple[list[tuple[str, str]], str | None, str]:
    """Where the first of ``token_sources`` has the token: headers, a subprotocol beside it, and a query."""
    source = next(iter(options.get("token_sources") or _SOURCES))
    kind, _, name = source.partition(":")
    if kind == "header":
        return [(name, token)], None, ""
    if kind == "cookie":
        return [("Cookie", f"{name}={token}")], None, ""
    if kind == "query":
        return [], None, f"{quote(name, safe='')}={quote(token, safe='')}"
    if kind == "subprotocol":
        return [], f"bearer, {token}", ""
    return [("Authorization", f"Bearer {token}")], None, ""


def host_of(options: Mapping[str, Any], address: str) -> str:
    """A ``Host`` that the options allow; ``address`` where they allow any."""
    anywhere = "localhost" if address.startswith("unix:") else address
    return str(next(iter(options.get("hosts") or ()), anywhere))


def origin_of(options: Mapping[str, Any]) -> str | None:
    """An origin that the options allow; ``None``: none is needed."""
    if options.get("missing_origin") == "allow":
        return None
    first = next(iter(options.get("origins") or ()), None)
    if first is None:
        return "https://app.example"
    return str(first).replace("://*.", "://test.").replace(":*", ":80").replace("://*", "://test")
