"""Starlette: every documented way to a WebSocket, and the ends of connections as the application sees them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest import PATIENCE, Serve, Site, told
from websockets.exceptions import ConnectionClosed, InvalidStatus

STACKS = [["--loop", loop, "--http", http] for loop in ("asyncio", "uvloop") for http in ("h11", "httptools")]


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack[1]}-{stack[3]}")
def test_echo(serve: Serve, stack: list[str]) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo") as peer:
            for message in ("a", "", "é" * 20_000):
                await peer.send(message)
                assert await peer.recv() == message
            # In fragments.
            await peer.send(["a", "b", "c"])
            assert await peer.recv() == "abc"
            for number in range(30):
                await peer.send(f"{number}")
            assert [await peer.recv() for _ in range(30)] == [f"{number}" for number in range(30)]
            latency = await peer.ping()
            assert await latency >= 0
        async with site.open("/uppercase") as peer:
            await peer.send("straße")
            assert await peer.recv() == "STRASSE"
        async with site.open("/lengths") as peer:
            await peer.send(b"\0" * 60_000)
            assert await peer.recv() == (60_000).to_bytes(4, "big")
            # Text where the class takes bytes.
            await peer.send("text")
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1003

    # What the class raises then is its own.
    with serve("starlette_app:app", *stack, faults=True) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_accept_says_more(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/negotiate", subprotocols=("v1", "v2")) as peer:
            assert peer.subprotocol == "v2" and peer.response is not None
            headers = peer.response.headers
            # The same bytes.
            assert headers["x-greeting"].encode("latin-1") == "héllo".encode()
            assert headers.get_all("set-cookie") == ["a=1", "b=2"]
            # uvicorn's own headers are those of each response.
            assert headers["server"] == "uvicorn" and headers["date"].endswith("GMT")
            assert await told(peer) == ["v1", "v2"]
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert (peer.close_code, peer.close_reason) == (4001, "negotiated")
        async with site.open("/negotiate", subprotocols=("v3",)) as peer:
            assert peer.subprotocol is None and await told(peer) == ["v3"]

    with serve("starlette_app:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_denials(serve: Serve) -> None:
    async def main(site: Site) -> None:
        with pytest.raises(InvalidStatus) as denied:
            await site.open("/deny")
        response = denied.value.response
        assert (response.status_code, json.loads(response.body or b"")) == (401, {"error": "sign in"})
        assert response.headers["www-authenticate"] == "Bearer"
        for path in ("/refuse", "/nothing"):
            with pytest.raises(InvalidStatus) as refused:
                await site.open(path)
            assert refused.value.response.status_code == 403
        # A refusal that would be none: 2xx and 1xx are no answer to a handshake.
        for status in (200, 299):
            with pytest.raises(InvalidStatus) as odd:
                await site.open(f"/deny-oddly?status={status}")
            assert odd.value.response.status_code in (status, 500)
        with pytest.raises(InvalidStatus) as failed:
            await site.open("/fail-early")
        assert failed.value.response.status_code == 500
        site.wait_for_log("before it has accepted")

    with serve("starlette_app:app", faults=True) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_the_scope(serve: Serve) -> None:
    async def main(site: Site) -> None:
        more: Any = {"additional_headers": [("X-Own", "é".encode().decode("latin-1")), ("Cookie", "a=1; b=2")]}
        async with site.open("/mounted/tell/t%C3%A4?q=1&r=%20", **more) as peer:
            assert await told(peer) == {
                "path": "/mounted/tell/tä",
                "root_path": "/mounted",
                "query": {"q": "1", "r": " "},
                "cookies": {"a": "1", "b": "2"},
                "header": "é".encode().decode("latin-1"),
                "client": "127.0.0.1",
                "state": "by the lifespan",
                "room": "tä",
                "http_version": "1.1",
                "scheme": "ws",
            }

    with serve("starlette_app:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_ends(serve: Serve) -> None:
    """How a peer has left is what ``WebSocketDisconnect`` says."""

    async def ends(asking: Any, most: int) -> Any:
        while True:
            await asking.send("?")
            found = await told(asking)
            if len(found) >= most:
                return found
            await asyncio.sleep(0.01)

    async def main(site: Site) -> None:
        async with site.open("/ends") as asking:
            for number, (code, reason) in enumerate([(1000, ""), (4123, "enough"), (1001, "bye")]):
                async with site.open("/listen") as peer:
                    await peer.close(code, reason)
                assert (await ends(asking, number + 1))[-1] == [code, reason]
            peer = await site.open("/listen")
            peer.transport.abort()
            # uvicorn's own says 1005: as if an empty close frame had come.
            assert (await ends(asking, 4))[-1] in ([1005, ""], [1006, ""])

    with serve("starlette_app:app", policy={"rate_limit": None}) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_an_application_that_fails_costs_its_connection(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo") as other:
            # uvicorn's own drops the connection, without a close frame.
            for path, codes in (("/fail", (1006, 1011)), ("/leave", (1000, 1006))):
                async with site.open(path) as peer:
                    with pytest.raises(ConnectionClosed):
                        await peer.recv()
                    assert peer.close_code in codes, path
            await other.send("still here")
            assert await other.recv() == "still here"
        site.wait_for_log("a fault of the application")

    with serve("starlette_app:app", faults=True) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_uvicorns_own_limits_hold(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo", ping_interval=None) as peer:
            await peer.send("x" * 100)
            assert await peer.recv() == "x" * 100
            await peer.send("x" * 101)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1009

    with serve("starlette_app:app", "--ws-max-size", "100") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_peer_that_is_silent_is_dead(serve: Serve) -> None:
    """It reads nothing, so that it answers no ping."""

    async def main(site: Site) -> None:
        async with site.open("/ends") as asking:
            host, port = site.at.split(":")
            _, writer = await asyncio.open_connection(host, int(port), limit=1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(
                f"GET /listen HTTP/1.1\r\nHost: {site.at}\r\nOrigin: {site.http}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            while True:
                await asking.send("?")
                found = await told(asking)
                if found:
                    # By its own name on each side: no pong, and nothing received.
                    assert found[0][0] in (1005, 1006, 1011)
                    return
                await asyncio.sleep(0.05)

    arguments = ["--ws-ping-interval", "0.5", "--ws-ping-timeout", "1"]
    with serve("starlette_app:app", *arguments, policy={"rate_limit": None}) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_shutdown_closes_what_is_open(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo") as peer:
            await peer.send("a")
            assert await peer.recv() == "a"
            await asyncio.to_thread(site.end)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1012

    with serve("starlette_app:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
