"""What is told where it is written: handlers, events, rooms; and servers that start again."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import sys
import threading
import types
from typing import Any

import pydantic
import pytest
import wsguard
from conftest import Run, client, options
from pydantic import AliasChoices, AliasPath, ConfigDict, Field
from typing_extensions import TypedDict, assert_type
from websockets.exceptions import ConnectionClosed
from wsguard import Connection, _log, _patched


def test_a_server_that_has_ended_starts_again(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        opened: list[Connection] = []
        server.on_open(opened.append)
        server.on_message(lambda conn, message: conn.send_nowait(message))
        addresses = set()
        for how in ("async with", "start", "serve"):
            if how == "async with":
                async with server, client(server) as peer:
                    await peer.send("x")
                    assert await peer.recv() == "x"
                    addresses.add(server.address)
                    with pytest.raises(wsguard.UsageError, match="started already"):
                        await server.start()
            elif how == "start":
                await server.start()
                addresses.add(server.address)
                async with client(server) as peer:
                    await peer.send("y")
                    assert await peer.recv() == "y"
                server.stop()
                await server.wait_stopped()
            else:

                def started() -> None:
                    addresses.add(server.address)
                    server.stop()

                await server.serve(started)
            # Nothing of an earlier run fits a later one.
            for old in opened:
                assert not old.is_open and old.send_nowait("x") == "closed"
                server_says = repr(old)
                assert server_says.endswith("closed>")
        assert len(opened) == 2 and len(addresses) == 3

    run(main)


def test_a_connection_of_an_earlier_run_is_closed_to_questions(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with server, client(server):
            conn = await opened.get()
        async with server:
            for asks in (lambda: conn.call("x"), conn.ping, conn.recv, lambda: conn.emit("x")):
                with pytest.raises(wsguard.ConnectionClosed) as closed:
                    await asks()
                assert closed.value.close_code == 1000

    run(main)


def test_an_earlier_run_on_a_loop_is_over() -> None:
    server = wsguard.Server(options(protocol="raw"))
    asyncio.run(server.serve(server.stop))
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(wsguard.UsageError) as refused:
            await server.wait_stopped()
        told.append(refused.value.code)
        server.stop()

    waiting = threading.Thread(target=lambda: asyncio.run(wait()))
    server.run("native", started=waiting.start)
    waiting.join()
    assert told == ["no_event_loop"]


def test_the_time_of_an_end_is_checked_before_the_end() -> None:
    server = wsguard.Server(options(protocol="raw"))
    wrong: Any
    for wrong in ("5000", 1.5, None, True):
        with pytest.raises(TypeError, match="drain_timeout_ms must be an int"):
            server.drain_timeout_ms = wrong
    with pytest.raises(wsguard.InvalidArgument):
        server.drain_timeout_ms = -1
    assert server.drain_timeout_ms == 10_000

    class Hasty(wsguard.Server):
        drain_timeout_ms = "5"  # type: ignore[assignment]

    with pytest.raises(TypeError, match="drain_timeout_ms must be an int"):
        Hasty(options(protocol="raw")).run("native")


def test_an_event_has_a_name() -> None:
    events: Any = {1: {}}
    with pytest.raises(wsguard.ConfigError, match="the name of an event is a str, not int"):
        wsguard.Server(options(events=events))


def test_of_two_threads_that_start_a_server_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    server = wsguard.Server(options(protocol="raw"))
    refused: list[str] = []

    def start_within() -> None:
        monkeypatch.undo()
        other = threading.Thread(target=start)
        other.start()
        other.join()

    def start() -> None:
        try:
            server.run("native", started=server.stop)
        except wsguard.UsageError as error:
            refused.append(error.code)

    # Between what is looked at and what is done.
    monkeypatch.setattr(_log, "start_writer", start_within)
    start()
    assert refused == ["already_started"]


@pytest.mark.filterwarnings("ignore")
def test_fastapi_enters_its_lifespan_twice() -> None:
    import contextlib
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    sockets = wsguard.Server(**options())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with sockets:
            yield

    for _ in range(2):
        with TestClient(FastAPI(lifespan=lifespan)):
            import http.client

            host, port = sockets.address.split(":")
            asked = http.client.HTTPConnection(host, int(port), timeout=5)
            asked.request("GET", "/healthz")
            assert asked.getresponse().status == 200
            asked.close()


def test_the_shortest_drain_holds(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))

        @server.on_message
        async def hang(conn: Connection, message: str) -> None:
            await asyncio.sleep(3600)

        loop = asyncio.get_running_loop()
        async with server, client(server) as peer:
            await peer.send("x")
            while server.stats()["messages_in"] == 0:
                await asyncio.sleep(0.01)
            began = loop.time()
            server.drain(300)
        assert loop.time() - began < 3
        for number in (-1, 2**80):
            with pytest.raises(wsguard.InvalidArgument, match="must be 0 to"):
                server.drain(number)
        with pytest.raises(TypeError, match="must be an int, not float"):
            server.drain(1.5)  # type: ignore[arg-type]

    run(main)


class Callable_:
    async def __call__(self, conn: Connection, message: str) -> None:
        await conn.send(message)


async def plain(conn: Connection, message: str) -> None:
    await conn.send(message)


@functools.wraps(plain)
def wrapped(*args: Any, **more: Any) -> Any:
    return plain(*args, **more)


HANDLERS: list[Any] = [Callable_(), plain, wrapped, functools.partial(plain), Callable_().__call__]


@pytest.mark.parametrize("handler", HANDLERS, ids=["object", "function", "decorated", "partial", "method"])
def test_coroutine_handlers_are_known_before_they_are_called(handler: Any) -> None:
    server = wsguard.Server(**options(protocol="raw"))
    server.on_message(handler)
    assert server._needs_asyncio()


def test_plain_handlers_need_no_asyncio() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    server.on_message(lambda conn, message: None)
    server.on_open(print)
    server.on_close(functools.partial(lambda x, conn, close: None, 5))
    assert not server._needs_asyncio()


def test_a_coroutine_without_asyncio_is_told_what_it_needs(caplog: pytest.LogCaptureFixture) -> None:
    import threading

    server = wsguard.Server(**options(protocol="raw"))
    server.on_message(lambda conn, message: plain(conn, message))

    async def ask() -> None:
        async with client(server) as peer:
            await peer.send("x")
            with pytest.raises(ConnectionClosed):
                await peer.recv()
            assert peer.close_code == 1011
        server.drain()

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    server.run("native", started=asking.start)
    asking.join()
    [record] = [record for record in caplog.records if record.exc_info]
    assert 'run("asyncio")' in str(record.exc_info and record.exc_info[1])


def test_handlers_that_would_fail_are_refused_where_they_are_registered() -> None:
    server: Any = wsguard.Server(**options())
    with pytest.raises(
        TypeError, match=r'@server.on\("say"\): .*one\(conn: .*\) -> .* is called with the connection and'
    ):

        def one(conn: Connection) -> None: ...

        server.on("say")(one)

    server = wsguard.Server(**options())
    with pytest.raises(TypeError, match=r"@server.on_close: .* is called with the connection and how it closed"):
        server.on_close(lambda conn: None)
    with pytest.raises(TypeError, match="would never run"):

        async def generator(conn: Connection) -> Any:
            yield 1

        server.on_open(generator)

    with pytest.raises(TypeError, match="would never run"):

        def generator2(conn: Connection) -> Any:
            yield 1

        server.on_open(generator2)

    with pytest.raises(TypeError, match=r"a handler is a function, not int"):
        server.on("x")(5)
    with pytest.raises(TypeError, match=r"on needs the event's name, @server.on\(\"say\"\).*without parentheses"):

        def say(conn: Connection, data: Any) -> None: ...

        server.on(say)

    with pytest.raises(TypeError, match="event needs the event's name"):
        server.event(None)
    with pytest.raises(TypeError, match=r"every connection is server.to_all\(\)"):
        server.to(None)
    with pytest.raises(TypeError, match="except_ takes connections, not NoneType"):
        server.to_all().except_(None)


def test_a_schema_is_checked_where_it_is_written() -> None:
    server: Any = wsguard.Server(**options())
    with pytest.raises(wsguard.ConfigError) as refused:
        server.on("say", schema={"type": "strnig"})
    assert refused.value.option.startswith("events.say")
    with pytest.raises(wsguard.ConfigError) as refused:
        server.on("typing", cost=-1)
    assert refused.value.option.startswith("events.typing")


def test_the_data_of_a_connection_has_a_type(run: Run) -> None:
    @dataclasses.dataclass
    class Session:
        said: int = 0

    async def main() -> None:
        server = wsguard.Server(options())

        @server.on_open
        def opened(conn: Connection[Session]) -> None:
            conn.data = Session()

        @server.on("say", schema={"type": "integer"})
        def say(conn: Connection[Session], data: int) -> None:
            assert_type(conn.data, Session)
            conn.data.said += data
            conn.reply("said", conn.data.said)

        @server.on_close
        def closed(conn: Connection, close: wsguard.Close) -> None:
            assert_type(conn.data, Any)

        async with server, client(server) as peer:
            for total in (3, 6):
                await peer.send('{"event":"say","data":3}')
                assert json.loads(await peer.recv())["data"] == total

    run(main)


def test_options_have_a_base() -> None:
    base: wsguard.Options = {"origins": ["https://a.example"], "auth": "none", "listen": "127.0.0.1:0"}
    server = wsguard.Server(base, rate_limit=None, protocol="raw")
    assert base == {"origins": ["https://a.example"], "auth": "none", "listen": "127.0.0.1:0"}
    assert server._events.options()["rate_limit"] is None


@dataclasses.dataclass
class Point:
    x: int


class Named(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("schema", "data", "made"),
    [
        (Point, {"x": 1}, Point(1)),
        (Named, {"name": "a"}, {"name": "a"}),
        (list[int], [1, 2], [1, 2]),
        (pydantic.TypeAdapter(int | str), "a", "a"),
    ],
)
def test_what_a_type_adapter_takes_is_a_schema(run: Run, schema: Any, data: Any, made: Any) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())
        got: list[Any] = []

        @server.on("e", schema=schema)
        def handle(conn: Connection, data: Any) -> None:
            got.append(data)
            conn.reply("ok")

        async with server, client(server) as peer:
            await peer.send(json.dumps({"event": "e", "data": data}))
            await peer.recv()
        assert got == [made]

    run(main)


def test_no_type_is_no_schema() -> None:
    server: Any = wsguard.Server(**options())
    for schema in (5, "text", object(), Connection, lambda: None):
        with pytest.raises(wsguard.ConfigError, match="what a TypeAdapter takes, not"):
            server.on("e", schema=schema)


class Aliased(pydantic.BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    first: int = Field(alias="First")


def test_aliases_come_in_as_they_go_out(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())

        @server.on("e", schema=Aliased)
        def handle(conn: Connection, data: Aliased) -> None:
            conn.reply("e", {"again": [data]})
            conn.reply("e", data)

        async with server, client(server) as peer:
            await peer.send('{"event":"e","data":{"First":1}}')
            assert json.loads(await peer.recv())["data"] == {"again": [{"First": 1}]}
            assert json.loads(await peer.recv())["data"] == {"First": 1}

    run(main)


def test_a_model_wider_than_its_schema_says_so(run: Run) -> None:
    class Choice(pydantic.BaseModel):
        x: int = Field(validation_alias=AliasChoices("a", "b"))

    class Path(pydantic.BaseModel):
        inner: list[Choice] | None = None
        y: int = Field(validation_alias=AliasPath("deep", 0))

    async def main() -> None:
        server = wsguard.Server(**options())
        for model in (Choice, Path, list[Choice]):
            with pytest.raises(wsguard.ConfigError, match="takes more than a JSON Schema can say"):
                server.on("e", schema=model)

        @server.on("f", model=Path)
        def handle(conn: Connection, data: Path) -> None:
            conn.reply("f", data.y)

        async with server, client(server) as peer:
            await peer.send('{"event":"f","data":{"deep":["7"]}}')
            assert json.loads(await peer.recv())["data"] == 7

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task factories take a context from 3.11 on")
def test_a_task_factory_that_fails_costs_its_connection(run: Run) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server = wsguard.Server(options(protocol="raw"))
        ends: asyncio.Queue[int] = asyncio.Queue()

        @server.on_message
        async def echo(conn: Connection, message: str) -> None:
            await conn.send(message)

        server.on_close(lambda _, close: ends.put_nowait(close.code))

        def nothing(loop: Any, coroutine: Any, **_: Any) -> None:
            coroutine.close()

        def raises(loop: Any, coroutine: Any, **_: Any) -> None:
            coroutine.close()
            raise RuntimeError("no more tasks")

        async with server, client(server) as other:
            for factory in (nothing, raises):
                async with client(server) as peer:
                    loop.set_task_factory(factory)
                    try:
                        # Sent without a task of this loop.
                        peer.transport.write(b"\x81\x81\0\0\0\0x")
                        assert await ends.get() == 1011
                    finally:
                        loop.set_task_factory(None)
            await other.send("lives")
            assert await other.recv() == "lives"

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task factories take a context from 3.11 on")
def test_the_loops_task_factory_is_asked(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        server.on_message(plain)
        made: list[Any] = []

        def factory(loop: Any, coroutine: Any, **more: Any) -> Any:
            made.append(coroutine.__qualname__)
            return asyncio.Task(coroutine, loop=loop, **more)

        loop: Any = asyncio.get_running_loop()
        async with server, client(server) as peer:
            loop.set_task_factory(factory)
            await peer.send("x")
            assert await peer.recv() == "x"
            loop.set_task_factory(None)
        assert "plain" in made

    run(main)


def test_a_server_need_not_be_hashable(run: Run) -> None:
    class Equal(wsguard.Server):
        def __eq__(self, other: object) -> bool:
            return self is other

    async def main() -> None:
        server = Equal(**options(protocol="raw"))
        server.on_message(plain)
        async with server, client(server) as peer:
            await peer.send("x")
            assert await peer.recv() == "x"

    run(main)


def test_what_monkey_patching_would_hang_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    def start_new_thread(*_: Any) -> None: ...

    start_new_thread.__module__ = "gevent.thread"
    monkeypatch.setattr(_thread, "start_new_thread", start_new_thread)
    assert _patched.by() == "gevent"
    current = types.SimpleNamespace(parent=object())
    monkeypatch.setitem(sys.modules, "greenlet", types.SimpleNamespace(getcurrent=lambda: current))
    # The log of an earlier test may be in `logging` already.
    monkeypatch.setattr(_log, "_writer", _log._Writer())
    with pytest.raises(wsguard.UsageError, match="gevent has replaced them") as refused:
        wsguard.log_to_logging()
    assert refused.value.code == "monkey_patched"
    with pytest.raises(wsguard.UsageError, match="threadpool"):
        wsguard.Server(**options()).run("native")


def test_a_taken_address_has_its_number() -> None:
    import errno

    async def main() -> None:
        async with wsguard.Server(**options()) as server:
            with pytest.raises(OSError) as refused:
                await wsguard.Server(**options(listen=server.address)).start()
            assert refused.value.errno == errno.EADDRINUSE

    asyncio.run(main())


@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_the_end_of_a_run_is_no_end_of_the_next(loop: Any) -> None:
    """Another thread starts the server again as soon as it has stopped, before `run` has returned."""
    again: list[threading.Thread] = []
    runs = threading.Event()

    class Restarted(wsguard.Server):
        def _restart(self) -> None:
            if not again:
                again.append(threading.Thread(target=lambda: self.run("native", started=runs.set)))
                again[0].start()
                assert runs.wait(10)

        def _run(self, signals: bool) -> None:
            super()._run(signals)
            self._restart()

        async def _wait_stopped(self, stopped: Any) -> None:
            await super()._wait_stopped(stopped)
            self._restart()

    server = Restarted(options(protocol="raw"))
    server.run(loop, started=server.stop)
    assert again[0].is_alive() and server._is_running
    server.stop()
    again[0].join(10)
    assert not again[0].is_alive() and not server._is_running
