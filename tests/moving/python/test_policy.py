"""What the policy does to an application that has moved in; uvicorn alone has none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import APPS, PATIENCE, PROTOCOLS, Serve, Site, start, told
from websockets.exceptions import ConnectionClosed, InvalidStatus

TOKENS: dict[str, Any] = {"auth": {"tokens": [{"token": "t" * 32, "user": "alice", "roles": ["admin"]}]}}
REPORT: dict[str, Any] = {"on_violation": "report", "report_handshakes": True}
RATE: dict[str, Any] = {"rate_limit": {"per_second": 1, "burst": 2, "queue": 1}}


@pytest.fixture
def ws() -> str:
    """Nothing else has a policy."""
    return PROTOCOLS["wsguard"]


def run(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_what_is_refused_now(serve: Serve) -> None:
    async def main(site: Site) -> None:
        for origin in ("https://evil.example", None):
            with pytest.raises(InvalidStatus) as refused:
                await site.open("/echo", origin)
            assert refused.value.response.status_code == 403
        async with site.open("/echo") as peer:
            await peer.send("x" * 65_537)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1009
        async with site.open("/echo") as peer:
            for _ in range(10):
                await peer.send("x")
            with pytest.raises(ConnectionClosed):
                while True:
                    assert await peer.recv() == "x"
            assert (peer.close_code, peer.close_reason) == (1008, "rate limit")
        site.wait_for_log("origin_denied")

    with serve("starlette_app:app", policy=RATE) as site:
        run(main(site))


def test_the_core_may_authenticate(serve: Serve) -> None:
    async def main(site: Site) -> None:
        for headers in ({}, {"Authorization": "Bearer stolen"}):
            with pytest.raises(InvalidStatus) as refused:
                await site.open("/who", additional_headers=headers)
            assert refused.value.response.status_code == 401
        async with site.open("/who", additional_headers={"Authorization": f"Bearer {'t' * 32}"}) as peer:
            who = await told(peer)
            assert (who["user"], who["roles"], who["ip"]) == ("alice", ["admin"], "127.0.0.1")

    with serve("starlette_app:app", policy=TOKENS) as site:
        run(main(site))


def test_a_policy_can_be_tried_first(serve: Serve) -> None:
    """What would be refused passes, and is in the log; what bounds the server is enforced."""

    async def main(site: Site) -> None:
        async with site.open("/echo", "https://evil.example") as peer:
            for _ in range(10):
                await peer.send("x")
            assert [await peer.recv() for _ in range(10)] == ["x"] * 10
            await peer.send("x" * 65_537)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1009
        # No token: an anonymous session.
        async with site.open("/who") as peer:
            assert (await told(peer))["user"] is None
        for code in ("origin_denied", "auth_failed", "rate_limited", "message_too_big"):
            site.wait_for_log(f"code={code}")
        assert "report_handshakes" in "".join(site.log)

    with serve("starlette_app:app", policy={**TOKENS, **RATE, **REPORT}) as site:
        run(main(site))


def started(*arguments: str, policy: Path | None, **environment: str) -> str:
    """What uvicorn says that does not start."""
    command = [sys.executable, "-m", "uvicorn", "starlette_app:app", "--port", "0", "--ws", PROTOCOLS["wsguard"]]
    environment = {**os.environ, **environment, "WSGUARD_POLICY": "" if policy is None else str(policy)}
    ended = subprocess.run(
        [*command, *arguments], cwd=APPS, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode != 0, ended.stderr
    return ended.stderr


def test_without_a_policy_nothing_starts(tmp_path: Path) -> None:
    said = started(policy=None)
    assert "origins" in said and "auth" in said and "WSGUARD_POLICY" in said
    file = tmp_path / "policy.json"
    for wrong, what in (({"auth": "none"}, "origins"), ({"origins": ["https://a.b"]}, "auth")):
        file.write_text(json.dumps(wrong), encoding="utf-8")
        assert what in started(policy=file)


def test_not_every_address_is_a_trusted_proxy(serve: Serve) -> None:
    """uvicorn tells its options with the first upgrade: that is refused, and the log says what to write."""

    async def main(site: Site) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await site.open("/echo")
        assert refused.value.response.status_code == 500
        site.wait_for_log("forwarded_allow_ips=")

    with serve("starlette_app:app", "--forwarded-allow-ips", "*") as site:
        run(main(site))
    # Where the policy says it, uvicorn's own does not matter.
    with serve("starlette_app:app", "--forwarded-allow-ips", "*", policy={"trusted_proxies": []}) as site:
        run(site.open("/echo").__aenter__())


def test_a_policy_in_a_program_is_good_for_workers() -> None:
    """uvicorn starts each of them anew, and sends it the class."""

    async def main(site: Site) -> None:
        async with site.open("/echo") as peer:
            await peer.send("x")
            assert await peer.recv() == "x"
            await peer.send("x" * 11)
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1009

    site = start(["guarded.py"])
    try:
        run(main(site))
    finally:
        site.end()
    assert "Traceback" not in "".join(site.log), "".join(site.log)
