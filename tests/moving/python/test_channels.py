"""Django Channels: the tutorial's chat in two workers, of uvicorn and of gunicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Serve, Site, told
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus


async def signed_in(site: Site, name: str) -> dict[str, Any]:
    """What a client sends that has signed in: a session is good for every worker."""
    async with httpx.AsyncClient(base_url=site.http, timeout=PATIENCE) as web:
        cookie = (await web.get(f"/sign-in/{name}")).cookies["sessionid"]
    return {"additional_headers": {"Cookie": f"sessionid={cookie}"}}


async def chat(site: Site, workers: int) -> None:
    """Groups of the in-memory layer are those of one worker: it is told who is where, and each hears its own."""
    alice, bob = await signed_in(site, "alice"), await signed_in(site, "bob")
    async with contextlib.AsyncExitStack() as open_ones:
        peers: dict[int, list[tuple[str, ClientConnection]]] = {}
        # The kernel decides who gets a connection: enough of them, until each worker has two.
        for number in range(200):
            name, more = ("alice", alice) if number % 2 else ("bob", bob)
            peer = await open_ones.enter_async_context(site.open("/chat/lobby", **more))
            peers.setdefault((await told(peer))["worker"], []).append((name, peer))
            if len(peers) == workers and all(len(there) > 1 for there in peers.values()):
                break
            if number % 10 == 9:
                # Slow enough for what is limited by address, and for a worker that still starts.
                await asyncio.sleep(0.5)
        assert len(peers) == workers, {worker: len(there) for worker, there in peers.items()}
        for worker, there in peers.items():
            name, speaker = there[0]
            await speaker.send(json.dumps({"text": f"hello from {worker}"}))
            for _, peer in there:
                assert await told(peer) == {"user": name, "text": f"hello from {worker}"}
        for there in peers.values():
            name, leaver = there.pop()
            await leaver.close()
            for _, peer in there:
                assert await told(peer) == {"left": name}


def test_a_chat_in_two_workers(serve: Serve) -> None:
    with serve("channels_chat:application", "--workers", "2", policy={"handshakes_per_ip": None}) as site:
        asyncio.run(asyncio.wait_for(chat(site, 2), 3 * PATIENCE))


def test_workers_are_renewed(serve: Serve) -> None:
    """SIGHUP: uvicorn ends each worker and starts another; connections are told, and new ones are served."""

    async def main(site: Site) -> None:
        async with site.open("/echo") as peer:
            await peer.send("a")
            assert await peer.recv() == "a"
            site.process.send_signal(signal.SIGHUP)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1012
        while True:
            with contextlib.suppress(OSError, InvalidMessage):
                async with site.open("/echo") as peer:
                    await peer.send("b")
                    assert await peer.recv() == "b"
                    return
            await asyncio.sleep(0.05)

    with serve("channels_chat:application", "--workers", "2") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_chat_in_two_workers_of_gunicorn(serve_by_gunicorn: Serve) -> None:
    with serve_by_gunicorn("channels_chat:application", "--workers", "2") as site:
        asyncio.run(asyncio.wait_for(chat(site, 2), 3 * PATIENCE))


def test_who_is_refused(serve: Serve) -> None:
    async def main(site: Site) -> None:
        alice = await signed_in(site, "alice")
        # AllowedHostsOriginValidator; and, with wsguard, the policy before it.
        for origin in ("http://evil.example", "http://127.0.0.1.evil.example", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await site.open("/chat/lobby", origin=origin, **alice)
            assert refused.value.response.status_code == 403
        # No session, a session that nobody has signed.
        for cookie in ("a=1", "sessionid=forged"):
            with pytest.raises(InvalidStatus) as refused:
                await site.open("/chat/lobby", additional_headers={"Cookie": cookie})
            assert refused.value.response.status_code == 403
        async with site.open("/chat/lobby", **alice) as peer:
            assert "worker" in await told(peer)

    with serve("channels_chat:application") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_consumer_on_a_thread(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo", subprotocols=("echo",)) as peer:
            assert peer.subprotocol == "echo"
            for message in ("a", b"\0\xff", "bye"):
                await peer.send(message)
                assert await peer.recv() == message
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 4002

    with serve("channels_chat:application") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
