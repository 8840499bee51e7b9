"""Arguments that nobody should give, by the thousand, from handlers, tasks and threads, while other connections check
that every byte they get is theirs. A command is whole or not at all."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import mmap
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import wsguard
from conftest import Run, client, options
from websockets.exceptions import ConnectionClosed
from wsguard import Connection, _wsguard, testing
from wsguard.testing import FakeConnection

PREFIX = "fine:"


class Liar:
    """What says of itself what is not so."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def model_dump_json(self, **_: Any) -> Any:
        forged = '1},"event":"forged","x":{"y":1'
        return self.chance.choice([forged, b"{}", None, 5, "", "{", '"\ud800"', "[1]", self])

    def __bytes__(self) -> bytes:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


class Stubborn(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


class Text(str):
    def __str__(self) -> str:
        return "another"

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no")


class Number(int):
    def __repr__(self) -> str:
        return '1,"event":"forged"'


class Real(float):
    def __repr__(self) -> str:
        return '1,"event":"forged"'


class Octets(bytearray):
    def __bytes__(self) -> bytes:
        self.extend(b"x" * 100)
        return b"own"


class Changing:
    """Changes what holds it while it is written."""

    def __init__(self, holder: Any) -> None:
        self.holder = holder

    def model_dump_json(self, **_: Any) -> str:
        if isinstance(self.holder, dict):
            for number in range(50):
                self.holder[f"more {number}"] = self
        else:
            self.holder.extend([self] * 3)
        return "1"


class Throws:
    def __getattr__(self, name: str) -> Any:
        raise BaseException("not an Exception") if name == "model_dump_json" else AttributeError(name)


def hostile(chance: random.Random, depth: int = 0) -> Any:
    kinds: list[Any] = [
        lambda: None,
        lambda: Liar(chance),
        lambda: Stubborn(a=1),
        lambda: Text("text"),
        lambda: Number(5),
        lambda: {Number(7): Real(0.5), Real(1.5): Text("x"), Text("k"): Number(10**30)},
        lambda: "\ud800",
        lambda: {"\udfff": 1},
        lambda: "x" * chance.choice([0, 1, 1000, 2_000_000]),
        lambda: b"\x00\xff" * chance.randrange(100),
        lambda: Octets(b"abc"),
        lambda: memoryview(bytearray(b"abcdef"))[:: chance.choice([1, -1, 2])],
        lambda: memoryview(array.array("d", [1.5, 2.5])),
        lambda: mmap.mmap(-1, 100),
        released,
        lambda: float(chance.choice(["nan", "inf", "-inf", "-0.0"])),
        lambda: 10**5000,
        lambda: -(2**63),
        lambda: True,
        circle,
        lambda: nested(300),
        lambda: changing_dict(),
        lambda: changing_list(),
        lambda: object,
        lambda: Throws(),
        lambda: iter([1]),
        lambda: 1j,
        lambda: {1, 2},
        lambda: {(1, 2): 3},
        lambda: wsguard.Json('{"a": [1, 2]}'),
        lambda: [hostile(chance, depth + 1) for _ in range(3)] if depth < 3 else 0,
        lambda: {str(i): hostile(chance, depth + 1) for i in range(3)} if depth < 3 else 0,
    ]
    return chance.choice(kinds)()


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


def circle() -> Any:
    round_: list[Any] = [{}]
    round_[0]["again"] = round_
    return round_


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def changing_dict() -> Any:
    holder: dict[str, Any] = {"a": 1}
    holder["b"] = Changing(holder)
    holder["c"] = 2
    return holder


def changing_list() -> Any:
    holder: list[Any] = [1]
    holder.append(Changing(holder))
    return {"list": holder}


def abuse(chance: random.Random, server: wsguard.Server, conn: Connection) -> None:
    """One call with arguments that are mostly wrong. Whatever it raises is an ordinary exception."""
    value = hostile(chance)
    event: Any = chance.choice(["e", 'quo"te', "\n", "\ud800", "", None, 5, Text("t"), "x" * 5000, value])
    room: Any = chance.choice(["", "r", "x" * 257, None, 5, "\ud800", value])
    number: Any = chance.choice([-1, 0, 999, 1005, 2**70, None, "x", 1.5, True, value])
    nobody: Any = chance.choice([None, conn, 5])
    reason: Any = chance.choice(["", "x" * 200, 5])
    calls: list[Any] = [
        lambda: conn.emit(event, value),
        lambda: conn.emit_nowait(event, value),
        lambda: conn.reply(
            event, value, id=chance.choice([None, 1, True, 2**80, "i", "\ud800", 1.5, Number(3), value])
        ),
        lambda: conn.send(value),
        lambda: conn.send_nowait(value),
        lambda: conn.join(room),
        lambda: conn.leave(room),
        lambda: conn.close(number, reason),
        lambda: server.to(room).emit(event, value),
        lambda: server.to("nobody").send(value),
        lambda: server.to("nobody").except_(nobody).emit(event, value),
        lambda: server.disconnect_user(chance.choice(["", "nobody", None, 5, "\ud800", value])),
        lambda: server.to(room, room).members(),
        lambda: server.to_user(event).emit(event, value),
        lambda: server.to("nobody").except_(nobody, conn).size,
        lambda: server.to(event).clear(),
        lambda: server.get(event),
        lambda: server.ban(user=event, for_ms=number, reason=reason) if event != "e" else None,
        lambda: server.unban(ip=event),
        lambda: server.reload(value),
        lambda: server.reload(listen=value),
        lambda: conn.reply_error(event, value, id=value),
        lambda: conn.call(event, value, timeout_ms=number).close(),
        lambda: conn.ping().close(),
        lambda: conn.ping_nowait(value),
        lambda: conn.on_close(value),
        lambda: wsguard.Accept("a", roles=value, headers=value, subprotocol=value),
        lambda: wsguard.Reject(401, headers=value, body=value),
        lambda: (conn.query, conn.headers, conn.cookies, conn.claims, conn.tls, conn.port, conn.rooms, conn.params),
        lambda: conn.recv().close(),
        lambda: conn.wait_closed().throw(RuntimeError),
        lambda: conn.emit("e", 1).send(value),
        lambda: setattr(conn, "data", value),
        lambda: wsguard.Accept(value),
        lambda: wsguard.Accept("a", expires_at_ms=value),
        lambda: wsguard.Reject(value),
        lambda: wsguard.Json(value),
        lambda: server.drain(-1 if number is None or isinstance(number, int) else number),  # none that would do
        lambda: server.on(event)(value),
        lambda: server.on_open(value),
        lambda: (conn.id, conn.ip, conn.user, conn.path, conn.closed, conn.message, conn.is_open, repr(conn)),
    ]
    call = chance.choice(calls)
    try:
        call()
    except Exception:
        pass
    except BaseException as error:
        assert str(error) == "not an Exception", repr(error)


def test_hostile_arguments_harm_nobody(run: Run) -> None:
    async def main() -> None:
        limits: Any = dict(rate_limit=None, max_outbox_bytes=1 << 26, max_connections_per_ip=1000)
        server = wsguard.Server(**options(events={"echo": {}, "abuse": {}, "task": {}}, **limits))
        faults: list[BaseException] = []
        threads: list[threading.Thread] = []
        tasks: set[asyncio.Task[None]] = set()

        @server.on("echo")
        def echo(conn: Connection, data: Any) -> None:
            conn.reply("echo", data)

        def many(seed: int, conn: Connection) -> None:
            chance = random.Random(seed)
            for _ in range(150):
                try:
                    abuse(chance, server, conn)
                except BaseException as error:
                    faults.append(error)

        @server.on("abuse")
        def handle(conn: Connection, seed: int) -> None:
            many(seed, conn)
            if seed % 3 == 0:
                thread = threading.Thread(target=many, args=(seed + 1000, conn))
                threads.append(thread)
                thread.start()
            conn.emit_nowait("done", seed)

        @server.on("task")
        async def handle_later(conn: Connection, seed: int) -> None:
            many(seed, conn)
            await asyncio.sleep(0)
            many(seed + 500, conn)
            conn.emit_nowait("done", seed)

        async def attack(seed: int) -> None:
            with contextlib.suppress(ConnectionClosed):
                async with client(server, max_size=None) as peer:
                    await peer.send(json.dumps({"event": "abuse" if seed % 2 else "task", "data": seed}))
                    while True:
                        message = await peer.recv()
                        if isinstance(message, bytes) or not message.startswith("{"):
                            continue  # `send` in `json`
                        with contextlib.suppress(json.JSONDecodeError):
                            told = json.loads(message)
                            assert "forged" not in (told.get("event"), str(told.get("x"))), told
                            assert set(told) <= {"event", "data", "status", "id"}, told
                            if told["event"] == "done":
                                return

        async def honest(name: int, until: asyncio.Event) -> int:
            count = 0
            async with client(server) as peer:
                while not until.is_set():
                    said = f"{PREFIX}{name}:{count}" + "é" * (count % 50)
                    await peer.send(json.dumps({"event": "echo", "data": said, "id": count}))
                    assert json.loads(await peer.recv()) == {"event": "echo", "data": said, "status": "ok", "id": count}
                    count += 1
            return count

        async with server:
            ended = asyncio.Event()
            others = [asyncio.create_task(honest(name, ended)) for name in range(3)]
            for seed in range(24):
                await asyncio.wait_for(attack(seed), 20)
            for thread in threads:
                await asyncio.get_running_loop().run_in_executor(None, thread.join)
            ended.set()
            counts = await asyncio.gather(*others)
            assert all(count > 0 for count in counts)
            while server.stats()["connections"] or server.stats()["inbox_bytes"]:
                await asyncio.sleep(0.01)
        assert not faults, faults[:3]
        assert not tasks

    run(main)


class Fatal(BaseException):
    """As gevent's `Timeout`, pytest's `fail`."""


def panic() -> None:
    _wsguard.panic_for_tests()


def fatal() -> None:
    raise Fatal("not an Exception")


def cancelled() -> None:
    raise asyncio.CancelledError


def dictionary() -> None:
    raise_from: Any = Throws()
    raise_from.model_dump_json  # noqa: B018


THROWN = [panic, fatal, cancelled, dictionary]


def test_whatever_is_thrown_costs_one_connection(run: Run) -> None:
    async def main() -> None:
        for throw in THROWN:
            for where in ("open", "message", "later", "close", "violation", "iterating"):
                server = wsguard.Server(**options(protocol="raw", rate_limit=None))
                thrown: list[str] = []

                def act(conn: Any, *_: Any, throw: Any = throw, thrown: list[str] = thrown) -> None:
                    if getattr(conn, "path", "/bad") == "/bad":
                        thrown.append("")
                        throw()

                async def act_later(conn: Connection, message: Any, act: Any = act) -> None:
                    await asyncio.sleep(0)
                    act(conn)

                def echo(conn: Connection, message: Any) -> None:
                    conn.send_nowait(message)

                async def iterate(conn: Connection, act: Any = act) -> None:
                    async for message in conn:
                        act(conn)
                        conn.send_nowait(message)

                def handle(conn: Connection, message: Any, act: Any = act) -> None:
                    act(conn)
                    echo(conn, message)

                if where == "open":
                    server.on_open(act)
                elif where == "close":
                    server.on_close(act)
                elif where == "violation":
                    server.on_violation(act)
                elif where == "iterating":
                    server.on_open(iterate)
                if where == "message":
                    server.on_message(handle)
                elif where == "later":
                    server.on_message(act_later)
                elif where != "iterating":
                    server.on_message(echo)

                async with server, client(server, "/good") as good:
                    for _ in range(2):
                        with contextlib.suppress(ConnectionClosed):
                            async with client(server, "/bad") as bad:
                                await bad.send("x")
                                if where in ("open", "message", "later", "iterating"):
                                    with contextlib.suppress(asyncio.TimeoutError):
                                        await asyncio.wait_for(bad.recv(), 5)
                                        raise AssertionError("no close frame")
                                elif where == "violation":
                                    await bad.send("x" * 100_000)
                                    await bad.recv()
                                assert bad.close_code in (None, 1009)
                        if where in ("open", "message", "later", "iterating"):
                            assert bad.close_code == 1011, (throw, where, bad.close_code)
                    if where != "later":
                        await good.send("lives")
                        assert await good.recv() == "lives"
                    while len(thrown) < 2:
                        await asyncio.sleep(0.005)
                    await (await good.ping())

    run(main)


def test_an_authentication_that_throws_anything_answers_503(run: Run) -> None:
    async def main() -> None:
        from test_auth import refused

        for throw in THROWN:
            for asynchronous in (False, True):
                stated = options()
                del stated["auth"]
                server = wsguard.Server(**stated)

                def decide(request: wsguard.Request, throw: Any = throw) -> Any:
                    throw()

                async def decide_later(request: wsguard.Request, throw: Any = throw) -> Any:
                    await asyncio.sleep(0)
                    throw()

                server.authenticate(decide_later if asynchronous else decide)
                async with server:
                    assert await refused(server) == 503
                    assert await refused(server) == 503

    run(main)


def test_a_log_that_fails_costs_its_record(run: Run) -> None:
    import logging

    class Fails(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise Fatal("a filter that fails") if record.exc_info else ValueError("a filter that fails")

    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        fails = Fails()
        logging.getLogger("wsguard").addFilter(fails)

        @server.on_message
        def fail(conn: Connection, message: str) -> None:
            raise RuntimeError("a fault")

        try:
            async with server:
                for _ in range(2):
                    async with client(server) as peer:
                        await peer.send("x")
                        with contextlib.suppress(ConnectionClosed):
                            await peer.recv()
                        assert peer.close_code == 1011
        finally:
            logging.getLogger("wsguard").removeFilter(fails)

    run(main)


def test_a_flood_of_failures_is_sampled(run: Run, caplog: Any) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", handshakes_per_ip=None))

        @server.on_message
        def fail(conn: Connection, message: str) -> None:
            raise RuntimeError("a fault")

        async with server:
            for _ in range(40):
                async with client(server) as peer:
                    await peer.send("x")
                    with contextlib.suppress(ConnectionClosed):
                        await peer.recv()
        told = [record for record in caplog.records if record.name == "wsguard"]
        assert 10 <= len(told) <= 20
        assert getattr(told[0], "handler") == "message" and getattr(told[0], "conn")  # noqa: B009

    run(main)


def test_lone_surrogates_are_told_by_name() -> None:
    """They are no text in UTF-8: whose argument has them is told, not what Python's codec says of it."""
    broken = "a\ud800"
    server, fake = wsguard.Server(**options()), FakeConnection()
    calls: dict[str, list[Any]] = {
        "room": [lambda: server.to("a", broken), lambda: fake.join(broken), lambda: fake.leave(broken)],
        "user": [
            lambda: server.to_user(broken),
            lambda: server.connections_of(broken),
            lambda: server.ban(user=broken),
            lambda: server.unban(user=broken),
        ],
        "ip": [lambda: server.ban(ip=broken), lambda: server.unban(ip=broken)],
        "reason": [
            lambda: server.ban(user="a", reason=broken),
            lambda: server.to_all().close(1000, broken),
            lambda: fake.close(1000, broken),
        ],
        "event": [lambda: fake.emit(broken), lambda: fake.reply(broken), lambda: fake.emit_nowait(broken)],
        "message": [lambda: fake.send(broken), lambda: fake.send_nowait(broken)],
    }
    for name, each in calls.items():
        for call in each:
            with pytest.raises(wsguard.InvalidArgument, match=f"^{name} must not have lone surrogates$"):
                call()
    assert fake.is_open and not fake.sent and not fake.rooms


def test_lone_surrogates_are_sent_nowhere(run: Run) -> None:
    """As above, on a server: nothing of the call is done, and what follows arrives."""
    broken = "a\ud800"

    class Model:
        def model_dump_json(self, **_: object) -> str:
            return f'"{broken}"'

    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}, routes={"/": {}, "/raw": {"protocol": "raw"}}))
        conns: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(conns.put_nowait)
        async with server, client(server) as peer, client(server, "/raw") as raw_peer:
            conn, raw = await conns.get(), await conns.get()
            if conn.path == "/raw":
                conn, raw = raw, conn
            everybody = server.to_all()
            calls: dict[str, list[Callable[[], Any]]] = {
                "event": [
                    lambda: conn.emit(broken),
                    lambda: conn.emit_nowait(broken),
                    lambda: conn.reply(broken),
                    lambda: conn.reply_nowait(broken),
                    lambda: conn.reply_error(broken),
                    lambda: conn.reply_error_nowait(broken),
                    lambda: everybody.emit(broken),
                ],
                "data": [
                    lambda: conn.emit("x", broken),
                    lambda: conn.emit("x", ["long" * 1000, {broken: 1}]),
                    lambda: conn.emit("x", {"a": [broken]}),
                    lambda: conn.emit("x", [Model()]),
                    lambda: conn.reply_nowait("x", broken),
                    lambda: conn.reply_error("x", broken),
                    lambda: everybody.emit("x", broken),
                ],
                "id": [lambda: conn.reply("x", id=broken), lambda: conn.reply_error("x", id=broken)],
                "message": [
                    lambda: raw.send(broken),
                    lambda: raw.send_nowait("long" * 1000 + broken),
                    lambda: everybody.send(broken),
                ],
                "room": [lambda: conn.join(broken), lambda: conn.leave(broken)],
                "reason": [lambda: conn.close(1000, broken), lambda: conn.close(reason=broken)],
                "user": [lambda: server.disconnect_user(broken), lambda: wsguard.Accept(broken)],
                "conn_id": [lambda: server.get(broken)],
                "text": [lambda: wsguard.Json(f'"{broken}"')],
                "roles": [lambda: wsguard.Accept("a", roles=["b", broken])],
                "subprotocol": [lambda: wsguard.Accept.anonymous(subprotocol=broken)],
                "headers": [
                    lambda: wsguard.Accept("a", headers={"a": broken}),
                    lambda: wsguard.Accept.anonymous(headers=[(broken, "a")]),
                    lambda: wsguard.Reject(headers={"a": broken}),
                ],
                "body": [lambda: wsguard.Reject(body=broken)],
                "path": [lambda: testing.request(broken)],
                "detail": [lambda: testing.violation("bad_frame", detail=broken)],
            }
            for name, each in calls.items():
                for call in each:
                    with pytest.raises(wsguard.InvalidArgument) as told:
                        call()
                    assert str(told.value) == f"{name} must not have lone surrogates"
                    assert told.value.__suppress_context__ or told.value.__context__ is None
            with pytest.raises(wsguard.InvalidArgument, match=r"^event must not have lone surrogates$"):
                await conn.call(broken)
            with pytest.raises(wsguard.InvalidArgument, match=r"^data must not have lone surrogates$"):
                await conn.call("x", broken)
            with pytest.raises(wsguard.ConfigError, match=r"^events: a text must not have lone surrogates$"):
                server.reload(**options(events={broken: {}}))
            with pytest.raises(wsguard.ConfigError, match=r"^listen: a text must not have lone surrogates$"):
                wsguard.Server(**options(listen=broken))
            assert conn.is_open and raw.is_open and conn.rooms == ()
            conn.emit("next")
            raw.send("next")
            assert json.loads(await peer.recv())["event"] == "next" and await raw_peer.recv() == "next"

    run(main)
