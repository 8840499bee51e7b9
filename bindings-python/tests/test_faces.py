"""The column `python` of `tests/faces.toml`: what a concept is called and does. Each row has a test of its name, which
runs it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import own_redis
import pytest
import websockets
import wsguard
from conftest import ORIGIN, client, options
from wsguard import Accept, Close, Connection, Message, Request, Violation

tomllib = pytest.importorskip("tomllib")  # Python 3.11
FACES: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[2] / "tests" / "faces.toml").read_text(encoding="utf-8")
)


def said(row: str) -> Any:
    return FACES[row]["python"]


def test_every_row_has_a_test() -> None:
    rows = {name for name, row in FACES.items() if "python" in row or "fields" in row}
    assert rows <= {name.removeprefix("test_") for name in globals()}


def test_send_to_closed() -> None:
    async def main() -> None:
        ended: asyncio.Queue[Connection] = asyncio.Queue()
        server = wsguard.Server(options(protocol="raw"))
        server.on_message(lambda conn, message: None)

        @server.on_close
        def closed(conn: Connection, close: Close) -> None:
            ended.put_nowait(conn)

        async with server:
            async with client(server):
                pass
            conn = await asyncio.wait_for(ended.get(), 10)
            assert conn.send_nowait("late") == said("send_to_closed")

    asyncio.run(main())


def test_send_waits() -> None:
    async def main() -> None:
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server = wsguard.Server(options(protocol="raw"))
        server.on_open(opened.put_nowait)
        async with server:
            # A peer that reads nothing: no library reads on its own here.
            host, port = server.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(
                f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
            )
            conn = await asyncio.wait_for(opened.get(), 10)
            told = "sent"
            while told == "sent":
                told = conn.send_nowait(b"x" * 100_000)
                await asyncio.sleep(0)
            assert told == said("send_waits")
            del reader
            writer.transport.abort()

    asyncio.run(main())


class Drains(wsguard.Server):
    """Notes what its native side is told."""

    told: tuple[int, int]

    def _drain(self, timeout_ms: int, jitter_ms: int) -> None:
        self.told = (timeout_ms, jitter_ms)
        super()._drain(timeout_ms, jitter_ms)


async def _drained() -> tuple[int, int]:
    server = Drains(options(protocol="raw"))
    await server.start()
    await server.drain()
    return server.told


def test_drain_timeout_ms() -> None:
    assert asyncio.run(_drained())[0] == said("drain_timeout_ms") == wsguard.Server(options()).drain_timeout_ms


def test_drain_jitter_ms() -> None:
    assert asyncio.run(_drained())[1] == said("drain_jitter_ms")


def test_second_start() -> None:
    async def main() -> None:
        async with wsguard.Server(options(protocol="raw")) as server:
            with pytest.raises(wsguard.UsageError) as refused:
                await server.start()
            assert refused.value.code == said("second_start")

    asyncio.run(main())


LOGS = """
import asyncio, logging, sys
import wsguard

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")

async def main():
    async with wsguard.Server(listen="127.0.0.1:0", origins=["https://app.example"], auth="none") as server:
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        await reader.read()
        writer.close()

asyncio.run(main())
"""


def _logs(program: str) -> tuple[str, str]:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def test_log_default() -> None:
    assert said("log_default") == "logging"
    out, err = _logs(LOGS)
    assert "wsguard policy in force: " in out and "wsguard.verdict code=upgrade_required " in out, (out, err)
    assert not err
    # As every library's: where nobody has set `logging` up, it is on standard error.
    out, err = _logs(LOGS.replace("logging.basicConfig(", "dict("))
    assert not out
    assert "INFO wsguard: policy in force: " in err and "WARN wsguard::verdict: code=upgrade_required " in err, err


def test_callback_without_auth() -> None:
    async def main() -> None:
        asked: list[str] = []
        stated = options(protocol="raw")
        del stated["auth"]
        for auth in ({}, {"auth": said("callback_without_auth")}):
            server = wsguard.Server(stated, **auth)

            @server.authenticate
            def authenticate(request: Request) -> Accept:
                asked.append(request.path)
                return Accept("alice")

            async with server, client(server):
                pass
        assert asked == ["/", "/"]

    asyncio.run(main())


def test_message_size() -> None:
    async def main() -> None:
        sizes: asyncio.Queue[int] = asyncio.Queue()
        server = wsguard.Server(options(events={"say": {}}))

        @server.on_message
        def handle(conn: Connection, message: Message) -> None:
            sizes.put_nowait(getattr(message, said("message_size")))

        async with server, client(server) as peer:
            text = json.dumps({"event": "say", "data": "é"}, ensure_ascii=False)
            await peer.send(text)
            assert await asyncio.wait_for(sizes.get(), 10) == len(text.encode())

    asyncio.run(main())


def test_verdict_counters() -> None:
    async def main() -> None:
        assert said("verdict_counters") == "all"
        async with wsguard.Server(options(protocol="raw")) as server:
            assert server.stats()["verdicts"] == dict.fromkeys(wsguard.VERDICTS, 0)

    asyncio.run(main())


def test_query_absent() -> None:
    async def main() -> None:
        queries: list[str | None] = []
        stated = options(protocol="raw", auth="callback")
        server = wsguard.Server(stated)

        @server.authenticate
        def authenticate(request: Request) -> Accept:
            queries.append(request.query)
            return Accept("alice")

        async with server:
            for path in ("/", "/?a=1"):
                async with client(server, path):
                    pass
        assert [repr(queries[0]), *queries[1:]] == [said("query_absent"), "a=1"]

    asyncio.run(main())


def test_close_reason_absent() -> None:
    async def main() -> None:
        ended: asyncio.Queue[Close] = asyncio.Queue()
        server = wsguard.Server(options(protocol="raw"))
        server.on_close(lambda conn, close: ended.put_nowait(close))
        async with server:
            async with client(server) as peer:
                await peer.close(1000, "")
            close = await asyncio.wait_for(ended.get(), 10)
            assert (close.code, close.reason) == (1000, said("close_reason_absent"))

    asyncio.run(main())


def test_violation_record() -> None:
    async def main() -> None:
        fields = FACES["violation_record"]["fields"]
        assert list(Violation.__match_args__) == fields
        told: asyncio.Queue[Violation] = asyncio.Queue()
        server = wsguard.Server(options(events={"say": {}}))
        server.on_violation(told.put_nowait)
        async with server:
            with pytest.raises(websockets.InvalidStatus):
                async with client(server, origin=websockets.Origin("https://evil.example")):
                    pass
            refused = await asyncio.wait_for(told.get(), 10)
            async with client(server) as peer:
                await peer.send('{"event":"unknown"}')
                closed = await asyncio.wait_for(told.get(), 10)
        match refused:
            case Violation("origin_denied", None, 403, "127.0.0.1", None, None, None, detail):
                assert "evil.example" in detail
            case _:
                pytest.fail(str([getattr(refused, field) for field in fields]))
        match closed:
            case Violation("unknown_event", 1008, None, "127.0.0.1", None, str(), "unknown", str()):
                pass
            case _:
                pytest.fail(str([getattr(closed, field) for field in fields]))

    asyncio.run(main())


def test_stats() -> None:
    async def main() -> None:
        async with wsguard.Server(options(protocol="raw")) as server:
            assert list(server.stats()) == [*FACES["stats"]["fields"], "verdicts"]

    asyncio.run(main())


def test_everywhere() -> None:
    fields = [field.name for field in dataclasses.fields(wsguard.Everywhere)]
    assert fields == FACES["everywhere"]["fields"]


def test_everywhere_timeout_ms() -> None:
    stated = inspect.signature(wsguard.Audience.everywhere).parameters["timeout_ms"]
    assert stated.default == said("everywhere_timeout_ms")


def test_cluster_outage_verdict() -> None:
    async def main() -> None:
        cluster: Any = {"url": f"redis://127.0.0.1:{own_redis.free_port()}", "on_outage": "closed"}
        async with wsguard.Server(options(protocol="raw", cluster=cluster)) as server:
            with pytest.raises(websockets.InvalidStatus):
                async with client(server):
                    pass
            given = [code for code, count in server.stats()["verdicts"].items() if count > 0]
            assert given == [said("cluster_outage_verdict")]

    asyncio.run(main())


def test_cluster_refused() -> None:
    async def main() -> None:
        async with own_redis.refusing() as port:
            server = wsguard.Server(options(protocol="raw", cluster={"url": f"redis://:wrong@127.0.0.1:{port}"}))
            with pytest.raises(wsguard.ConfigError) as refused:
                # A start waits for Redis on its thread.
                await asyncio.to_thread(lambda: asyncio.run(server.serve()))
            assert (refused.value.code, refused.value.option) == (said("cluster_refused"), "cluster.url")

    asyncio.run(main())
