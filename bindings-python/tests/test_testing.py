"""The kit for applications: `wsguard.testing`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wsguard
from conftest import Run, options
from wsguard import Connection, testing
from wsguard.testing import (
    Ended,
    FakeConnection,
    Refused,
    SyncClient,
    connect,
    connect_sync,
    running,
    serving,
)

TOKENS: Any = {
    "tokens": [{"token": "t-alice", "user": "alice", "roles": ["admin"]}, {"sha256": "0" * 64, "user": "bob"}]
}


def chat(**more: Any) -> wsguard.Server:
    policy = {"listen": "127.0.0.1:1", "origins": ["https://*.example.com"], "auth": TOKENS, "threads": 1}
    server = wsguard.Server(**{**policy, **more})

    @server.on("say")
    def say(conn: Connection, data: Any) -> None:
        conn.emit("other")
        conn.reply("said", [conn.user, data])

    @server.on("ask")
    async def ask(conn: Connection, data: Any) -> None:
        try:
            conn.emit("told", await conn.call("ask", data))
        except wsguard.CallRefused as refused:
            conn.emit("told", f"refused: {refused.data}")

    @server.on("bye")
    def bye(conn: Connection, data: Any) -> None:
        conn.close(4000, "bye")

    return server


def test_a_client(run: Run) -> None:
    async def main() -> None:
        server = chat(subprotocols=["a"])
        async with serving(server), connect(server, user="alice", subprotocols=["a"]) as alice:
            assert alice.subprotocol == "a" and alice.headers["upgrade"].lower() == "websocket"
            await alice.emit("say", "x")
            # Another event does not stand in the way, and stays.
            assert (await alice.expect("said")).data == ["alice", "x"]
            assert await alice.expect("other")
            said = await alice.request("say", "é" * 200)
            assert said.data == ["alice", "é" * 200] and said.status == "ok"
            await alice.expect("other")
            await alice.emit("ask", 5)
            asked = await alice.expect("ask")
            assert asked.status is None and asked.data == 5
            await alice.answer(asked, 6)
            assert (await alice.expect("told")).data == 6
            await alice.emit("ask")
            await alice.answer(await alice.expect("ask"), "no", status="error")
            assert (await alice.expect("told")).data == "refused: no"
            await alice.expect_nothing()
            await alice.emit("say", 1)
            with pytest.raises(TimeoutError, match=r"'never' did not come within 50 ms; what came: .*other.*said"):
                await alice.expect("never", timeout_ms=50)
            with pytest.raises(AssertionError, match="nothing was expected"):
                await alice.expect_nothing(for_ms=1)
            await alice.emit("bye")
            ended = await alice.closed()
            assert (ended.code, ended.reason) == (4000, "bye")
            for late in (alice.expect("never"), alice.emit("say")):
                with pytest.raises(Ended, match="4000"):
                    await late
        assert server._events.own_options["listen"] == "127.0.0.1:1"

    run(main)


def test_a_raw_client_and_long_messages(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(protocol="raw", max_message_bytes=200_000, rate_limit=None))
        server.on_message(lambda conn, message: conn.send(message))
        async with serving(server), connect(server) as peer:
            for message in ("é", b"\0", "x" * 125, b"x" * 126, "x" * 65_536, b"", ""):
                await peer.send(message)
                assert await peer.recv() == message
            with pytest.raises(ValueError, match="no envelope"):
                await peer.send("x")
                await peer.expect("x")
            assert (await peer.close(4001, "done")).code == 4001

    run(main)


def test_who_is_refused(run: Run) -> None:
    async def main() -> None:
        server = chat()
        async with serving(server):
            refusals: list[tuple[dict[str, Any], int]] = [
                ({}, 401),
                ({"token": "x"}, 401),
                ({"user": "alice", "origin": "https://evil.example"}, 403),
            ]
            for more, status in refusals:
                with pytest.raises(Refused) as refused:
                    async with connect(server, **more):
                        pass
                assert refused.value.status == status and refused.value.body
            wrongs: list[tuple[dict[str, Any], str]] = [
                ({"user": "bob"}, "only the sha256"),
                ({"user": "eve"}, "no token of 'eve'"),
                ({"user": "alice", "token": "x"}, "either user= or token="),
                ({"headers": {"X": "a\r\nY: b"}}, "line end"),
            ]
            for more, what in wrongs:
                with pytest.raises(ValueError, match=what):
                    async with connect(server, **more):
                        pass
        with pytest.raises(wsguard.UsageError):
            async with connect(wsguard.Server(**options())):
                pass

    run(main)


@pytest.mark.parametrize("source", ["bearer", "header:x-key", "cookie:sid", "query:t", "subprotocol"])
def test_every_source_of_a_token(source: str) -> None:
    server = chat(token_sources=[source])
    with running(server), connect_sync(server, "/?x=1", user="alice") as alice:
        assert alice.request("say").data == ["alice", None]


JWT = {"algorithms": ["HS384"], "key": "k" * 48, "issuer": "me", "audience": ["a", "b"], "roles_claim": "r"}


@pytest.mark.parametrize("jwt", [JWT, {"algorithms": ["HS256"], "keys": {"k1": "k" * 32}, "user_claim": "name"}])
def test_a_json_web_token(jwt: Any) -> None:
    server = chat(auth={"jwt": jwt})
    with running(server), connect_sync(server, user="carol") as carol:
        assert carol.request("say").data == ["carol", None]


def test_a_token_that_cannot_be_made() -> None:
    public = {
        "algorithms": ["EdDSA"],
        "key": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    }
    callback = wsguard.Server(origins=["https://a.example"])
    callback.authenticate(lambda request: wsguard.Accept("x"))
    for server, what in [
        (callback, "authenticate decides"),
        (chat(auth="none"), "auth is 'none'"),
        (chat(auth={"jwt": public}), "no secret of HS256"),
        (chat(auth={"jwt": {"algorithms": ["HS256"], "key": "k" * 32}}), "no roles_claim"),
    ]:
        with pytest.raises(ValueError, match=what):
            testing.token_of(server, user="x", roles=["a"])
    route: Any = {"/admin/{x}": {"auth": {"tokens": [{"token": "t-root", "user": "root"}]}}}
    assert testing.token_of(chat(routes=route), user="root", path="/admin/1?y") == "t-root"


def test_headers_for_authenticate() -> None:
    server = wsguard.Server(origins=["https://a.example"])

    @server.authenticate
    def authenticate(request: wsguard.Request) -> wsguard.Accept | wsguard.Reject:
        return wsguard.Accept("x") if request.headers.get("x-key") == "k" else wsguard.Reject(402, body="pay")

    server.on("a")(lambda conn, data: conn.reply("a", conn.user))
    with running(server):
        with connect_sync(server, headers={"X-Key": "k"}) as peer:
            assert peer.request("a").data == "x"
        with pytest.raises(Refused) as refused, connect_sync(server):
            pass
        assert (refused.value.status, refused.value.body) == (402, b"pay")


def test_a_blocking_client() -> None:
    server = chat()
    with running(server):
        with connect_sync(server, user="alice") as alice:
            assert alice.request("say", 1).data == ["alice", 1]
            assert alice.expect("other").event == "other"
            alice.expect_nothing()
            alice.emit("ask", 5)
            alice.answer(alice.expect("ask"), 7)
            assert alice.expect("told").data == 7
            with pytest.raises(TimeoutError, match="'never' did not come"):
                alice.expect("never", timeout_ms=20)
            alice.emit("bye")
            with pytest.raises(Ended):
                alice.recv()
            assert alice.closed().code == 4000
        with connect_sync(server, user="alice") as alice:
            alice.drop()
    with running(server), connect_sync(server, user="alice") as alice:
        assert alice.close().code == 1000


def test_a_server_that_cannot_start() -> None:
    server = wsguard.Server(origins=["https://a.example"])
    with pytest.raises(wsguard.ConfigError, match="auth"), running(server):
        pass


def test_the_fixture(wsguard_connect: Callable[..., SyncClient]) -> None:
    server = chat()
    alice, again = wsguard_connect(server, user="alice"), wsguard_connect(server, user="alice")
    for peer in (alice, again):
        assert peer.request("say").data == ["alice", None]


def test_the_fixture_is_there_without_an_import(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text(
        "import wsguard\n"
        "def test_chat(wsguard_connect):\n"
        "    server = wsguard.Server(origins=['https://a.example'], auth='none')\n"
        "    server.on('a')(lambda conn, data: conn.reply('a', data))\n"
        "    assert wsguard_connect(server).request('a', 1).data == 1\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert ended.returncode == 0 and "100%" in ended.stdout, ended.stdout + ended.stderr


def test_what_handlers_get() -> None:
    request = testing.request(
        "/r/1", query="a=1", headers={"Cookie": "sid=1", "X-Key": "k"}, params={"n": "1"}, token="t"
    )
    assert (request.path, request.query, request.token, request.method) == ("/r/1", "a=1", "t", "GET")
    assert request.cookies == {"sid": "1"} and request.headers["x-key"] == "k" and request.params == {"n": "1"}
    message = testing.message("a", {"x": 1}, id=5, status="ok", size_bytes=9)
    assert (message.event, message.data, message.id, message.status, message.size_bytes) == ("a", {"x": 1}, 5, "ok", 9)
    close = testing.close(1008, "banned", clean=False, verdict="banned")
    assert (close.code, close.reason, close.clean, close.verdict) == (1008, "banned", False, "banned")
    before, after = testing.violation("origin_denied"), testing.violation("rate_limited", conn_id="1", detail="x")
    assert (before.http_status, before.close_code) == (403, None)
    assert (after.http_status, after.close_code, after.detail, after.conn) == (None, 1008, "x", None)
    for wrong in (
        lambda: testing.request(ip="x"),
        lambda: testing.close(verdict="nothing"),  # type: ignore[arg-type]
        lambda: testing.violation("nothing"),  # type: ignore[arg-type]
        lambda: testing.message("a", status="x"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError):
            wrong()


def test_a_connection_without_a_server() -> None:
    conn = FakeConnection(user="alice", query="a=1", headers={"X": "1"}, answers={"sure": True, "no": KeyError("x")})
    ended: list[int] = []
    conn.on_close(lambda conn, close: ended.append(close.code))

    async def handler() -> None:
        await conn.emit("a", (1, 2))
        await conn.reply("b", {"x": 1})
        await conn.reply_error("c")
        conn.send_nowait(b"raw")
        assert await conn.call("sure") is True and await conn.ping() == 0.0
        with pytest.raises(KeyError):
            await conn.call("no")
        with pytest.raises(TypeError, match="JSON"):
            conn.emit("a", object())

    asyncio.run(handler())
    assert conn.sent[:4] == [("a", [1, 2], "ok"), ("b", {"x": 1}, "ok"), ("c", None, "error"), b"raw"]
    assert conn.query["a"] == "1" and conn.headers["x"] == "1"
    conn.join("r")
    assert conn.rooms == ("r",)
    conn.close(4000)
    conn.close()
    assert not conn.is_open and ended == [4000] and not conn.rooms and conn.emit_nowait("a") == "closed"
    with pytest.raises(wsguard.ConnectionClosed):
        conn.emit("a")


def public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} | {"__aiter__", "__anext__", "__class_getitem__"}


def test_a_fake_has_all_that_a_connection_has() -> None:
    conn = FakeConnection()
    known = public(wsguard.Connection)
    assert known - {"__class_getitem__"} <= {*dir(conn)} and public(conn) - known == {"sent"}
    for name in sorted(known):
        real = getattr(wsguard.Connection, name)
        if not callable(real) or name == "__class_getitem__":
            continue
        taken = inspect.signature(getattr(FakeConnection, name)).parameters.values()
        ours = [(each.name, each.kind, each.default) for each in taken if each.name != "self"]
        asked = inspect.signature(real).parameters.values()
        theirs = [(each.name, each.kind, each.default) for each in asked if each.name != "self"]
        assert ours == theirs, name
    assert FakeConnection[int](data=5).data == 5


def test_a_fake_refuses_what_a_connection_refuses(run: Run) -> None:
    """Each of these calls has the same outcome on both."""

    async def late(conn: Any, close: Any) -> None: ...

    calls: list[Callable[[Any], Any]] = [
        lambda conn: conn.emit(5),
        lambda conn: conn.emit("a", {1, 2}),
        lambda conn: conn.emit("a", float("nan")),
        lambda conn: conn.emit(event="a"),
        lambda conn: conn.reply("a", 1, id="x"),
        lambda conn: conn.reply("a", 1, id=True),
        lambda conn: conn.reply_nowait("a", 1, id=1.5),
        lambda conn: conn.reply_error("a", 1, id=b"x"),
        lambda conn: conn.reply_error_nowait("a", 1, id=["x"]),
        lambda conn: conn.call("a", timeout_ms=-1),
        lambda conn: conn.call("a", timeout_ms="1"),
        lambda conn: conn.ping(timeout_ms=1.5),
        lambda conn: conn.ping_nowait(lambda conn: None),
        lambda conn: conn.ping_nowait(late),
        lambda conn: conn.on_close(lambda conn: None),
        lambda conn: conn.on_close(5),
        lambda conn: conn.join(""),
        lambda conn: conn.join("é" * 129),
        lambda conn: conn.join(5),
        lambda conn: [conn.join(f"{number}") for number in range(1025)],
        lambda conn: conn.leave(""),
        lambda conn: conn.leave("x"),
        lambda conn: conn.close("1000"),
        lambda conn: conn.close(True),
        lambda conn: conn.close(1000, "é" * 62),
        lambda conn: conn.close(1000, 5),
    ]
    at_the_end: list[Callable[[Any], Any]] = [
        lambda conn: conn.close(4000),
        lambda conn: conn.close(),
        lambda conn: conn.emit("a"),
        lambda conn: conn.emit_nowait("a"),
        lambda conn: conn.reply_error_nowait("a"),
        lambda conn: conn.join("x"),
        lambda conn: conn.leave("x"),
        lambda conn: conn.ping_nowait(lambda conn, ms: None),
        lambda conn: conn.on_close(late) is late,
        lambda conn: conn.rooms,
        lambda conn: (conn.is_open, conn.closed and conn.closed.code),
    ]

    async def outcome(call: Callable[[Any], Any], conn: Any) -> Any:
        try:
            found = call(conn)
        except Exception as error:
            return type(error)
        return found if isinstance(found, (str, bool, tuple)) else None

    async def main() -> None:
        server = chat()
        opened: asyncio.Queue[Any] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with testing.serving(server), testing.connect(server, user="alice"):
            conn, fake = await opened.get(), FakeConnection(user="alice")
            for number, call in enumerate(calls):
                assert await outcome(call, fake) == await outcome(call, conn), number
            for each in (conn, fake):
                each.close(4000)
                assert (await each.wait_closed()).code == 4000
            for code in (-1, *range(995, 1020), 2999, 3000, 4999, 5000, 1 << 16, 1 << 70):
                with contextlib.suppress(wsguard.InvalidArgument):
                    conn.close(code)
                    fake.close(code)
                    continue
                with pytest.raises(wsguard.InvalidArgument):
                    fake.close(code)
            for number, call in enumerate(at_the_end):
                assert await outcome(call, fake) == await outcome(call, conn), number
            with pytest.raises(wsguard.ConnectionClosed):
                await fake.ping()
            with pytest.raises(wsguard.ConnectionClosed):
                await fake.call("a")

    run(main)


def test_a_run_that_a_handler_ends_fails_its_test() -> None:
    server = chat()

    @server.on_open
    def leave(conn: Any) -> None:
        sys.exit("a slip")

    def talk() -> None:
        with testing.running(server), testing.connect_sync(server, user="alice") as alice:
            alice.closed()

    with pytest.raises(SystemExit, match="a slip"):
        talk()


def test_what_a_fake_receives() -> None:
    async def main() -> None:
        conn = FakeConnection(messages=[testing.message("a"), testing.message("b")])
        ended: list[int] = []

        @conn.on_close
        async def closed(conn: Any, close: wsguard.Close) -> None:
            ended.append(close.code)

        waiting = asyncio.create_task(conn.wait_closed())
        assert (await conn.recv()).event == "a"
        assert [message.event async for message in conn] == ["b"]
        assert (await waiting).code == 1001 and ended == [1001]
        with pytest.raises(wsguard.ConnectionClosed):
            await conn.recv()
        with pytest.raises(KeyError, match="has none for 'a'"):
            await FakeConnection().call("a")
        async with asyncio.timeout(1) if sys.version_info >= (3, 11) else contextlib.nullcontext():
            await asyncio.create_task(FakeConnection().emit("a"))

    asyncio.run(main())


def test_a_server_that_was_moved_reloads(run: Run) -> None:
    async def main() -> None:
        stated: Any = {"listen": "127.0.0.1:9", "origins": ["https://app.example"], "auth": "none", "protocol": "raw"}
        server = wsguard.Server(stated)
        async with testing.serving(server):
            assert server.reload(stated, max_message_bytes=100) == 2

    run(main)


@pytest.mark.parametrize(
    "more",
    [
        {"hosts": ["api.example.com", "b.example"]},
        {"hosts": ["api.example.com:8443"]},
        {"listen": "unix:/run/app.sock", "trusted_proxies": ["unix"]},
        {"listen": "0.0.0.0:443", "trusted_proxies": ["unix", "10.0.0.0/8"]},
        {"listen": "0.0.0.0:443", "trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True},
    ],
    ids=str,
)
def test_a_client_of_a_policy_of_production(more: Any) -> None:
    """What it says of the host and of proxies concerns the way to it, which a test does not take."""

    async def main() -> None:
        server = chat(**more)
        async with testing.serving(server), connect(server, user="alice") as alice:
            assert (await alice.request("say")).data == ["alice", None]

    asyncio.run(main())


def test_a_host_of_its_own() -> None:
    async def main() -> None:
        server = chat(hosts=["api.example.com", "b.example"])
        async with testing.serving(server), connect(server, user="alice", headers={"host": "b.example"}):
            pass
        async with testing.serving(server):
            with pytest.raises(Refused) as refused:
                async with connect(server, user="alice", headers={"Host": "c.example"}):
                    pass
            assert refused.value.status == 421

    asyncio.run(main())


def test_a_user_of_the_route_that_counts_for_a_path() -> None:
    """An exact path counts before a pattern, whichever is stated first; so does a literal segment."""
    auth: Any = {"tokens": [{"token": "t-root", "user": "root"}]}

    async def main() -> None:
        routes: Any = {"/{a}/{b}": {}, "/{a}/y": {"auth": auth}, "/{name}": {"auth": auth}, "/admin": {"auth": auth}}
        server = chat(routes=routes, paths=["/public"])
        async with testing.serving(server):
            for path, user in [("/admin", "root"), ("/x", "root"), ("/x/y", "root"), ("/x/z", "alice")]:
                async with connect(server, path, user=user) as peer:
                    assert (await peer.request("say")).data == [user, None]
            async with connect(server, "/public?a=1", user="alice"):
                pass

    asyncio.run(main())


def test_a_moved_server_of_a_file_reloads_it_unchanged(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        policy = tmp_path / "policy.json"
        stated = {"listen": "unix:/run/app.sock", "unix_mode": "0660", "origins": ["https://app.example"]}
        stated.update(auth="none", protocol="raw", admin_listen="127.0.0.1:9464")
        policy.write_text(json.dumps(stated))
        server = wsguard.Server.from_file(policy)
        async with testing.serving(server):
            with pytest.raises(wsguard.UsageError):
                async with testing.serving(server):
                    pass
            assert server.reload() == 2
            policy.write_text(json.dumps({**stated, "threads": 5}))
            with pytest.raises(wsguard.ConfigError, match="threads"):
                server.reload()
        # It has moved for the time of the test only.
        assert server._options_to_start() == stated

    run(main)


def test_a_fake_calls_its_close_handlers_in_the_order_of_a_connection() -> None:
    conn = testing.FakeConnection()
    order: list[str] = []

    @conn.on_close
    def first(conn: Any, close: wsguard.Close) -> None:
        conn.on_close(lambda conn, close: order.append("third"))
        order.append("first")

    conn.on_close(lambda conn, close: order.append("second"))
    conn.close()
    conn.on_close(lambda conn, close: conn.on_close(lambda conn, close: order.append("last")))
    assert order == ["first", "second", "third", "last"]


COMPRESSING: Any = {"compression": {"threshold_bytes": 0}}


def test_a_client_that_offers_compression_talks_compressed() -> None:
    words = "again and again, " * 100
    server = chat(**COMPRESSING)
    with running(server), connect_sync(server, user="alice", compression=True) as alice:
        assert alice.compressed
        for data in (words, "ü" * 5000):
            assert alice.request("say", data).data == ["alice", data]
        with connect_sync(server, user="alice") as plain:
            assert not plain.compressed
            assert plain.request("say", words).data == ["alice", words]
        stats = server.stats()
        assert (stats["messages_compressed_in"], stats["messages_compressed_out"]) == (2, 2)
    plain_server = chat()
    with running(plain_server), connect_sync(plain_server, user="alice", compression=True) as alice:
        assert not alice.compressed
        assert alice.request("say", words).data == ["alice", words]


def test_raw_messages_are_compressed_as_they_are() -> None:
    async def body() -> None:
        server = wsguard.Server(**{**options(), "protocol": "raw", **COMPRESSING})

        @server.on_message
        def echo(conn: Connection, message: Any) -> None:
            conn.send(message)

        async with serving(server), connect(server, compression=True) as peer:
            assert peer.compressed
            for message in ("", b"", "x" * 60_000, bytes(range(256)) * 10, b"\0" * 65_536):
                await peer.send(message)
                assert await peer.recv() == message

    asyncio.run(body())
