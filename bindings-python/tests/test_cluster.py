"""Several servers as one over a real Redis: what crosses, what is counted everywhere, and how questions end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import own_redis
import process
import pytest
import websockets
import wsguard
from conftest import ORIGIN, Run, client, options, run_beside
from websockets.asyncio.client import connect
from wsguard import ConfigError, Everywhere, UsageError
from wsguard.asgi import Guard

TOKENS = {"tokens": [{"token": user * 32, "user": user} for user in "ab"]}


@pytest.fixture(scope="module")
def redis() -> Iterator[int]:
    with own_redis.running() as port:
        yield port


def clustered(redis: int, name: str, **more: Any) -> Any:
    cluster = {"url": f"redis://127.0.0.1:{redis}", "name": name, **more.pop("cluster", {})}
    return options(auth=TOKENS, events={"join": {}, "ping": {}}, cluster=cluster, **more)


class Node(wsguard.Server):
    """A node whose clients join the room that they name."""

    def __init__(self, stated: Any) -> None:
        super().__init__(stated)
        self.name = stated["cluster"]["name"]

        @self.on("join")
        async def join(conn: wsguard.Connection, room: str) -> None:
            conn.join(room)
            await conn.emit("joined", room)

        @self.on("ping")
        async def ping(conn: wsguard.Connection, data: Any) -> None:
            await conn.emit("pong", data)


@contextlib.asynccontextmanager
async def nodes(redis: int, count: int = 2, **more: Any) -> AsyncIterator[list[Node]]:
    name = uuid.uuid4().hex
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Node(clustered(redis, name, **more))) for _ in range(count)]


def user(name: str) -> dict[str, Any]:
    return {"additional_headers": {"X-Auth-Token": name * 32}}


async def join(peer: Any, room: str = "lobby") -> None:
    await peer.send(json.dumps({"event": "join", "data": room}))
    assert json.loads(await peer.recv())["event"] == "joined"


async def counted(node: wsguard.Server, wanted: int) -> Everywhere:
    """The lobby once the others know of each other: a subscription is made behind the join."""
    while len(everywhere := await node.to("lobby").everywhere()) != wanted:
        await asyncio.sleep(0.01)
    return everywhere


def test_a_room_a_user_and_everybody_are_counted_on_all_nodes(run: Run, redis: int) -> None:
    async def main() -> None:
        async with (
            nodes(redis) as (one, two),
            client(one, **user("a")) as first,
            client(two, **user("a")) as second,
            client(two, **user("b")) as third,
        ):
            for peer in (first, second, third):
                await join(peer)
            await join(third, "other")
            assert await counted(one, 3) == Everywhere(connections=3, missing=0)
            assert await counted(two, 3) == Everywhere(connections=3, missing=0)
            assert len(await one.to_user("a").everywhere()) == 2
            assert len(await one.to("other", "lobby").everywhere()) == 3, "who is in both counts once"
            assert len(await one.to_all().everywhere()) == 3
            [own] = one.to("lobby").members()
            assert len(await one.to("lobby").except_(own).everywhere()) == 2
            assert one.to("lobby").size == 1, "what is not asked for everywhere is of this node"

    run(main)


def test_a_message_a_ban_a_disconnect_and_a_limit_cross(run: Run, redis: int) -> None:
    async def main() -> None:
        async with nodes(redis, max_connections_per_user=2) as (one, two):
            async with client(one, **user("a")) as first, client(two, **user("a")) as second:
                await join(first)
                await join(second)
                await counted(one, 2)
                one.to("lobby").emit("news", 7)
                for peer in (first, second):
                    assert json.loads(await peer.recv())["data"] == 7
                with pytest.raises(websockets.InvalidStatus) as full:
                    async with client(one, **user("a")):
                        pass
                assert full.value.response.status_code == 429
                two.disconnect_user("a")
                for peer in (first, second):
                    with pytest.raises(websockets.ConnectionClosedError) as closed:
                        await peer.recv()
                    assert closed.value.rcvd is not None and closed.value.rcvd.reason == "session revoked"
            async with client(two, **user("b")) as third:
                one.ban(user="b")
                with pytest.raises(websockets.ConnectionClosedError):
                    await third.recv()
            assert [ban.user for ban in two.bans()] == ["b"]
            assert one.stats()["cluster_up"] == 1 and one.stats()["cluster_dropped"] == 0

    run(main)


def test_a_room_is_cleared_and_closed_on_all_nodes(run: Run, redis: int) -> None:
    async def main() -> None:
        async with nodes(redis) as (one, two), client(one, **user("a")) as first, client(two, **user("b")) as second:
            for peer in (first, second):
                await join(peer)
            await join(second, "other")
            await counted(one, 2)
            [theirs] = two.connections_of("b")
            one.to("lobby").clear()
            while theirs.rooms != ("other",):
                await asyncio.sleep(0.01)
            assert one.to("lobby").size == 0
            theirs.join("lobby")
            await counted(one, 1)
            one.to("lobby").emit("first")
            one.to("lobby").close(4000, "away")
            assert json.loads(await second.recv())["event"] == "first"
            with pytest.raises(websockets.ConnectionClosedError) as away:
                await second.recv()
            assert away.value.rcvd is not None and (away.value.rcvd.code, away.value.rcvd.reason) == (4000, "away")
            two.to_all().close(4001)
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await first.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4001

    run(main)


@contextlib.asynccontextmanager
async def a_silent_node(redis: int) -> AsyncIterator[Node]:
    """A node that is not alone, and a member of the lobby's channel that answers no question."""
    async with nodes(redis) as (one, _), own_redis.listening(redis, f"wsguard:{one.name}:room:lobby"):
        # It is not alone from here on.
        while (await one.to("lobby").everywhere(timeout_ms=50)).missing == 0:
            await asyncio.sleep(0.01)
        yield one


def test_who_does_not_answer_is_missing(run: Run, redis: int) -> None:
    async def main() -> None:
        async with a_silent_node(redis) as one:
            assert await one.to("lobby").everywhere(timeout_ms=0) == Everywhere(connections=0, missing=1)
            many = await asyncio.gather(*(one.to("lobby").everywhere(timeout_ms=100) for _ in range(1000)))
            assert many == [Everywhere(connections=0, missing=1)] * 1000
            asked = asyncio.ensure_future(one.to("lobby").everywhere(timeout_ms=60_000))
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert (await one.to("lobby").everywhere(timeout_ms=1)).missing == 1

    run(main)


@pytest.mark.parametrize("end", ["stop", "drain"])
def test_a_question_ends_with_its_server(run: Run, redis: int, end: str) -> None:
    async def main() -> None:
        async with a_silent_node(redis) as one:
            asked = [asyncio.ensure_future(one.to("lobby").everywhere(timeout_ms=60_000)) for _ in range(10)]
            await asyncio.sleep(0)
            one.stop() if end == "stop" else one.drain(0)
            for question in asked:
                with pytest.raises(UsageError) as stopped:
                    await question
                assert stopped.value.code == "stopped"
            with pytest.raises(UsageError) as late:
                await one.to("lobby").everywhere()
            assert late.value.code == "stopped"

    run(main)


def test_without_a_cluster_nobody_is_asked(run: Run) -> None:
    async def main() -> None:
        async with wsguard.Server(options(protocol="raw")) as server, client(server):
            while len(everywhere := await server.to_all().everywhere()) == 0:
                await asyncio.sleep(0)
            assert everywhere == Everywhere(connections=1, missing=0)
            with pytest.raises(TypeError, match="timeout_ms must be an int"):
                await server.to_all().everywhere(timeout_ms=0.5)  # type: ignore[arg-type]
            with pytest.raises(wsguard.InvalidArgument, match="timeout_ms"):
                await server.to_all().everywhere(timeout_ms=-1)
        with pytest.raises(UsageError) as stopped:
            await server.to_all().everywhere()
        assert stopped.value.code == "stopped"

    run(main)


def test_a_server_without_a_loop_is_asked_from_any_loop(redis: int) -> None:
    server = wsguard.Server(clustered(redis, uuid.uuid4().hex))
    server.on("ping")(lambda conn, data: None)
    server.on("join")(lambda conn, data: None)
    answers: list[Everywhere] = []

    async def ask() -> None:
        try:
            answers.append(await server.to_all().everywhere())
        finally:
            server.stop()

    run_beside(server, "native", ask())
    assert answers == [Everywhere(connections=0, missing=0)]


def test_a_redis_that_refuses_is_an_error_without_its_password(run: Run) -> None:
    async def main() -> None:
        async with own_redis.refusing() as port:
            cluster = {"url": f"redis://me:s3cret@127.0.0.1:{port}"}
            server = wsguard.Server(options(protocol="raw", cluster=cluster))
            with pytest.raises(ConfigError) as refused:
                await asyncio.to_thread(lambda: asyncio.run(server.serve()))
            assert (refused.value.code, refused.value.option) == ("invalid_option", "cluster.url")
            assert "password" in str(refused.value) and "s3cret" not in repr(refused.value) + str(refused.value)
        for url in ("http://127.0.0.1", "redis://:s3cret@", "redis://:s3cret@host:port"):
            with pytest.raises(ConfigError) as wrong:
                wsguard.Server(options(protocol="raw", cluster={"url": url}))
            assert wrong.value.option == "cluster.url" and "s3cret" not in str(wrong.value)

    run(main)


def test_a_redis_that_is_not_there_is_none(run: Run) -> None:
    async def main() -> None:
        cluster = {"url": f"redis://127.0.0.1:{own_redis.free_port()}", "on_outage": "closed"}
        async with wsguard.Server(options(protocol="raw", cluster=cluster)) as server:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with client(server):
                    pass
            assert refused.value.response.status_code == 503
            stats = server.stats()
            assert stats["verdicts"]["cluster_unavailable"] == 1 and stats["cluster_up"] == 0
            assert await server.to_all().everywhere() == Everywhere(connections=0, missing=0)

    run(main)


WORKER_APP = """
import os
import socket

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(os.getpid())})
        while (await receive())["type"] != "websocket.disconnect":
            pass
"""


@contextlib.contextmanager
def workers(folder: Path, policy: dict[str, Any]) -> Iterator[str]:
    """uvicorn with two workers on one port."""
    (folder / "app.py").write_text(WORKER_APP)
    (folder / "policy.json").write_text(json.dumps(policy))
    port = own_redis.free_port()
    command = [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(port), "--app-dir", str(folder)]
    environment = {**os.environ, "WSGUARD_POLICY": str(folder / "policy.json"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--ws", "wsguard.uvicorn:Protocol", "--lifespan", "off", "app:app"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            said: list[str] = []
            for line in running.stdout:
                said.append(line)
                if sum("Started server process" in one for one in said) == 2:
                    break
            assert running.poll() is None, said
            threading.Thread(target=running.stdout.read, daemon=True).start()
            # That it has started says nothing of the socket, on which the first of them listens behind that.
            until = time.monotonic() + 20
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert time.monotonic() < until, said
                time.sleep(0.01)
            yield f"ws://127.0.0.1:{port}/"
        finally:
            running.terminate()


def test_workers_of_uvicorn_share_a_limit(redis: int, tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(64)]
    tokens = [{"token": name.ljust(32, "."), "user": name} for name in users]
    cluster = {"url": f"redis://127.0.0.1:{redis}", "name": uuid.uuid4().hex}
    policy: dict[str, Any] = {"threads": 1, "origins": [ORIGIN], "auth": {"tokens": tokens}, "cluster": cluster}

    async def main(url: str) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def open_as(name: str) -> str | int:
                """The process that serves it, or the status of its refusal."""
                headers = {"X-Auth-Token": name.ljust(32, ".")}
                try:
                    peer = await stack.enter_async_context(
                        connect(url, origin=websockets.Origin(ORIGIN), additional_headers=headers, compression=None)
                    )
                except websockets.InvalidStatus as refused:
                    return refused.response.status_code
                return str(await peer.recv())

            answers = await asyncio.gather(*(open_as(users[0]) for _ in range(12)))
            assert answers.count(429) == 10, answers
            # The port is shared: others are served by both.
            served = {answer for answer in answers if answer != 429}
            for name in users[1:]:
                served.add(await open_as(name))
            assert len(served) == 2, served
            assert await open_as(users[0]) == 429

    with workers(tmp_path, {**policy, "max_connections_per_user": 2, "handshakes_per_ip": None}) as url:
        asyncio.run(asyncio.wait_for(main(url), 60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_question_of_the_parent_is_not_the_childs(redis: int) -> None:
    said = process.succeeds(
        f"""
        import socket
        cluster = dict(url="redis://127.0.0.1:{redis}", name="{uuid.uuid4().hex}")
        async def main():
            async with make(cluster=cluster) as one, make(cluster=cluster):
                # It hears every question, and answers none.
                silent = socket.create_connection(("127.0.0.1", {redis}))
                silent.sendall(f"SUBSCRIBE wsguard:{{cluster['name']}}:room:lobby\\r\\n".encode())
                assert b":1\\r\\n" in silent.recv(1000)
                while (await one.to("lobby").everywhere(timeout_ms=50)).missing == 0:
                    pass
                asked = asyncio.ensure_future(one.to("lobby").everywhere(timeout_ms=500))
                await asyncio.sleep(0)
                child = os.fork()
                if child == 0:
                    try:
                        await asked
                    except wsguard.UsageError as error:
                        os._exit(7 if error.code == "forked" else 1)
                    os._exit(2)
                print((await asked).missing, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                silent.close()
        asyncio.run(main())
        """
    )
    assert said == "1 7\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads connections on Linux alone")
def test_processes_that_share_a_port_are_nodes(redis: int) -> None:
    said = process.succeeds(
        f"""
        import socket
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        cluster = dict(url="redis://127.0.0.1:{redis}", name="{uuid.uuid4().hex}")
        ask, answer = os.pipe()
        children = []
        for _ in range(2):
            child = os.fork()
            if child:
                children.append(child)
                continue
            server = make(cluster=cluster, listen=f"127.0.0.1:{{port}}", reuse_port=True)
            def started():
                async def all():
                    # Its own open is told to its own process; the other's only by the cluster.
                    while (await server.to_all().everywhere()).connections < 8:
                        pass
                    os.write(answer, b"8")
                threading.Thread(target=lambda: asyncio.run(all())).start()
                os.write(answer, b"s")
            server.on_message(lambda conn, message: None)
            server.run("native", started=started)
            os._exit(0)
        assert os.read(ask, 1) + os.read(ask, 1) == b"ss"
        peers = []
        for _ in range(8):
            peer = socket.create_connection(("127.0.0.1", port))
            head = ["GET / HTTP/1.1", "Host: x", "Origin: https://a.example", "Connection: Upgrade"]
            head += ["Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {{'A' * 22}}=="]
            peer.sendall("\\r\\n".join([*head, "", ""]).encode())
            assert peer.recv(1000).startswith(b"HTTP/1.1 101"), "refused"
            peers.append(peer)
        print(os.read(ask, 1) + os.read(ask, 1))
        for peer in peers:
            peer.close()
        for child in children:
            os.kill(child, signal.SIGTERM)
        print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
        """
    )
    assert said == "b'88'\n[0, 0]\n"


def test_middlewares_of_asgi_share_a_limit(redis: int) -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def main() -> None:
        cluster: Any = {"url": f"redis://127.0.0.1:{redis}", "name": uuid.uuid4().hex}
        policy: Any = {"origins": [ORIGIN], "auth": TOKENS, "max_connections_per_user": 1, "cluster": cluster}
        headers = [(b"host", b"x"), (b"origin", ORIGIN.encode()), (b"x-auth-token", b"a" * 32)]
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "scheme": "ws",
        }
        scope |= {"headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "subprotocols": []}
        scope |= {"http_version": "1.1", "extensions": {"websocket.http.response": {}}}
        said: list[Any] = []
        left = asyncio.Event()
        tasks = []
        for guard in (Guard(accept, policy), Guard(accept, policy)):
            answered = asyncio.Event()
            asked = iter([{"type": "websocket.connect"}])

            async def receive(asked: Any = asked) -> Any:
                for message in asked:
                    return message
                await left.wait()
                return {"type": "websocket.disconnect", "code": 1000}

            async def send(message: Any, answered: asyncio.Event = answered) -> None:
                said.append(message.get("status", message["type"]))
                answered.set()

            tasks.append(asyncio.ensure_future(guard({**scope}, receive, send)))
            await asyncio.wait_for(answered.wait(), 10)
        assert said[:2] == ["websocket.accept", 429]
        left.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
