"""What is taken is given back, and what ends is over: inbox bytes, waits, contexts, readers, whatever an application
and its peers do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import random
import socket
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
import wsguard
from conftest import Run, client, options, run_beside
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from wsguard import Accept, Close, Connection, Message, Request, Violation


async def until(met: Any) -> None:
    while not met():
        await asyncio.sleep(0.005)


class Session:
    """The usual pattern: the session knows its connection, the connection its session."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        conn.data = self


@pytest.mark.parametrize("how", ["returns", "raises", "recv", "echo"])
def test_inbox_bytes_are_given_back_without_the_collector(run: Run, how: str) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", rate_limit=None))
        tasks: set[asyncio.Task[None]] = set()

        async def serve(session: Session) -> None:
            with contextlib.suppress(wsguard.ConnectionClosed, ValueError):
                if how == "recv":
                    await session.conn.recv()
                    return
                async for message in session.conn:
                    if how == "returns":
                        return
                    if how == "raises":
                        raise ValueError
                    await asyncio.sleep(0)
                    await session.conn.send(message)

        @server.on_open
        def opened(conn: Connection) -> None:
            task = asyncio.get_running_loop().create_task(serve(Session(conn)))
            tasks.add(task)

        gc.disable()
        try:
            async with server:
                for _ in range(5):
                    async with client(server, max_size=None) as peer:
                        with contextlib.suppress(ConnectionClosed):
                            for _ in range(20):
                                await peer.send("x" * 60_000)
                        peer.transport.abort()
                await until(lambda: server.stats()["connections"] == 0)
                await until(lambda: server.stats()["inbox_bytes"] == 0)
                await asyncio.wait(tasks)
        finally:
            gc.enable()

    run(main)


def test_inbox_bytes_are_0_when_connections_are_0(run: Run) -> None:
    """Random programs: whatever handlers and tasks do with their connections, and however peers leave."""

    async def program(chance: random.Random) -> None:
        style = chance.choice(["def", "async", "open", "task", "dialogue", "mixed"])
        server = wsguard.Server(**options(protocol="raw", rate_limit=None))
        tasks: set[asyncio.Task[None]] = set()

        async def act(conn: Connection) -> None:
            what = chance.randrange(12)
            if what == 0:
                conn.close(4000, "enough")
            elif what == 1:
                raise RuntimeError("a fault")
            elif what == 2:
                await asyncio.sleep(chance.random() * 0.01)
            elif what == 3:
                await conn.send("y" * chance.randrange(100_000))
            elif what == 4:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(conn.recv(), 0.001)
            elif what == 5:
                conn.data = Session(conn)

        async def iterate(conn: Connection) -> None:
            with contextlib.suppress(wsguard.ConnectionClosed, RuntimeError):
                left = chance.randrange(30)
                async for _ in conn:
                    await act(conn)
                    left -= 1
                    if left <= 0:
                        return

        def spawn(conn: Connection) -> None:
            conn.data = Session(conn)
            task = asyncio.get_running_loop().create_task(iterate(conn))
            tasks.add(task)
            if chance.random() < 0.2:
                asyncio.get_running_loop().call_later(chance.random() * 0.02, task.cancel)

        def handle(conn: Connection, message: str) -> None:
            if chance.random() < 0.02:
                raise RuntimeError("a fault")
            if chance.random() < 0.02:
                conn.close()

        async def handle_later(conn: Connection, message: str) -> None:
            await act(conn)

        if style in ("def", "mixed"):
            server.on_message(handle)
        if style in ("async", "dialogue"):
            server.on_message(handle_later)
        if style == "open":
            server.on_open(iterate)
        if style in ("task", "mixed"):
            server.on_open(spawn)

        async def visit() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                async with client(server, max_size=None) as peer:
                    for _ in range(chance.randrange(60)):
                        await peer.send("x" * chance.choice([1, 100, 60_000]))
                    if chance.random() < 0.5:
                        peer.transport.abort()

        async with server:
            await asyncio.gather(*(visit() for _ in range(6)))
            await until(lambda: server.stats()["connections"] == 0)
            await until(lambda: server.stats()["inbox_bytes"] == 0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def main() -> None:
        for seed in range(8):
            try:
                await asyncio.wait_for(program(random.Random(seed)), 10)
            except BaseException:
                print("seed", seed)
                raise

    run(main)


def test_what_was_granted_and_never_opens_does_not_pile_up(run: Run) -> None:
    class Session:
        pass

    async def main() -> None:
        stated = options(protocol="raw", max_connections_per_user=1, max_pending_auth=8, handshakes_per_ip=None)
        del stated["auth"]
        server = wsguard.Server(**stated)
        granted: list[weakref.ref[Session]] = []

        @server.authenticate
        def authenticate(request: Request) -> Accept:
            session = Session()
            granted.append(weakref.ref(session))
            return Accept("mallory", session)

        head = (
            f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nX-Auth-Token: t\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n"
        ).encode()

        async def ask() -> bytes:
            host, port = server.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head)
            answer = await reader.readline()
            writer.transport.abort()
            return answer

        async with server, client(server):
            # She has as many connections as she may have: the application lets her in, the core does not.
            for _ in range(300):
                answers = await asyncio.gather(*(ask() for _ in range(4)))
                assert all(b" 429 " in answer for answer in answers), answers
            gc.collect()
            alive = sum(session() is not None for session in granted)
            assert alive <= 1024 + 1, (alive, len(granted))

    run(main)


def test_waits_that_end_early_are_forgotten(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        opened: asyncio.Queue[Connection] = asyncio.Queue()

        @server.on_open
        async def serve(conn: Connection) -> None:
            opened.put_nowait(conn)
            await conn.wait_closed()

        async with server, client(server) as peer:
            conn = await opened.get()
            for _ in range(300):
                for wait in (conn.recv(), conn.wait_closed()):
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(wait, 0.0001)
            futures = [each for each in gc.get_referents(conn) if asyncio.isfuture(each)]
            # Its own wait, and this task as the one that reads.
            assert len(futures) <= 2, futures
            del futures
            # The message was not lost to any of them.
            await peer.send("x")
            assert await conn.recv() == "x"

    run(main)


def test_what_is_awaited_is_a_coroutine(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        told: asyncio.Queue[Any] = asyncio.Queue()

        @server.on_open
        async def serve(conn: Connection) -> None:
            for wait in (conn.recv(), conn.send("a"), conn.wait_closed()):
                assert asyncio.iscoroutine(wait) and isinstance(wait, Coroutine)
                wait.close()
            loop = asyncio.get_running_loop()
            reading = asyncio.create_task(conn.recv())
            sending = asyncio.create_task(conn.send("b"))
            ended = asyncio.create_task(conn.wait_closed())
            await asyncio.wait([reading, ended], return_when=asyncio.FIRST_COMPLETED)
            told.put_nowait(reading.result())
            await sending
            await loop.run_in_executor(None, lambda: asyncio.run_coroutine_threadsafe(conn.send("c"), loop).result(5))
            # The next is not taken by anybody else meanwhile.
            told.put_nowait(await conn.recv())
            ended.cancel()
            with pytest.raises(RuntimeError, match="call recv"):
                again = conn.recv()
                told.put_nowait(await again)
                await again

        async with server, client(server) as peer:
            assert await peer.recv() == "a" and await peer.recv() == "b"
            for message in ("1", "2", "3"):
                await peer.send(message)
                assert await told.get() == message
            assert await peer.recv() == "c"

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_context_per_connection(run: Run, asynchronous: bool) -> None:
    if asynchronous and not hasattr(asyncio, "Runner"):
        pytest.skip("3.10 has no contexts for tasks")
    who = contextvars.ContextVar("who", default="nobody")

    async def main() -> None:
        stated = options(protocol="raw")
        del stated["auth"]
        server = wsguard.Server(**stated)
        seen: list[tuple[str | None, str, str]] = []

        def authenticate(request: Request) -> Accept:
            who.set(request.token or "?")
            return Accept(who.get())

        def see(conn: Connection, what: str) -> None:
            seen.append((conn.user, what, who.get()))

        def closed(conn: Connection, close: Close) -> None:
            see(conn, "close")

        async def authenticate_later(request: Request) -> Accept:
            return authenticate(request)

        async def see_later(conn: Connection, what: str) -> None:
            see(conn, what)

        @server.on_violation
        def violation(_: Violation) -> None:
            assert who.get() == "nobody"
            who.set("a violation")

        server.authenticate(authenticate_later if asynchronous else authenticate)
        server.on_message(see_later if asynchronous else see)
        server.on_close(closed)
        async with server:
            async with (
                client(server, additional_headers={"X-Auth-Token": "alice"}) as alice,
                client(server, additional_headers={"X-Auth-Token": "bob"}) as bob,
            ):
                for _ in range(3):
                    await alice.send("1")
                    await bob.send("2")
            await until(lambda: len(seen) == 8)
        assert who.get() == "nobody"
        assert all(user == var for user, _, var in seen), seen

    run(main)


def test_a_dialogue_in_a_handler_gives_messages_back(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"answer": {}}))

        @server.on("ask")
        async def ask(conn: Connection, data: int) -> None:
            await conn.reply("question", data)
            answer: Message = await conn.recv()
            conn.emit_nowait("thanks", [data, answer.data])

        @server.on("say")
        def say(conn: Connection, data: Any) -> None:
            conn.reply("said", data)

        async with server, client(server) as peer:
            for number in range(3):
                await peer.send(json.dumps({"event": "ask", "data": number, "id": number}))
                assert json.loads(await peer.recv())["id"] == number
                await peer.send(json.dumps({"event": "answer", "data": "yes"}))
                await peer.send(json.dumps({"event": "say", "data": "again", "id": "x"}))
                assert json.loads(await peer.recv())["data"] == [number, "yes"]
                assert json.loads(await peer.recv()) == {"event": "said", "data": "again", "status": "ok", "id": "x"}

    run(main)


def test_refused_messages_do_not_hold_up_those_behind(run: Run) -> None:
    async def main() -> None:
        import pydantic

        class Even(pydantic.BaseModel):
            number: int

            @pydantic.field_validator("number")
            @classmethod
            def even(cls, number: int) -> int:
                if number % 2:
                    raise ValueError("odd")
                return number

        server = wsguard.Server(**options(on_violation="report"))
        server.event("number", schema=Even)
        gate = asyncio.Event()

        @server.on_open
        async def serve(conn: Connection) -> None:
            await gate.wait()
            async for message in conn:
                conn.emit_nowait("got", message.data.number)

        async with server, client(server) as peer:
            for number in (2, 3, 4):
                await peer.send(json.dumps({"event": "number", "data": {"number": number}}))
            await until(lambda: server.stats()["messages_in"] == 3)
            gate.set()
            assert [json.loads(await peer.recv())["data"] for _ in range(2)] == [2, 4]

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_message_is_handled_outside_of_its_handler(run: Run, asynchronous: bool) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())
        later: asyncio.Queue[Any] = asyncio.Queue()

        def look(conn: Connection) -> None:
            conn.reply_nowait("late", 1)
            later.put_nowait(conn.message)

        def handle(conn: Connection, data: Any) -> None:
            assert conn.message is not None
            asyncio.get_running_loop().call_later(0.01, look, conn)

        async def handle_later(conn: Connection, data: Any) -> None:
            handle(conn, data)

        server.on("a")(handle_later if asynchronous else handle)
        async with server, client(server) as peer:
            await peer.send('{"event":"a","id":"first"}')
            assert "id" not in json.loads(await peer.recv())
            assert await later.get() is None

    run(main)


def test_coroutines_of_verdicts_do_not_pile_up(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    most = 1024

    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", trusted_proxies=["127.0.0.1"], handshakes_per_ip=None))
        may_end = asyncio.Event()
        told = 0

        @server.on_violation
        async def slow(_: Violation) -> None:
            nonlocal told
            told += 1
            await may_end.wait()

        def break_rules(address: int) -> None:
            host, port = server.address.split(":")
            for _ in range(190):
                with socket.create_connection((host, int(port))) as peer:
                    head = f"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.{address}\r\n"
                    peer.sendall(f"{head}Origin: https://evil.example\r\nUpgrade: websocket\r\n\r\n".encode())
                    while peer.recv(4096):
                        pass

        async with server:
            for address in range(6):
                await asyncio.to_thread(break_rules, address)
            await until(lambda: "1024 of its coroutines have not ended" in caplog.text)
            # Every verdict was handled: none that comes late may start a coroutine when the others have ended.
            await until(lambda: server.stats()["verdicts"]["upgrade_required"] == 6 * 190)
            await until(lambda: not server.stats()["inbox_bytes"])
            assert told == most
            may_end.set()
            await until(lambda: not server._tasks)
            await asyncio.to_thread(break_rules, 6)
            await until(lambda: told == most + 190)

    run(main)


def test_coroutines_of_on_error_do_not_pile_up(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    most = 1024

    async def main() -> None:
        server = wsguard.Server(options(protocol="raw"))
        may_end = asyncio.Event()
        told = 0

        def fail(conn: Connection, close: wsguard.Close) -> None:
            raise ValueError("x")

        @server.on_open
        def opened(conn: Connection) -> None:
            for _ in range(most + 50):
                conn.on_close(fail)

        @server.on_error
        async def slow(conn: Connection | None, error: Exception, event: str | None) -> None:
            nonlocal told
            told += 1
            await may_end.wait()

        async with server:
            async with client(server):
                pass
            await until(lambda: "1024 of its coroutines have not ended" in caplog.text)
            assert told == most
            may_end.set()
            await until(lambda: not server._tasks)
            async with client(server):
                pass
            await until(lambda: told == 2 * most)

    run(main)


def test_no_other_thread_handles_the_message() -> None:
    server = wsguard.Server(options())
    seen: list[Any] = []

    @server.on("ask")
    def ask(conn: Connection, data: int) -> None:
        def elsewhere() -> None:
            seen.append(conn.message)
            conn.reply("late", data)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        conn.reply("now", data)

    async def talk() -> None:
        async with client(server) as peer:
            await peer.send(json.dumps({"event": "ask", "data": 1, "id": "of this message"}))
            seen.extend([json.loads(await peer.recv()).get("id"), json.loads(await peer.recv()).get("id")])
        server.stop()

    run_beside(server, "native", talk())
    assert seen == [None, None, "of this message"]


def test_closed_is_closed(run: Run) -> None:
    async def main() -> None:
        stated = options(protocol="raw", rate_limit=None)
        del stated["auth"]
        server = wsguard.Server(**stated)
        server.authenticate(lambda request: Accept("alice"))
        handled: list[str] = []
        ends: list[Close] = []

        @server.on_message
        def handle(conn: Connection, message: str) -> None:
            handled.append(message)
            if message == "close":
                conn.close(4000, "enough")
            elif message == "disconnect":
                server.disconnect_user("alice")
            elif message == "fail":
                raise RuntimeError("a fault")
            if message != "fail":
                assert not conn.is_open
                assert conn.send_nowait("x") == "closed"
                with pytest.raises(wsguard.ConnectionClosed) as closed:
                    conn.send("x")
                assert closed.value.close_code in (4000, 1008)

        server.on_close(lambda conn, close: ends.append(close))
        async with server:
            for message, code in (("close", 4000), ("disconnect", 1008), ("fail", 1011)):
                async with client(server) as peer:
                    # In one segment, so that they come in one batch.
                    with contextlib.suppress(ConnectionClosed):
                        for each in (message, *["never"] * 20):
                            await peer.send(each)
                    with pytest.raises(ConnectionClosedError) as closed:
                        while True:
                            assert await peer.recv() != "x"
                    assert closed.value.rcvd is not None and closed.value.rcvd.code == code
            await until(lambda: len(ends) == 3)
        assert handled == ["close", "disconnect", "fail"]

    run(main)


def test_what_a_reader_has_taken_is_not_handled_in_on_close(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(options(events={"say": {}}))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        told: asyncio.Queue[Message | None] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        server.on_close(lambda conn, _: told.put_nowait(conn.message))
        async with server:
            async with client(server) as peer:
                conn = await opened.get()
                await peer.send('{"event":"say"}')
                message = await conn.recv()
                assert message.event == "say" and conn.message is not None
            assert await told.get() is None

    run(main)


def test_a_connection_whose_end_was_told_is_not_open(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", close_timeout_ms=2000))
        told: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

        @server.on_close
        def closed(conn: Connection, close: Close) -> None:
            with pytest.raises(wsguard.ConnectionClosed, match="closed with 1002"):
                conn.send("x")
            told.put_nowait((conn.closed is close, conn.is_open, conn.send_nowait("x")))

        async with server:
            host, port = server.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
            )
            # No mask: a violation. The core waits for the end of a peer that does not answer.
            writer.write(b"\x81\x01x")
            assert await told.get() == (True, False, "closed")
            writer.transport.abort()

    run(main)


def test_close_ends_the_wait_of_another_task(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        ended = asyncio.Event()

        @server.on_open
        async def serve(conn: Connection) -> None:
            asyncio.get_running_loop().call_later(0.01, conn.close, 4001)
            async for _ in conn:
                pass
            with pytest.raises(wsguard.ConnectionClosed) as closed:
                await conn.recv()
            assert closed.value.close_code == 4001
            ended.set()

        async with server, client(server):
            await ended.wait()

    run(main)


def test_callbacks_of_peers_that_leave_are_cancelled_and_not_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stated = options(max_pending_auth=20, handshakes_per_ip=None, max_connections_per_ip=1000)
        del stated["auth"]
        server = wsguard.Server(**stated)
        alive = most = asked = 0

        @server.authenticate
        async def slow(request: Request) -> Accept:
            nonlocal alive, most, asked
            alive, asked = alive + 1, asked + 1
            most = max(most, alive)
            try:
                await asyncio.sleep(3600)
            finally:
                alive -= 1
            raise RuntimeError("never said")

        async def leave() -> None:
            host, port = server.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nX-Auth-Token: t\r\n"
                f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
            )
            await writer.drain()
            before = asked
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(until(lambda: asked > before), 0.2)
            writer.transport.abort()

        async with server:
            for _ in range(5):
                await asyncio.gather(*(leave() for _ in range(15)))
            await until(lambda: alive == 0 and server.stats()["pending_auth"] == 0)
        # As many as may wait, and as many that were told to end.
        assert asked > 0 and most <= 2 * 20
        assert not [record for record in caplog.records if record.name == "wsguard"]

    run(main)
