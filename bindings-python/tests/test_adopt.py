"""Connections of an accept loop of the application's own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import wsguard
from conftest import ORIGIN, Run, options
from wsguard.testing import running

HEAD = (
    f"GET / HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


def accepted() -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection that something else has accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


def server_of_echoes() -> wsguard.Server:
    server = wsguard.Server(**options(protocol="raw"))
    server.on_message(lambda conn, message: conn.send_nowait(message))
    return server


@pytest.mark.parametrize("read_before", [0, len(HEAD), len(HEAD) + 3])
@pytest.mark.parametrize("is_unix", [False, True])
def test_it_is_a_connection_as_any_other(run: Run, read_before: int, is_unix: bool) -> None:
    if is_unix and not hasattr(socket, "AF_UNIX"):
        pytest.skip("there are no Unix sockets")

    async def main() -> None:
        async with server_of_echoes() as server:
            client, ours = socket.socketpair() if is_unix else accepted()
            client.sendall(HEAD + b"\x81\x81\0\0\0\0x")
            received = b""
            while len(received) < read_before:
                received += ours.recv(read_before - len(received))
            server.adopt(ours, received)
            assert ours.fileno() == -1
            reader, writer = await asyncio.open_connection(sock=client)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(3) == b"\x81\x01x"
            writer.close()

    run(main)


@pytest.mark.parametrize("received", ["GET", None, 5, [71]])
def test_what_was_read_is_bytes(received: object) -> None:
    """A call that is wrong leaves the socket to its owner: detached, nobody would close it."""

    async def main() -> None:
        async with server_of_echoes() as server:
            client, ours = accepted()
            with pytest.raises(TypeError, match="received must be bytes"):
                server.adopt(ours, received)  # type: ignore[arg-type]
            assert ours.fileno() != -1
            ours.close()
            assert client.recv(1) == b""
            client.close()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_its_kind_is_what_the_system_says(run: Run) -> None:
    """A socket by its number has the family that somebody has said: the rules by address hold nevertheless."""
    ips: list[Any] = []

    async def main() -> None:
        server = server_of_echoes()
        server.on_open(lambda conn: ips.append(conn.ip))
        async with server:
            for client, ours, said in ((*accepted(), socket.AF_UNIX), (*socket.socketpair(), socket.AF_INET)):
                server.adopt(socket.socket(said, socket.SOCK_STREAM, fileno=ours.detach()), HEAD)
                reader, writer = await asyncio.open_connection(sock=client)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                writer.close()

    run(main)
    assert ips[:2] == ["127.0.0.1", None]


def test_a_refusal_is_answered_on_it(run: Run) -> None:
    async def main() -> None:
        async with server_of_echoes() as server:
            client, ours = accepted()
            server.adopt(ours, HEAD.replace(b"app.example", b"evil.example"))
            reader, writer = await asyncio.open_connection(sock=client)
            assert b" 403 " in await reader.readline()
            assert (await reader.read()).endswith(b"origin_denied: origin denied\n")
            writer.close()

    run(main)


def test_what_cannot_be_adopted(run: Run) -> None:
    async def main() -> None:
        server = server_of_echoes()
        client, ours = accepted()
        with pytest.raises(wsguard.UsageError, match="not started"):
            server.adopt(ours)
        assert client.recv(1) == b"", "it is closed"
        client.close()
        async with server:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as closed:
                closed.close()
                with pytest.raises(ValueError, match="closed"):
                    server.adopt(closed)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                with pytest.raises(TypeError, match="plain TCP"):
                    server.adopt(datagrams)
                assert datagrams.fileno() != -1
            client, ours = accepted()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            wrapped = context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
            with client, wrapped, pytest.raises(TypeError, match="SSLSocket"):
                server.adopt(wrapped)

    run(main)


@pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
def test_a_socket_without_a_peer_is_not_taken(run: Run, tmp_path: Path, family: str) -> None:
    if not hasattr(socket, family):
        pytest.skip("there are no Unix sockets")

    async def main() -> None:
        async with server_of_echoes() as server:
            unconnected = socket.socket(getattr(socket, family), socket.SOCK_STREAM)
            listening = socket.socket(getattr(socket, family), socket.SOCK_STREAM)
            listening.bind(("127.0.0.1", 0) if family == "AF_INET" else str(tmp_path / "socket"))
            listening.listen()
            for sock in (unconnected, listening):
                with pytest.raises(wsguard.ConnectionClosed):
                    server.adopt(sock)
                assert sock.fileno() == -1

    run(main)


@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_a_server_that_only_adopts_listens_nowhere(loop: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # What `listen` says is not even tried.
        host, port = taken.getsockname()
        only = wsguard.Server(**options(protocol="raw", listen=f"{host}:{port}"))
        only.on_message(lambda conn, message: conn.send_nowait(message))
        only.listens = False
        answers: list[bytes] = []

        def talk() -> None:
            assert only.addresses == [] and only.address == ""
            client, ours = accepted()
            only.adopt(ours)
            with client, client.makefile("rb") as told:
                client.sendall(HEAD + b"\x81\x81\0\0\0\0x")
                while told.readline() != b"\r\n":
                    pass
                answers.append(told.read(3))
            only.stop()

        talking = threading.Thread(target=talk)
        only.run(loop, started=talking.start)
        talking.join()
        assert answers == [b"\x81\x01x"]
        with pytest.raises(wsguard.StartError):
            only.listens = True
            only.run(loop)
    only.listens = False
    # The testing kit listens where it says, whatever the server does.
    with running(only) as moved:
        assert moved.address
    for wrong in (None, 0, "no"):
        only.listens = wrong  # type: ignore[assignment]
        with pytest.raises(TypeError, match=f"^listens must be a bool, not {type(wrong).__name__}$"):
            only.run(loop)
