"""permessage-deflate (RFC 7692) as an application in Python has it: what goes compressed, what plain, what says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import websockets
import wsguard
from conftest import ORIGIN, Run, client, options
from websockets.asyncio.client import ClientConnection, connect
from wsguard import Connection
from wsguard.testing import FakeConnection

#: Longer than any threshold here, and it shrinks.
LONG = "wsguard " * 500


class Peer:
    """A client that tells of each frame whether it is compressed. The oracle is Python's own zlib."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    async def frame(self) -> tuple[bool, int, bytes]:
        """RSV1, the opcode, and the payload as it was before compression."""
        first, second = await asyncio.wait_for(self.reader.readexactly(2), 10)
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        payload = await asyncio.wait_for(self.reader.readexactly(length), 10)
        is_compressed = bool(first & 0x40)
        return is_compressed, first & 0x0F, inflated(payload) if is_compressed else payload

    def send(self, payload: bytes, *, opcode: int = 1, rsv1: bool = True) -> None:
        head = bytes([0x80 | (0x40 if rsv1 else 0) | opcode])
        length = len(payload)
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += bytes([0x80 | 126]) + struct.pack("!H", length)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", length)
        # A key of zeros leaves the payload as it is (RFC 6455 section 5.3).
        self.writer.write(head + bytes(4) + payload)


def deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def inflated(payload: bytes) -> bytes:
    # Each by itself: no message needs the window of another.
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")


@contextlib.asynccontextmanager
async def peer(server: wsguard.Server, offer: str | None = "permessage-deflate") -> AsyncIterator[Peer]:
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    offered = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
    writer.write(
        f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{offered}"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
    )
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101"), head
        yield Peer(reader, writer, head.decode().lower())
    finally:
        writer.transport.abort()


def compressing(server: wsguard.Server, **more: Any) -> connect:
    return connect(f"ws://{server.address}/", origin=websockets.Origin(ORIGIN), compression="deflate", **more)


def raw(**more: Any) -> Any:
    return options(protocol="raw", compression={"threshold_bytes": 16}, rate_limit=None, **more)


def test_what_comes_out_is_what_went_in(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(raw(max_message_bytes=1 << 20))
        told: asyncio.Queue[bool] = asyncio.Queue()
        server.on_open(lambda conn: told.put_nowait(conn.compressed))
        server.on_message(lambda conn, message: conn.send(message) and None)
        messages: list[str | bytes] = [
            "",
            "short",
            LONG,
            "ä€😀" * 3000,
            b"",
            b"\0" * 100_000,
            os.urandom(5000),
            bytes(range(256)) * 40,
        ]
        async with server:
            talks: ClientConnection
            async with compressing(server) as talks:
                assert await told.get() is True
                for message in messages:
                    await talks.send(message)
                    assert await talks.recv() == message
            stats = server.stats()
            assert stats["messages_compressed_in"] == len(messages)
            # The two that are too short go plain, the empty ones too, and what would not become shorter.
            assert stats["messages_compressed_out"] == 4
            assert stats["messages_left_plain"] == 0
            assert stats["bytes_inflated"] == sum(len(m.encode() if isinstance(m, str) else m) for m in messages)
            assert stats["compression_saved_bytes"] > 100_000
            assert "wsguard_messages_sent_compressed_total 4" in server.metrics()

    run(main)


@pytest.mark.parametrize("stated, offer", [({}, None), (None, "permessage-deflate"), ({}, "permessage-deflate; x=1")])
def test_nothing_is_compressed_without_both(stated: Any, offer: str | None) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", compression=stated))
        told: asyncio.Queue[bool] = asyncio.Queue()
        server.on_open(lambda conn: told.put_nowait(conn.compressed))
        server.on_message(lambda conn, message: conn.send(message) and None)
        async with server, peer(server, offer) as talks:
            assert await told.get() is False
            assert "sec-websocket-extensions" not in talks.head
            talks.send(LONG.encode(), rsv1=False)
            assert await talks.frame() == (False, 1, LONG.encode())
            assert server.stats()["messages_compressed_out"] == 0

    asyncio.run(main())


def ways_raw(conn: Connection, server: wsguard.Server, **how: Any) -> list[Callable[[], object]]:
    return [
        lambda: conn.send(LONG, **how),
        lambda: conn.send(LONG.encode(), **how),
        lambda: conn.send_nowait(bytearray(LONG.encode()), **how),
        lambda: server.to("all").send(LONG, **how),
        lambda: server.to("all", "others").send(LONG.encode(), **how),
        lambda: server.to_all().except_().send(LONG, **how),
    ]


def ways_json(conn: Connection, server: wsguard.Server, **how: Any) -> list[Callable[[], object]]:
    return [
        lambda: conn.emit("said", LONG, **how),
        lambda: conn.emit_nowait("said", LONG, **how),
        lambda: conn.reply("said", LONG, id=1, **how),
        lambda: conn.reply_nowait("said", LONG, id=1, **how),
        lambda: conn.reply_error("said", LONG, id=1, **how),
        lambda: conn.reply_error_nowait("said", LONG, id=1, **how),
        lambda: asyncio.ensure_future(conn.call("said", LONG, timeout_ms=20, **how)),
        lambda: server.to("all").emit("said", LONG, **how),
        lambda: server.to_all().emit("said", LONG, **how),
    ]


@pytest.mark.parametrize("ways, protocol", [(ways_raw, "raw"), (ways_json, "json")])
@pytest.mark.parametrize("how, is_compressed", [({}, True), ({"compress": True}, True), ({"compress": False}, False)])
def test_each_way_to_send(ways: Any, protocol: str, how: Any, is_compressed: bool) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol=protocol, compression={}, rate_limit=None))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with server, peer(server) as talks:
            conn = await opened.get()
            conn.join("all")
            for nth, way in enumerate(ways(conn, server, **how)):
                said = way()
                rsv1, _, payload = await talks.frame()
                told = payload.decode() if protocol == "raw" else json.loads(payload)["data"]
                assert (nth, rsv1, told) == (nth, is_compressed, LONG)
                if isinstance(said, asyncio.Future):
                    with pytest.raises(wsguard.CallTimeout):
                        await said

    asyncio.run(main())


def test_a_handler_that_is_called_at_once() -> None:
    """Its answers are held back until it returns: plain and compressed ones in one run keep their order."""

    async def main() -> None:
        server = wsguard.Server(raw())

        @server.on_message
        def answer(conn: Connection, message: Any) -> None:
            for nth in range(20):
                conn.send_nowait(f"{nth} {message}", compress=nth % 3 != 0)

        async with server, peer(server) as talks:
            talks.send(deflated(LONG.encode()))
            for nth in range(20):
                assert await talks.frame() == (nth % 3 != 0, 1, f"{nth} {LONG}".encode())
            stats = server.stats()
            # The length of what a caller wants plain is nobody's loss.
            assert (stats["messages_compressed_out"], stats["messages_left_plain"]) == (13, 0)

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [1, 0, None, "no", object()])
def test_compress_is_a_bool(wrong: Any) -> None:
    async def main() -> None:
        servers = [wsguard.Server(options(protocol=protocol, compression={})) for protocol in ("raw", "json")]
        for server, ways in zip(servers, (ways_raw, ways_json), strict=True):
            opened: asyncio.Queue[Connection] = asyncio.Queue()
            server.on_open(opened.put_nowait)
            async with server, peer(server) as talks:
                conn = await opened.get()
                conn.join("all")
                for way in ways(conn, server, compress=wrong):
                    with pytest.raises(TypeError, match="compress"):
                        way()
                # Nothing of it went out.
                conn.close()
                assert (await talks.frame())[1] == 8

    asyncio.run(main())
    fake = FakeConnection()
    for way in (fake.send, fake.send_nowait, fake.emit, fake.emit_nowait, fake.reply, fake.reply_error, fake.call):
        with pytest.raises(TypeError, match="compress"):
            cast(Any, way)("x", compress=wrong)
    assert fake.sent == []


def test_members_with_and_without() -> None:
    """One broadcast: who has agreed gets it compressed, by his own window, and others plain."""

    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", compression={}))
        offers = ["permessage-deflate", None, "permessage-deflate; server_max_window_bits=9", "permessage-deflate"]
        async with server, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(peer(server, offer)) for offer in offers]
            for how in ({}, {"compress": False}):
                while server.to_all().size < len(peers):
                    await asyncio.sleep(0)
                server.to_all().send(LONG, **cast(Any, how))
                for offer, talks in zip(offers, peers, strict=True):
                    assert await talks.frame() == (bool(offer) and not how, 1, LONG.encode())
            stats = server.stats()
            assert stats["messages_compressed_out"] == 3

    asyncio.run(main())


def test_a_bomb(run: Run) -> None:
    """It is judged by what it inflates to, and no handler sees any of it."""

    async def main() -> None:
        server = wsguard.Server(raw(max_message_bytes=10_000))
        seen: list[Any] = []
        server.on_message(lambda conn, message: seen.append(message))
        codes: asyncio.Queue[str | None] = asyncio.Queue()
        server.on_close(lambda conn, close: codes.put_nowait(close.verdict))
        for payload, rsv1, verdict in (
            (deflated(b"\0" * 9_000_000), True, "message_too_big"),
            (b"\xff\xff\xff\xff", True, "bad_compression"),
            (deflated(b"\xff\xfe"), True, "bad_utf8"),
        ):
            async with server, peer(server) as talks:
                talks.send(payload, rsv1=rsv1)
                assert (await talks.frame())[1] == 8
                talks.writer.transport.abort()
                assert await asyncio.wait_for(codes.get(), 10) == verdict
        assert seen == []

    run(main)


def test_a_reload() -> None:
    """An open connection keeps what it has agreed on; threshold and level follow."""

    async def main() -> None:
        server = wsguard.Server(raw())
        server.on_message(lambda conn, message: conn.send(message) and None)
        async with server, peer(server) as old:
            for stated, is_compressed in (({"threshold_bytes": 5000}, False), ({"level": 9}, True), (None, False)):
                server.reload(options(protocol="raw", compression=stated, rate_limit=None))
                old.send(deflated(LONG.encode()))
                rsv1, _, payload = await old.frame()
                assert payload == LONG.encode()
                assert rsv1 is is_compressed
            async with peer(server) as new, client(server) as plain:
                assert "sec-websocket-extensions" not in new.head
                await plain.send(LONG)
                assert await plain.recv() == LONG

    asyncio.run(main())


def test_back_pressure_counts_what_is_written(run: Run) -> None:
    """Awaiting ends although fewer bytes are written than were handed over."""

    async def main() -> None:
        server = wsguard.Server(raw(max_outbox_bytes=4 << 20))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with server:
            talks: ClientConnection
            async with compressing(server, max_size=None) as talks:
                conn = await opened.get()
                noise = os.urandom(200_000)
                for nth in range(40):
                    reading = asyncio.ensure_future(talks.recv())
                    message = (LONG * 50, noise)[nth % 2]
                    await asyncio.wait_for(conn.send(message, compress=nth % 3 != 0), 10)
                    assert await reading == message
                while conn.buffered_bytes:
                    await asyncio.sleep(0)

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_threads_that_send_while_the_policy_changes(seed: int) -> None:
    """The messages of each thread come in its order, whole, and never compressed where it said so."""
    count = 60

    async def main() -> None:
        server = wsguard.Server(raw(max_outbox_bytes=32 << 20))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)

        def push(conn: Connection, name: int) -> None:
            chance = random.Random(seed * 10 + name)
            for nth in range(count):
                payload = chance.choice((chance.randbytes, bytes, lambda n: b"wsguard " * n))(chance.randrange(20_000))
                compress = chance.random() < 0.6
                head = struct.pack("!BBBI", name, nth, compress, zlib.crc32(payload))
                assert conn.send_nowait(head + payload, compress=compress) in ("sent", "queued")

        async def read(talks: Peer) -> None:
            seen = [0, 0, 0]
            while sum(seen) < count * len(seen):
                rsv1, opcode, payload = await talks.frame()
                name, nth, compress, checksum = struct.unpack("!BBBI", payload[:7])
                assert (opcode, nth, checksum) == (2, seen[name], zlib.crc32(payload[7:]))
                assert not rsv1 or compress
                seen[name] += 1

        async with server, peer(server) as talks, peer(server) as others:
            conns = [await opened.get(), await opened.get()]
            sending = [asyncio.to_thread(push, conn, name) for conn in conns for name in range(3)]
            reading = asyncio.gather(read(talks), read(others), *sending)
            chance = random.Random(seed)
            while not reading.done():
                changed = chance.choice((None, {}, {"threshold_bytes": chance.randrange(9000), "level": 9}))
                await asyncio.to_thread(server.reload, raw(max_outbox_bytes=32 << 20) | {"compression": changed})
            await reading
            # What is read was written, and is given back: all of it, though less was written than was handed over.
            while server.stats()["outbox_bytes"]:
                await asyncio.sleep(0)

    asyncio.run(main())
