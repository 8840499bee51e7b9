"""`wsguard.asgi.Guard`: the core's rules over what another server has read, on a server of these tests' own and on
uvicorn's."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import ORIGIN, Run
from test_uvicorn import ROUTES, Serving, app_of, echo, refusal
from websockets.exceptions import ConnectionClosedError
from wsguard import ConfigError, InvalidArgument, _asgi_core, _asgi_frames, _asgi_guarded
from wsguard._asgi_waits import Changing
from wsguard.asgi import Disconnected, Guard

TOKEN = "t" * 32


def policy(**more: Any) -> Any:
    return {"threads": 1, "origins": [ORIGIN], "auth": "none", **more}


class Client:
    """One WebSocket of an ASGI server, without the server."""

    def __init__(self, app: Any, *, extensions: Any = None, origin: str = ORIGIN, **more: Any) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.received.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "path": "/",
            "headers": [(b"host", b"a"), (b"origin", origin.encode())],
            "client": ("192.0.2.7", 1),
            "extensions": extensions,
            **more,
        }
        self.task = asyncio.get_running_loop().create_task(app(scope, self.received.get, self.sent.put))

    def say(self, **message: Any) -> None:
        self.received.put_nowait({"type": "websocket.receive", **message})

    async def hear(self) -> Any:
        return await asyncio.wait_for(self.sent.get(), 10)

    async def leave(self, code: int = 1000) -> None:
        self.received.put_nowait({"type": "websocket.disconnect", "code": code})
        await asyncio.wait_for(self.task, 10)


async def end(guard: Guard) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    ending = Guard(app, policy())
    ending._cores = guard._cores

    async def shutdown(*_: Any) -> Any:
        return {"type": "lifespan.shutdown"}

    await ending({"type": "lifespan"}, shutdown, shutdown)


def test_messages_go_through(run: Run) -> None:
    async def main() -> None:
        guard = Guard(echo, policy(max_message_bytes=2_000_000))
        client = Client(guard)
        assert await client.hear() == {"type": "websocket.accept"}
        for sent in ({"text": "one"}, {"bytes": b"two"}, {"text": ""}, {"text": "ü" * 1000}, {"bytes": b"x" * 200_000}):
            client.say(**sent)
            assert await client.hear() == {"type": "websocket.send", **sent}
        # As some servers say it.
        client.say(text=None, bytes=b"x")
        assert (await client.hear())["bytes"] == b"x"
        await client.leave()
        assert client.sent.empty()
        await end(guard)

    run(main)


@pytest.mark.parametrize("speaks", [False, True])
def test_a_refused_handshake(run: Run, speaks: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was asked")

    async def main() -> None:
        guard = Guard(app, policy())
        extensions: Any = {"websocket.http.response": {}} if speaks else None
        client = Client(guard, origin="https://evil.example", extensions=extensions)
        await client.task
        first = await client.hear()
        if not speaks:
            assert first["type"] == "websocket.close"
        else:
            assert (first["type"], first["status"]) == ("websocket.http.response.start", 403)
            assert (await client.hear())["body"] == b"origin_denied: origin denied\n"
        await end(guard)

    run(main)


@pytest.mark.parametrize("route", [{"idle_timeout_ms": 30_000}, {"ping_interval_ms": 1, "idle_timeout_ms": 1001}])
def test_keep_alive_is_the_servers_on_a_route_as_well(run: Run, route: dict[str, int]) -> None:
    """The core would wait for answers to pings that no client gets, or would not start for the first of them."""

    async def main() -> None:
        guard = Guard(echo, policy(routes={"/": route}))
        client = Client(guard)
        assert await client.hear() == {"type": "websocket.accept"}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.sent.get(), 1.5)
        client.say(text="one")
        assert (await client.hear())["text"] == "one"
        await client.leave()
        await end(guard)

    run(main)


def test_identity_and_subprotocol(run: Run) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["extensions"])
        await echo(scope, receive, send)

    async def main() -> None:
        tokens = [{"token": TOKEN, "user": "ann", "roles": ["admin"]}]
        guard = Guard(app, policy(auth={"tokens": tokens}), subprotocols=["b"])
        headers = [
            (b"host", b"a"),
            (b"origin", ORIGIN.encode()),
            (b"authorization", f"Bearer {TOKEN}".encode()),
            (b"sec-websocket-protocol", b"a, b"),
        ]
        client = Client(guard, headers=headers, extensions={"other": {}})
        assert await client.hear() == {"type": "websocket.accept", "subprotocol": "b"}
        await client.leave()
        await end(guard)

    run(main)
    (extensions,) = told
    assert "other" in extensions
    facts = extensions["wsguard"]
    assert (facts["user"], facts["roles"], facts["ip"]) == ("ann", ("admin",), "192.0.2.7")


@pytest.mark.parametrize(
    "more, said, code",
    [
        ({"max_message_bytes": 10}, {"text": "x" * 11}, 1009),
        ({"max_message_bytes": 10}, {"bytes": b"x" * 1_000_000}, 1009),
        ({"rate_limit": {"per_second": 1, "burst": 1, "queue": 0}}, {"text": "x"}, 1008),
    ],
)
def test_a_message_that_breaks_a_rule_ends_the_connection(run: Run, more: Any, said: Any, code: int) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            pass
        told.append(message)
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})

    async def main() -> None:
        # At once: the client's own close frame, which it would be for the core to wait for, is the server's.
        guard = Guard(app, policy(close_timeout_ms=60_000, **more))
        client = Client(guard)
        await client.hear()
        for _ in range(5):
            client.say(**said)
        close = await client.hear()
        assert (close["type"], close["code"]) == ("websocket.close", code)
        await client.task
        await end(guard)

    run(main)
    assert told[0]["type"] == "websocket.disconnect" and told[0]["code"] == code


def test_the_contract_on_whole_messages(run: Run) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    events = {"set": {"schema": schema, "on_mismatch": "reply"}}

    async def main() -> None:
        guard = Guard(echo, policy(protocol="json", events=events))
        client = Client(guard)
        await client.hear()
        client.say(text='{"event": "set", "data": {"n": 1}, "id": 5}')
        echoed = json.loads((await client.hear())["text"])
        assert echoed == {"event": "set", "data": {"n": 1}, "id": 5}
        client.say(text='{"event": "set", "data": {"n": "1"}, "id": 6}')
        answer = json.loads((await client.hear())["text"])
        assert answer["status"] == "error" and answer["id"] == 6
        client.say(text='{"event": "other"}')
        close = await client.hear()
        assert (close["type"], close["code"]) == ("websocket.close", 1008)
        await client.task
        await end(guard)

    run(main)


def test_answers_that_the_server_does_not_take_wait_in_the_core(run: Run) -> None:
    """A client that breaks the contract and does not read: what it is answered has the core's bound."""
    events = {"set": {"schema": {"type": "integer"}, "on_mismatch": "reply"}}
    rate = {"per_second": 1_000_000, "burst": 1_000_000}

    async def main() -> None:
        guard = Guard(echo, policy(protocol="json", events=events, rate_limit=rate, max_outbox_bytes=65_536))
        taken = asyncio.Event()
        begun = 0

        async def server(scope: Any, receive: Any, send: Any) -> None:
            async def put(message: Any) -> None:
                nonlocal begun
                begun += 1
                await send(message)
                await taken.wait()

            await guard(scope, receive, put)

        client = Client(server)
        taken.set()
        await client.hear()
        taken.clear()
        (core,) = guard._cores.values()
        while core.stats()["open"]:
            assert begun < 5_000, "its answers have no bound"
            for _ in range(100):
                client.say(text='{"event": "set", "data": "x", "id": "i"}')
            while core.stats()["open"] and not client.received.empty():
                await asyncio.sleep(0.001)
        assert begun > 1
        taken.set()
        await asyncio.wait_for(client.task, 10)
        await end(guard)

    run(main)


def test_polling_before_the_accept_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        changing = Changing(asyncio.get_running_loop())
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(changing._changes(), 0.001)
        assert not changing._waiting

    run(main)


@pytest.mark.parametrize("port", [None, -1, 65_536, "x"])
def test_a_client_without_a_port(run: Run, port: Any) -> None:
    async def main() -> None:
        guard = Guard(echo, policy())
        client = Client(guard, client=["192.0.2.7", port])
        assert (await client.hear())["type"] == "websocket.accept"
        await client.leave()
        await end(guard)

    run(main)


@pytest.mark.parametrize(
    "said", [{"code": None}, {"code": -1}, {"code": 70_000}, {"code": 1000, "reason": "\ud800"}, {"code": 1015}]
)
def test_the_end_as_some_servers_say_it(run: Run, said: Any) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await app_of(None, {"type": "websocket.accept"})(scope, receive, send)
        told.append(await receive())

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard)
        await client.hear()
        client.received.put_nowait({"type": "websocket.disconnect", **said})
        await asyncio.wait_for(client.task, 10)
        await end(guard)

    run(main)
    assert told == [{"type": "websocket.disconnect", **said}]


@pytest.mark.parametrize("accepts", [True, False])
def test_a_server_that_fails_ends_its_connection(run: Run, accepts: bool) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
        told.append(await receive())

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard)
        if accepts:
            await client.hear()
        client.received.put_nowait({})
        with pytest.raises(KeyError):
            await asyncio.wait_for(client.task, 10)
        await end(guard)

    run(main)
    assert told == [{"type": "websocket.disconnect", "code": 1006}]


def test_a_server_that_takes_only_the_codes_of_applications(run: Run) -> None:
    """daphne: what it does not take would leave the client where it is."""
    refused = []

    async def main() -> None:
        guard = Guard(echo, policy(max_message_bytes=10))

        async def served(scope: Any, receive: Any, send: Any) -> None:
            async def takes_few(message: Any) -> None:
                code = message.get("code", 1000)
                if code != 1000 and not 3000 <= code <= 4999:
                    refused.append(code)
                    raise Exception(f"invalid close code {code} (must be 1000 or from [3000, 4999])")
                await send(message)

            await guard(scope, receive, takes_few)

        client = Client(served)
        await client.hear()
        client.say(text="x" * 11)
        assert await client.hear() == {"type": "websocket.close", "code": 4009, "reason": "message too big"}
        await asyncio.wait_for(client.task, 10)
        await end(guard)

    run(main)
    assert refused == [1009]


def test_a_server_without_asyncio_does_not_start() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(echo, policy())
    with pytest.raises(StopIteration):
        guard({"type": "lifespan"}, receive, send).send(None)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    with pytest.raises(RuntimeError) as raised:
        guard({"type": "websocket"}, receive, send).send(None)
    assert str(raised.value) == sent[0]["message"]
    assert "runs on asyncio" in sent[0]["message"] and "trio" in sent[0]["message"]


def test_the_server_hears_of_one_close(run: Run) -> None:
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await app_of(None, {"type": "websocket.accept"}, None)(scope, receive, send)
        for kind in ("send", "close"):
            try:
                await send({"type": f"websocket.{kind}", "text": "x"})
            except Disconnected:
                raised.append(kind)

    async def main() -> None:
        guard = Guard(app, policy(max_message_bytes=10))
        client = Client(guard)
        await client.hear()
        client.say(text="x" * 11)
        assert (await client.hear())["code"] == 1009
        await asyncio.wait_for(client.task, 10)
        assert client.sent.empty()
        await end(guard)

    run(main)
    assert raised == ["send", "close"]


def test_compression_says_nothing(run: Run) -> None:
    """What the server and its client have agreed upon is theirs: the core's own answers come whole."""
    events = {"set": {"schema": {"type": "integer"}, "on_mismatch": "reply"}}
    offer = (b"sec-websocket-extensions", b"permessage-deflate")

    async def main() -> None:
        stated = policy(protocol="json", events=events, compression={"threshold_bytes": 0, "level": 9})
        guard = Guard(echo, stated)
        client = Client(guard, headers=[(b"host", b"a"), (b"origin", ORIGIN.encode()), offer])
        assert await client.hear() == {"type": "websocket.accept"}
        said = {"event": "set", "data": 1, "id": "a" * 64}
        client.say(text=json.dumps(said))
        assert json.loads((await client.hear())["text"]) == said
        client.say(text=json.dumps({"event": "set", "data": "x", "id": "a" * 64}))
        answer = json.loads((await client.hear())["text"])
        assert answer["status"] == "error" and answer["id"] == "a" * 64
        (core,) = guard._cores.values()
        stats = core.stats()
        assert (stats["messages_compressed_in"], stats["messages_compressed_out"]) == (0, 0)
        await client.leave()
        await end(guard)

    run(main)


def test_an_application_that_refuses(run: Run) -> None:
    close = {"type": "websocket.close", "code": 1008}

    async def main() -> None:
        guard = Guard(app_of(None, close), policy())
        client = Client(guard)
        assert await client.hear() == close
        await client.task
        await end(guard)

    run(main)


def test_an_application_that_sends_to_who_has_gone_has_not_failed(run: Run) -> None:
    # Servers print what an application raises, and peers choose how often they go.
    auth = {"tokens": [{"token": TOKEN, "user": "ann"}]}
    headers = [(b"host", b"a"), (b"origin", ORIGIN.encode()), (b"x-auth-token", TOKEN.encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await receive()
            await send({"type": "websocket.send", "text": "x"})

    async def main() -> None:
        guard = Guard(app, policy(auth=auth, max_connections_per_user=1))
        client = Client(guard, headers=headers)
        assert (await client.hear())["type"] == "websocket.accept"
        full = Client(guard, headers=headers)
        await asyncio.wait_for(full.task, 10)
        assert (await full.hear())["type"] == "websocket.close"
        await client.leave()
        await end(guard)

    run(main)


def test_what_the_core_has_refused_is_not_accepted_by_a_second_try(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(InvalidArgument):
            await send({"type": "websocket.accept", "subprotocol": "never-offered"})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard)
        await client.task
        assert [client.sent.get_nowait()["type"] for _ in range(client.sent.qsize())] == ["websocket.close"]
        await end(guard)

    run(main)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_loops_that_ended_without_a_lifespan_leave_nothing() -> None:
    guard = Guard(echo, policy())

    async def main() -> None:
        client = Client(guard)
        await client.hear()
        await client.leave()

    def opened() -> int:
        asyncio.run(main())
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    opened()
    first = opened()
    assert max(opened() for _ in range(5)) <= first
    assert len(guard._cores) == 1


def test_a_start_that_fails_is_not_tried_for_every_peer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = []

    def failing(*more: Any) -> None:
        tries.append(more)
        raise ConfigError("auth.jwt.jwks_url: cannot be fetched", code="invalid_option", option="auth.jwt.jwks_url")

    monkeypatch.setattr(_asgi_core.Core, "begin", failing)

    async def main() -> None:
        guard = Guard(echo, policy())
        depths = []
        for _ in range(3):
            with pytest.raises(ConfigError, match="cannot be fetched") as error:
                await Client(guard).task
            depths.append(len(error.traceback))
        assert len(tries) == 1
        # An error that is raised again and again must not keep the frames of all who were told.
        assert depths[1] == depths[2]

    run(main)


def test_without_a_policy_there_is_none() -> None:
    with pytest.raises(ConfigError):
        Guard(echo)
    with pytest.raises(ConfigError, match="does not belong here"):
        Guard(echo, policy(listen="127.0.0.1:1"))


def test_a_client_that_leaves(run: Run) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())
        told.append(await receive())

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard)
        await client.hear()
        client.say(text="last")
        await client.leave(3000)
        await end(guard)

    run(main)
    assert told == [
        {"type": "websocket.receive", "text": "last"},
        {"type": "websocket.disconnect", "code": 3000},
    ]


def test_under_a_real_server(run: Run) -> None:
    async def main() -> None:
        guard = Guard(echo, policy(max_message_bytes=100))
        async with Serving(guard, ws="websockets-sansio") as serving:
            async with serving.connect() as client:
                await client.send("x")
                assert await client.recv() == "x"
                await client.send("x" * 101)
                with pytest.raises(ConnectionClosedError) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
            response = await refusal(serving, origin=None)
            assert response.status_code == 403 and b"origin_denied" in response.body
        await end(guard)

    run(main)


def test_heads_of_scopes() -> None:
    def head(**more: Any) -> bytes | None:
        return _asgi_guarded.head_of({"path": "/ä b", "headers": [], **more})

    found = head(query_string=b"c=d", headers=[(b"upgrade", b"other"), (b"x", b"1")])
    assert found is not None
    lines = found.split(b"\r\n")
    assert lines[0] == b"GET /%C3%A4%20b?c=d HTTP/1.1" and lines[-2:] == [b"", b""] and b"x: 1" in lines
    assert sum(line.lower().startswith(b"upgrade:") for line in lines) == 1
    # What would be another header, or another request.
    assert head(headers=[(b"x", b"1\r\nOrigin: https://app.example")]) is None
    assert head(headers=[(b"x\n", b"1")]) is None
    # The last would be judged as `/b`, and is none to the application.
    for raw_path in ("/ HTTP/1.1\r\nHost: b\r\n", "/ b", "", "b", "http://a/b"):
        assert head(raw_path=raw_path.encode(), path=raw_path) is None
    # What is around it may have changed the path: the application's counts.
    for more in ({"raw_path": b"/a:b@c"}, {}):
        found = head(path="/a:b@c", **more)
        assert found is not None and found.startswith(b"GET /a:b@c HTTP")
    found = head(raw_path=b"/open", path="/admin")
    assert found is not None and found.startswith(b"GET /admin HTTP")


@pytest.mark.parametrize(
    "raw_path, is_let_in",
    [(b"/room/x", True), (b"/room/x/admin", False), (b"/room/x%2fadmin", False), (b"/room%2Fx", True)],
)
def test_a_slash_within_a_segment_escapes_no_route(run: Run, raw_path: bytes, is_let_in: bool) -> None:
    """An application routes by the decoded path."""
    paths = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await echo(scope, receive, send)

    async def main() -> None:
        guard = Guard(app, policy(routes=ROUTES))
        client = Client(guard, path=unquote(raw_path.decode()), raw_path=raw_path)
        answer = await client.hear()
        assert answer["type"] == ("websocket.accept" if is_let_in else "websocket.close")
        if is_let_in:
            await client.leave()
        await client.task
        await end(guard)

    run(main)
    assert bool(paths) == is_let_in


def test_frames_of_the_core() -> None:
    server = _asgi_frames.OfServer()
    assert server.feed(b"HTTP/1.1 101 Switching Protocols\r\n") == []
    frames = b"\x81\x01a" + b"\x81\x7e\x01\x00" + b"b" * 256 + b"\x82\x7f" + (70_000).to_bytes(8, "big") + b"c" * 70_000
    told = [
        frame
        for at in range(0, len(frames), 1000)
        for frame in server.feed((b"\r\n" if at == 0 else b"") + frames[at : at + 1000])
    ]
    assert [(opcode, len(payload)) for opcode, payload in told] == [(1, 1), (1, 256), (2, 70_000)]
    for length in (0, 125, 126, 65_535, 65_536):
        frame = _asgi_frames.of_client(2, b"x" * length)
        assert frame[1] & 0x80 and frame.endswith(b"\0\0\0\0" + b"x" * length)
