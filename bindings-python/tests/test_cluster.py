"""Several servers as one over a real Redis: what crosses, what is counted everywhere, and how questions end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import own_redis
import pytest
import websockets
import wsguard
from conftest import Run, client, options, run_beside
from wsguard import ConfigError, Everywhere, UsageError

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
        async with nodes(redis) as (one, two), client(one, **user("a")) as first, client(two, **user("a")) as second:
            async with client(two, **user("b")) as third:
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


@contextlib.asynccontextmanager
async def a_silent_node(redis: int) -> AsyncIterator[Node]:
    """A node that is not alone, and a member of the lobby's channel that answers no question."""
    async with nodes(redis) as (one, _):
        async with own_redis.listening(redis, f"wsguard:{one.name}:room:lobby"):
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
