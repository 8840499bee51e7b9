"""What a type checker refuses. Nothing here runs: mypy checks this file with the others, and where a line is not
refused any more, its ``type: ignore`` is an error (``warn_unused_ignores``, part of ``strict``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from wsguard import Accept, Call, Close, Connection, Message, Reject, Request, Server, Violation


@dataclasses.dataclass
class Say:
    text: str


@dataclasses.dataclass
class Other:
    number: int


def handlers_that_fit(server: Server) -> None:
    @server.on("say", schema=Say)
    def say(conn: Connection, data: Say) -> None: ...

    @server.on("later", schema=Say)
    async def later(conn: Connection, data: Say) -> None: ...

    @server.on("made", model=Say, schema={"type": "object"})
    def made(conn: Connection, data: Say) -> None: ...

    @server.on("raw", raw=True)
    def raw(conn: Connection, data: bytes) -> None: ...

    @server.on("plain", schema={"type": "object"})
    def plain(conn: Connection, data: dict[str, int]) -> None: ...

    @server.on_message
    def message(conn: Connection, message: Message) -> None: ...

    @server.on_close
    def closed(conn: Connection, close: Close) -> None: ...

    @server.on_error
    def failed(conn: Connection | None, error: Exception, event: str | None) -> None: ...

    @server.middleware
    async def around(call: Call, next: Callable[[], Any]) -> Any:
        return await next()

    @server.on("kick", route="/admin", roles=["admin"], on_mismatch="reply", cost=0.5, schema=Say)
    def kick(conn: Connection, data: Say) -> None: ...

    @server.on_violation
    def violation(violation: Violation) -> None: ...

    @server.authenticate
    async def decide(request: Request) -> Accept | Reject:
        return Reject()


def handlers_that_do_not(server: Server) -> None:
    @server.on("say", schema=Say)  # type: ignore[arg-type]
    def another_type(conn: Connection, data: int) -> None: ...

    @server.on("other", schema=Say)  # type: ignore[arg-type]
    def another_model(conn: Connection, data: Other) -> None: ...

    @server.on("later", schema=Say)  # type: ignore[arg-type]
    async def another_type_later(conn: Connection, data: int) -> None: ...

    @server.on("made", model=Say, schema={})  # type: ignore[arg-type]
    def another_made(conn: Connection, data: int) -> None: ...

    @server.on("raw", raw=True)  # type: ignore[arg-type]
    def text_of_raw(conn: Connection, data: str) -> None: ...

    @server.on("none", schema=Say)  # type: ignore[arg-type]
    def without_data(conn: Connection) -> None: ...

    @server.on("none", schema={})  # type: ignore[type-var]
    def without_any_data(conn: Connection) -> None: ...

    @server.on_message  # type: ignore[type-var]
    def number(conn: Connection, message: int) -> None: ...

    @server.on_close  # type: ignore[type-var]
    def without_close(conn: Connection) -> None: ...

    @server.on_violation  # type: ignore[type-var]
    def counted(violation: int) -> None: ...

    @server.on_open  # type: ignore[type-var]
    def opened(conn: Connection, more: int) -> None: ...

    @server.authenticate  # type: ignore[type-var]
    def of_nothing() -> Accept:
        return Accept.anonymous()

    @server.authenticate  # type: ignore[type-var]
    def says_yes(request: Request) -> bool:
        return True
