"""How coroutines become tasks: in the context of their connection, at once where Python can, by the loop's own factory
where it has one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

CreateTask = Callable[[Coroutine[Any, Any, Any], Context], "asyncio.Future[Any]"]


def creator(loop: asyncio.AbstractEventLoop) -> CreateTask:
    """What makes a coroutine a task of ``loop``."""
    if sys.version_info >= (3, 12):
        eager = functools.partial(asyncio.Task, loop=loop, eager_start=True)

        def create(coroutine: Coroutine[Any, Any, Any], context: Context) -> asyncio.Future[Any]:
            if loop.get_task_factory() is None:
                # The first step runs at once: a coroutine that never waits costs no round of the loop.
                return eager(coroutine, context=context)
            return loop.create_task(coroutine, context=context)

        return create
    if sys.version_info >= (3, 11):
        return lambda coroutine, context: loop.create_task(coroutine, context=context)
    # 3.10 knows no context for tasks: the task begins with a copy, and what it sets stays in it.
    return lambda coroutine, context: context.run(loop.create_task, coroutine)


class Stopped:
    """Set once; awaited on any loop."""

    def __init__(self) -> None:
        # No lock: the garbage collector may call `set` in the midst of `wait`. Each step is one of the interpreter's.
        self._is_set = False
        self._waiting: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for future in tuple(self._waiting):
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits there, others do
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            # Looked at when it can be told: one that is set between is told as well.
            if not self._is_set:
                await future
        finally:
            self._waiting.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
