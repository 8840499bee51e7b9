"""What handlers are called with, made by hand: for tests without a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .. import _checks, _wsguard
from ._wire import pairs

if TYPE_CHECKING:
    from .._types import VerdictCode
    from .._wsguard import Close, Message, Request, Violation


def request(
    path: str = "/",
    *,
    query: str | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ip: str | None = "127.0.0.1",
    token: str | None = None,
    route: str | None = None,
    params: Mapping[str, str] | None = None,
    peer_certificate: bytes | None = None,
) -> Request:
    """A handshake for ``authenticate``. Cookies are those of the header ``Cookie``.

    Raises:
        ValueError: ``ip`` is no address, or a text has lone surrogates.
    """
    said = [(name.lower(), value) for name, value in pairs(headers)]
    _checks.texts(path=path, query=query, ip=ip, token=token, route=route)
    for name, values in (("headers", said), ("params", (params or {}).items())):
        for each in values:
            for part in each:
                _checks.texts(**{name: part})
    return _wsguard.made_request(path, query, said, ip, token, route, list((params or {}).items()), peer_certificate)


def message(
    event: str,
    data: Any = None,
    *,
    id: str | int | None = None,
    status: Literal["ok", "error"] | None = None,
    size_bytes: int = 0,
) -> Message:
    """A message of protocol ``json`` for ``on_message``.

    Raises:
        ValueError: ``event`` or ``status`` has lone surrogates.
    """
    _checks.texts(event=event, id=id, status=status)
    return _wsguard.made_message(event, data, id, status, size_bytes)


def close(code: int = 1000, reason: str = "", *, clean: bool = True, verdict: VerdictCode | None = None) -> Close:
    """How a connection ended, for ``on_close``.

    Raises:
        ValueError: there is no such verdict, or ``reason`` has lone surrogates.
    """
    _checks.texts(reason=reason, verdict=verdict)
    return _wsguard.made_close(code, reason, clean, verdict)


def violation(
    code: VerdictCode,
    *,
    ip: str | None = "127.0.0.1",
    user: str | None = None,
    conn_id: str | None = None,
    event: str | None = None,
    detail: str = "",
) -> Violation:
    """A verdict for ``on_violation``: with ``conn_id`` one after the 101, else one before.

    Raises:
        ValueError: there is no such verdict, or a text has lone surrogates.
    """
    _checks.texts(code=code, ip=ip, user=user, conn_id=conn_id, event=event, detail=detail)
    return _wsguard.made_violation(code, ip, user, conn_id, event, detail)
