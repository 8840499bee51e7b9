"""uvicorn with the core behind it: each server of HTTP, each loop, by descriptor and fed through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
import websockets
from conftest import ORIGIN, Run
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from wsguard import _asgi_core, _asgi_transport, _log
from wsguard.uvicorn import guard

App = Callable[[Any, Any, Any], Any]

#: A place for everybody beside one for some.
ROUTES = {"/room/{name}": {}, "/room/{name}/admin": {"auth": {"tokens": [{"token": "t" * 32, "user": "ann"}]}}}


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return cast(str, request.param)


def policy(**more: Any) -> Any:
    stated = {"threads": 1, "origins": [ORIGIN], "auth": "none", **more}
    return guard(cast(Any, stated))


class Serving:
    """A uvicorn that runs on this loop."""

    def __init__(self, app: App, **config: Any) -> None:
        config.setdefault("ws", policy())
        # Bound here: of a port of uvicorn's own nobody is told.
        self.sock: socket.socket | None = None
        if "uds" not in config:
            self.sock = socket.socket()
            self.sock.bind(("127.0.0.1", 0))
        self.config = uvicorn.Config(app, loop="none", lifespan="off", log_config=None, **config)
        self.server = uvicorn.Server(self.config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Serving:
        sockets = None if self.sock is None else [self.sock]
        self._task = asyncio.get_running_loop().create_task(self.server.serve(sockets))
        while not self.server.started:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.server.should_exit = True
        assert self._task is not None
        await self._task

    @property
    def port(self) -> int:
        assert self.sock is not None
        return cast(int, self.sock.getsockname()[1])

    def connect(self, path: str = "/", **more: Any) -> connect:
        more.setdefault("origin", websockets.Origin(ORIGIN))
        scheme = "wss" if self.config.ssl else "ws"
        more.setdefault("compression", None)
        return connect(f"{scheme}://127.0.0.1:{self.port}{path}", **more)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def app_of(*steps: Any) -> App:
    """An application that sends, and receives where a step is `None`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            await (receive() if step is None else send(step))

    return app


async def refusal(serving: Serving, **more: Any) -> Any:
    with pytest.raises(InvalidStatus) as refused:
        await serving.connect(**more)
    return refused.value.response


def test_messages_go_both_ways(run: Run, http: str) -> None:
    async def main() -> None:
        async with Serving(echo, http=http) as serving, serving.connect() as client:
            for sent in ("one", b"two", "", b"", "ü" * 1000):
                await client.send(sent)
                assert await client.recv() == sent

    run(main)


def test_scope_is_uvicorns(run: Run, http: str) -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async def main() -> None:
        for ws in (policy(), "websockets-sansio"):
            async with Serving(app, http=http, ws=ws, root_path="/root") as serving:
                headers = [("X-Name", "Grün"), ("X-Name", "two"), ("Cookie", "a=b")]
                offered = [websockets.Subprotocol("x"), websockets.Subprotocol("y")]
                async with serving.connect("/a%2Fb?c=d%20", additional_headers=headers, subprotocols=offered):
                    pass

    run(main)
    ours, theirs = scopes
    facts = ours["extensions"].pop("wsguard")
    assert facts["user"] is None and facts["roles"] == ()
    for scope in scopes:
        assert scope.pop("server")[0] == scope.pop("client")[0] == "127.0.0.1"
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in (b"host", b"sec-websocket-key")]
    assert ours == theirs


def test_a_refused_handshake_never_reaches_the_application(run: Run, http: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was asked")

    async def main() -> None:
        async with Serving(app, http=http) as serving:
            response = await refusal(serving, origin=websockets.Origin("https://evil.example"))
            assert response.status_code == 403 and b"origin_denied" in response.body
            while serving.server.server_state.connections:
                await asyncio.sleep(0.01)
            assert not serving.server.server_state.tasks

    run(main)


def test_an_absolute_target_has_the_path_that_was_judged(run: Run, http: str) -> None:
    """RFC 9112 section 3.2.2: a server takes such a target, whose application knows paths alone."""
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async def main() -> None:
        async with Serving(app, ws=policy(paths=["/", "/a%20b/{c}"]), http=http, root_path="/api") as serving:
            host = f"127.0.0.1:{serving.port}"
            for target in (f"http://{host}/a%20b/c?d=/e", f"ws://{host}", f"http://{host}?f"):
                reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
                writer.write(
                    f"GET {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: {ORIGIN}\r\nConnection: Upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
                )
                assert b" 101 " in await reader.readline(), target
                writer.transport.abort()

    run(main)
    said = [(scope["raw_path"], scope["path"], scope["query_string"]) for scope in scopes]
    assert said == [(b"/api/a%20b/c", "/api/a b/c", b"d=/e"), (b"/api/", "/api/", b""), (b"/api/", "/api/", b"f")]


@pytest.mark.parametrize("fed", [False, True])
def test_a_slash_within_a_segment_escapes_no_route(
    run: Run, http: str, fed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application routes by the decoded path: the core judges the same."""
    monkeypatch.setattr(_asgi_transport, "_HAS_DESCRIPTORS", not fed)
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async def main() -> None:
        async with Serving(app, ws=policy(routes=ROUTES), http=http) as serving:
            for path in ("/room/x/admin", "/room/x%2fadmin", "/room/x%2Fadmin"):
                assert (await refusal(serving, path=path)).status_code == 401
            assert (await refusal(serving, path="/room/a%2fb")).status_code == 404
            assert not scopes
            async with serving.connect("/room%2Fx?y=%2f"):
                pass

    run(main)
    assert (scopes[0]["raw_path"], scopes[0]["path"]) == (b"/room%2Fx", "/room/x")
    assert scopes[0]["query_string"] == b"y=%2f"
    assert scopes[0]["extensions"]["wsguard"]["route"] == "/room/{name}"


@pytest.mark.parametrize("proxies", ["10.0.0.1", "127.0.0.1"])
def test_who_it_is_stands_in_the_scope(run: Run, proxies: str) -> None:
    token = "t" * 32
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["extensions"]["wsguard"])
        assert "user" not in scope
        await echo(scope, receive, send)

    async def main() -> None:
        tokens = [{"token": token, "user": "ann", "roles": ["admin"]}]
        async with Serving(app, ws=policy(auth={"tokens": tokens}), forwarded_allow_ips=proxies) as serving:
            assert (await refusal(serving)).status_code == 401
            async with serving.connect(additional_headers={"Authorization": f"Bearer {token}"}) as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)
    (facts,) = told
    assert (facts["user"], facts["roles"], facts["ip"]) == ("ann", ("admin",), "127.0.0.1")


@pytest.mark.parametrize("by_route", [False, True])
def test_a_token_in_the_query_is_in_no_log(run: Run, caplog: pytest.LogCaptureFixture, by_route: bool) -> None:
    token = "t" * 32
    stated = {"auth": {"tokens": [{"token": token, "user": "ann"}]}, "token_sources": ["query:token"]}
    by = policy(routes={"/": stated}) if by_route else policy(**stated)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert token in scope["query_string"].decode()
        if "deny" in scope["query_string"].decode():
            await send({"type": "websocket.close"})
        else:
            await echo(scope, receive, send)

    async def main() -> None:
        async with Serving(app, ws=by) as serving:
            async with serving.connect(f"/?token={token}"):
                pass
            assert (await refusal(serving, path=f"/?deny=&token={token}")).status_code == 403
            assert (await refusal(serving, path=f"/?token={token}x")).status_code == 401

    caplog.set_level(logging.INFO)
    run(main)
    assert "[accepted]" in caplog.text and '"WebSocket /" 403' in caplog.text
    assert token not in caplog.text


def test_accept_says_subprotocol_and_headers(run: Run, http: str) -> None:
    accept = {"type": "websocket.accept", "subprotocol": "y", "headers": [(b"set-cookie", b"a=b"), (b"X-Own", b"1")]}

    async def main() -> None:
        async with Serving(app_of(None, accept, None), http=http) as serving:
            offered = [websockets.Subprotocol("x"), websockets.Subprotocol("y")]
            async with serving.connect(subprotocols=offered) as client:
                assert client.subprotocol == "y" and client.response is not None
                headers = client.response.headers
                assert (headers["set-cookie"], headers["x-own"], headers["server"]) == ("a=b", "1", "uvicorn")
                assert len(headers.get_all("date")) == 1

    run(main)


@pytest.mark.parametrize(
    "steps, status, body",
    [
        ([None, {"type": "websocket.close"}], 403, b""),
        ([None], 500, b"Internal Server Error"),
        ([{"type": "websocket.send", "text": "too early"}], 500, b"Internal Server Error"),
        (
            [
                {"type": "websocket.http.response.start", "status": 418, "headers": [(b"Content-Length", b"4")]},
                {"type": "websocket.http.response.body", "body": b"te", "more_body": True},
                {"type": "websocket.http.response.body", "body": b"a\xff"},
            ],
            418,
            b"tea\xff",
        ),
        ([{"type": "websocket.http.response.start", "status": 404, "headers": []}], 404, b""),
        ([{"type": "websocket.accept", "subprotocol": "not offered"}], 503, None),
    ],
)
def test_an_application_refuses(run: Run, steps: Any, status: int, body: bytes | None) -> None:
    async def main() -> None:
        async with Serving(app_of(*steps)) as serving:
            response = await refusal(serving)
            assert response.status_code == status
            assert body is None or response.body == body
            assert response.headers["connection"].lower() == "close"

    run(main)


def test_an_upgrade_does_not_overtake_the_answer_before_it(run: Run, http: str) -> None:
    """RFC 9112 section 9.3.2: requests in one write are answered in order, or the connection ends with the first."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            return await echo(scope, receive, send)
        await asyncio.sleep(0.1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        async with Serving(app, http=http) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            head = f"GET / HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\n"
            writer.write(
                f"{head}\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert first.startswith(b"HTTP/1.1 200 ") and await reader.readexactly(2) == b"ok"
            second = await asyncio.wait_for(reader.readline(), 10)
            # h11 reads no further before it has answered.
            assert second.startswith(b"HTTP/1.1 101 ") if http == "h11" else (second == b"" and b": close" in first)
            writer.transport.abort()
            while serving.server.server_state.connections:
                await asyncio.sleep(0.01)

    run(main)


def test_what_follows_an_upgrade_that_is_left_to_http_is_dropped(run: Run) -> None:
    lost: list[Exception | None] = []

    async def main() -> None:
        config = uvicorn.Config(echo, ws=policy())
        config.load()
        state = ServerState()
        made: Any = config.ws_protocol_class
        protocol: Any = made(config=config, server_state=state, app_state={})
        cycle = SimpleNamespace(response_complete=False, keep_alive=True)
        http: Any = type("Http", (), {"cycle": cycle, "connection_lost": staticmethod(lost.append)})()
        now: list[Any] = [http]
        protocol.connection_made(
            SimpleNamespace(get_extra_info=lambda _: None, get_protocol=lambda: now[-1], set_protocol=now.append)
        )
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # uvicorn's next step; and before the transport is back, more of the peer, and its end.
        now.append(protocol)
        protocol.data_received(b"\x81\x80\0\0\0\0")
        protocol.connection_lost(None)
        await asyncio.sleep(0)
        assert now[-1] is http and not cycle.keep_alive
        assert state.connections == {http}

    run(main)
    assert lost == [None]


def test_what_comes_before_the_application_decides_is_kept(run: Run, http: str) -> None:
    decides = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await decides.wait()
        await echo(scope, receive, send)

    async def main() -> None:
        async with Serving(app, http=http) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            writer.write(HEAD)
            while not serving.server.server_state.tasks:
                await asyncio.sleep(0.01)
            writer.write(frame(b"early"))
            await writer.drain()
            decides.set()
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(7) == b"\x81\x05early"
            writer.close()

    run(main)


HEAD = (
    f"GET / HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


def frame(payload: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(payload))) + b"\0\0\0\0" + payload


def test_a_peer_that_leaves_while_the_application_decides(run: Run) -> None:
    told: list[Any] = []
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(await receive())
        told.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        done.set()

    async def main() -> None:
        async with Serving(app) as serving:
            _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            writer.write(HEAD)
            while not told:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            await asyncio.wait_for(done.wait(), 5)
            assert told[1] == {"type": "websocket.disconnect", "code": 1006}
            assert not serving.server.server_state.connections

    run(main)


def test_send_after_the_end_raises(run: Run) -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())
        told.append(await receive())
        # Where it is awaited: nothing is raised by the call.
        sent = (send({"type": "websocket.send", "text": "x"}), send({"type": "websocket.close"}), send({}))
        raised = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(error) for error in raised] == [ClientDisconnected, ClientDisconnected, KeyError]
        told.append("ended")

    async def main() -> None:
        async with Serving(app) as serving:
            async with serving.connect() as client:
                await client.close(3000, "enough")
            while "ended" not in told:
                await asyncio.sleep(0.01)

    run(main)
    assert told[0] == told[1] == {"type": "websocket.disconnect", "code": 3000, "reason": "enough"}


def test_messages_out_of_place_are_errors(run: Run) -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def refused(message: Any) -> None:
            with pytest.raises(RuntimeError) as error:
                await send(message)
            said.append(str(error.value))

        await refused({"type": "websocket.send", "text": "x"})
        await refused({"type": "websocket.http.response.start", "status": 700})
        await send({"type": "websocket.accept"})
        await refused({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3001, "reason": "bye"})
        await refused({"type": "websocket.send", "text": "x"})
        said.append(await receive())

    async def main() -> None:
        async with Serving(app) as serving, serving.connect() as client:
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 3001

    run(main)
    assert said == [
        "Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start' but got "
        "'websocket.send'.",
        "Invalid HTTP status code '700' in response.",
        "Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'.",
        "Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.",
        {"type": "websocket.connect"},
    ]


def test_an_application_that_ends_ends_the_connection_behind_what_it_sent(run: Run) -> None:
    large = "x" * 3_000_000
    app = app_of(None, {"type": "websocket.accept"}, {"type": "websocket.send", "text": large})

    async def main() -> None:
        ws = policy(max_outbox_bytes=8_000_000)
        async with Serving(app, ws=ws) as serving, serving.connect(max_size=None) as client:
            assert await client.recv() == large
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is None

    run(main)


def test_an_application_that_ends_while_it_accepts_leaves_no_connection(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        accepting.append(asyncio.ensure_future(send({"type": "websocket.accept"})))
        await asyncio.sleep(0)

    accepting: list[asyncio.Future[None]] = []

    async def main() -> None:
        async with Serving(app) as serving, serving.connect() as client:
            with pytest.raises(ConnectionClosedError):
                await asyncio.wait_for(client.recv(), 10)
            await accepting[0]

    run(main)


def test_an_application_that_is_cancelled_before_it_begins_answers(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Cancelled(policy()):  # type: ignore[misc]
        def asked(self, *facts: Any) -> None:
            super().asked(*facts)
            for task in self.server_state.tasks:
                task.cancel()

    async def main() -> None:
        async with Serving(echo, ws=Cancelled) as serving:
            response = await asyncio.wait_for(refusal(serving), 10)
            assert response.status_code == 500
            assert not serving.server.server_state.connections

    run(main)


def test_an_application_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise ValueError("a fault of the application")

    async def main() -> None:
        async with Serving(app) as serving, serving.connect() as client:
            with pytest.raises(ConnectionClosedError):
                await client.recv()

    run(main)
    assert "Exception in ASGI application" in caplog.text and "a fault of the application" in caplog.text


def test_a_slow_application_holds_its_peer_back(run: Run) -> None:
    """Nothing is lost, and little of it is in memory."""
    goes_on, took = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await goes_on.wait()
        while (message := await receive())["type"] == "websocket.receive":
            took.append(message["text"])

    async def main() -> None:
        ws = policy(rate_limit=None)
        async with Serving(app, ws=ws) as serving, serving.connect() as client:
            payload = "x" * 1000

            async def flood() -> None:
                for number in range(50_000):
                    await client.send(f"{number} {payload}")
                    if number % 16 == 0:
                        await asyncio.sleep(0)

            flooding = asyncio.get_running_loop().create_task(flood())
            await asyncio.sleep(0.5)
            assert not flooding.done()
            core = next(iter(cast(Any, serving.server.server_state.connections)))._core
            assert core.stats()["inbox_bytes"] < 8_000_000
            goes_on.set()
            await flooding
            await client.close()
            while len(took) < 50_000:
                await asyncio.sleep(0.01)
        assert [int(text.split()[0]) for text in took] == list(range(50_000))

    run(main)


def test_shutdown_closes_with_1012(run: Run, http: str) -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    async def main() -> None:
        serving = Serving(app, http=http)
        async with serving:
            client = await serving.connect()
            assert len(serving.server.server_state.connections) == len(serving.server.server_state.tasks) == 1
            await serving.stop()
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
            assert not serving.server.server_state.connections and not serving.server.server_state.tasks

    run(main)
    assert told == [{"type": "websocket.disconnect", "code": 1012}]


def test_shutdown_does_not_wait_for_an_application_that_decides(run: Run) -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(await receive())
        told.append(await receive())

    async def main() -> None:
        async with Serving(app) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            writer.write(HEAD)
            while not told:
                await asyncio.sleep(0.01)
            await asyncio.wait_for(serving.stop(), 5)
            assert b" 503 " in await reader.readline()
            writer.close()

    run(main)
    assert told[1] == {"type": "websocket.disconnect", "code": 1006}


def test_a_descriptor_that_cannot_be_duplicated(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(_asgi_transport, "_refused", _log.Sampler())

    async def main() -> None:
        async with Serving(echo) as serving:
            with monkeypatch.context() as patched:
                patched.setattr("os.dup", none_left)
                for _ in range(50):
                    assert (await refusal(serving)).status_code == 500
            assert not serving.server.server_state.connections
            async with serving.connect() as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)
    assert 1 <= caplog.text.count("Too many open files") <= 12


@contextlib.asynccontextmanager
async def secured(app: App, folder: Path, **config: Any) -> AsyncIterator[tuple[Serving, ssl.SSLContext]]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, made, check=True, capture_output=True)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with Serving(app, ssl_keyfile=str(key), ssl_certfile=str(certificate), **config) as serving:
        yield serving, trusting


def test_under_tls_of_uvicorn_the_bytes_are_fed_through(run: Run, http: str, tmp_path: Path) -> None:
    schemes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    async def main() -> None:
        ws = policy(max_message_bytes=2_000_000, max_outbox_bytes=8_000_000, rate_limit=None)
        async with secured(app, tmp_path, http=http, ws=ws) as (serving, trusting):
            async with serving.connect(ssl=trusting, max_size=None) as client:
                for sent in ("one", b"x" * 1_500_000, "two"):
                    await client.send(sent)
                    assert await client.recv() == sent
            response = await refusal(serving, ssl=trusting, origin=websockets.Origin("https://evil.example"))
            assert response.status_code == 403
            client = await serving.connect(ssl=trusting)
            await serving.stop()
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012

    run(main)
    assert schemes == ["wss", "wss"]


def test_a_slow_peer_under_tls_holds_the_application_back(run: Run, tmp_path: Path) -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(400):
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
            sent.append(number)

    async def main() -> None:
        async with (
            secured(app, tmp_path) as (serving, trusting),
            serving.connect(ssl=trusting, max_queue=1) as client,
        ):
            await asyncio.sleep(0.3)
            assert len(sent) < 300
            for _ in range(400):
                assert len(await client.recv()) == 100_000

    run(main)


# --- the policy ------------------------------------------------------------------------------------------------------


def test_every_proxy_is_none(run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asgi_transport, "_refused", _log.Sampler())

    async def main() -> None:
        async with Serving(echo, forwarded_allow_ips="*") as serving:
            assert (await refusal(serving)).status_code == 500
        # What is stated counts.
        ws = policy(trusted_proxies=[])
        async with Serving(echo, forwarded_allow_ips="*", ws=ws) as serving, serving.connect():
            pass

    with caplog.at_level(logging.ERROR):
        run(main)
    assert 'trusted_proxies: uvicorn\'s forwarded_allow_ips is "*"' in caplog.text
    assert 'forwarded_allow_ips="10.0.0.0/8"' in caplog.text


def test_a_start_that_fails_is_not_tried_for_every_peer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # It waits for others, and the event loop with it.
    tries: list[float] = []
    begin = _asgi_core.Core.begin

    def counted(core: Any, *more: Any) -> None:
        tries.append(0)
        begin(core, *more)

    monkeypatch.setattr(_asgi_core.Core, "begin", counted)
    keys = {"jwks_url": "http://127.0.0.1:1/", "algorithms": ["ES256"], "issuer": "i", "audience": "a"}

    async def main() -> None:
        async with Serving(echo, ws=policy(auth={"jwt": keys})) as serving:
            for _ in range(3):
                assert (await refusal(serving)).status_code == 500
            assert len(tries) == 1
            # An issuer that is back some time later is found.
            monkeypatch.setattr(_asgi_core, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60))
            await refusal(serving)
            assert len(tries) == 2

    run(main)


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("is_tls", [False, True])
def test_messages_are_compressed(run: Run, http: str, tmp_path: Path, is_on: bool, is_tls: bool) -> None:
    async def main() -> None:
        ws = policy(compression={"threshold_bytes": 16}, max_message_bytes=1_000_000)
        config: dict[str, Any] = {"http": http, "ws": ws, "ws_per_message_deflate": is_on}
        secure: dict[str, Any] = {}
        async with contextlib.AsyncExitStack() as stack:
            if is_tls:
                serving, secure["ssl"] = await stack.enter_async_context(secured(echo, tmp_path, **config))
            else:
                serving = await stack.enter_async_context(Serving(echo, **config))
            client: ClientConnection
            async with serving.connect(compression="deflate", **secure) as client:
                assert client.response is not None
                agreed = client.response.headers.get("Sec-WebSocket-Extensions")
                both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
                # The client's own offer asks for a window, or does not.
                assert (agreed is not None and agreed.startswith(both)) if is_on else agreed is None
                sent: list[str | bytes] = ["x", "wsguard " * 1000, b"\0" * 500_000, "", "ü" * 30_000]
                for message in sent:
                    await client.send(message)
                    assert await client.recv() == message
            # Another, that offers nothing.
            async with serving.connect(**secure) as client:
                assert client.response is not None and "Sec-WebSocket-Extensions" not in client.response.headers
                await client.send("wsguard " * 1000)
                assert await client.recv() == "wsguard " * 1000

    run(main)
