"""What a server asks a peer: a question with an ``id``, and a ping. Both wait for the answer on the server's loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from . import _drain, _loops
from ._errors import CallRefused, CallTimeout

if TYPE_CHECKING:
    from ._wsguard import Connection


def call(conn: Connection, event: str, data: Any, timeout_ms: int, compress: bool) -> Any:
    """The coroutine of ``Connection.call``."""
    return _call(conn, event, data, _drain.milliseconds("timeout_ms", timeout_ms), compress)


async def _call(conn: Connection, event: str, data: Any, timeout_ms: int, compress: bool) -> Any:
    loop = _own_loop(conn, "call")
    number, answer = conn._begin_call(event, data, compress)
    timer = loop.call_later(timeout_ms / 1000, _expire, answer, repr(event), timeout_ms)
    try:
        told = await answer
    finally:
        timer.cancel()
        conn._end_call(number)
    if told is None:
        raise conn._closed_error()
    is_ok, answered, found = told
    if not is_ok:
        raise CallRefused(event, answered, found)
    return found


def _own_loop(conn: Connection, asks: str) -> asyncio.AbstractEventLoop:
    """The loop that runs. Raises where it is not the server's, and where the connection has ended."""
    if conn.closed is not None:
        # Of a connection of an earlier run that is all there is to say: its loop is gone.
        raise conn._closed_error()
    loop = _loops.running()
    conn._check_loop(asks)
    return loop


def _expire(answer: asyncio.Future[Any], asked: str, timeout_ms: int) -> None:
    if not answer.done():
        answer.set_exception(CallTimeout(f"no answer to {asked} came within {timeout_ms} ms", code="call_timeout"))


def ping(conn: Connection, timeout_ms: int) -> Any:
    """The coroutine of ``Connection.ping``."""
    return _ping(conn, _drain.milliseconds("timeout_ms", timeout_ms))


async def _ping(conn: Connection, timeout_ms: int) -> float:
    loop = _own_loop(conn, "ping")
    pong = conn._begin_ping()
    timer = loop.call_later(timeout_ms / 1000, _expire, pong, "a ping", timeout_ms)
    try:
        ms: float | None = await pong
    finally:
        timer.cancel()
        conn._end_ping()
    if ms is None:
        raise conn._closed_error()
    return ms
