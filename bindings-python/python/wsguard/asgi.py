"""A middleware for ASGI servers that have no door for a WebSocket protocol: hypercorn, granian, daphne. Under uvicorn
:mod:`wsguard.uvicorn` does more for less."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _asgi_policy
from ._asgi_core import Core, Start
from ._asgi_guarded import Disconnected, Guarded

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import Options

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["Disconnected", "Guard"]


class Guard:
    """It cannot see what the server that it runs in has done before it: that server reads the frames, keeps a whole
    message in memory before its size is known here, answers pings, and does TLS. What it can judge are handshakes
    (``Origin``, ``Host``, tokens, limits of places and rate) and whole messages (size, rate, contract), by the same
    core as everywhere::

        app = Guard(app, origins=["https://app.example.com"], auth={"jwt": {...}})

    A refused handshake has the status of its verdict where the server has the extension ``websocket.http.response``,
    else 403. A violation is closed by its code, on servers that take only those of applications (daphne) by that code
    plus 3000: 4008, 4009. ``scope["extensions"]["wsguard"]`` has ``user``, ``roles`` and ``ip``. Keep-alive is the
    server's: ``ping_interval_ms`` and ``idle_timeout_ms`` are off. So is compression: messages come here decompressed,
    and ``compression`` says nothing. What is no WebSocket passes untouched.

    Args:
        app: the ASGI application.
        policy: the options as a dictionary.
        options: the options; they take precedence over ``policy``. ``protocol`` is ``"raw"`` unless stated.

    Raises:
        ConfigError: the options are invalid, or belong to the server (``listen``, ``tls``); the error names the option.
    """

    def __init__(self, app: App, policy: Options | None = None, /, **options: Unpack[Options]) -> None:
        self._app = app
        stated: Mapping[str, Any] = {**(policy or {}), **options}
        self._policy = _asgi_policy.without_keep_alive(_asgi_policy.checked(stated))
        self._cores: dict[asyncio.AbstractEventLoop, Core] = {}
        self._start = Start()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await Guarded(self._core(), scope, receive, send).run(self._app)
        elif scope["type"] == "lifespan":
            try:
                _running_loop()
            except RuntimeError as error:
                # The server shall not start: what is raised here it may take for an application without lifespan.
                await receive()
                return await send({"type": "lifespan.startup.failed", "message": str(error)})
            await self._app(scope, self._until_shutdown(receive), send)
        else:
            await self._app(scope, receive, send)

    def _core(self) -> Core:
        loop = _running_loop()
        core = self._cores.get(loop)
        if core is None:
            # A core keeps its loop: where no lifespan ends it (test clients make a loop for each connection), it stays.
            for ended in [other for other in self._cores if other.is_closed()]:
                del self._cores[ended]
            core = self._cores[loop] = self._start(lambda: self._policy, loop, None)
        return core

    def _until_shutdown(self, receive: Receive) -> Receive:
        async def told() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                core = self._cores.pop(asyncio.get_running_loop(), None)
                if core is not None:
                    core.leave()
            return message

        return told


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "wsguard.asgi.Guard runs on asyncio, and this is no event loop of it: hypercorn's worker class must be "
            "asyncio or uvloop, not trio"
        ) from None
