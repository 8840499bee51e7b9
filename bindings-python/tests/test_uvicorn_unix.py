"""uvicorn on a Unix socket."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import websockets
from conftest import ORIGIN, Run
from test_uvicorn import Serving, echo, http, policy

__all__ = ["http"]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
@pytest.mark.parametrize(("stated", "ip"), [({}, None), ({"trusted_proxies": ["unix"]}, "203.0.113.9")])
def test_a_peer_has_the_address_that_a_trusted_proxy_says(
    run: Run, http: str, tmp_path: Path, stated: dict[str, Any], ip: str | None
) -> None:
    path = str(tmp_path / "s")
    peer = {"origin": websockets.Origin(ORIGIN), "additional_headers": {"X-Forwarded-For": "203.0.113.9"}}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"]["wsguard"]["ip"] == ip
        await echo(scope, receive, send)

    async def main() -> None:
        async with (
            Serving(app, http=http, uds=path, ws=policy(**stated)),
            websockets.unix_connect(path, "ws://a/", **peer) as client,
        ):
            await client.send("x")
            assert await client.recv() == "x"

    run(main)
