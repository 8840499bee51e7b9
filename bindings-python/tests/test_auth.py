"""Authentication by the application: its answer, its silence and its faults."""

from __future__ import annotations

import asyncio
import datetime
import functools
import time
from collections.abc import Callable
from typing import Any

import pytest
import wsguard
from conftest import Run, client, options, run_beside
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from wsguard import Accept, Connection, Reject, Request


async def refused(server: wsguard.Server, **more: Any) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        async with client(server, **more):
            pass
    return refusal.value.response.status_code


def policy(**more: Any) -> Any:
    stated = options(**more)
    del stated["auth"]
    return stated


@pytest.mark.parametrize("asynchronous", [False, True])
def test_accept_carries_user_and_data(run: Run, asynchronous: bool) -> None:
    async def main() -> None:
        # Registering a callback states auth: "callback".
        server = wsguard.Server(**policy(protocol="raw", token_sources=["cookie:session", "query:t"]))
        seen: list[Request] = []
        opened: asyncio.Queue[Connection] = asyncio.Queue()

        def decide(request: Request) -> Accept | Reject:
            seen.append(request)
            if request.cookies.get("session") != "good":
                return Reject(403)
            return Accept("alice", {"role": "admin"})

        async def decide_later(request: Request) -> Accept | Reject:
            await asyncio.sleep(0.01)
            return decide(request)

        server.authenticate(decide_later if asynchronous else decide)
        server.on_open(opened.put_nowait)

        async with server:
            headers = [("Cookie", "session=good; session2=x"), ("X-Thing", "1"), ("X-Thing", "2")]
            async with client(server, "/chat?a=b", additional_headers=headers):
                conn = await opened.get()
                assert (conn.user, conn.data, conn.path, conn.ip) == ("alice", {"role": "admin"}, "/chat", "127.0.0.1")
                conn.data = 5
                assert conn.data == 5 and "alice" in repr(conn)
            assert await refused(server) == 403
            # The same credential twice never reaches the application.
            assert await refused(server, additional_headers=[("Cookie", "session=a; session=b")]) == 400
        request = seen[0]
        assert (request.method, request.path, request.query, request.ip) == ("GET", "/chat", "a=b", "127.0.0.1")
        assert request.token == "good" and request.peer_certificate is None
        assert request.cookies == {"session": "good", "session2": "x"}
        assert request.headers["x-THING"] == "1" and request.headers.getall("X-Thing") == ["1", "2"]
        assert request.headers.get("absent") is None and "Origin" in request.headers
        assert "good" not in repr(request) + repr(request.headers)

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_fault_refuses_with_503(run: Run, asynchronous: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = wsguard.Server(**policy())
        answers: dict[str | None, Any] = {"none": None, "true": True, "user": "alice"}

        def decide(request: Request) -> Any:
            if request.token == "boom":
                raise RuntimeError("a fault")
            return answers[request.token]

        async def decide_later(request: Request) -> Any:
            await asyncio.sleep(0)
            return decide(request)

        server.authenticate(decide_later if asynchronous else decide)
        async with server:
            for token in ("boom", "none", "true", "user"):
                assert await refused(server, additional_headers={"X-Auth-Token": token}) == 503
        told = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
        assert told[:3] == [
            "a fault",
            "authenticate must return Accept or Reject, not NoneType",
            "authenticate must return Accept or Reject, not bool",
        ]
        assert told[3] == "authenticate must return Accept or Reject, not str"

    run(main)


@pytest.mark.parametrize("written", ["function", "lambda", "object", "partial", "decorated", "method"])
def test_silence_is_cancelled(run: Run, written: str) -> None:
    """However it is written: of some callables only the call tells that they give a coroutine."""

    async def main() -> None:
        server = wsguard.Server(**policy(auth_timeout_ms=100))
        cancelled = asyncio.Event()

        async def hang(request: Request) -> Accept:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()
            return Accept.anonymous()

        class Hanging:
            async def __call__(self, request: Request) -> Accept:
                return await hang(request)

            async def decide(self, request: Request) -> Accept:
                return await hang(request)

        async def with_more(_: int, request: Request) -> Accept:
            return await hang(request)

        @functools.wraps(hang)
        def decorated(request: Request) -> Any:
            return hang(request)

        callbacks: dict[str, Callable[[Request], Any]] = {
            "function": hang,
            "lambda": lambda request: hang(request),
            "object": Hanging(),
            "partial": functools.partial(with_more, 1),
            "decorated": decorated,
            "method": Hanging().decide,
        }
        server.authenticate(callbacks[written])

        async with server:
            assert await refused(server) == 503
            await cancelled.wait()

    run(main)


def test_a_callback_that_was_cancelled_may_clean_up(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**policy(auth_timeout_ms=50))
        cleaned: asyncio.Queue[str] = asyncio.Queue()

        @server.authenticate
        async def hang(request: Request) -> Accept:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                try:
                    # Longer than it takes to look after handshakes: a connection of a pool is given back.
                    await asyncio.sleep(0.4)
                    cleaned.put_nowait("whole")
                except asyncio.CancelledError:
                    cleaned.put_nowait("in part")
                    raise
            return Accept.anonymous()

        async with server:
            assert await refused(server) == 503
            assert await cleaned.get() == "whole"

    run(main)


def test_a_session_expires(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**policy())

        @server.authenticate
        def soon(request: Request) -> Accept:
            if request.token == "ms":
                return Accept("alice", expires_at_ms=int(time.time() * 1000) + 100)
            return Accept(
                "bob", expires_at=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.1)
            )

        async with server:
            for token in ("ms", "datetime"):
                async with client(server, additional_headers={"X-Auth-Token": token}) as peer:
                    with pytest.raises(ConnectionClosedError) as closed:
                        await peer.recv()
                    assert closed.value.rcvd is not None and closed.value.rcvd.reason == "session expired"

    run(main)


def test_a_session_that_has_expired_is_closed_at_once() -> None:
    server = wsguard.Server(**policy(protocol="raw"))
    after: list[str] = []

    @server.authenticate
    def soon(request: Request) -> Accept:
        return Accept("alice", expires_at_ms=int(time.time() * 1000) + 300)

    @server.on_message
    def message(conn: Connection, _: str) -> None:
        # The core cannot have told of the end yet: this thread is here.
        while conn.is_open:
            time.sleep(0.001)
        after.append(conn.send_nowait("late"))

    async def talk() -> None:
        async with client(server, additional_headers={"X-Auth-Token": "t"}) as peer:
            await peer.send("now")
            await peer.send("not any more")
            with pytest.raises(ConnectionClosedError, match="session expired"):
                await peer.recv()
        server.stop()

    run_beside(server, "native", talk())
    assert after == ["closed"]


def test_disconnect_user(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**policy())
        server.authenticate(lambda request: Accept(request.token or "?"))
        async with server, client(server, additional_headers={"X-Auth-Token": "mallory"}) as peer:
            server.disconnect_user("mallory")
            with pytest.raises(ConnectionClosedError) as closed:
                await peer.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    run(main)


def test_answers_say_what_is_wrong_with_them() -> None:
    with pytest.raises(ValueError, match="300 to 599, not 200"):
        Reject(200)
    with pytest.raises(ValueError, match="in seconds: times 1000"):
        Accept("a", expires_at_ms=int(time.time()) + 3600)
    with pytest.raises(ValueError, match="time zone"):
        Accept("a", expires_at=datetime.datetime(2030, 1, 1))
    with pytest.raises(ValueError, match="not both"):
        Accept("a", expires_at=datetime.datetime.now(datetime.timezone.utc), expires_at_ms=1)
    with pytest.raises(TypeError, match="must be a datetime"):
        Accept("a", expires_at=1.5)  # type: ignore[arg-type]
    assert (Reject().status, Accept.anonymous().user, Accept("a", expires_at_ms=5).expires_at_ms) == (401, None, 5)
    # Nobody is let in without a name by an oversight.
    nameless: list[Any] = [None, 5, b"alice", ["alice"]]
    for name in nameless:
        with pytest.raises(TypeError, match=r"user must be a str, not .*: whoever has no name is Accept.anonymous\(\)"):
            Accept(name)
    for name in ("", "a\nb", "x" * 257):
        with pytest.raises(wsguard.InvalidArgument, match="1 to 256 bytes"):
            Accept(name)
    with pytest.raises(TypeError, match=r"must be an int, not float: int\(time.time\(\) \* 1000\) is now"):
        Accept("a", expires_at_ms=time.time() * 1000)  # type: ignore[arg-type]
    with pytest.raises(wsguard.InvalidArgument, match="expires_at_ms"):
        Accept("a", expires_at_ms=-1)
    assert Accept("a", [1], expires_at_ms=5) == Accept("a", [1], expires_at_ms=5) != Accept("a", [2], expires_at_ms=5)
    assert Reject(403) == Reject(403) != Reject(404)
    assert repr(Accept("ü'")) == '<Accept user="ü\'">' and repr(Accept.anonymous()) == "<Accept anonymous>"
