"""A real Redis for one test module, and one that refuses everybody."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running() -> Iterator[int]:
    """A ``redis-server`` of its own that keeps nothing; its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: tests/packages.sh redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as redis:
        try:
            assert redis.stdout is not None
            assert any("Ready to accept connections" in line for line in redis.stdout)
            yield port
        finally:
            redis.kill()


@contextlib.asynccontextmanager
async def listening(port: int, channel: str) -> AsyncIterator[None]:
    """Somebody who hears what is published in a channel, and answers nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"SUBSCRIBE {channel}\r\n".encode())
    await reader.readuntil(b":1\r\n")
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[int]:
    """What answers as a Redis does to a wrong password; its port."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n" * 8)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
