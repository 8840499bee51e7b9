"""Litestar's listeners and handlers, as its documentation has them. Nothing here knows wsguard."""

from __future__ import annotations

from litestar import Litestar, WebSocket, websocket, websocket_listener
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler


def signed_in(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    if connection.headers.get("x-token") != "token-of-alice":
        raise NotAuthorizedException()


@websocket_listener("/echo")
async def echo(data: str) -> str:
    return data


@websocket_listener("/sum", guards=[signed_in])
async def add(data: list[int]) -> dict[str, int]:
    return {"sum": sum(data)}


@websocket("/stream")
async def stream(socket: WebSocket) -> None:  # type: ignore[type-arg]
    await socket.accept(subprotocols="numbers")
    for number in range(5):
        await socket.send_json(number)
    await socket.close(4000)


app = Litestar([echo, add, stream])
