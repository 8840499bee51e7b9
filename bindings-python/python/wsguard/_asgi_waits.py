"""Waiting for whatever happens next to a connection."""

from __future__ import annotations

import asyncio


class Changing:
    """Somebody may wait for the next change of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def _wake(self) -> None:
        """Whoever waits looks again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _changes(self) -> None:
        future = self.loop.create_future()
        self._waiting.append(future)
        await future
