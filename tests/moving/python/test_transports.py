"""Starlette over what uvicorn listens on: a Unix socket, TLS, behind a proxy."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Serve, Site, told
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

HTTP = ("h11", "httptools", "wsguard.uvicorn:HttpProtocol")
STACKS = [["--loop", loop, "--http", http] for loop in ("asyncio", "uvloop") for http in HTTP]
LARGE = "é" * 30_000


async def talk(opening: Any) -> None:
    async with opening as peer:
        for message in ("a", "", LARGE, b"\0" * 60_000):
            await peer.send(message)
            assert await peer.recv() == message
        # More than any buffer holds: whoever does not read makes the other wait, and loses nothing.
        sent = [f"{number}" * 1000 for number in range(30)]
        for message in sent:
            await peer.send(message)
        assert [await peer.recv() for _ in sent] == sent
        await peer.close(4000, "done")
        assert peer.close_code == 4000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return key, cert


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack[1]}-{stack[3]}")
def test_tls_that_uvicorn_ends(serve: Serve, certificate: tuple[Path, Path], stack: list[str]) -> None:
    key, cert = certificate
    trusting = ssl.create_default_context(cafile=cert)

    async def main(site: Site) -> None:
        origin = Origin(f"https://{site.at}")
        await talk(connect(f"wss://{site.at}/any", ssl=trusting, origin=origin, proxy=None, max_size=None))
        async with connect(f"wss://{site.at}/mounted/tell/x", ssl=trusting, origin=origin, proxy=None) as peer:
            assert (await told(peer))["scheme"] == "wss"
        # One that vanishes in the middle of a message.
        peer = await connect(f"wss://{site.at}/any", ssl=trusting, origin=origin, proxy=None)
        peer.transport.abort()

    policy = {"origins": ["https://127.0.0.1:*"]}
    arguments = ["--ssl-keyfile", str(key), "--ssl-certfile", str(cert), *stack]
    with serve("starlette_app:app", *arguments, policy=policy) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack[1]}-{stack[3]}")
def test_a_unix_socket(serve: Serve, tmp_path: Path, stack: list[str]) -> None:
    path = str(tmp_path / "site.sock")

    async def main(site: Site) -> None:
        more: Any = {"origin": Origin("http://127.0.0.1:80"), "max_size": None}
        await talk(unix_connect(path, "ws://localhost/any", **more))
        more["additional_headers"] = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        async with unix_connect(path, "ws://localhost/mounted/tell/x", **more) as peer:
            # A proxy on this machine, as uvicorn's middleware has it.
            assert (await told(peer))["client"] in ("203.0.113.7", None)

    with serve("starlette_app:app", "--uds", path, *stack) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_behind_a_proxy(serve: Serve) -> None:
    async def main(site: Site) -> None:
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        async with site.open("/mounted/tell/x", additional_headers=headers) as peer:
            who = await told(peer)
            assert (who["client"], who["scheme"]) == ("203.0.113.7", "wss")

    with serve("starlette_app:app", "--forwarded-allow-ips", "127.0.0.1") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_nobody_else_is_believed(serve: Serve) -> None:
    async def main(site: Site) -> None:
        async with site.open("/mounted/tell/x", additional_headers={"X-Forwarded-For": "203.0.113.7"}) as peer:
            assert (await told(peer))["client"] == "127.0.0.1"

    with serve("starlette_app:app", "--forwarded-allow-ips", "192.0.2.1") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack[1]}-{stack[3]}")
def test_a_connection_that_was_used_before(serve: Serve, stack: list[str]) -> None:
    """The connection has answered other requests before, and the handshake comes in pieces."""

    async def main(site: Site) -> None:
        host, port = site.at.split(":")
        for pieces in (1, 7, len(UPGRADE)):
            reader, writer = await asyncio.open_connection(host, int(port))
            for _ in range(2):
                writer.write(b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 404")
                await reader.readexactly(len(b"Not Found"))
            step = -(-len(UPGRADE) // pieces)
            for at in range(0, len(UPGRADE), step):
                writer.write(UPGRADE[at : at + step])
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            # As bytes: uvicorn itself loses what is sent behind the handshake before its answer.
            writer.write(b"\x81\x84\0\0\0\0late")
            assert await reader.readexactly(6) == b"\x81\x04late"
            writer.close()

    with serve("starlette_app:app", *stack) as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))


def test_a_peer_that_does_not_read_waits(serve: Serve) -> None:
    """An application that sends faster than its peer reads is slowed down by ``await send``; nothing is lost."""

    async def main(site: Site) -> None:
        async with site.open("/flood", max_size=None, max_queue=1) as peer:
            await asyncio.sleep(0.5)
            for number in range(500):
                message = await peer.recv()
                assert int(str(message).split("-")[0]) == number and len(message) > 20_000
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1000

    with serve("starlette_app:app") as site:
        asyncio.run(asyncio.wait_for(main(site), PATIENCE))
