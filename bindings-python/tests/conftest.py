"""What the idiom tests share: every asynchronous test runs on asyncio and on uvloop, beside a `websockets` client."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
import websockets
import wsguard
from websockets.asyncio.client import ClientConnection, connect
from wsguard import _log

ORIGIN = "https://app.example"

if hasattr(signal, "SIGHUP"):
    # Whoever starts the tests by nohup ignores it, and every program that they start would, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
Run = Callable[[Callable[[], Awaitable[None]]], None]


def options(**more: Any) -> Any:
    """The least of a policy, on any free port."""
    return {"listen": "127.0.0.1:0", "threads": 1, "origins": [ORIGIN], "auth": "none", **more}


def _uvloop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _NoReaders(asyncio.SelectorEventLoop):
    """A loop that watches no descriptors, as the proactor loop of Windows."""

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _fresh_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test logs is not counted against the next."""
    monkeypatch.setattr(_log, "_sampler", _log.Sampler())


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": _uvloop,
    "proactor": _NoReaders,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on each kind of loop; whatever it left behind fails the test."""
    loop = LOOPS[request.param]()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            await asyncio.wait_for(main(), 30)

        loop.run_until_complete(limited())
        left = {task for task in asyncio.all_tasks(loop) if not task.done()}
        assert not left, f"tasks that nobody ended: {left}"
        assert not faults, f"faults on the loop: {faults}"

    yield run
    loop.close()


@contextlib.asynccontextmanager
async def client(server: wsguard.Server, path: str = "/", **more: Any) -> AsyncIterator[ClientConnection]:
    """A client of the server, closed at the end."""
    more.setdefault("origin", websockets.Origin(ORIGIN))
    async with connect(f"ws://{server.address}{path}", compression=None, **more) as connection:
        yield connection


def run_beside(server: wsguard.Server, loop: Any, talk: Coroutine[Any, Any, None]) -> None:
    """Runs a server while a thread beside it talks to it, and ends it."""
    talking = threading.Thread(target=lambda: asyncio.run(talk))
    server.run(loop, started=talking.start)
    talking.join()
