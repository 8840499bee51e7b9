"""Which event loop a server runs on: one that runs already, or one made for it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any, Literal

from . import _patched
from ._errors import UsageError

LoopName = Literal["auto", "native", "asyncio", "uvloop"]


def running() -> asyncio.AbstractEventLoop:
    """The loop that runs on this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = "a running asyncio event loop is needed here (trio is none); without one, use server.run()"
        raise UsageError(message, code="no_event_loop") from None


def soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *given: Any) -> None:
    """Has a loop make a call, from any thread and from a signal handler.

    On the loop's own thread nothing is left to what wakes the loop: a child of ``fork`` that goes on with a uvloop of
    its parent waits at the same descriptors, and takes what was to wake the parent.

    Raises:
        RuntimeError: the loop is closed.
    """
    loop.call_soon_threadsafe(call, *given)
    if asyncio._get_running_loop() is loop:
        # A loop that has something to do does not wait.
        loop.call_soon(_nothing)


def _nothing() -> None:
    pass


def check_none_runs() -> None:
    """Raises where a server that runs on this thread would stop everything else."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        message = "run() inside of a running event loop would stop it: use await server.serve(), or async with server"
        raise UsageError(message, code="running_event_loop")
    if _patched.in_greenlet():
        message = (
            f"run() in a greenlet of {_patched.by()} would stop all others: run it in a thread of the system, "
            "for gevent: gevent.get_hub().threadpool.spawn(server.run)"
        )
        raise UsageError(message, code="monkey_patched")


def best(needs_asyncio: bool) -> LoopName:
    """What ``"auto"`` is: no loop where every handler is a plain function, else uvloop when it is installed."""
    if not needs_asyncio:
        return "native"
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a loop of that name."""
    if name == "asyncio":
        return asyncio.new_event_loop
    if name == "uvloop":
        import uvloop

        new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return new
    raise ValueError(f'loop must be "auto", "native", "asyncio" or "uvloop", not {name!r}')


def run(new: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any]) -> None:
    """Runs a coroutine on a new loop, to the end of both."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=new) as runner:
            runner.run(main())
        return
    loop = new()
    try:
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except BaseException:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
            raise
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
