"""The examples of examples/python that move in, as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE, Site, start, told
from websockets.exceptions import ConnectionClosed, InvalidStatus

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/python"
PAGE = "http://localhost:3000"
POLICY = {"WSGUARD_POLICY": "moving_policy.json"}
CHANNELS = {"SECRET_KEY": "x" * 64}


@contextlib.contextmanager
def example(*command: str, **environment: str) -> Iterator[Site]:
    site = start([*command], EXAMPLES, SITE="127.0.0.1:0", **environment)
    try:
        yield site
    finally:
        site.end()
    assert "Traceback" not in "".join(site.log), "".join(site.log)


async def chat(site: Site) -> None:
    async with site.open("/chat?token=change-me", PAGE) as alice, site.open("/chat?token=change-me-too", PAGE) as bob:
        await alice.send(json.dumps({"text": "hello"}))
        assert await told(alice) == {"user": "alice", "text": "hello"}
        assert await told(bob) == {"user": "alice", "text": "hello"}
        await bob.send(json.dumps({"text": "x" * 5000}))
        with pytest.raises(ConnectionClosed):
            await bob.recv()
        assert bob.close_code == 1009
        assert await told(alice) == {"left": "bob"}


async def refusals(site: Site, path: str) -> None:
    for origin in ("https://evil.example", None):
        with pytest.raises(InvalidStatus) as refused:
            await site.open(path, origin)
        response = refused.value.response
        # The policy's own answer: the application has not heard of it.
        assert response.status_code == 403 and b"origin" in (response.body or b"")
    with pytest.raises(InvalidStatus) as refused:
        await site.open("/chat?token=stolen", PAGE)
    assert refused.value.response.status_code == 403


def test_fastapi() -> None:
    async def main(site: Site) -> None:
        await chat(site)
        await refusals(site, "/chat?token=change-me")

    with example("moving_fastapi.py") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_fastapi_by_uvicorns_command() -> None:
    command = ["-m", "uvicorn", "moving_fastapi:app", "--ws", "wsguard.uvicorn:Protocol", "--port", "0"]
    with example(*command, **POLICY) as site:
        asyncio.run(asyncio.wait_for(chat(site), PATIENCE))


async def sessions(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.http, timeout=PATIENCE) as web:
        cookie = (await web.get("/sign-in/alice")).cookies["sessionid"]
    async with site.open("/chat", PAGE, additional_headers={"Cookie": f"sessionid={cookie}"}) as alice:
        await alice.send(json.dumps({"text": "hello"}))
        assert await told(alice) == {"user": "alice", "text": "hello"}
    with pytest.raises(InvalidStatus) as refused:
        await site.open("/chat", PAGE)
    assert refused.value.response.status_code == 403


def test_channels() -> None:
    async def main(site: Site) -> None:
        await sessions(site)
        await refusals(site, "/chat")

    with example("moving_channels.py", **CHANNELS) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_channels_under_gunicorn() -> None:
    command = ["-m", "gunicorn", "moving_channels:application", "--workers", "2", "--bind", "127.0.0.1:0"]
    with example(*command, "--worker-class", "moving_channels.Worker", **CHANNELS, **POLICY) as site:
        asyncio.run(asyncio.wait_for(sessions(site), PATIENCE))
