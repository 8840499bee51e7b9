"""Connections that are over before their application has them, and those whose socket is not what it is said to be."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ORIGIN, Run
from test_asgi import Client, end
from test_asgi import policy as stated
from test_uvicorn import Serving, http, policy
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosed
from wsguard import InvalidArgument, _asgi_core
from wsguard._asgi_guarded import Guarded
from wsguard.asgi import Disconnected, Guard

__all__ = ["http"]


def banning(ip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is accepted is banned before the loop hears of the connection, as by `auto_ban` or another node."""
    answer = _asgi_core.Core.answer

    def answer_and_ban(core: _asgi_core.Core, ticket: int, given: Any) -> bool:
        answered = answer(core, ticket, given)
        until = time.monotonic() + 10
        while not core.stats()["open"] and time.monotonic() < until:
            time.sleep(0.001)
        core._ban(ip, None, None, "")
        return answered

    monkeypatch.setattr(_asgi_core.Core, "answer", answer_and_ban)


def accepting(raised: list[Exception]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await send({"type": "websocket.accept"})
        except OSError as error:
            raised.append(error)
        assert (await receive())["type"] == "websocket.disconnect"

    return app


def test_who_is_banned_while_the_application_accepts(run: Run, monkeypatch: pytest.MonkeyPatch, http: str) -> None:
    """It would wait for ever for its connection, and so would uvicorn's shutdown."""
    raised: list[Exception] = []
    banning("127.0.0.1", monkeypatch)

    async def main() -> None:
        raised.clear()
        async with Serving(accepting(raised), http=http, ws=policy(trusted_proxies=[])) as serving:
            async with serving.connect() as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            until = time.monotonic() + 10
            while (serving.server.server_state.tasks or not raised) and time.monotonic() < until:
                await asyncio.sleep(0.01)
            assert not serving.server.server_state.connections and not serving.server.server_state.tasks
        assert [type(error) for error in raised] == [ClientDisconnected]

    run(main)


def test_under_a_middleware_as_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []
    banning("192.0.2.7", monkeypatch)

    async def main() -> None:
        raised.clear()
        guard = Guard(accepting(raised), stated())
        client = Client(guard, extensions={"websocket.http.response": {}})
        await asyncio.wait_for(client.task, 10)
        said = [client.sent.get_nowait() for _ in range(client.sent.qsize())]
        # One answer, by whichever the core tells of first, and nothing of its 101.
        response = [
            {"type": "websocket.http.response.start", "status": 403, "headers": []},
            {"type": "websocket.http.response.body", "body": b""},
        ]
        assert said == response or [(each["type"], each["code"]) for each in said] == [("websocket.close", 1008)], said
        assert [type(error) for error in raised] == [Disconnected]
        await end(guard)

    run(main)


def test_a_close_behind_the_refusal_is_no_second_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core tells that there is no connection before it says the close frame."""
    take, refuse = Guarded._take, Guarded._refuse
    refused: list[Guarded] = []

    async def refuse_and_take(guarded: Guarded, status: int, headers: Any, body: bytes) -> None:
        await refuse(guarded, status, headers, body)
        refused.append(guarded)
        while not guarded._is_ended:
            take(guarded)
            await asyncio.sleep(0.001)

    monkeypatch.setattr(Guarded, "_take", lambda guarded: take(guarded) if guarded in refused else None)
    monkeypatch.setattr(Guarded, "_refuse", refuse_and_take)
    banning("192.0.2.7", monkeypatch)

    async def main() -> None:
        refused.clear()
        guard = Guard(accepting([]), stated())
        client = Client(guard, extensions={"websocket.http.response": {}})
        await asyncio.wait_for(client.task, 10)
        said = [client.sent.get_nowait()["type"] for _ in range(client.sent.qsize())]
        assert refused and said == ["websocket.http.response.start", "websocket.http.response.body"]
        await end(guard)

    run(main)


@pytest.mark.parametrize(("subprotocol", "status"), [("chat", 503), ("no token", 503), (5, 500)])
def test_an_accept_that_cannot_be_sent_is_answered_at_once(run: Run, subprotocol: Any, status: int) -> None:
    """The application goes on, and its client need not wait for its end."""
    raised: list[Exception] = []

    async def main() -> None:
        raised.clear()
        has_heard = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            try:
                await send({"type": "websocket.accept", "subprotocol": subprotocol})
            except (InvalidArgument, TypeError) as error:
                raised.append(error)
            assert (await receive())["type"] == "websocket.disconnect"
            await has_heard.wait()

        guard = Guard(app, stated())
        client = Client(guard, extensions={"websocket.http.response": {}})
        start, body = await client.hear(), await client.hear()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert body["type"] == "websocket.http.response.body"
        has_heard.set()
        await asyncio.wait_for(client.task, 10)
        assert len(raised) == 1 and client.sent.empty()
        await end(guard)

    run(main)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_a_socket_that_is_said_to_be_a_unix_socket(run: Run) -> None:
    """uvicorn says so of whatever it inherits (`--fd`). The rules by address hold nevertheless."""
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        # Before the peer has its 101, which is when the test looks.
        told.append(scope["extensions"]["wsguard"]["ip"])
        await send({"type": "websocket.accept"})
        await receive()

    async def main() -> None:
        serving = Serving(app, ws=policy(trusted_proxies=[], max_connections_per_ip=1))
        assert serving.sock is not None
        number = os.dup(serving.sock.fileno())
        serving.sock.close()
        serving.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=number)
        async with serving, serving.connect():
            assert told[-1] == "127.0.0.1"
            client = await asyncio.open_connection("127.0.0.1", serving.port)
            client[1].write(
                f"GET / HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b" 429 " in await asyncio.wait_for(client[0].readline(), 10)
            client[1].close()

    run(main)


def test_a_server_whose_send_never_waits_is_heard(run: Run) -> None:
    """As granian's, for a client that has gone."""
    sent: list[Any] = []
    ends: list[bool] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(Disconnected):
            for _ in range(100_000):
                await send({"type": "websocket.send", "text": "x"})
        ends.append(True)

    async def main() -> None:
        guard = Guard(flood, stated())
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 10:
                said.put_nowait({"type": "websocket.disconnect", "code": 1006})

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"a"), (b"origin", ORIGIN.encode())]}
        await asyncio.wait_for(guard(scope, said.get, send), 10)
        assert ends
        await end(guard)

    run(main)


def test_nothing_of_the_server_is_kept_behind_an_application_that_raises(run: Run) -> None:
    """granian ends the connection when nobody has its `send` any more."""

    class Sender:
        async def __call__(self, message: Any) -> None:
            pass

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    async def main() -> None:
        guard = Guard(fail, stated())
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})
        sender = Sender()
        is_kept = weakref.ref(sender)
        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"a"), (b"origin", ORIGIN.encode())]}
        gc.disable()
        try:
            with pytest.raises(ZeroDivisionError) as raised:
                await guard(scope, said.get, sender)
            del sender, raised
            # The task that reads is cancelled, and ends in its next step.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert is_kept() is None
        finally:
            gc.enable()
        await end(guard)

    run(main)


def test_a_close_of_the_core_is_said_where_the_application_raises(run: Run) -> None:
    """As frameworks do at the end of a client. The server ends the connection then, by a code of its own or by none."""
    closes: list[int] = []

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise ZeroDivisionError

    async def main() -> None:
        guard = Guard(fail, stated(max_message_bytes=1000))
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})

        async def send(message: Any) -> None:
            if message["type"] == "websocket.accept":
                said.put_nowait({"type": "websocket.receive", "text": "x" * 1001})
            else:
                # As that of a server whose frames go out in another thread.
                for _ in range(10):
                    await asyncio.sleep(0)
                closes.append(message["code"])

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"a"), (b"origin", ORIGIN.encode())]}
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(guard(scope, said.get, send), 10)
        assert closes == [1009]
        await end(guard)

    run(main)


@pytest.mark.parametrize("raises", [True, False])
def test_a_server_that_waits_for_a_client_which_does_not_read(run: Run, raises: bool) -> None:
    """It would never end the connection, nor stop itself, if this waited with it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        if raises:
            raise ZeroDivisionError

    async def main() -> None:
        guard = Guard(app, stated(max_message_bytes=1000, close_timeout_ms=100))
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})
        said.put_nowait({"type": "websocket.receive", "text": "x" * 1001})
        closing = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "websocket.close":
                closing.set()
                await asyncio.get_running_loop().create_future()

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"a"), (b"origin", ORIGIN.encode())]}
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(guard(scope, said.get, send))
        await asyncio.wait([task], timeout=10)
        assert closing.is_set() and task.done()
        assert (type(task.exception()) is ZeroDivisionError) == raises
        await end(guard)
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before

    run(main)


def test_who_is_cancelled_leaves_no_word_of_the_core_behind(run: Run) -> None:
    """A time-out around the application ends it, and the server's `send` would wait for that client for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        guard = Guard(app, stated(max_message_bytes=1000, close_timeout_ms=100))
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})
        said.put_nowait({"type": "websocket.receive", "text": "x" * 1001})
        closing, given_up = asyncio.Event(), asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "websocket.close":
                closing.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    given_up.set()

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"a"), (b"origin", ORIGIN.encode())]}
        task = asyncio.ensure_future(guard(scope, said.get, send))
        await asyncio.wait_for(closing.wait(), 10)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        await asyncio.wait_for(given_up.wait(), 10)
        await end(guard)

    run(main)
