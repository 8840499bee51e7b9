"""What a request sets in its context (`contextvars`) stays with it, although one core serves all of a worker."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from conftest import ORIGIN, Run
from test_asgi import Client, end, policy
from test_uvicorn import Serving, http  # noqa: F401 - a fixture
from wsguard.asgi import Guard

who: ContextVar[str | None] = ContextVar("who", default=None)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ann HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: " + ORIGIN.encode() + b"\r\n\r\n"
)


async def telling(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request, and tells a WebSocket whose context it has."""
    if scope["type"] == "http":
        who.set("ann")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(who.get())})
    who.set("ann")
    await receive()


@pytest.mark.parametrize("first", [GET + UPGRADE, UPGRADE], ids=["behind a request", "alone"])
def test_the_first_upgrade_of_a_worker_lends_its_context_to_nobody(run: Run, http: str, first: bytes) -> None:  # noqa: F811
    """With h11 uvicorn reads an upgrade that waited behind a request in the context of that request."""

    async def main() -> None:
        async with Serving(telling, http=http) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            writer.write(first)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            if first is not UPGRADE and http == "h11":
                assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            for _ in range(2):
                async with serving.connect("/bob") as client:
                    assert await client.recv() == "None"
            writer.close()

    run(main)


def test_the_core_speaks_to_a_server_in_the_context_of_the_connection(run: Run) -> None:
    async def main() -> None:
        async def echo(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()

        guard = Guard(echo, policy(max_message_bytes=10))
        heard: list[tuple[str, int, str | None]] = []

        async def around(scope: Any, receive: Any, send: Any) -> None:
            """A middleware, as those of a tracer or a logger."""
            who.set(scope["path"])

            async def told(message: Any) -> None:
                heard.append((scope["path"], message.get("code", 0), who.get()))
                await send(message)

            await guard(scope, receive, told)

        clients = [Client(around, path=path) for path in ("/ann", "/bob")]
        for client in clients:
            assert (await client.hear())["type"] == "websocket.accept"
        for client in clients:
            client.say(text="x" * 11)
            assert (await client.hear())["code"] == 1009
            await client.leave(1009)
        assert heard == [("/ann", 0, "/ann"), ("/bob", 0, "/bob"), ("/ann", 1009, "/ann"), ("/bob", 1009, "/bob")]
        await end(guard)

    run(main)
