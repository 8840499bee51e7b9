"""An application in ``wsguard.asgi.Guard``, under servers that know nothing of wsguard."""

from __future__ import annotations

import asyncio

import pytest
from conftest import PATIENCE, Site, start, told
from websockets.exceptions import ConnectionClosed, InvalidStatus

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "wrapped:app", "--port", "0"],
    "hypercorn": ["-m", "hypercorn", "wrapped:app", "--bind", "127.0.0.1:0", "--worker-class", "asyncio"],
}
TOKEN = {"additional_headers": {"Authorization": f"Bearer {'t' * 32}"}}


@pytest.mark.parametrize("server", SERVERS)
def test_a_guarded_application(server: str) -> None:
    async def main(site: Site) -> None:
        for origin, headers, status in (("https://evil.example", TOKEN, 403), (None, TOKEN, 403), ("", {}, 401)):
            with pytest.raises(InvalidStatus) as refused:
                await site.open("/echo", origin, **headers)
            assert refused.value.response.status_code == status
        async with site.open("/who", **TOKEN) as peer:
            who = await told(peer)
            assert (who["user"], who["roles"], who["ip"]) == ("alice", ["admin"], "127.0.0.1")
        async with site.open("/echo", **TOKEN) as peer:
            await peer.send("é")
            assert await peer.recv() == "é"
            await peer.send("x" * 1001)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1009
        async with site.open("/echo", **TOKEN) as peer:
            for _ in range(12):
                await peer.send("x")
            with pytest.raises(ConnectionClosed):
                while True:
                    assert await peer.recv() == "x"
            assert (peer.close_code, peer.close_reason) == (1008, "rate limit")
        async with site.open("/negotiate", subprotocols=("v1", "v2"), **TOKEN) as peer:
            assert peer.subprotocol == "v2" and await told(peer) == ["v1", "v2"]

    site = start(SERVERS[server])
    try:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
    finally:
        site.end()
