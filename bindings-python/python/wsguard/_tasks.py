"""How coroutines become tasks: in the context of their connection, at once where Python can, by the loop's own factory
where it has one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any

from . import _loops

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


class Handling(set["asyncio.Task[Any]"]):
    """The tasks of handlers that have not ended. A handler that awaits a drain waits for no other that does: each would
    wait for the other."""

    def __init__(self) -> None:
        super().__init__()
        self._draining: set[asyncio.Task[Any]] = set()
        #: Those of drains that wait, resolved when another handler awaits one.
        self._joined: set[asyncio.Future[None]] = set()

    @contextlib.contextmanager
    def draining(self, own: set[asyncio.Task[Any]]) -> Iterator[None]:
        """While the tasks ``own`` await a drain."""
        new = own - self._draining
        self._draining |= new
        for future in self._joined:
            _wake(future)
        try:
            yield
        finally:
            self._draining -= new

    def besides(self, own: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
        """Those that a drain waits for which the tasks ``own`` await."""
        return self - own - self._draining if self & own else self - own

    async def ended(
        self, tasks: set[asyncio.Task[Any]], timeout_s: float
    ) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
        """Waits until tasks have ended, or another handler awaits a drain: those that have, and those that are late."""
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended = asyncio.ensure_future(asyncio.wait(tasks))
        self._joined.add(joined)
        try:
            woken, _ = await asyncio.wait((ended, joined), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._joined.discard(joined)
            ended.cancel()
        # By itself, not by what was waited for: the time may be over when the last one ends.
        done = {task for task in tasks if task.done()}
        return done, set() if woken else tasks - done


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
                _loops.soon(future.get_loop(), _wake, future)

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            # Looked at when it can be told: one that is set between is told as well.
            if not self._is_set:
                await future
        finally:
            self._waiting.discard(future)


def current() -> asyncio.Task[Any] | None:
    """The task that runs on this thread."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
