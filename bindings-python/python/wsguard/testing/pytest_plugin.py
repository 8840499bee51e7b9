"""The fixture ``wsguard_connect``, for pytest: a server and clients for the time of a test, without a coroutine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .._server import Server
    from ._sync import SyncClient


@pytest.fixture
def wsguard_connect() -> Iterator[Callable[..., SyncClient]]:
    """Connects to a server: ``alice = wsguard_connect(server, user="alice")``, with the arguments of
    :func:`wsguard.testing.connect_sync`. The first client of a server starts it, on a thread of its own. At the end of
    the test every client is closed, and every server drained."""
    from . import connect_sync, running

    with contextlib.ExitStack() as ends:
        started: set[int] = set()

        def connect(server: Server, path: str = "/", **more: Any) -> SyncClient:
            if id(server) not in started:
                ends.enter_context(running(server))
                started.add(id(server))
            return ends.enter_context(connect_sync(server, path, **more))

        yield connect
