"""FastAPI: the chat of its documentation."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Serve, Site, told
from websockets.exceptions import ConnectionClosed, InvalidStatus

ALICE = {"additional_headers": {"Cookie": "session=session-of-alice"}}


def test_a_chat(serve: Serve) -> None:
    async def main(site: Site) -> None:
        alice: Any = site.open("/chat/lobby", **ALICE)
        async with alice as alice, site.open("/chat/lobby?token=token-of-bob") as bob:
            assert await told(alice) == {"welcome": "alice", "room": "lobby"}
            assert await told(bob) == {"welcome": "bob", "room": "lobby"}
            await alice.send(json.dumps({"text": "héllo €"}))
            for peer in (alice, bob):
                assert await told(peer) == {"user": "alice", "text": "héllo €"}
            # The same port has the rest of the application.
            async with httpx.AsyncClient(base_url=site.http) as web:
                assert (await web.get("/")).json() == {"here": 2}
            await bob.close(1001)
            assert await told(alice) == {"left": "bob"}

    with serve("fastapi_chat:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_without_a_credential_there_is_no_connection(serve: Serve) -> None:
    """Depends has raised before ``accept``: the handshake is refused with 403."""

    async def main(site: Site) -> None:
        for path in ("/chat/lobby", "/chat/lobby?token=stolen", "/nowhere"):
            with pytest.raises(InvalidStatus) as refused:
                await site.open(path)
            assert refused.value.response.status_code == 403
        async with httpx.AsyncClient(base_url=site.http) as web:
            assert (await web.get("/")).json() == {"here": 0}

    with serve("fastapi_chat:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_what_a_model_refuses_closes(serve: Serve) -> None:
    async def main(site: Site) -> None:
        for wrong, reason in (({"text": ""}, "string_too_short"), ({}, "missing"), ({"text": 5}, "string_type")):
            async with site.open("/chat/lobby", **ALICE) as alice:
                await told(alice)
                await alice.send(json.dumps(wrong))
                with pytest.raises(ConnectionClosed):
                    await alice.recv()
                assert (alice.close_code, alice.close_reason) == (1003, reason)

    with serve("fastapi_chat:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_peer_that_vanishes_has_left(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/chat/lobby", **ALICE) as alice:
            await told(alice)
            bob = await site.open("/chat/lobby?token=token-of-bob")
            await told(bob)
            bob.transport.abort()
            assert await told(alice) == {"left": "bob"}

    with serve("fastapi_chat:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
