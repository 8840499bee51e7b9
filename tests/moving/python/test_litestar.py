"""Litestar: listeners, a guard, a handler that sends."""

from __future__ import annotations

import asyncio
import json

import pytest
from conftest import PATIENCE, Serve, Site, told
from websockets.exceptions import ConnectionClosed, InvalidStatus


def test_listeners(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/echo") as peer:
            await peer.send("hello")
            assert await peer.recv() == "hello"
        with pytest.raises(InvalidStatus) as refused:
            await site.open("/sum")
        assert refused.value.response.status_code in (401, 403)
        async with site.open("/sum", additional_headers={"X-Token": "token-of-alice"}) as peer:
            await peer.send(json.dumps([1, 2, 3]))
            assert await told(peer) == {"sum": 6}
        async with site.open("/stream", subprotocols=("numbers",)) as peer:
            assert peer.subprotocol == "numbers" and [await told(peer) for _ in range(5)] == [0, 1, 2, 3, 4]
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 4000

    with serve("litestar_echo:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
