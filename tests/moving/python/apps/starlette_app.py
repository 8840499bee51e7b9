"""Starlette's documented ways to a WebSocket: functions, a class, a subprotocol, headers, a denial. Nothing here knows
wsguard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

ends: list[tuple[int, str]] = []


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"started": "by the lifespan"}


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


class Uppercase(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: str) -> None:
        await websocket.send_text(data.upper())


class Lengths(WebSocketEndpoint):
    encoding = "bytes"

    async def on_receive(self, websocket: WebSocket, data: bytes) -> None:
        await websocket.send_bytes(len(data).to_bytes(4, "big"))

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        ends.append((close_code, "class"))


async def any_kind(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        await websocket.send({**message, "type": "websocket.send"})


async def flood(websocket: WebSocket) -> None:
    await websocket.accept()
    for number in range(500):
        await websocket.send_text(f"{number}-{'x' * 20_000}")
    await websocket.close()


async def negotiate(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(
        subprotocol="v2" if "v2" in offered else None,
        headers=[(b"x-greeting", "héllo".encode()), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
    )
    await websocket.send_json(offered)
    await websocket.close(4001, "negotiated")


async def deny(websocket: WebSocket) -> None:
    await websocket.send_denial_response(
        JSONResponse({"error": "sign in"}, status_code=401, headers={"WWW-Authenticate": "Bearer"})
    )


async def deny_oddly(websocket: WebSocket) -> None:
    """A denial that is none."""
    await websocket.send_denial_response(JSONResponse({}, status_code=int(websocket.query_params["status"])))


async def refuse(websocket: WebSocket) -> None:
    await websocket.close()


async def tell(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(
        {
            "path": websocket.url.path,
            "root_path": websocket.scope["root_path"],
            "query": dict(websocket.query_params),
            "cookies": websocket.cookies,
            "header": websocket.headers.get("x-own"),
            "client": websocket.client.host if websocket.client else None,
            "state": websocket.state.started,
            "room": websocket.path_params.get("room"),
            "http_version": websocket.scope["http_version"],
            "scheme": websocket.scope["scheme"],
        }
    )
    await websocket.close()


async def who(websocket: WebSocket) -> None:
    """Tells whom the core knows."""
    await websocket.accept()
    await websocket.send_json(websocket.scope["extensions"]["wsguard"])
    await websocket.close()


async def tell_ends(websocket: WebSocket) -> None:
    """Waits for the end of another connection, and tells how that one ended."""
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.receive_text()
            await websocket.send_json(ends)


async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as left:
        ends.append((left.code, left.reason or ""))


async def fail(websocket: WebSocket) -> None:
    await websocket.accept()
    raise RuntimeError("a fault of the application")


async def fail_early(websocket: WebSocket) -> None:
    raise RuntimeError("a fault of the application, before it has accepted")


async def leave(websocket: WebSocket) -> None:
    """Returns without a close."""
    await websocket.accept()


app = Starlette(
    lifespan=lifespan,
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/any", any_kind),
        WebSocketRoute("/flood", flood),
        WebSocketRoute("/uppercase", Uppercase),
        WebSocketRoute("/lengths", Lengths),
        WebSocketRoute("/negotiate", negotiate),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/deny-oddly", deny_oddly),
        WebSocketRoute("/refuse", refuse),
        WebSocketRoute("/listen", listen),
        WebSocketRoute("/ends", tell_ends),
        WebSocketRoute("/who", who),
        WebSocketRoute("/fail", fail),
        WebSocketRoute("/fail-early", fail_early),
        WebSocketRoute("/leave", leave),
        Mount("/mounted", routes=[WebSocketRoute("/tell/{room}", tell)]),
    ],
)
