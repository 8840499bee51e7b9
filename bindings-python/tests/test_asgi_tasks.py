"""Several tasks of an application that speak on one connection, as those of Quart, or of a broadcast, do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import Run
from test_asgi import Client, end, policy
from test_uvicorn import Serving
from wsguard.asgi import Guard


async def hasty(scope: Any, receive: Any, send: Any) -> None:
    """Several tasks send, and the last one closes, while one accepts."""
    await receive()
    said: list[dict[str, Any]] = [{"type": "websocket.send", "text": str(n)} for n in range(20)]
    # In the order of their creation; each begins before the first of them has ended.
    ends = [{"type": "websocket.close", "code": 1000}]
    await asyncio.gather(*[send(message) for message in [{"type": "websocket.accept"}, *said, *ends]])


def test_what_is_said_while_another_task_accepts_comes_behind(run: Run) -> None:
    async def main() -> None:
        async with Serving(hasty) as serving, serving.connect() as client:
            assert [message async for message in client] == [str(n) for n in range(20)]
            assert client.close_code == 1000

    run(main)


def test_under_a_middleware_as_well(run: Run) -> None:
    async def main() -> None:
        guard = Guard(hasty, policy())
        client = Client(guard)
        assert (await client.hear())["type"] == "websocket.accept"
        assert [(await client.hear())["text"] for _ in range(20)] == [str(n) for n in range(20)]
        assert (await client.hear())["code"] == 1000
        await client.leave(1000)
        await end(guard)

    run(main)


def test_an_accept_whose_caller_is_cancelled_is_one_nevertheless(run: Run) -> None:
    """The core has said yes by then, and does not take a second one: the client would wait for ever."""
    errors: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        accepting = asyncio.ensure_future(send({"type": "websocket.accept"}))
        await asyncio.sleep(0)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        try:
            await send({"type": "websocket.accept"})
        except RuntimeError as error:
            errors.append(error)
        await send(await receive() | {"type": "websocket.send"})

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard)
        assert (await client.hear())["type"] == "websocket.accept"
        client.say(text="heard")
        assert (await client.hear())["text"] == "heard"
        assert len(errors) == 1 and "has its answer" in str(errors[0])
        await asyncio.wait_for(client.task, 10)
        await end(guard)

    run(main)


def test_an_application_that_leaves_while_it_accepts_leaves_no_task(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        accepting = asyncio.ensure_future(send({"type": "websocket.accept"}))
        await asyncio.sleep(0)
        accepting.cancel()
        raise KeyError

    async def main() -> None:
        before = asyncio.all_tasks()
        guard = Guard(app, policy())
        client = Client(guard)
        with pytest.raises(KeyError):
            await asyncio.wait_for(client.task, 10)
        await end(guard)
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before

    run(main)


@pytest.mark.parametrize("kind", ["websocket.send", "websocket.close"])
def test_who_speaks_while_an_accept_fails_is_told(run: Run, kind: str) -> None:
    """The core takes no subprotocol that the client has not offered; a server would take `kind` for an answer."""
    errors: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        accept = {"type": "websocket.accept", "headers": [], "subprotocol": "unasked"}
        said = [send(accept), send({"type": kind, "text": "x"})]
        errors.extend(await asyncio.gather(*said, return_exceptions=True))

    async def main() -> None:
        guard = Guard(app, policy())
        client = Client(guard, extensions={"websocket.http.response": {}})
        await asyncio.wait_for(client.task, 10)
        assert all(isinstance(error, Exception) for error in errors), errors
        kinds = [client.sent.get_nowait()["type"] for _ in range(client.sent.qsize())]
        assert "websocket.accept" not in kinds and kind not in kinds
        await end(guard)

    run(main)
