"""Messages reach handlers, and what handlers send reaches peers: on every loop, functions and coroutines alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import Any

import pytest
import wsguard
from conftest import Run, client, options, run_beside
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from wsguard import Close, Connection, Message


def test_raw_text_and_bytes(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        seen: list[Any] = []

        @server.on_message
        def echo(conn: Connection, message: str | bytes) -> None:
            seen.append(message)
            conn.send_nowait(message)

        async with server, client(server) as peer:
            for message in ("text é", b"\x00\xff", "", b""):
                await peer.send(message)
                assert await peer.recv() == message
        assert seen == ["text é", b"\x00\xff", "", b""]

    run(main)


def test_bytearray_and_memoryview_are_binary(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))

        @server.on_open
        def greet(conn: Connection) -> None:
            conn.send_nowait(bytearray(b"a"))
            conn.send_nowait(memoryview(b"bc"))
            with pytest.raises(TypeError, match="not int"):
                conn.send_nowait(1)  # type: ignore[arg-type]

        async with server, client(server) as peer:
            assert [await peer.recv(), await peer.recv()] == [b"a", b"bc"]

    run(main)


def test_events_carry_objects_and_replies_their_id(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"plain": {}}))
        data = {"a": [1, 2.5, None, True, "é\n"], "b": {}}

        @server.on("sum")
        def sum_(conn: Connection, numbers: list[int]) -> None:
            assert conn.message is not None and conn.message.event == "sum"
            conn.reply("sum", sum(numbers))

        @server.on("same", raw=True)
        async def same(conn: Connection, text: bytes) -> None:
            await asyncio.sleep(0)
            await conn.reply("same", wsguard.Json(text))

        @server.on_message
        def rest(conn: Connection, message: Message) -> None:
            conn.emit_nowait(message.event, [message.data, message.id, message.status, message.size_bytes])

        async with server, client(server) as peer:
            await peer.send('{"event":"sum","data":[1,2],"id":"x"}')
            await peer.send(json.dumps({"event": "same", "data": data, "id": 7}))
            await peer.send('{"event":"plain","status":"error"}')
            assert json.loads(await peer.recv()) == {"event": "sum", "data": 3, "status": "ok", "id": "x"}
            assert json.loads(await peer.recv()) == {"event": "same", "data": data, "status": "ok", "id": 7}
            assert json.loads(await peer.recv())["data"] == [None, None, "error", 34]

    run(main)


def test_order_of_a_connection_holds_across_coroutines(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", rate_limit=None))
        running: dict[str, int] = {}

        @server.on_message
        async def slow(conn: Connection, message: str) -> None:
            running[conn.id] = running.get(conn.id, 0) + 1
            assert running[conn.id] == 1, "two coroutines of one connection at once"
            for _ in range(int(message) % 3):
                await asyncio.sleep(0)
            running[conn.id] -= 1
            await conn.send(message)

        async with server, client(server) as one, client(server) as other:
            for number in range(200):
                await one.send(str(number))
                await other.send(str(number))
            for peer in (one, other):
                assert [int(await peer.recv()) for _ in range(200)] == list(range(200))

    run(main)


def test_a_busy_connection_is_not_read_and_nothing_is_lost(run: Run) -> None:
    async def main() -> None:
        # 128 KiB of one connection may wait.
        bounds = {"max_inbox_bytes": 1 << 20, "max_connections_per_ip": 2, "max_connections_per_user": 1}
        server = wsguard.Server(**options(protocol="raw", rate_limit=None, **bounds))
        gate = asyncio.Event()
        seen: list[str] = []

        @server.on_message
        async def wait(conn: Connection, message: str) -> None:
            await gate.wait()
            seen.append(message)

        async with server, client(server) as peer:

            async def send() -> None:
                for number in range(12000):
                    await peer.send(f"{number:05}" + "x" * 5000)

            sending = asyncio.create_task(send())
            # 60 MB do not fit into what may wait here and in the sockets: the peer feels it.
            while server.stats()["inbox_bytes"] < 128 << 10:
                await asyncio.sleep(0.01)
            done, _ = await asyncio.wait([sending], timeout=0.5)
            assert not done
            assert server.stats()["inbox_bytes"] < 3 << 20
            # Only this connection waits.
            async with client(server) as other:
                await (await other.ping())
            gate.set()
            await sending
            while len(seen) < 12000:
                await asyncio.sleep(0.01)
            assert server.stats()["inbox_bytes"] == 0
        assert [int(message[:5]) for message in seen] == list(range(12000))

    run(main)


def test_a_slow_handler_does_not_hold_back_what_others_have_said() -> None:
    server = wsguard.Server(options(protocol="raw"))
    heard = threading.Event()
    in_time: list[bool] = []

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        if text == "first":
            conn.send("answer")
            time.sleep(0.005)
        else:
            in_time.append(heard.wait(10))

    @server.on_open
    def opened(_: Connection) -> None:
        # Both are there when the first is handled.
        while server.stats()["messages_in"] < 2:
            time.sleep(0.001)

    async def talk() -> None:
        async with client(server) as peer:
            await peer.send("first")
            await peer.send("second")
            assert await peer.recv() == "answer"
            heard.set()
        server.stop()

    run_beside(server, "native", talk())
    assert in_time == [True]


def test_awaiting_send_feels_the_peer(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", max_outbox_bytes=64 << 20))
        sent = 0
        statuses: set[str] = set()

        @server.on_message
        async def flood(conn: Connection, message: str) -> None:
            nonlocal sent
            for _ in range(400):
                await conn.send("x" * 100_000)
                sent += 1
            statuses.add(conn.send_nowait("end"))

        async with server, client(server, max_queue=1, max_size=None) as peer:
            await peer.send("go")
            while sent == 0 or server.stats()["outbox_bytes"] == 0:
                await asyncio.sleep(0.01)
            stuck = sent
            assert stuck < 400, "40 MB went nowhere"
            got = 0
            while (message := await peer.recv()) != "end":
                got += len(message)
            assert got == 400 * 100_000
        assert statuses <= {"sent", "queued"}

    run(main)


def test_async_for(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())
        server.event("add", schema={"type": "integer"})
        ends: list[tuple[int, str]] = []

        @server.on_open
        async def serve(conn: Connection) -> None:
            total = 0
            async for message in conn:
                total += message.data
                await conn.reply("total", total)
                if total > 5:
                    break

        @server.on_close
        def bye(conn: Connection, close: Close) -> None:
            assert conn.closed is close
            ends.append((close.code, close.reason))

        async with server:
            async with client(server) as peer:
                for number, total in ((2, 2), (3, 5), (4, 9)):
                    await peer.send(json.dumps({"event": "add", "data": number, "id": number}))
                    answer = json.loads(await peer.recv())
                    assert (answer["data"], answer["id"]) == (total, number)
                # The coroutine has returned: that closes the connection.
                with pytest.raises(ConnectionClosedOK):
                    await peer.recv()
            async with client(server):
                pass
            while len(ends) < 2:
                await asyncio.sleep(0.01)
        assert [code for code, _ in ends] == [1000, 1000]

    run(main)


def test_recv_and_wait_closed(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        told: asyncio.Queue[Any] = asyncio.Queue()

        @server.on_open
        async def serve(conn: Connection) -> None:
            told.put_nowait(await conn.recv())
            # A wait that is given up loses no message.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.recv(), 0.01)
            conn.send_nowait("go on")
            told.put_nowait(await conn.recv())
            try:
                await conn.recv()
            except wsguard.ConnectionClosed as closed:
                told.put_nowait((closed.close_code, closed.reason, closed.code))
            told.put_nowait((await conn.wait_closed()).clean)
            with pytest.raises(wsguard.ConnectionClosed):
                await conn.send("too late")
            told.put_nowait(conn.send_nowait("too late"))

        async with server, client(server) as peer:
            await peer.send("1")
            assert await told.get() == "1"
            assert await peer.recv() == "go on"
            await peer.send(b"2")
            assert await told.get() == b"2"
            await peer.close(4001, "bye")
            assert await told.get() == (4001, "bye", "connection_closed")
            assert await told.get() is True
            assert await told.get() == "closed"

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_handler_that_raises_closes_its_connection_only(
    run: Run, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))

        def fail(conn: Connection, message: str) -> None:
            if message == "fail":
                raise RuntimeError("a fault of the application")
            conn.send_nowait(message)

        async def fail_later(conn: Connection, message: str) -> None:
            await asyncio.sleep(0)
            fail(conn, message)

        server.on_message(fail_later if asynchronous else fail)
        async with server, client(server) as other:
            async with client(server) as peer:
                await peer.send("fail")
                await peer.send("never handled")
                with pytest.raises(ConnectionClosedError) as closed:
                    await peer.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
            await other.send("lives")
            assert await other.recv() == "lives"
            assert {code: count for code, count in server.stats()["verdicts"].items() if count} == {"internal": 1}
        [record] = [record for record in caplog.records if record.name == "wsguard"]
        assert record.exc_info is not None and "a fault of the application" in str(record.exc_info[1])
        assert record.levelname == "ERROR"

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_log_says_what_a_failure_did_to_its_connection(
    run: Run, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads "closes with 1011" looks for it at the peer: of a connection that had ended, that is never so."""

    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))

        def fail(conn: Connection, *_: object) -> None:
            raise RuntimeError("a fault of the application")

        async def fail_later(conn: Connection, *_: object) -> None:
            await asyncio.sleep(0)
            fail(conn)

        failing: Any = fail_later if asynchronous else fail
        server.on_message(failing)
        server.on_close(failing)
        ids: list[str] = []
        server.on_open(lambda conn: ids.append(conn.id))
        async with server:
            async with client(server):
                pass
            async with client(server) as peer:
                await peer.send("fail")
                with pytest.raises(ConnectionClosedError):
                    await peer.recv()
        told = [record.getMessage() for record in caplog.records if record.name == "wsguard"]
        assert told == [
            f"the on_close handler failed; connection {ids[0]} had closed",
            f"the message handler failed; connection {ids[1]} closes with 1011",
            f"the on_close handler failed; connection {ids[1]} had closed",
        ]

    run(main)


def test_handlers_may_send_to_a_peer_that_has_left(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        left = asyncio.Event()

        @server.on_close
        async def bye(conn: Connection, close: Close) -> None:
            left.set()
            await conn.send("nobody hears it")

        async with server:
            async with client(server):
                pass
            await left.wait()
        assert not [record for record in caplog.records if record.name == "wsguard"]

    run(main)


def test_rooms_and_everyone(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        opened: list[Connection] = []

        @server.on_open
        def join(conn: Connection) -> None:
            conn.join("lobby")
            opened.append(conn)

        @server.on_message
        def say(conn: Connection, message: str) -> None:
            if message == "leave":
                conn.leave("lobby")
                server.to("lobby").send("left")
            else:
                server.to("lobby").except_(conn).send(message)
                server.to_all().send(b"all")

        async with server, client(server) as one, client(server) as other:
            await one.send("hi")
            assert await other.recv() == "hi"
            assert [await other.recv(), await one.recv()] == [b"all", b"all"]
            await one.send("leave")
            assert await other.recv() == "left"
            with pytest.raises(wsguard.InvalidArgument, match="1 to 256 bytes"):
                server.to("").send("x")

    run(main)


def test_commands_from_other_threads(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)

        async with server, client(server) as peer:
            conn = await opened.get()

            def send() -> None:
                for _ in range(100):
                    conn.send_nowait("x")

            threads = [threading.Thread(target=send) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(400):
                assert await peer.recv() == "x"
            for thread in threads:
                thread.join()

    run(main)


def test_drain_waits_for_coroutines_and_cancels_late_ones(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        ended: list[str] = []

        @server.on_message
        async def work(conn: Connection, message: str) -> None:
            try:
                await asyncio.sleep(0.2 if message == "short" else 3600)
            finally:
                ended.append(message)

        async with client_of(server) as (one, other):
            await one.send("short")
            await other.send("long")
            while server.stats()["messages_in"] < 2:
                await asyncio.sleep(0.01)
            await server.drain(timeout_ms=1000)
            assert sorted(ended) == ["long", "short"]

    run(main)


@pytest.mark.parametrize("how", ["in time", "late", "late and stubborn"])
def test_drain_waits_for_messages_that_wait_behind_a_coroutine(run: Run, how: str) -> None:
    """None begins when the drain has ended, and the end of the connection is told in any case."""

    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        told: list[str] = []
        gate = asyncio.Event()

        @server.on_message
        async def work(conn: Connection, message: str) -> None:
            try:
                await gate.wait()
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                if how == "late":
                    raise
            finally:
                told.append(message)

        server.on_close(lambda conn, close: told.append("closed"))
        async with client_of(server) as (one, _):
            for number in range(20):
                await one.send(f"{number}")
            while server.stats()["messages_in"] < 20:
                await asyncio.sleep(0.001)
            drained = server.drain(timeout_ms=20_000 if how == "in time" else 50)
            asyncio.get_running_loop().call_later(0.01, gate.set if how == "in time" else lambda: None)
            await drained
            expected = [f"{number}" for number in range(20)] if how == "in time" else ["0"]
            assert sorted(told) == sorted([*expected, "closed", "closed"])
            await asyncio.sleep(0.05)
            assert len(told) == len(expected) + 2

    run(main)


@pytest.mark.parametrize("how", ["in time", "late"])
def test_drain_on_another_loop_waits_for_handlers(run: Run, how: str) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        told: list[str] = []
        gate = asyncio.Event()

        @server.on_message
        async def work(conn: Connection, message: str) -> None:
            try:
                await gate.wait()
            finally:
                told.append(message)

        async def drain() -> list[str]:
            await server.drain(timeout_ms=20_000 if how == "in time" else 50)
            return list(told)

        async with client_of(server) as (one, _):
            for number in range(3):
                await one.send(f"{number}")
            while server.stats()["messages_in"] < 3:
                await asyncio.sleep(0.001)
            drained = asyncio.get_running_loop().create_task(asyncio.to_thread(asyncio.run, drain()))
            await server.wait_stopped()
            if how == "in time":
                # Longer than it takes to find no handler on the loop that asks.
                await asyncio.wait({drained}, timeout=0.2)
                assert not drained.done()
                gate.set()
            assert await drained == (["0", "1", "2"] if how == "in time" else ["0"])

    run(main)


@pytest.mark.parametrize("awaited", ["before", "after"])
def test_a_drain_ends_the_run_that_it_was_called_for(run: Run, awaited: str) -> None:
    """A server that has started again meanwhile goes on."""

    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        begun, ended = asyncio.Event(), asyncio.Event()

        @server.on_message
        async def work(conn: Connection, message: str) -> None:
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

        async with client_of(server) as (one, _):
            await one.send("long")
            await begun.wait()
            drain = server.drain(timeout_ms=100)
            draining = asyncio.ensure_future(drain) if awaited == "before" else drain
            await server.wait_stopped()
            assert not ended.is_set()
            await server.start()
            await draining
            assert ended.is_set() and server._is_running
            async with client(server) as peer:
                await peer.send("more")
            await server.drain(0)
            assert not server._is_running

    run(main)


class client_of:
    """Two clients of a server that is started, and not ended."""

    def __init__(self, server: wsguard.Server) -> None:
        self._server = server

    async def __aenter__(self) -> Any:
        await self._server.start()
        self._clients = [client(self._server), client(self._server)]
        return [await each.__aenter__() for each in self._clients]

    async def __aexit__(self, *error: Any) -> None:
        for each in self._clients:
            await each.__aexit__(None, None, None)


def test_the_application_cancels_itself(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        serving = asyncio.create_task(server.serve())
        while not server._is_running:
            await asyncio.sleep(0)
        async with client(server) as peer:
            serving.cancel()
            with pytest.raises(ConnectionClosedError) as closed:
                await peer.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        with pytest.raises(asyncio.CancelledError):
            await serving

    run(main)


def test_the_connections_of_one_address_do_not_fill_the_inbox(run: Run) -> None:
    async def main() -> None:
        inbox = 16 << 20
        bounds = {"max_inbox_bytes": inbox, "max_connections_per_ip": 16, "max_connections_per_user": 8}
        server = wsguard.Server(**options(protocol="raw", rate_limit=None, **bounds))
        gate = asyncio.Event()

        @server.on_message
        async def echo(conn: Connection, message: str) -> None:
            if message.startswith("x"):
                await gate.wait()
            await conn.send(message[:5])

        async def flood(peer: Any) -> None:
            for _ in range(100):
                await peer.send("x" * 16_000)
                # What the loop has not heard of yet is the core's to bound.
                await asyncio.sleep(0.002)

        async with server, contextlib.AsyncExitStack() as peers:
            every = []
            for _ in range(16):
                every.append(await peers.enter_async_context(client(server, local_addr=("127.0.0.2", 0))))
                # Nobody waits for a close behind what was not sent.
                peers.callback(every[-1].transport.abort)
            flooding = [asyncio.create_task(flood(peer)) for peer in every]
            before = -1
            while server.stats()["messages_in"] != before or before < 32:
                before = server.stats()["messages_in"]
                await asyncio.sleep(0.3)
            # Each has 256 KiB, and what was read before the core heard of it; 1 MiB each would fill it.
            assert server.stats()["inbox_bytes"] <= inbox // 2
            async with client(server, local_addr=("127.0.0.3", 0)) as other:
                await other.send("hello")
                assert await other.recv() == "hello"
            for task in flooding:
                task.cancel()
            await asyncio.gather(*flooding, return_exceptions=True)
            gate.set()

    run(main)
