"""A server for the time of a test: on any free port of this machine, whatever its options say."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._server import Server

#: Milliseconds that a test waits for connections and handlers at its end.
DRAIN_MS = 1000


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    """Runs a server on the running event loop, on a free port of this machine; at the end it drains for a second at
    most. It raises what :meth:`Server.start` raises."""
    with _moved(server):
        await server.start()
        try:
            yield server
        finally:
            await server.drain(DRAIN_MS)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Runs a server on a thread of its own, on a free port of this machine; at the end it drains for a second at most.
    Handlers run on that thread, on an event loop if one of them is a coroutine. It raises what :meth:`Server.run`
    raises."""
    started = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            server.run(started=started.set, signals=False)
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="wsguard-test", daemon=True)
    with _moved(server):
        thread.start()
        started.wait()
        if failed:
            raise failed[0]
        try:
            yield server
        finally:
            with contextlib.suppress(Exception):  # it has ended already
                server.drain(DRAIN_MS)
            thread.join(DRAIN_MS / 1000 + 10)
        # A handler has ended it: `sys.exit()`.
        if failed:
            raise failed[0]


@contextlib.contextmanager
def _moved(server: Server) -> Iterator[None]:
    """The addresses of production stay free: a test must not need them."""
    before, server._listens_elsewhere = server._listens_elsewhere, _elsewhere
    try:
        yield
    finally:
        server._listens_elsewhere = before


def _elsewhere(options: dict[str, Any]) -> dict[str, Any]:
    moved = {**options, "listen": "127.0.0.1:0"}
    if options.get("admin_listen") is not None:
        moved["admin_listen"] = "127.0.0.1:0"
    # A client of a test is no proxy, and no peer of a Unix socket.
    for name in ("unix_mode", "reuse_port", "proxy_protocol"):
        moved.pop(name, None)
    if isinstance(proxies := options.get("trusted_proxies"), (list, tuple)):
        moved["trusted_proxies"] = [proxy for proxy in proxies if proxy != "unix"]
    return moved
