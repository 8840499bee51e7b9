"""What an operator does with a server that runs: other options, bans, routes, roles, numbers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pydantic
import pytest
import wsguard
from conftest import Run, client, options
from process import succeeds
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wsguard import ConfigError, Connection, _operation, testing
from wsguard._contract import options_text


class Move(pydantic.BaseModel):
    x: int


class Kick(pydantic.BaseModel):
    name: str


async def said(peer: Any, event: str, data: Any = None) -> Any:
    await peer.send(json.dumps({"event": event, "data": data}))
    return json.loads(await peer.recv())


TOKENS: Any = {
    "tokens": [
        {"token": "t-alice", "user": "alice", "roles": ["admin", "staff"]},
        {"token": "t-bob", "user": "bob"},
    ]
}


def bearer(name: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer t-{name}"}}


def test_roles_decide_who_may_send_an_event(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth=TOKENS))

        @server.on("kick", schema=Kick, roles=["admin"], cost=0.5)
        def kick(conn: Connection, data: Kick) -> None:
            conn.reply("kicked", {"name": data.name, "by": conn.roles})

        async with server:
            async with client(server, **bearer("alice")) as alice:
                told = await said(alice, "kick", {"name": "eve"})
                assert told["data"] == {"name": "eve", "by": ["admin", "staff"]}
            async with client(server, **bearer("bob")) as bob:
                with pytest.raises(ConnectionClosed) as closed:
                    await said(bob, "kick", {"name": "eve"})
                assert closed.value.rcvd and closed.value.rcvd.code == 1008
            assert server.stats()["verdicts"]["event_denied"] == 1

    run(main)


def test_accept_gives_roles() -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth="callback", events={"who": {}}))

        @server.authenticate
        def authenticate(request: wsguard.Request) -> wsguard.Accept:
            return wsguard.Accept("root", roles=["admin", "admin", "staff"])

        server.on("who")(lambda conn, data: conn.reply("who", [conn.user, conn.roles]))
        async with server, client(server) as peer:
            assert (await said(peer, "who"))["data"] == ["root", ["admin", "staff"]]

    asyncio.run(main())


def test_a_reload_may_leave_authenticate_without_work() -> None:
    async def main() -> None:
        stated = options(events={"who": {}})
        del stated["auth"]
        server = wsguard.Server(**stated)
        server.authenticate(lambda request: wsguard.Accept("asked"))
        server.on("who")(lambda conn, data: conn.reply("who", conn.user))
        async with server:
            server.reload(**{**stated, "auth": TOKENS})
            async with client(server, **bearer("bob")) as peer:
                assert (await said(peer, "who"))["data"] == "bob"
            server.reload(**stated)
            async with client(server) as peer:
                assert (await said(peer, "who"))["data"] == "asked"

    asyncio.run(main())


def test_a_reload_may_give_authenticate_work_that_came_while_the_server_runs() -> None:
    async def main() -> None:
        stated = options(events={"who": {}})
        server = wsguard.Server(**stated)
        server.on("who")(lambda conn, data: conn.reply("who", conn.user))
        async with server:
            asks = {**stated, "auth": "callback"}
            with pytest.raises(ConfigError, match=r"needs @server\.authenticate"):
                server.reload(**asks)

            @server.authenticate
            async def authenticate(request: wsguard.Request) -> wsguard.Accept:
                return wsguard.Accept("asked")

            with pytest.raises(wsguard.UsageError) as refused:
                server.authenticate(authenticate)
            assert refused.value.code == "already_started"
            # Nobody is asked before a policy says so.
            async with client(server) as peer:
                assert (await said(peer, "who"))["data"] is None
            server.reload(**asks)
            async with client(server) as peer:
                assert (await said(peer, "who"))["data"] == "asked"

    asyncio.run(main())


def test_roles_that_are_none() -> None:
    assert wsguard.Accept("x", roles={"a"}).roles == ("a",)
    assert wsguard.Accept.anonymous(roles=("a",)) != wsguard.Accept.anonymous()
    with pytest.raises(TypeError, match="roles must be a list of str, not str"):
        wsguard.Accept("x", roles="admin")
    with pytest.raises(wsguard.InvalidArgument, match="roles: must be 1 to 64 bytes"):
        wsguard.Accept("x", roles=["a b"])
    with pytest.raises(TypeError):
        wsguard.Accept("x", roles=[1])  # type: ignore[list-item]


def test_a_reload_by_a_handler_counts_from_the_next_batch_on(run: Run) -> None:
    """What was received together was judged by the policy before, and is handled by what was there before."""

    async def main() -> None:
        before: Any = {"/{name}": {"events": {"move": {}, "change": {}}}}
        after: Any = {**before, "/a": {"events": {"move": {"schema": Move}, "change": {}}}}
        server = wsguard.Server(**options(routes=before))

        @server.on("move")
        def move(conn: Connection, data: Any) -> None:
            conn.reply("moved", type(data).__name__)

        @server.on("change")
        def change(conn: Connection, data: Any) -> None:
            while server.stats()["messages_in"] < 21:
                time.sleep(0.001)
            conn.reply("changed", server.reload(options(routes=after)))

        async with server, testing.connect(server, "/a") as peer:
            # In one segment, so that they come in one batch, or in two.
            for event in ("change", *["move"] * 20):
                peer._wire.send_message(json.dumps({"event": event, "data": {"x": 1}}))
            await peer._flush()
            assert (await peer.expect("changed")).data == 2
            kinds = [(await peer.expect("moved")).data for _ in range(20)]
            # None is lost; from some message on they are handled as after the reload.
            assert kinds == sorted(kinds, reverse=True) and {*kinds} <= {"dict", "Move"}
            assert (await peer.request("move", {"x": 1})).data == "Move"

    run(main)


def test_a_route_may_have_the_other_protocol(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"say": {}}, routes={"/raw": {"protocol": "raw"}}, paths=["/"]))

        @server.on("say")
        def say(conn: Connection, data: Any) -> None:
            conn.reply("said", data)
            with pytest.raises(wsguard.InvalidArgument, match='this connection is "json": use emit'):
                conn.send_nowait("x")

        @server.on_message
        def echo(conn: Connection, message: Any) -> None:
            conn.send_nowait(message)
            with pytest.raises(wsguard.InvalidArgument, match='this connection is "raw": use send'):
                conn.emit_nowait("said", 1)

        async with server:
            async with client(server, "/raw") as peer:
                await peer.send("hello")
                assert await peer.recv() == "hello"
                await peer.send(b"\x00")
                assert await peer.recv() == b"\x00"
            async with client(server, "/") as peer:
                assert (await said(peer, "say", 1))["data"] == 1
                assert (await said(peer, "say", 2))["data"] == 2

    run(main)


def test_a_route_has_events_models_and_parameters_of_its_own(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(
            **options(
                routes={
                    "/room/{name}": {"events": {"move": {"schema": Kick}, "only": {}}},
                    "/admin": {"auth": TOKENS},
                    "/plain": {},
                }
            )
        )

        server.event("move", schema=Move)

        @server.on("move")
        def move(conn: Connection, data: Any) -> None:
            conn.reply("moved", [data, conn.route, conn.params])

        @server.on("only")
        def only(conn: Connection, data: Any) -> None:
            conn.reply("only", conn.path)

        @server.on("kick", route="/admin", schema=Kick)
        def kick(conn: Connection, data: Kick) -> None:
            conn.reply("kicked", [type(data).__name__, conn.user])

        server.on_open(lambda conn: None)
        async with server:
            async with client(server, "/room/a%20b") as peer:
                # Its schema and its model are the route's.
                told = await said(peer, "move", {"name": "x"})
                assert told["data"] == [{"name": "x"}, "/room/{name}", {"name": "a b"}]
                assert (await said(peer, "only"))["data"] == "/room/a%20b"
                with pytest.raises(ConnectionClosed):
                    await said(peer, "kick", {"name": "x"})
            async with client(server, "/admin", **bearer("alice")) as peer:
                assert (await said(peer, "kick", {"name": "x"}))["data"] == ["Kick", "alice"]
                with pytest.raises(ConnectionClosed):
                    await said(peer, "move", {"x": 1})
            async with client(server, "/plain") as peer:
                assert (await said(peer, "move", {"x": 1}))["data"] == [{"x": 1}, "/plain", {}]
                with pytest.raises(ConnectionClosed):
                    # Only routes state it: a handler does not let every path send it.
                    await said(peer, "only")
            with pytest.raises(InvalidStatus):
                async with client(server, "/"):
                    pass

    run(main)


class Even(pydantic.BaseModel):
    x: int

    @pydantic.field_validator("x")
    @classmethod
    def _even(cls, x: int) -> int:
        if x % 2:
            raise ValueError("odd")
        return x


def test_a_route_that_only_reports_keeps_what_its_model_refuses(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(routes={"/strict": {}, "/mild": {"on_violation": "report"}}))

        @server.on("move", schema=Even)
        def move(conn: Connection, data: Even) -> None:
            conn.reply("moved", data.x)

        async with server:
            async with client(server, "/mild") as peer:
                await peer.send('{"event":"move","data":{"x":1}}')
                assert (await said(peer, "move", {"x": 2}))["data"] == 2
            async with client(server, "/strict") as peer:
                with pytest.raises(ConnectionClosed):
                    await said(peer, "move", {"x": 1})

    run(main)


def test_what_a_model_refuses_is_answered_where_the_event_says_so(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())

        @server.on("move", schema=Even, on_mismatch="reply")
        def move(conn: Connection, data: Even) -> None:
            conn.reply("moved", data.x)

        async with server, client(server) as peer:
            for wrong in ({"x": "x"}, {"x": 1}):
                await peer.send(json.dumps({"event": "move", "data": wrong, "id": 5}))
                told = json.loads(await peer.recv())
                assert (told["event"], told["status"], told["id"]) == ("move", "error", 5)
                assert told["data"]["code"] == "schema_mismatch"
            assert (await said(peer, "move", {"x": 2}))["data"] == 2
            assert server.stats()["verdicts"]["schema_mismatch"] == 2

    run(main)


@pytest.mark.parametrize(
    ("stated", "declared", "option"),
    [
        ({"routes": {"/a": {}}}, {"route": "/b"}, "routes./b"),
        ({"routes": {"/a": {"events": {"e": {}}}}}, {"cost": 1}, "events.e"),
        ({"routes": {"/a": {"events": {"e": {"cost": 1}}}}}, {"route": "/a", "cost": 2}, "routes./a.events.e.cost"),
        ({"routes": {"/a": {"events": {}}}}, {"route": "/a", "schema": {"type": 5}}, "routes./a.events.e.schema"),
        ({}, {"roles": ["a b"]}, "events.e.roles"),
        ({}, {"on_mismatch": "answer"}, "events.e.on_mismatch"),
    ],
)
def test_what_an_event_cannot_be(stated: Any, declared: Any, option: str) -> None:
    server = wsguard.Server(**options(**stated))
    with pytest.raises(ConfigError) as refused:
        server.on("e", **declared)
    assert refused.value.option.startswith(option), refused.value


def test_a_route_needs_no_credential_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"routes\./a\.auth\.jwt\.issuer: is None"):
        jwt = {"algorithms": ["HS256"], "key": "k" * 32, "issuer": None}
        wsguard.Server(**options(routes={"/a": {"auth": {"jwt": jwt}}}))
    server = wsguard.Server(**options(routes={"/a": {"auth": "callback"}}))
    with pytest.raises(ConfigError, match=r'routes\./a\.auth: "callback" needs @server.authenticate'):
        asyncio.run(server.start())


def test_reload_changes_what_is_open_and_what_comes(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth=TOKENS, events={"old": {}, "move": {"schema": {"type": "string"}}}))

        @server.on("free")
        def free(conn: Connection, data: object) -> None:
            conn.emit("free", data)

        @server.on("say", schema={"type": "string"})
        def say(conn: Connection, data: str) -> None:
            conn.reply("said", data)

        @server.on("move")
        def move(conn: Connection, data: Any) -> None:
            conn.reply("moved", data.x if isinstance(data, Move) else data)

        with pytest.raises(wsguard.UsageError) as early:
            server.reload(**options())
        assert early.value.code == "not_started"
        async with server, client(server, **bearer("alice")) as alice, client(server, **bearer("bob")) as bob:
            assert (await said(alice, "move", "x"))["data"] == "x"
            less: Any = {"tokens": TOKENS["tokens"][:1]}
            assert server.reload(**options(auth=less, events={"move": {"schema": Move}})) == 2
            with pytest.raises(ConnectionClosed) as closed:
                await bob.recv()
            assert closed.value.rcvd and closed.value.rcvd.reason == "session revoked"
            # The event has a model now; the decorator's is as it was.
            assert (await said(alice, "move", {"x": 1}))["data"] == 1
            assert (await said(alice, "say", "x"))["data"] == "x"
            # An error changes nothing.
            wrongs: list[tuple[dict[str, Any], str, str]] = [
                ({"listen": "127.0.0.1:1"}, "listen", "not_reloadable"),
                ({"origins": ["x"]}, "origins[0]", "invalid_option"),
                ({"auth": "callback"}, "auth", "contradiction"),
                ({"events": {"say": {"schema": True}}}, "events.say.schema", "contradiction"),
                ({"nothing": 1}, "nothing", "unknown_option"),
            ]
            for wrong, option, code in wrongs:
                with pytest.raises(ConfigError) as refused:
                    server.reload(options(**wrong))
                assert (refused.value.option, refused.value.code) == (option, code)
            assert (await said(alice, "move", {"x": 2}))["data"] == 2
            # An event that a handler alone has declared is as at the start again; the log warns of it.
            assert server.reload(**options(auth=less, events={"free": {"schema": Move}})) == 3
            assert server.reload(**options(auth=less)) == 4
            assert (await said(alice, "free", [1]))["data"] == [1]
            assert "the options do not state free any more: any data reaches the handlers" in caplog.messages
            # What the options do not state any more is not let in by a handler that only handled it.
            with pytest.raises(ConnectionClosed):
                await said(alice, "move", {"x": 1})
            with pytest.raises(TypeError, match="whole set of options"):
                server.reload()
            assert "wsguard_policy_generation 4" in server.metrics()
        with pytest.raises(wsguard.UsageError) as late:
            server.reload(**options())
        assert late.value.code == "stopped"

    run(main)


@pytest.mark.parametrize("hits", ["before", "behind"])
def test_a_signal_handler_reloads_in_the_midst_of_a_reload(
    hits: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are on one thread, so that neither may wait for the other; the later one counts."""
    inner: list[int] = []

    class Interrupted(wsguard.Server):
        def _reload(self, text: str, handlers: dict[str, Any]) -> int:
            generation = super()._reload(text, handlers)
            if hits == "behind":
                interrupt()
            return generation

    server = Interrupted(**options(events={"x": {}}))
    server.on_message(lambda conn, message: conn.reply(message.event))

    def interrupt() -> None:
        if not inner:
            inner.append(0)
            signal.raise_signal(signal.SIGTERM)

    def slow(policy: Any) -> str:
        if hits == "before":
            interrupt()
        return options_text(policy)

    def on_signal(*_: Any) -> None:
        inner[0] = server.reload(**options(events={"inner": {}}))

    async def main() -> None:
        async with server, client(server) as peer:
            outer = server.reload(**options(events={"outer": {}}))
            assert outer == inner[0]
            assert (await said(peer, "inner"))["event"] == "inner"
            # What a decorator has said is known of the options in force.
            assert "inner" in server._events.options()["events"] and "outer" not in server._events.options()["events"]
            assert server.reload(**options(events={"next": {}})) == outer + 1
            assert (await said(peer, "next"))["event"] == "next"

    monkeypatch.setattr(_operation, "options_text", slow)
    handler = signal.signal(signal.SIGTERM, on_signal)
    try:
        run(main)
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_honest_messages_outlive_reloads_under_load(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(rate_limit=None))

        @server.on("move", schema=Move)
        async def move(conn: Connection, data: Move) -> None:
            await asyncio.sleep(0)
            conn.reply("moved", data.x)

        async with server, client(server) as peer:

            async def load() -> None:
                for x in range(500):
                    await peer.send(json.dumps({"event": "move", "data": {"x": x}}))

            async def reload() -> None:
                for _ in range(20):
                    await asyncio.to_thread(server.reload, options(rate_limit=None))

            sending, reloading = asyncio.create_task(load()), asyncio.create_task(reload())
            assert [json.loads(await peer.recv())["data"] for _ in range(500)] == list(range(500))
            await asyncio.gather(sending, reloading)

    run(main)


def test_a_server_of_a_file(tmp_path: Path, run: Run) -> None:
    policy = tmp_path / "policy.json"

    def write(**more: Any) -> None:
        policy.write_text(json.dumps({**options(**more), "listen": "127.0.0.1:1"}))

    async def main() -> None:
        write(events={"a": {}})
        server = wsguard.Server.from_file(policy, listen="127.0.0.1:0")
        server.on_message(lambda conn, message: conn.reply(message.event))
        async with server, client(server) as peer:
            assert (await said(peer, "a"))["event"] == "a"
            write(events={"a": {}, "b": {}})
            assert server.reload() == 2
            assert (await said(peer, "b"))["event"] == "b"
            for wrong, what in [
                ("{", "is not JSON"),
                ("[]", "must hold an object of options, not list"),
                ('{"auth": "none", "auth": "callback"}', "auth: is stated twice"),
                ("[" * 100_000, "is nested too deep"),
                ('{"auth": {"jwt": {"key": null}}}', "auth.jwt.key: is None"),
            ]:
                policy.write_text(wrong)
                with pytest.raises(ConfigError, match=what):
                    server.reload()
            policy.unlink()
            with pytest.raises(FileNotFoundError):
                server.reload()
            assert (await said(peer, "b"))["event"] == "b"

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
@pytest.mark.parametrize("suffix", [".toml", ".TOML"])
def test_a_server_of_a_toml_file(tmp_path: Path, suffix: str) -> None:
    policy = tmp_path / f"policy{suffix}"
    policy.write_text(
        'listen = "127.0.0.1:0"\nauth = "none"\norigins = ["https://app.example"]\n[events.a]\ncost = 2\n'
    )
    server = wsguard.Server.from_file(policy)
    asyncio.run(_started(server))
    policy.write_text("x = ")
    with pytest.raises(ConfigError, match=rf"the file policy\{suffix} is not TOML"):
        wsguard.Server.from_file(policy)


async def _started(server: wsguard.Server) -> None:
    async with server:
        assert server.address


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows")
@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_sighup_reads_the_file_again(tmp_path: Path, loop: str) -> None:
    told = succeeds(f"""
        import json, time
        path = {str(tmp_path / "policy.json")!r}
        policy = dict(listen="127.0.0.1:0", origins=["https://a.example"], auth="none", protocol="raw")
        def write(text):
            with open(path, "w") as file:
                file.write(text)
        write(json.dumps(policy))
        server = wsguard.Server.from_file(path)
        server.on_message(lambda conn, message: None)
        def generation():
            return server.metrics().split("\\nwsguard_policy_generation ")[1].split()[0]
        def talk():
            # The file is wrong first: the old policy stays.
            write("{{")
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.5)
            assert generation() == "1"
            write(json.dumps({{**policy, "paths": ["/x"]}}))
            os.kill(os.getpid(), signal.SIGHUP)
            while generation() != "2":
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
        server.run({loop!r}, started=threading.Thread(target=talk).start)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        print("ended")
    """)
    assert told == "ended\n"


def test_bans(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(auth=TOKENS, events={"a": {}}, admin_listen="127.0.0.1:0"))
        server.on_message(lambda conn, message: conn.reply(message.event))
        async with server:
            assert server.admin_address and server.admin_address.startswith("127.0.0.1:")
            async with client(server, **bearer("alice")) as alice, client(server, **bearer("bob")) as bob:
                server.ban(user="bob", for_ms=60_000, reason="spam")
                with pytest.raises(ConnectionClosed) as closed:
                    await bob.recv()
                assert closed.value.rcvd and (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "banned")
                with pytest.raises(InvalidStatus) as refused:
                    async with client(server, **bearer("bob")):
                        pass
                assert refused.value.response.status_code == 403
                assert (await said(alice, "a"))["event"] == "a"
                [ban] = server.bans()
                assert (ban.ip, ban.user, ban.reason, ban.is_automatic) == (None, "bob", "spam", False)
                assert ban.ends_at_ms and 0 < ban.ends_at_ms - time.time() * 1000 < 61_000
                assert server.unban(user="bob") and not server.unban(user="bob")
                async with client(server, **bearer("bob")) as bob:
                    assert (await said(bob, "a"))["event"] == "a"
                server.ban(ip="127.0.0.0/8")
                with pytest.raises(ConnectionClosed):
                    await alice.recv()
            assert [(ban.ip, ban.ends_at_ms) for ban in server.bans()] == [("127.0.0.0/8", None)]
            wrongs: list[dict[str, Any]] = [{}, {"ip": "::1", "user": "x"}]
            for wrong in wrongs:
                with pytest.raises(TypeError, match="either ip= or user="):
                    server.ban(**wrong)
                with pytest.raises(TypeError, match="either ip= or user="):
                    server.unban(**wrong)
            invalids: list[dict[str, Any]] = [
                {"ip": "x"},
                {"user": ""},
                {"user": "x", "for_ms": 0},
                {"user": "x", "for_ms": -1},
            ]
            for invalid in invalids:
                with pytest.raises(wsguard.InvalidArgument):
                    server.ban(**invalid)
            with pytest.raises(wsguard.InvalidArgument, match="reason"):
                server.ban(user="x", reason="x" * 257)

    run(main)


def test_after_a_reload_the_rules_of_the_path_as_it_is_now_hold(run: Run) -> None:
    async def main() -> None:
        any_data: Any = {"/{name}": {"events": {"move": {}}}}
        server = wsguard.Server(**options(routes=any_data))

        @server.on("move")
        def move(conn: Connection, data: Any) -> None:
            conn.reply("moved", type(data).__name__)

        async with server, client(server, "/a") as peer:
            assert (await said(peer, "move", {"x": 1}))["data"] == "dict"
            own: Any = {"/a": {"events": {"move": {"schema": Move}}}}
            server.reload(options(routes={**any_data, **own}))
            assert (await said(peer, "move", {"x": 1}))["data"] == "Move"
            async with client(server, "/a") as other:
                assert (await said(other, "move", {"x": 1}))["data"] == "Move"
            server.reload(options(routes=any_data))
            assert (await said(peer, "move", {"x": 1}))["data"] == "dict"

    run(main)
