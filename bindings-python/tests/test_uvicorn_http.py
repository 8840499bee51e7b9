"""uvicorn's HTTP with bounds for a request's head: both of its parsers."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from test_uvicorn import Serving, echo, policy, secured
from wsguard import _asgi_http
from wsguard.uvicorn import HttpProtocol

TIMEOUT_S = 0.3
#: How long a machine may be busy with something else.
PATIENCE_S = 10

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
STREAMS = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes over WebSockets. Over HTTP it answers at once, or as the path says, after the body or a while."""
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
        return
    if scope["path"] == "/body":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await asyncio.sleep(TIMEOUT_S * 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(params=["OfH11", "OfHttpTools"])
def http(request: pytest.FixtureRequest) -> Any:
    if request.param == "OfHttpTools":
        pytest.importorskip("httptools")
    return getattr(_asgi_http, request.param)


def stated(http: Any) -> Any:
    # uvicorn's own limit between two requests is out of the way.
    ws = policy(handshake_timeout_ms=int(TIMEOUT_S * 1000), max_head_bytes=1024, paths=["/ws"])
    return {"http": http, "ws": ws, "timeout_keep_alive": 60}


def serving(http: Any) -> Serving:
    return Serving(app, **stated(http))


async def connected(serving: Serving, after: int = 0) -> STREAMS:
    """A new connection, or one that has had so many requests answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    for _ in range(after):
        writer.write(HEAD + b"\r\n")
        assert b" 200 " in await answer(reader)
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server ends the connection."""
    return await asyncio.wait_for(reader.read(), PATIENCE_S)


async def end(reader: asyncio.StreamReader, status: bytes) -> None:
    """The server has ended the connection, of a peer that went on sending: its answer may be lost with that."""
    with contextlib.suppress(ConnectionError):
        told = await rest(reader)
        assert told == b"" or told.startswith(b"HTTP/1.1 " + status), told


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    await reader.readexactly(2)
    return head


async def drip(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    """Sends pieces for longer than a head may take, until the connection ends."""
    for piece in pieces:
        if writer.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(TIMEOUT_S * 1.5 / len(pieces))


def test_the_choice_is_uvicorns_own() -> None:
    pytest.importorskip("httptools")
    assert HttpProtocol is _asgi_http.OfHttpTools
    # A worker of uvicorn's gets it by name.
    assert pickle.loads(pickle.dumps(HttpProtocol)) is HttpProtocol


@pytest.mark.parametrize("begun", [HEAD, b"G", b"\r\n"], ids=["head", "letter", "empty line"])
def test_a_head_that_does_not_end(run: Run, http: Any, begun: bytes) -> None:
    async def main() -> None:
        async with serving(http) as site:
            for before in (0, 2):
                reader, writer = await connected(site, before)
                start = time.monotonic()
                writer.write(begun)
                told = await rest(reader)
                writer.close()
                if http is _asgi_http.OfH11 and begun == b"\r\n":
                    # It takes no empty line before a request.
                    assert told.startswith(b"HTTP/1.1 400 "), told
                else:
                    assert told.startswith(b"HTTP/1.1 408 "), told
                    assert time.monotonic() - start > TIMEOUT_S * 0.9

    run(main)


def test_a_head_that_comes_in_drops(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site:
            for before in (0, 1):
                reader, writer = await connected(site, before)
                await drip(writer, [HEAD, *[b"A: b\r\n"] * 20])
                await end(reader, b"408 ")
                writer.close()

    run(main)


def test_a_head_that_begins_with_the_end_of_another(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site:
            for path in (b"/", b"/slow"):
                reader, writer = await connected(site)
                writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n" + HEAD)
                assert b" 200 " in await answer(reader)
                start = time.monotonic()
                assert await rest(reader) == b""
                assert TIMEOUT_S * 0.9 < time.monotonic() - start < TIMEOUT_S * 20
                writer.close()

    run(main)


def test_one_who_says_nothing_hears_nothing(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site:
            reader, writer = await connected(site)
            assert await rest(reader) == b""
            writer.close()

    run(main)


def test_a_head_without_end_is_not_kept(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site:
            for before in (0, 1):
                reader, writer = await connected(site, before)
                writer.write(HEAD)
                sent = 0
                while not writer.is_closing() and not reader.at_eof() and sent < 20_000:
                    writer.write(b"A: " + b"b" * 95 + b"\r\n")
                    sent += 100
                    await asyncio.sleep(0.001)
                assert sent < 20_000
                await end(reader, b"431 ")
                writer.close()

    run(main)


def test_the_rest_is_uvicorns(run: Run, http: Any) -> None:
    """A body, an answer, and the silence between two requests take the time that uvicorn and the application give."""

    async def main() -> None:
        async with serving(http) as site:
            reader, writer = await connected(site)
            long_body = [b"b" * 1000] * 10
            post = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"
            await drip(writer, [post % b"/body", *long_body])
            assert b" 200 " in await answer(reader)
            # Answered before its body is there, which has an end in the bytes of the next head.
            writer.write(post % b"/")
            assert b" 200 " in await answer(reader)
            await drip(writer, long_body[1:])
            writer.write(long_body[0] + HEAD)
            await asyncio.sleep(TIMEOUT_S / 4)
            writer.write(b"\r\n")
            assert b" 200 " in await answer(reader)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 200 " in await answer(reader)
            await asyncio.sleep(TIMEOUT_S * 1.5)
            # Two at once.
            writer.write((HEAD + b"\r\n") * 2)
            assert b" 200 " in await answer(reader) and b" 200 " in await answer(reader)
            writer.close()

    run(main)


def test_a_body_that_nobody_reads_any_more(run: Run, http: Any) -> None:
    """It takes what time its pieces take, and has an end where none comes."""

    async def main() -> None:
        async with serving(http) as site:
            reader, writer = await connected(site)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
            assert b" 200 " in await answer(reader)
            await drip(writer, [b"b"] * 9)
            assert not reader.at_eof()
            start = time.monotonic()
            assert await rest(reader) == b""
            assert time.monotonic() - start > TIMEOUT_S * 0.5
            writer.close()

    run(main)


@pytest.mark.parametrize("path", [b"/", b"/body"], ids=["answered", "awaited"])
def test_trailers_have_an_end(run: Run, path: bytes) -> None:
    pytest.importorskip("httptools")

    async def main() -> None:
        async with serving(_asgi_http.OfHttpTools) as site:
            for trailers in ([b"A: b\r\n"] * 1000, [b"A: ", *[b"b" * 50] * 1000]):
                reader, writer = await connected(site)
                writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
                sent = 0
                for piece in trailers:
                    if writer.is_closing():
                        break
                    writer.write(piece)
                    sent += len(piece)
                    await asyncio.sleep(0.001)
                assert sent < 4000
                with contextlib.suppress(ConnectionError):
                    await rest(reader)
                writer.close()

    run(main)


def test_trailers_of_a_request_that_has_an_end(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site:
            reader, writer = await connected(site)
            for _ in range(2):
                writer.write(b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                await drip(writer, [b"1\r\nb\r\n", b"0\r\n", b"A: b\r\n", b"\r\n"])
                assert b" 200 " in await answer(reader)
            writer.close()

    run(main)


def test_an_answer_is_not_cut(run: Run) -> None:
    """For an empty line that some clients send behind a request, or the beginning of the next one."""
    pytest.importorskip("httptools")

    async def main() -> None:
        async with serving(_asgi_http.OfHttpTools) as site:
            for begun in (b"\r\n", HEAD):
                reader, writer = await connected(site)
                writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.sleep(TIMEOUT_S / 3)
                writer.write(begun)
                assert b" 200 " in await answer(reader)
                writer.write((b"" if begun == HEAD else HEAD) + b"\r\n")
                assert b" 200 " in await answer(reader)
                writer.close()

    run(main)


def test_who_does_not_end_tls_is_not_waited_for(http: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(app, tmp_path, **stated(http)) as (site, trusting):
            sock = socket.create_connection(("127.0.0.1", site.port))
            sock.setblocking(False)
            into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = trusting.wrap_bio(into, out)
            loop = asyncio.get_running_loop()
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(sock, out.read())
                    into.write(await loop.sock_recv(sock, 65536))
            tls.write(HEAD)
            await loop.sock_sendall(sock, out.read())
            start = time.monotonic()
            while site.server.server_state.connections:
                assert time.monotonic() - start < PATIENCE_S
                await asyncio.sleep(0.02)
            sock.close()

    asyncio.run(main())


def test_a_websocket_lives_on(run: Run, http: Any) -> None:
    async def main() -> None:
        async with serving(http) as site, site.connect("/ws") as peer:
            await asyncio.sleep(TIMEOUT_S * 1.5)
            await peer.send("hello")
            assert await peer.recv() == "hello"

    run(main)


def test_many_ends(run: Run, http: Any) -> None:
    """Nothing is left of connections that ended at any time."""

    async def main() -> None:
        async with serving(http) as site:
            for size in range(0, len(HEAD), 4):
                _, writer = await connected(site)
                writer.write(HEAD[:size])
                if size % 8:
                    writer.close()
                else:
                    writer.transport.abort()
            until = time.monotonic() + PATIENCE_S
            while site.server.server_state.connections:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)

    run(main)


def test_without_a_policy_of_ours_the_defaults_hold() -> None:
    async def main() -> None:
        async with Serving(app, http=HttpProtocol, ws="none") as site:
            reader, writer = await connected(site)
            start = time.monotonic()
            writer.write(HEAD)
            assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - start > 4.5
            writer.close()

    asyncio.run(main())
