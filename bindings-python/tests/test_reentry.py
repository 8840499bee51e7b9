"""Calls that come from where another is under way: from inside of handlers, from another loop, from several drains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest
import wsguard
from conftest import Run, client, options, run_beside
from websockets.exceptions import ConnectionClosed
from wsguard import Close, Connection


@pytest.mark.parametrize("loop", ["native", "asyncio", "uvloop"])
def test_a_close_handler_may_register_another(loop: Any) -> None:
    server = wsguard.Server(**options(protocol="raw"))
    server.on_message(lambda conn, message: None)
    order: list[str] = []
    told = threading.Event()

    def last(conn: Connection, close: Close) -> None:
        order.append("last")
        told.set()

    @server.on_open
    def opened(conn: Connection) -> None:
        @conn.on_close
        def own(conn: Connection, close: Close) -> None:
            conn.on_close(lambda conn, close: order.append("second"))
            order.append("first")

    @server.on_close
    def closed(conn: Connection, close: Close) -> None:
        @conn.on_close
        def third(conn: Connection, close: Close) -> None:
            conn.on_close(last)
            order.append("third")

        order.append("server")

    async def talk() -> None:
        async with client(server):
            pass
        told.wait(10)
        server.stop()

    run_beside(server, loop, talk())
    assert order == ["first", "second", "server", "third", "last"]


def test_a_close_handler_that_raises_keeps_none_from_being_told() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    order: list[str] = []
    told = threading.Event()

    @server.on_open
    def opened(conn: Connection) -> None:
        @conn.on_close
        def own(conn: Connection, close: Close) -> None:
            conn.on_close(lambda conn, close: order.append("second"))
            raise KeyError("first")

    @server.on_close
    def closed(conn: Connection, close: Close) -> None:
        order.append("server")
        told.set()

    async def talk() -> None:
        async with client(server):
            pass
        told.wait(10)
        server.stop()

    run_beside(server, "native", talk())
    assert order == ["second", "server"]


def test_a_close_handler_is_called_when_the_loop_is_gone() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    conns: list[Connection] = []
    server.on_open(conns.append)

    async def main() -> None:
        async with server, client(server) as peer:
            while not conns:
                await asyncio.sleep(0)
            await peer.close()
            await conns[0].wait_closed()

    asyncio.run(main())
    told: list[int] = []
    conns[0].on_close(lambda conn, close: told.append(close.code))
    assert told == [1000]


class _Raises:
    """A model whose validator fails by a fault of its own."""

    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        return {"type": "object"}

    @staticmethod
    def model_validate_json(text: str) -> object:
        raise KeyError("a fault of the model")


@pytest.mark.parametrize("taken_by", ["handler", "recv", "async for", "queue"])
@pytest.mark.parametrize("is_async", [False, True])
def test_on_error_hears_a_model_that_raises(run: Run, taken_by: str, is_async: bool) -> None:
    who: ContextVar[str] = ContextVar("who", default="")

    async def main() -> None:
        server = wsguard.Server(**options())
        heard: list[Any] = []

        def note(conn: Connection | None, error: Exception, event: str | None) -> None:
            heard.append((conn is not None, repr(error), event, who.get()))

        async def note_later(conn: Connection | None, error: Exception, event: str | None) -> None:
            note(conn, error, event)

        server.on_error(note_later if is_async else note)

        @server.on_open
        async def opened(conn: Connection) -> None:
            who.set("alice")
            with contextlib.suppress(wsguard.ConnectionClosed):
                if taken_by == "recv":
                    await conn.recv()
                    await conn.recv()
                elif taken_by == "async for":
                    async for _ in conn:
                        pass

        @server.on("first", raw=True)
        async def first(conn: Connection, data: bytes) -> None:
            if taken_by == "queue":
                await asyncio.sleep(0.01)

        server.on("bad", schema=_Raises)(lambda conn, data: None)
        async with server, client(server) as peer:
            await peer.send(json.dumps({"event": "first"}))
            await peer.send(json.dumps({"event": "bad", "data": {}}))
            with pytest.raises(ConnectionClosed) as closed:
                await peer.recv()
            assert closed.value.rcvd and closed.value.rcvd.code == 1011
        assert heard == [(True, "KeyError('a fault of the model')", "bad", "alice")]

    run(main)


def test_on_error_that_ends_the_program_ends_the_connection_first() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    codes: list[int | None] = []

    @server.on_error
    def on_error(conn: Connection | None, error: Exception, event: str | None) -> None:
        raise SystemExit(3)

    @server.on_message
    def message(conn: Connection, message: object) -> None:
        raise KeyError("boom")

    async def talk() -> None:
        async with client(server) as peer:
            await peer.send("x")
            with contextlib.suppress(ConnectionClosed):
                await peer.recv()
            codes.append(peer.close_code)

    talking = threading.Thread(target=lambda: asyncio.run(talk()))
    with pytest.raises(SystemExit):
        server.run("native", started=talking.start)
    talking.join()
    assert codes == [1011]


def test_messages_are_not_awaited_on_another_loop(run: Run) -> None:
    """A thread with a loop of its own gets an error that says what to do, and handlers go on where they were."""

    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", max_outbox_bytes=1 << 24))
        conns: asyncio.Queue[Connection] = asyncio.Queue()
        seen: asyncio.Queue[tuple[Any, int]] = asyncio.Queue()
        server.on_open(conns.put_nowait)
        server.on_message(lambda conn, message: seen.put_nowait((message, threading.get_ident())))
        own, loop = threading.get_ident(), asyncio.get_running_loop()

        async def iterates(conn: Connection) -> None:
            async for _ in conn:
                raise AssertionError("a message")

        async def elsewhere(conn: Connection, awaits: Any) -> str:
            with pytest.raises(wsguard.UsageError, match="server's event loop, and this is another: ") as refused:
                await asyncio.wait_for(awaits(conn), 5)
            return refused.value.code

        async with server, client(server) as peer:
            conn = await conns.get()
            for awaits in (lambda conn: conn.recv(), iterates, lambda conn: conn.wait_closed()):
                assert await asyncio.to_thread(asyncio.run, elsewhere(conn, awaits)) == "no_event_loop"
                await peer.send("to the handler")
                assert await asyncio.wait_for(seen.get(), 10) == ("to the handler", own)

            # What the error says works: from a thread with a loop, and from one without.
            begun = asyncio.Event()

            async def there() -> object:
                taking = asyncio.run_coroutine_threadsafe(conn.recv(), loop)
                loop.call_soon_threadsafe(begun.set)
                return await asyncio.wrap_future(taking)

            taking = asyncio.create_task(asyncio.to_thread(asyncio.run, there()))
            await begun.wait()
            await peer.send("to the reader")
            assert await taking == "to the reader"
            await peer.send("to the next")
            taken = await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(conn.recv(), loop).result(10))
            assert taken == "to the next" and seen.empty()

            # A send is done before it is awaited.
            async def sends() -> None:
                with contextlib.suppress(wsguard.UsageError):
                    for _ in range(64):
                        await conn.send(b"x" * 65_536)

            await asyncio.to_thread(asyncio.run, sends())
            assert await peer.recv() == b"x" * 65_536

            # Of a connection that has ended that is all there is to say.
            await peer.close(4001)
            await conn.wait_closed()

            async def ended() -> int | None:
                with pytest.raises(wsguard.ConnectionClosed) as closed:
                    await conn.recv()
                return closed.value.close_code

            assert await asyncio.to_thread(asyncio.run, ended()) == 4001

    run(main)


@pytest.mark.parametrize("how", ["await", "wait_for", "gather"])
def test_handlers_that_await_the_drain_all_end(run: Run, how: str) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        ended: list[object] = []
        both = asyncio.Event()
        arrived: list[object] = []

        @server.on_message
        async def message(conn: Connection, message: object) -> None:
            arrived.append(message)
            if len(arrived) == 3:
                both.set()
            await both.wait()
            if message == "slow":
                await asyncio.sleep(0.05)
            elif how == "await":
                await server.drain()
            elif how == "wait_for":
                await asyncio.wait_for(server.drain(), 20)
            else:
                await asyncio.gather(server.drain())
            ended.append(message)

        began = time.monotonic()
        async with server, contextlib.AsyncExitStack() as peers:
            for said in ("a", "b", "slow"):
                peer = await peers.enter_async_context(client(server))
                await peer.send(said)
            await server.wait_stopped()
        assert time.monotonic() - began < 8, "the drain waited for its whole time"
        # The drains have waited for the one that did not drain.
        assert ended[0] == "slow" and sorted(ended[1:], key=str) == ["a", "b"]

    run(main)


def test_a_model_sees_what_its_connection_has_set(run: Run) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    class Seeing:
        @staticmethod
        def model_json_schema() -> dict[str, Any]:
            return {"type": "string"}

        @staticmethod
        def model_validate_json(text: str) -> str:
            seen.append(who.get())
            who.set(f"{json.loads(text)} of {who.get()}")
            return who.get()

    async def main() -> None:
        server = wsguard.Server(**options(auth="callback"))

        @server.authenticate
        def authenticate(request: wsguard.Request) -> wsguard.Accept:
            who.set(request.path)
            return wsguard.Accept.anonymous()

        @server.on("say", schema=Seeing)
        def say(conn: Connection, data: Any) -> None:
            conn.emit("said", [data, who.get()])

        async with server, client(server, "/a") as first, client(server, "/b") as second:
            for peer, path in ((first, "/a"), (second, "/b")):
                await peer.send(json.dumps({"event": "say", "data": "x"}))
                assert json.loads(await peer.recv())["data"] == [f"x of {path}"] * 2
        assert seen == ["/a", "/b"] and who.get() == "nobody"

    run(main)
