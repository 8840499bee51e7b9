"""What a connection knows and does by itself: its handshake, calls, pings, its end; and what is around handlers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
import websockets
import wsguard
from conftest import ORIGIN, Run, client, options
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wsguard import Call, Close, Connection


async def opened(server: wsguard.Server) -> asyncio.Queue[Connection]:
    conns: asyncio.Queue[Connection] = asyncio.Queue()
    server.on_open(conns.put_nowait)
    return conns


async def reads(peer: Any) -> Any:
    return json.loads(await peer.recv())


def test_the_handshake_is_known(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(
            **options(routes={"/r/{a}": {}}, keep_headers=["user-agent"], keep_cookies=["theme"], events={"x": {}})
        )
        conns = await opened(server)
        headers = {"User-Agent": "kit", "Cookie": "theme=dark; sid=secret"}
        kept = {"additional_headers": headers, "user_agent_header": None}
        async with server, client(server, "/r/1?a=%C3%A9&b=1&b=2&c", **kept):
            conn = await conns.get()
            assert (conn.route, conn.params, conn.path) == ("/r/{a}", {"a": "1"}, "/r/1")
            assert conn.query_string == "a=%C3%A9&b=1&b=2&c"
            assert dict(conn.query) == {"a": "é", "b": "1", "c": ""}
            assert conn.query.getall("b") == ["1", "2"] and "z" not in conn.query and len(conn.query) == 3
            assert "1" not in repr(conn.query)
            assert conn.headers["USER-AGENT"] == "kit" and list(conn.headers) == ["user-agent"]
            assert conn.cookies == {"theme": "dark"}
            assert conn.origin == "https://app.example" and conn.tls is None and conn.claims is None
            assert conn.port and conn.opened_at_ms > 1_700_000_000_000 and conn.expires_at_ms is None
            host, port = conn.local_address or ("", 0)
            assert f"{host}:{port}" == server.address and not conn.reported
            assert conn.roles == () and conn.rooms == ()
        async with server, client(server, "/r/1"):
            conn = await conns.get()
            assert conn.query_string is None and dict(conn.query) == {} and conn.cookies == {}

    run(main)


def test_whom_a_trial_lets_in_is_told_from_who_is_allowed(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(
            **options(auth="callback", on_violation="report", report_handshakes=True, events={"x": {}})
        )
        conns = await opened(server)

        @server.authenticate
        def of_cookies(request: wsguard.Request) -> wsguard.Accept:
            return wsguard.Accept("alice", data=request.reported)

        async with server:
            for origin, reported in (("https://evil.example", True), ("https://app.example", False)):
                async with client(server, origin=origin):
                    conn = await conns.get()
                    assert (conn.reported, conn.user, conn.data) == (reported, None if reported else "alice", reported)

    run(main)


class PythonFutures(asyncio.SelectorEventLoop):
    """A loop whose futures are written in Python, as those of a debugger or of another implementation are."""

    def create_future(self) -> Any:
        return asyncio.futures._PyFuture(loop=self)  # type: ignore[attr-defined]


def test_waits_on_futures_that_are_written_in_python() -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        conns = await opened(server)
        async with server, client(server) as peer:
            conn = await conns.get()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.recv(), 0.01)
            for sent in ("one", b"two"):
                waiting = asyncio.create_task(conn.recv())
                await asyncio.sleep(0)
                assert not waiting.done()
                await peer.send(sent)
                assert await waiting == sent
            waiting = asyncio.create_task(conn.wait_closed())
            await asyncio.sleep(0)
            await peer.close(4000)
            assert (await waiting).code == 4000

    loop = PythonFutures()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 30))
    finally:
        loop.close()


def test_claims() -> None:
    from wsguard.testing import token_of

    async def main() -> None:
        jwt: Any = {"algorithms": ["HS256"], "key": "k" * 32, "roles_claim": "scope"}
        server = wsguard.Server(**options(auth={"jwt": jwt}))
        conns = await opened(server)
        token = token_of(server, user="alice", roles=["a", "b"], claims={"tenant": "t"})
        async with server, client(server, additional_headers={"Authorization": f"Bearer {token}"}):
            conn = await conns.get()
            assert conn.claims and conn.claims["tenant"] == "t" and conn.claims["sub"] == "alice"
            assert conn.roles == ("a", "b") and conn.user == "alice" and conn.expires_at_ms

    asyncio.run(main())


def test_whom_to_reach(run: Run) -> None:
    async def main() -> None:
        tokens: Any = {"tokens": [{"token": name, "user": name} for name in ("alice", "bob")]}
        server = wsguard.Server(**options(auth=tokens, events={"x": {}}))
        conns = await opened(server)

        def of(name: str) -> Any:
            return client(server, additional_headers={"Authorization": f"Bearer {name}"})

        async with server, of("alice") as first, of("alice") as second, of("bob") as third:
            by_id = {conn.id: conn for conn in [await conns.get() for _ in range(3)]}
            a1, a2 = server.connections_of("alice")
            [b] = server.to_user("bob").members()
            assert {a1, a2, b} == set(by_id.values()) == set(server.connections)
            assert server.get(a1.id) is a1 and server.get("ffff") is None and server.get("x") is None
            a1.join("r")
            b.join("r")
            b.join("s")
            assert set(b.rooms) == {"r", "s"} and server.to("r").size == 2 and set(server.to("r").members()) == {a1, b}
            assert set(server.to("r", "s").members()) == {a1, b} and server.to("r", "s").size == 2
            assert server.to("r").except_(a1).members() == [b] and server.to("none").size == 0
            # Each once; several left out.
            server.to("r", "s").emit("once")
            server.to_user("alice").emit("mail")
            server.to_all().except_(a1, a2).emit("only-bob")
            server.to_all().emit("end")
            heard = []
            for peer in (first, second, third):
                told = []
                while (event := (await reads(peer))["event"]) != "end":
                    told.append(event)
                heard.append(told)
            assert sorted(heard[0] + heard[1]) == ["mail", "mail", "once"] and heard[2] == ["once", "only-bob"]
            server.to("r").except_(b).clear()
            assert server.to("r").members() == [b]
            server.to("r", "s").clear()
            assert b.rooms == () and server.to("r").size == 0
            with pytest.raises(wsguard.InvalidArgument, match="only rooms"):
                server.to_all().clear()
            server.to_user("alice").close(4000, "out")
            for peer in (first, second):
                with pytest.raises(ConnectionClosed) as closed:
                    await peer.recv()
                assert closed.value.rcvd and closed.value.rcvd.code == 4000
            assert not a1.is_open and b.is_open
        with pytest.raises(TypeError):
            server.to_user(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="needs a room"):
            server.to()

    run(main)


def test_a_member_that_ends_while_a_room_is_cleared_keeps_nobody_in_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}))
        conns = await opened(server)
        async with server, client(server), client(server), client(server):
            gone, stays, left_out = [await conns.get() for _ in range(3)]
            for conn in (gone, stays, left_out):
                conn.join("r")
            gone.terminate()
            await gone.wait_closed()
            monkeypatch.setattr(wsguard.Audience, "members", lambda _: [gone, stays])
            server.to("r", "s").except_(left_out).clear()
            assert stays.rooms == () and left_out.rooms == ("r",)

    run(main)


def test_an_empty_audience_refuses_what_a_full_one_refuses(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}))
        conns = await opened(server)
        async with server, client(server):
            conn = await conns.get()
            conn.join("full")
            for name in ("", "é" * 129):
                with pytest.raises(wsguard.InvalidArgument, match="room must be 1 to 256 bytes"):
                    server.to("full", name)
                with pytest.raises(wsguard.InvalidArgument, match="room must be 1 to 256 bytes"):
                    conn.join(name)
            conn.join("é" * 128)
            assert server.to("é" * 128).size == 1
            for audience in (server.to("none"), server.to("full"), server.to_user("nobody"), server.to_all()):
                for wrong in (99, 0, 1005, 1006, 1015, 2999, 5000, -1, 1 << 70):
                    with pytest.raises(wsguard.InvalidArgument, match="close code must be"):
                        audience.close(wrong)
                with pytest.raises(wsguard.InvalidArgument, match="reason must be at most 123 bytes"):
                    audience.close(1000, "é" * 62)
                for kind in ("1000", 1000.0, True):
                    with pytest.raises(TypeError, match="code must be an int"):
                        audience.close(kind)  # type: ignore[arg-type]
                with pytest.raises(TypeError):
                    audience.close(1000, 5)  # type: ignore[arg-type]
            assert conn.is_open
            server.to("none").close(4000)

    run(main)


def test_a_call_is_answered(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"confirm": {}, "go": {}}, rate_limit=None))
        heard: list[Any] = []
        conns = await opened(server)
        server.on_message(lambda conn, message: heard.append((message.event, message.id, message.status)))

        @server.on("go")
        async def go(conn: Connection, data: Any) -> None:
            # The answer does not wait for the handler that waits for it.
            conn.reply("went", await conn.call("confirm", {"sure": True}))

        async with server, client(server) as peer, client(server) as other:
            conn = await conns.get()
            await conns.get()
            await peer.send('{"event":"go","id":7}')
            asked = await reads(peer)
            assert asked == {"event": "confirm", "data": {"sure": True}, "id": "s1"}
            # Neither another connection, nor another id, nor a message without a status answers it.
            answer = {"event": "confirm", "id": asked["id"], "status": "ok", "data": "yes"}
            await other.send(json.dumps(answer))
            await peer.send(json.dumps({**answer, "id": "s2"}))
            await peer.send(json.dumps({"event": "confirm", "id": asked["id"]}))
            await peer.send(json.dumps(answer))
            assert await reads(peer) == {"event": "went", "data": "yes", "status": "ok", "id": 7}
            # A second answer is dropped.
            await peer.send(json.dumps(answer))
            calling = asyncio.create_task(conn.call("confirm"))
            asked = await reads(peer)
            await peer.send(json.dumps({**answer, "id": asked["id"], "status": "error", "data": {"no": 1}}))
            with pytest.raises(wsguard.CallRefused) as refused:
                await calling
            assert (refused.value.code, refused.value.event, refused.value.data) == (
                "call_refused",
                "confirm",
                {"no": 1},
            )
            with pytest.raises(wsguard.CallTimeout, match="no answer to 'confirm' came within 10 ms") as late:
                await conn.call("confirm", timeout_ms=10)
            assert isinstance(late.value, TimeoutError) and late.value.code == "call_timeout"
            asked = await reads(peer)
            await peer.send(json.dumps({**answer, "id": asked["id"]}))
            # A call that is cancelled is forgotten, and one under way ends with the connection.
            calling = asyncio.create_task(conn.call("confirm"))
            await reads(peer)
            calling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await calling
            calling = asyncio.create_task(conn.call("confirm"))
            await reads(peer)
            await peer.close(4001)
            with pytest.raises(wsguard.ConnectionClosed) as closed:
                await calling
            assert closed.value.close_code == 4001
            with pytest.raises(wsguard.ConnectionClosed):
                await conn.call("confirm")
            assert sorted(heard, key=str) == sorted(
                [("confirm", "s1", "ok"), ("confirm", "s2", "ok"), ("confirm", "s1", None)], key=str
            )
            for wrong, error in [(-1, wsguard.InvalidArgument), (2**70, wsguard.InvalidArgument), ("1", TypeError)]:
                with pytest.raises(error):
                    await conn.call("confirm", timeout_ms=wrong)  # type: ignore[arg-type]

    run(main)


def test_calls_are_bounded() -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}))
        conns = await opened(server)
        async with server, client(server):
            conn = await conns.get()
            calls = [asyncio.create_task(conn.call("x", timeout_ms=60_000)) for _ in range(1025)]
            with pytest.raises(wsguard.UsageError) as refused:
                await calls[-1]
            assert refused.value.code == "too_many_calls"
            server.stop()
            for call in calls[:-1]:
                with pytest.raises(wsguard.ConnectionClosed):
                    await call

    asyncio.run(main())


def test_a_peer_is_not_asked_on_another_loop(run: Run) -> None:
    """The answer would be told on the server's: the call says so, and its peer hears nothing."""

    async def main() -> None:
        server = wsguard.Server(**options(events={"x": {}}))
        conns = await opened(server)
        async with server, client(server) as peer:
            conn = await conns.get()
            for asks in (lambda: conn.call("asked"), conn.ping):

                async def elsewhere(asks: Any = asks) -> str:
                    with pytest.raises(wsguard.UsageError, match="is awaited on the server's event loop") as refused:
                        await asks()
                    return refused.value.code

                assert await asyncio.to_thread(asyncio.run, elsewhere()) == "no_event_loop"
            conn.emit("next")
            assert (await reads(peer))["event"] == "next"
            loop = asyncio.get_running_loop()
            there = asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(conn.ping(), loop).result(10))
            assert await there > 0

    run(main)


def test_without_asyncio_nothing_can_be_awaited() -> None:
    server = wsguard.Server(**options(protocol="raw"))
    errors: list[str] = []

    @server.on_open
    def open(conn: Connection) -> None:
        for waits in (conn._begin_ping, lambda: conn._begin_call("x", None, True)):
            try:
                waits()
            except wsguard.Error as error:
                errors.append(error.code)
        server.stop()

    async def talk() -> None:
        with contextlib.suppress(ConnectionClosed, OSError, websockets.InvalidHandshake):
            async with client(server) as peer:
                await peer.recv()

    from conftest import run_beside

    run_beside(server, "native", talk())
    assert errors == ["no_event_loop", "invalid_argument"]


def test_ping_terminate_and_what_is_buffered(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        conns = await opened(server)
        ends: list[tuple[int, Any]] = []
        server.on_message(lambda conn, message: None)
        server.on_close(lambda conn, close: ends.append((close.code, close.verdict)))
        async with server:
            async with client(server) as peer:
                conn = await conns.get()
                first, second = await asyncio.gather(conn.ping(), conn.ping())
                assert 0 < first < 10_000 and 0 < second < 10_000
                assert conn.buffered_bytes == 0
                ponged: asyncio.Queue[Any] = asyncio.Queue()
                assert conn.ping_nowait(lambda conn, ms: ponged.put_nowait((conn, ms))) == "sent"
                told, ms = await ponged.get()
                assert told is conn and 0 < ms < 10_000
                with pytest.raises(TypeError, match="plain function"):

                    async def pong(conn: Connection, ms: float) -> None: ...

                    conn.ping_nowait(pong)
                conn.terminate()
                assert conn.ping_nowait(lambda conn, ms: None) == "closed"
                assert not conn.is_open and conn.send_nowait("x") == "closed"
                with pytest.raises(ConnectionClosed) as closed:
                    await peer.recv()
                assert closed.value.rcvd is None
                with pytest.raises(wsguard.ConnectionClosed):
                    await conn.ping()
                assert (await conn.wait_closed()).code == 1006
            async with client(server) as peer:
                conn = await conns.get()
                await peer.send(b"x" * 100_000)
                close = await conn.wait_closed()
                assert (close.code, close.verdict) == (1009, "message_too_big")
                assert conn.buffered_bytes == 0
        assert ends == [(1006, None), (1009, "message_too_big")]

    run(main)


def test_a_connection_has_close_handlers_of_its_own(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        order: list[str] = []
        late = asyncio.Event()
        server.on_message(lambda conn, message: None)

        @server.on_open
        def open(conn: Connection) -> None:
            @conn.on_close
            async def first(conn: Connection, close: Close) -> None:
                await asyncio.sleep(0.01)
                order.append(f"first {close.code}")

            conn.on_close(lambda conn, close: order.append("second"))

        @server.on_close
        def closed(conn: Connection, close: Close) -> None:
            order.append("server")

            @conn.on_close
            def after(conn: Connection, close: Close) -> None:
                order.append("late")
                late.set()

        async with server:
            async with client(server):
                pass
            await asyncio.wait_for(late.wait(), 10)
        assert order == ["first 1000", "second", "server", "late"]

    run(main)


def test_a_close_handler_takes_two_arguments() -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        conns = await opened(server)
        async with server, client(server):
            with pytest.raises(TypeError, match=r"conn\.on_close"):
                (await conns.get()).on_close(lambda conn: None)  # type: ignore[type-var]

    asyncio.run(main())


def test_no_message_is_handled_before_an_async_open_has_ended(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        order: list[str] = []

        @server.on_open
        async def open(conn: Connection) -> None:
            await asyncio.sleep(0.05)
            order.append("open")

        @server.on_message
        def message(conn: Connection, message: str) -> None:
            order.append(message)
            conn.send(message)

        async with server, client(server) as peer:
            await peer.send("x")
            await peer.recv()
        assert order == ["open", "x"]

    run(main)


def test_on_error_hears_what_handlers_raise(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth="callback"))
        heard: list[Any] = []

        @server.authenticate
        def authenticate(request: wsguard.Request) -> wsguard.Accept:
            if request.path == "/boom":
                raise KeyError("who")
            return wsguard.Accept("alice")

        @server.on_error
        def on_error(conn: Connection | None, error: Exception, event: str | None) -> None:
            heard.append((conn and conn.user, repr(error), event))
            if conn is not None:
                conn.reply_error("failed", type(error).__name__)
            raise RuntimeError("a hook that fails fails alone")

        @server.on("plain")
        def plain(conn: Connection, data: Any) -> None:
            raise ValueError("plain")

        @server.on("later")
        async def later(conn: Connection, data: Any) -> None:
            await asyncio.sleep(0)
            raise ValueError("later")

        async with server:
            with pytest.raises(InvalidStatus):
                async with client(server, "/boom"):
                    pass
            for event in ("plain", "later"):
                async with client(server) as peer:
                    await peer.send(json.dumps({"event": event, "id": 1}))
                    told = await reads(peer)
                    assert (told["status"], told["data"]) == ("error", "ValueError")
                    with pytest.raises(ConnectionClosed) as closed:
                        await peer.recv()
                    assert closed.value.rcvd and closed.value.rcvd.code == 1011
        assert heard == [
            (None, "KeyError('who')", None),
            ("alice", "ValueError('plain')", "plain"),
            ("alice", "ValueError('later')", "later"),
        ]

    run(main)


def test_middleware_is_around_every_handler(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"rest": {}}))
        order: list[Any] = []

        @server.middleware
        async def outer(call: Call, next: Any) -> None:
            order.append((call.kind, call.event))
            try:
                await next()
            except PermissionError:
                call.conn.reply_error("denied")

        @server.middleware
        async def inner(call: Call, next: Any) -> Any:
            if call.data == "secret":
                raise PermissionError
            if call.event == "say":
                call.data = call.data.upper()
            return await next()

        @server.on("say")
        def say(conn: Connection, data: str) -> None:
            conn.reply("said", data)

        @server.on("later")
        async def later(conn: Connection, data: str) -> None:
            await asyncio.sleep(0)
            conn.reply("said", data)

        server.on_open(lambda conn: order.append("opened"))
        server.on_message(lambda conn, message: conn.reply(message.event))
        server.on_close(lambda conn, close: order.append("closed"))
        async with server, client(server) as peer:
            for event, data, told in [
                ("say", "x", "X"),
                ("later", "x", "x"),
                ("rest", None, None),
                ("say", "secret", None),
            ]:
                await peer.send(json.dumps({"event": event, "data": data}))
                assert (await reads(peer))["data"] == told
        said = [("message", event) for event in ("say", "later", "rest", "say")]
        assert order == [("open", None), "opened", *said, ("close", None), "closed"]

    run(main)


def test_plain_middleware_is_around_plain_handlers() -> None:
    server = wsguard.Server(**options())
    seen: list[Any] = []

    @server.middleware
    def plain(call: Call, next: Any) -> Any:
        seen.append(call.event)
        return next()

    server.on("a")(lambda conn, data: conn.reply("a"))

    async def talk() -> None:
        async with client(server) as peer:
            await peer.send('{"event":"a"}')
            assert (await reads(peer))["event"] == "a"
        server.stop()

    from conftest import run_beside

    run_beside(server, "native", talk())
    assert seen == ["a"]

    @server.on("b")
    async def b(conn: Connection, data: Any) -> None:
        pass

    with pytest.raises(TypeError, match=r"plain is around .*b, which is a coroutine: use async def"):
        asyncio.run(server.start())
    with pytest.raises(TypeError, match=r"@server\.middleware"):
        server.middleware(lambda call: None)  # type: ignore[type-var]


def test_accept_and_reject_say_more(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth="callback", subprotocols=["a", "b"], events={"x": {}}))

        @server.authenticate
        async def authenticate(request: wsguard.Request) -> Any:
            if request.path == "/no":
                return wsguard.Reject(418, headers={"X-Reason": "teapot"}, body="short and stout")
            if request.path == "/bad":
                return wsguard.Accept("x", headers={"Connection": "close"})
            return wsguard.Accept("x", subprotocol="b", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])

        async with server:
            async with client(server, subprotocols=["a", "b"]) as peer:
                assert peer.subprotocol == "b" and peer.response
                assert peer.response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
            for path, status in (("/no", 418), ("/bad", 503)):
                with pytest.raises(InvalidStatus) as refused:
                    async with client(server, path):
                        pass
                response = refused.value.response
                assert response.status_code == status
                if status == 418:
                    assert response.headers["X-Reason"] == "teapot" and response.body == b"short and stout"

    run(main)
    reject = wsguard.Reject(302, headers=[("Location", "/")], body=b"x")
    assert (reject.headers, reject.body) == ([("Location", "/")], b"x") and reject != wsguard.Reject(302)
    for status in (200, 600, -1, 2**70, -(2**70)):
        with pytest.raises(ValueError, match="must be 300 to 599"):
            wsguard.Reject(status)
    for wrong in ("x", 5, [("a",)], {"a": 1}):
        with pytest.raises(TypeError):
            wsguard.Accept("x", headers=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wsguard.Reject(headers=wrong)  # type: ignore[arg-type]


def test_an_authenticate_is_cancelled_when_its_peer_leaves(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth="callback", auth_timeout_ms=60_000, handshake_timeout_ms=60_000))
        asked, gone = asyncio.Event(), asyncio.Event()

        @server.authenticate
        async def authenticate(request: wsguard.Request) -> wsguard.Accept:
            asked.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                gone.set()
                raise
            return wsguard.Accept("x")

        async with server:
            host, port = server.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await asked.wait()
            writer.transport.abort()
            await asyncio.wait_for(gone.wait(), 5)

    run(main)


@pytest.mark.parametrize("asked", ["ping", "call"])
def test_an_answer_behind_many_messages_is_found(run: Run, asked: str) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(rate_limit=None, events={"answer": {}}))
        full = asyncio.Event()
        found: list[Any] = []

        @server.on("go")
        async def go(conn: Connection, data: Any) -> None:
            await full.wait()
            found.append(await (conn.ping(timeout_ms=8000) if asked == "ping" else conn.call("x", timeout_ms=8000)))

        server.on("fill")(lambda conn, data: None)
        server.on("answer")(lambda conn, data: None)
        async with server, client(server) as peer:
            await peer.send('{"event":"go","data":1}')
            for _ in range(150):
                await peer.send('{"event":"fill"}')
            # The connection is not read any more: 64 wait for the handler of the first.
            while server.stats()["messages_in"] < 65:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            full.set()
            if asked == "call":
                question = json.loads(await peer.recv())
                await peer.send(json.dumps({"event": "answer", "id": question["id"], "status": "ok", "data": 7}))
            while not found:
                await asyncio.sleep(0.001)

    run(main)


def test_a_ping_without_a_pong_ends(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw"))
        conns = await opened(server)
        async with server:
            reader, writer = await asyncio.open_connection(*server.address.split(":"))
            key = "dGhlIHNhbXBsZSBub25jZQ=="
            writer.write(
                f"GET / HTTP/1.1\r\nHost: {server.address}\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            await reader.readuntil(b"\r\n\r\n")
            conn = await conns.get()
            with pytest.raises(wsguard.CallTimeout, match="no answer to a ping came within 20 ms"):
                await conn.ping(timeout_ms=20)
            for wrong in (-1, -(2**70), 2**70):
                with pytest.raises(wsguard.InvalidArgument):
                    await conn.ping(timeout_ms=wrong)
            writer.close()
            await writer.wait_closed()

    run(main)
