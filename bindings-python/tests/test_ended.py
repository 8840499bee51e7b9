"""Closed is closed: who was disconnected, whose session has ended, and after ``stop`` nobody is handled any more."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pydantic
import pytest
import wsguard
from conftest import Run, client, options, run_beside
from websockets.exceptions import ConnectionClosedError
from wsguard import Accept, Close, ConfigError, Connection

TOKENS = {"tokens": [{"token": "a" * 32, "user": "alice"}, {"token": "b" * 32, "user": "bob"}]}


def as_user(letter: str) -> dict[str, Any]:
    return {"additional_headers": {"X-Auth-Token": letter * 32}}


def test_who_was_disconnected_before_the_open_was_heard_is_not_served() -> None:
    server = wsguard.Server(**options(protocol="raw", auth=TOKENS))
    opened: list[str | None] = []
    handled: list[str] = []
    ended: list[str | None] = []
    server.on_open(lambda conn: opened.append(conn.user))
    server.on_close(lambda conn, _: ended.append(conn.user))

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        handled.append(text)
        if text == "disconnect":
            # Bob is open for the core, and his message is read; nobody here has heard of either.
            while server.stats()["messages_in"] < 2:
                time.sleep(0.001)
            server.disconnect_user("bob")
            conn.send_nowait("done")

    async def talk() -> None:
        async with client(server, **as_user("a")) as alice:
            await alice.send("disconnect")
            async with client(server, **as_user("b")) as bob:
                await bob.send("as bob")
                assert await alice.recv() == "done"
                with pytest.raises(ConnectionClosedError, match="session revoked"):
                    await bob.recv()
            # Whoever comes after it is served.
            async with client(server, **as_user("b")) as bob:
                await bob.send("as another bob")
                while "as another bob" not in handled:
                    await asyncio.sleep(0.001)
        while len(ended) < 2:
            await asyncio.sleep(0.001)
        server.stop()

    run_beside(server, "native", talk())
    assert (opened, handled) == (["alice", "bob"], ["disconnect", "as another bob"])
    assert ended == ["bob", "alice"]


def test_what_waits_of_a_closed_connection_is_not_handled_once_its_user_is_disconnected(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", auth=TOKENS))
        gate, ended = asyncio.Event(), asyncio.Event()
        handled: list[str] = []

        @server.on_message
        async def message(conn: Connection, text: str) -> None:
            handled.append(text)
            await gate.wait()

        server.on_close(lambda conn, _: ended.set())
        async with server:
            async with client(server, **as_user("a")) as peer:
                for text in ("one", "two", "three"):
                    await peer.send(text)
            while server.stats()["open"]:
                await asyncio.sleep(0.001)
            # The close is heard too, behind the three.
            await asyncio.sleep(0.01)
            server.disconnect_user("alice")
            gate.set()
            await ended.wait()
            assert server.stats()["inbox_bytes"] == 0
        assert handled == ["one"]

    run(main)


def _signed(claims: dict[str, Any], key: str) -> str:
    def text(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    head = text(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + "." + text(json.dumps(claims).encode())
    return head + "." + text(hmac.new(key.encode(), head.encode(), hashlib.sha256).digest())


def test_what_waits_is_not_handled_once_the_session_of_a_jwt_has_expired(run: Run) -> None:
    async def main() -> None:
        key = "k" * 32
        auth = {"jwt": {"algorithms": ["HS256"], "key": key, "audience": "here", "issuer": "there", "leeway_s": 0}}
        server = wsguard.Server(**options(protocol="raw", auth=auth))
        gate = asyncio.Event()
        handled: list[str] = []
        ends: asyncio.Queue[Close] = asyncio.Queue()

        @server.on_message
        async def message(conn: Connection, text: str) -> None:
            handled.append(text)
            await gate.wait()

        server.on_close(lambda _, close: ends.put_nowait(close))
        async with server:
            claims = {"sub": "alice", "aud": "here", "iss": "there", "exp": int(time.time()) + 2}
            async with client(server, additional_headers={"X-Auth-Token": _signed(claims, key)}) as peer:
                for text in ("one", "two"):
                    await peer.send(text)
                with pytest.raises(ConnectionClosedError, match="session expired"):
                    await peer.recv()
                while server.stats()["open"]:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
                gate.set()
                assert (await ends.get()).reason == "session expired"
        assert handled == ["one"]

    run(main)


@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_nothing_of_a_batch_is_handled_once_the_session_of_a_jwt_has_expired(loop: Any) -> None:
    key = "k" * 32
    auth = {"jwt": {"algorithms": ["HS256"], "key": key, "audience": "here", "issuer": "there", "leeway_s": 0}}
    server = wsguard.Server(options(protocol="raw", auth=auth))
    handled: list[str] = []
    told: list[object] = []
    ends: list[str] = []

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        handled.append(text)
        # All are read; and the core cannot have told of the end: this thread is here.
        while server.stats()["messages_in"] < 3 or conn.is_open:
            time.sleep(0.001)
        told.extend([conn.closed, conn.send_nowait("late")])

    server.on_close(lambda _, close: ends.append(close.reason))

    async def talk() -> None:
        claims = {"sub": "alice", "aud": "here", "iss": "there", "exp": int(time.time()) + 2}
        async with client(server, additional_headers={"X-Auth-Token": _signed(claims, key)}) as peer:
            for text in ("one", "two", "three"):
                await peer.send(text)
            with pytest.raises(ConnectionClosedError, match="session expired"):
                await peer.recv()
        while not ends:
            await asyncio.sleep(0.001)
        server.stop()

    run_beside(server, loop, talk())
    assert (handled, told, ends) == (["one"], [None, "closed"], ["session expired"])


@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_nothing_is_handled_behind_a_close_that_comes_behind_the_end(loop: Any) -> None:
    server = wsguard.Server(options(protocol="raw"))
    handled: list[str] = []
    ends: list[int] = []

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        handled.append(text)
        # The peer has left, which nobody here has heard of.
        while server.stats()["messages_in"] < 3 or server.stats()["open"]:
            time.sleep(0.001)
        conn.close(4000, "enough")

    server.on_close(lambda _, close: ends.append(close.code))

    async def talk() -> None:
        async with client(server) as peer:
            for text in ("one", "two", "three"):
                await peer.send(text)
        while not ends:
            await asyncio.sleep(0.001)
        server.stop()

    run_beside(server, loop, talk())
    assert (handled, ends) == (["one"], [1000])


@pytest.mark.parametrize("taken_by", ["handler", "recv"])
def test_what_a_model_has_closed_is_not_handled(run: Run, taken_by: str) -> None:
    async def main() -> None:
        server = wsguard.Server(options())
        conns: asyncio.Queue[Connection] = asyncio.Queue()
        handled: list[object] = []
        closing: list[Connection] = []

        class Closes(pydantic.BaseModel):
            x: int

            @pydantic.field_validator("x")
            @classmethod
            def close(cls, x: int) -> int:
                closing[0].close(4000, "enough")
                return x

        @server.on_open
        async def opened(conn: Connection) -> None:
            closing.append(conn)
            conns.put_nowait(conn)
            if taken_by == "recv":
                with pytest.raises(wsguard.ConnectionClosed, match="enough"):
                    handled.append(await conn.recv())

        @server.on("e", schema=Closes)
        def handle(conn: Connection, data: Closes) -> None:
            handled.append(data)

        async with server, client(server) as peer:
            await conns.get()
            await peer.send('{"event":"e","data":{"x":1}}')
            with pytest.raises(ConnectionClosedError, match="enough"):
                await peer.recv()
        assert not handled

    run(main)


def test_nothing_that_was_read_before_is_handled_after_stop() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    handled: list[str] = []

    @server.on_open
    def opened(_: Connection) -> None:
        while server.stats()["messages_in"] < 3:
            time.sleep(0.001)

    @server.on_message
    def message(_: Connection, text: str) -> None:
        handled.append(text)
        server.stop()

    async def talk() -> None:
        async with client(server) as peer:
            for text in ("one", "two", "three"):
                await peer.send(text)
            await peer.wait_closed()

    run_beside(server, "native", talk())
    assert handled == ["one"]


def test_connections_are_left_out_of_an_audience(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with server, client(server) as one, client(server):
            first, second = await opened.get(), await opened.get()
            audience = server.to_all().except_(first)
            # The audience that it is made of stays as it is.
            audience.except_(second).send("to nobody")
            # The same once more changes nothing.
            audience.except_(first).send("to the other")
            server.to_all().send("to all")
            assert await one.recv() == "to all"

    run(main)


def test_none_switches_no_check_off() -> None:
    key = {"algorithms": ["HS256"], "key": "k" * 32, "audience": "here"}
    slips: list[tuple[dict[str, Any], str]] = [
        ({"auth": {"jwt": {**key, "issuer": None}}}, "auth.jwt.issuer"),
        ({"auth": {"tokens": [{"token": "a" * 32, "user": None}]}}, "auth.tokens[0].user"),
        ({"tls": {"cert": "c", "key": "k", "client_ca": None}}, "tls.client_ca"),
        ({"events": {"said": {"schema": None}}}, "events.said.schema"),
    ]
    for more, option in slips:
        with pytest.raises(ConfigError) as refused:
            wsguard.Server(**options(**more))
        assert refused.value.option == option
        assert "None" in str(refused.value)


@pytest.mark.parametrize("places", [2, 4])
def test_coroutines_that_were_told_to_end_take_no_place(run: Run, places: int) -> None:
    async def main() -> None:
        more = options(protocol="raw", max_pending_auth=places * 2, auth_timeout_ms=5000)
        del more["auth"]
        server = wsguard.Server(**more)
        asked: list[str | None] = []
        release = asyncio.Event()

        @server.authenticate
        async def authenticate(request: wsguard.Request) -> Accept:
            asked.append(request.ip)
            if request.token != "good":
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    # It ends, but not at once.
                    await release.wait()
            return Accept("alice")

        async def hang(ip: str) -> None:
            with pytest.raises(Exception):  # noqa: B017 -- 503, or its connection is lost
                async with client(server, local_addr=(ip, 0)):
                    pass

        async with server:
            hanging = [asyncio.create_task(hang(f"127.0.0.{2 + number % 2}")) for number in range(places * 2)]
            while len(asked) < places * 2:
                await asyncio.sleep(0.001)
            # Whoever holds most makes room, and the newcomer is asked although nobody has ended yet.
            async with client(server, local_addr=("127.0.0.4", 0), additional_headers={"X-Auth-Token": "good"}):
                assert asked[-1] == "127.0.0.4"
            release.set()
            server.stop()
            await asyncio.gather(*hanging)

    run(main)


def test_a_session_that_a_reload_has_made_longer_is_handled(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", max_session_ms=1000))
        conns: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(conns.put_nowait)

        @server.on_message
        def message(conn: Connection, text: str) -> None:
            conn.send_nowait(f"got {text}")

        async with server, client(server) as peer:
            conn = await conns.get()
            server.reload(options(protocol="raw", max_session_ms=60_000))
            assert conn.expires_at_ms is not None
            while time.time() * 1000 < conn.expires_at_ms + 20:
                await asyncio.sleep(0.01)
            assert conn.is_open
            await peer.send("late")
            assert await asyncio.wait_for(peer.recv(), 5) == "got late"

    run(main)


@pytest.mark.parametrize("whom", [{"user": "bob"}, {"ip": "127.0.0.2"}, {"ip": "127.0.0.2/31"}])
def test_who_is_banned_before_the_open_was_heard_is_not_served(whom: dict[str, Any]) -> None:
    server = wsguard.Server(**options(protocol="raw", auth=TOKENS))
    opened: list[str | None] = []
    handled: list[str] = []
    server.on_open(lambda conn: opened.append(conn.user))

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        handled.append(text)
        if text == "ban":
            # Bob is open for the core, and his message is read; nobody here has heard of either.
            while server.stats()["messages_in"] < 2:
                time.sleep(0.001)
            server.ban(**whom)
            conn.send_nowait("done")

    async def talk() -> None:
        async with client(server, **as_user("a")) as alice:
            await alice.send("ban")
            async with client(server, local_addr=("127.0.0.2", 0), **as_user("b")) as bob:
                await bob.send("as bob")
                assert await alice.recv() == "done"
                with pytest.raises(ConnectionClosedError, match="banned"):
                    await bob.recv()
        server.stop()

    run_beside(server, "native", talk())
    assert (opened, handled) == (["alice"], ["ban"])


def test_what_waits_of_an_address_that_is_banned_is_not_handled(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw"))
        gate, ended = asyncio.Event(), asyncio.Event()
        handled: list[str] = []

        @server.on_message
        async def message(conn: Connection, text: str) -> None:
            handled.append(text)
            await gate.wait()

        server.on_close(lambda conn, _: ended.set())
        async with server:
            async with client(server) as peer:
                for text in ("one", "two", "three"):
                    await peer.send(text)
            while server.stats()["open"]:
                await asyncio.sleep(0.001)
            # The close is heard too, behind the three; then the core has nothing of it to close.
            await asyncio.sleep(0.01)
            assert handled == ["one"]
            server.ban(ip="127.0.0.1")
            gate.set()
            await ended.wait()
        assert handled == ["one"]

    run(main)


@pytest.mark.parametrize("how", ["close", "ban", "disconnect"])
@pytest.mark.parametrize("around", ["plain", "coroutine"])
def test_no_handler_behind_a_middleware_gets_what_has_ended_meanwhile(run: Run, how: str, around: str) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw", auth=TOKENS))
        handled: list[str] = []
        told = asyncio.Event()

        def end(conn: Connection) -> None:
            if how == "close":
                conn.close()
            elif how == "ban":
                server.ban(ip="127.0.0.1")
            else:
                server.disconnect_user("alice")

        if around == "plain":

            @server.middleware
            def ends(call: wsguard.Call, proceed: Any) -> Any:
                if call.kind == "message":
                    end(call.conn)
                return proceed()

        else:

            @server.middleware
            async def ends_later(call: wsguard.Call, proceed: Any) -> Any:
                await asyncio.sleep(0)
                if call.kind == "message":
                    end(call.conn)
                return await proceed()

        @server.on_message
        def message(conn: Connection, text: str) -> None:
            handled.append(text)

        @server.on_close
        def closed(conn: Connection, close: Close) -> None:
            told.set()

        async with server, client(server, **as_user("a")) as peer:
            await peer.send("one")
            await peer.wait_closed()
            # Its end is told all the same.
            await asyncio.wait_for(told.wait(), 5)
        assert handled == []

    run(main)


@pytest.mark.parametrize("around", ["nothing", "plain", "coroutine"])
def test_who_ends_before_its_open_is_handled_is_told_of_in_pairs(run: Run, around: str) -> None:
    """So that what counts connections, or keeps them, needs no second look."""

    async def main() -> None:
        server = wsguard.Server(options(protocol="raw"))
        told: list[str] = []
        ended = asyncio.Event()

        if around == "plain":

            @server.middleware
            def ends(call: wsguard.Call, proceed: Any) -> Any:
                call.conn.close()
                return proceed()

        elif around == "coroutine":

            @server.middleware
            async def ends_later(call: wsguard.Call, proceed: Any) -> Any:
                await asyncio.sleep(0)
                call.conn.close()
                return await proceed()

        @server.on_open
        def opened(conn: Connection) -> None:
            told.append("open")
            conn.close()

        @server.on_close
        def closed(conn: Connection, close: Close) -> None:
            told.append("close")
            ended.set()

        async with server, client(server):
            await asyncio.wait_for(ended.wait(), 5)
        assert told == ["open", "close"]

    run(main)


def test_a_pong_behind_the_end_calls_nobody() -> None:
    server = wsguard.Server(options(protocol="raw"))
    handled: list[str] = []
    ends: list[int] = []

    @server.on_message
    def message(conn: Connection, text: str) -> None:
        handled.append(text)
        if text == "ping":
            conn.ping_nowait(lambda conn, ms: handled.append("pong"))
            conn.send_nowait("pinged")
        else:
            # The pong may be read by now: it is in this batch or the next one.
            time.sleep(0.1)
            conn.close(4000, "enough")

    server.on_close(lambda _, close: ends.append(close.code))

    async def talk() -> None:
        async with client(server) as peer:
            await peer.send("ping")
            await peer.send("close")
            await peer.wait_closed()
        while not ends:
            await asyncio.sleep(0.001)
        server.stop()

    run_beside(server, "native", talk())
    assert handled == ["ping", "close"]


@pytest.mark.parametrize("awaits", [None, 0, 1], ids=["function", "coroutine", "that_waits"])
def test_who_hears_of_the_last_close_may_tell_the_others(run: Run, awaits: int | None) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol="raw"))
        failures: list[Exception] = []
        closes: list[str] = []
        server.on_error(lambda error, *_: failures.append(error))
        server.on_open(lambda conn: conn.join("lobby"))

        def say(conn: Connection, close: Close) -> None:
            server.to("lobby").send("left")
            server.to_all().close(1000)
            closes.append("told")

        async def say_later(conn: Connection, close: Close) -> None:
            for _ in range(awaits or 0):
                await asyncio.sleep(0.05)
            say(conn, close)

        server.on_close(say if awaits is None else say_later)
        async with server, client(server) as peer:
            await peer.send("x")
            draining = server.drain()
            with pytest.raises(ConnectionClosedError):
                while True:
                    await peer.recv()
            await draining
        assert (failures, closes) == ([], ["told"])
        with pytest.raises(wsguard.UsageError):
            server.to("lobby").send("late")

    run(main)
