"""Waiting for whatever happens next to a connection."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any


class Changing:
    """Somebody may wait for the next change of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: A dictionary for its order: who came first goes on first.
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._context = contextvars.copy_context()

    def _task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task in the context that the connection came in, and not in that of whoever tells of it."""
        return self._context.run(self.loop.create_task, coroutine)

    def _wake(self) -> None:
        """Whoever waits looks again."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _changes(self) -> None:
        future = self.loop.create_future()
        self._waiting[future] = None
        try:
            await future
        finally:
            # Whoever polls (`wait_for(receive(), ...)`) leaves nothing.
            self._waiting.pop(future, None)
