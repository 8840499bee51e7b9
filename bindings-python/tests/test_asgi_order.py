"""In which order applications under uvicorn learn of their peers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from conftest import Run
from test_uvicorn import HEAD, Serving, policy
from wsguard import _asgi_core


@pytest.mark.parametrize("threads", [1, 2])
def test_whom_a_peer_knows_to_be_there_the_application_knows_first(run: Run, threads: int) -> None:
    there: list[Any] = []
    accepting: list[Any] = []
    heard: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    def hold_up(serving: Serving, client: threading.Thread) -> None:
        # The loop does nothing until both are open and one has spoken.
        client.join(10)
        core = _asgi_core._cores[serving.server.server_state]
        until = time.monotonic() + 10
        while core.stats()["messages_in"] < 1 and time.monotonic() < until:
            time.sleep(0.001)

    async def main() -> None:
        both = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            accepting.append(scope)
            if len(accepting) == 2:
                both.set()
                asyncio.get_running_loop().call_soon(hold_up, serving, client)
            await both.wait()
            await send({"type": "websocket.accept"})
            there.append(scope)
            while (message := await receive())["type"] == "websocket.receive":
                heard.put_nowait((message["text"], len(there)))

        def speak() -> None:
            peers = [socket.create_connection(("127.0.0.1", serving.port), 10) for _ in range(2)]
            for peer in peers:
                peer.sendall(HEAD)
            for peer in peers:
                while not peer.recv(4096).endswith(b"\r\n\r\n"):
                    pass
            # Unmasked by a mask of nothing.
            peers[0].sendall(b"\x81\x85\0\0\0\0hello")
            kept.extend(peers)

        kept: list[socket.socket] = []
        client = threading.Thread(target=speak)
        async with Serving(app, ws=policy(threads=threads)) as serving:
            client.start()
            assert await asyncio.wait_for(heard.get(), 20) == ("hello", 2)
            for peer in kept:
                peer.close()

    run(main)
