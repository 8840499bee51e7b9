"""Delivery on an event loop: what wakes it, and what happens when the loop closes, or the process forks, while the
server runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

from . import _log, _loops, _tasks, _wsguard
from ._errors import UsageError
from ._registration import Registry

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import Options

#: The servers that were started on a loop, for a child of ``fork``.
#: By identity: a class of an application need not be hashable.
_on_loops: weakref.WeakValueDictionary[int, OnLoop] = weakref.WeakValueDictionary()


def forked() -> None:
    """Called in every child of ``fork``. A child may go on with the event loop of its parent, after a handler that
    forked. What waits there for a server of the parent fails, instead of waiting for ever."""
    _wsguard.forked()
    for server in tuple(_on_loops.values()):
        if server._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                server._loop.call_soon(server._tell_child)


class OnLoop(Registry):
    """A server that can deliver its events on an event loop."""

    #: Whether it listens by the option ``listen``. ``False``, set before the start: it listens nowhere, ``addresses``
    #: is empty, and every connection comes by :meth:`Server.adopt`.
    listens: bool = True
    #: Whether another server hands over every connection, and its applications decide about handshakes.
    _is_inside = False

    def __init__(self, base: Options | None = None, /, **options: Unpack[Options]) -> None:
        super().__init__(base, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: int | None = None
        self._watch: weakref.ref[Any] | None = None
        #: Tasks of handlers that have not ended.
        self._tasks = _tasks.Handling()
        self._stopped: _tasks.Stopped | None = None

    def _start_on(self, loop: asyncio.AbstractEventLoop, text: str, handlers: dict[str, Any]) -> None:
        self._watched = self._open_notifier()
        # Only the loop holds it: when it is collected while it is watched, the loop was closed while the server runs.
        deliver = functools.partial(self._deliver)
        if self._watched is not None:
            try:
                loop.add_reader(self._watched, deliver)
                self._watch = weakref.ref(deliver, self._on_loop_closed)
            except NotImplementedError:  # a proactor loop (Windows): a thread waits instead
                self._watched = None
                self._close_notifier()
        del deliver
        deliver_soon = functools.partial(loop.call_soon, self._deliver)
        self._loop, self._stopped, self._tasks = loop, _tasks.Stopped(), _tasks.Handling()
        calls = (loop, loop.create_future, _tasks.creator(loop), deliver_soon, self._on_stopped)
        try:
            more = (loop.call_later, functools.partial(_loops.soon, loop), self._tasks)
            self._start(text, handlers, (*calls, *more), **self._how())
        except BaseException:
            self._unwatch()
            self._leave_loop()
            raise
        _on_loops[id(self)] = self
        if self._watched is None:
            threading.Thread(target=self._notify_loop, args=(loop,), name="wsguard-wait", daemon=True).start()
        # The core notifies of events that come after the first delivery.
        deliver_soon()

    def _how(self) -> dict[str, bool]:
        """Whether the native side listens, and whether applications decide without a deadline."""
        is_listening = (self.listens and not self._is_inside) or self._listens_elsewhere is not None
        return {"listens": is_listening, "consults": self._is_inside}

    def _leave_loop(self) -> None:
        """Forgets the loop of an earlier run."""
        self._loop = self._stopped = None

    def _notify_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._wait():
                loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._on_loop_closed()

    def _unwatch(self) -> None:
        self._watch = None
        if self._watched is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._watched)
        self._watched = None

    def _on_loop_closed(self, _: object = None) -> None:
        """Ends the server: without its loop it would accept connections and call no handler."""
        self._watched = self._watch = None
        if not self._is_forked:
            self._ended("the event loop of a running server was closed: its connections are dropped")

    def _ended(self, why: str) -> None:
        """Ends a server whose loop does not run, and wakes who waits for its end."""
        if self._end():
            _log.say(logging.ERROR, why)
        if self._stopped is not None:
            self._stopped.set()

    def _on_stopped(self) -> None:
        self._unwatch()
        if self._stopped is not None:
            self._stopped.set()

    def _look_again(self) -> None:
        # Ctrl-C may have interrupted the callback that delivers; the end must not depend on that one.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                _loops.soon(self._loop, self._deliver)

    def _tell_child(self) -> None:
        self._wake_waits()
        if self._stopped is not None:
            self._stopped.set()

    async def _wait_stopped(self, stopped: _tasks.Stopped | None) -> None:
        self._check_own_process()
        if stopped is None:
            raise UsageError("awaiting needs a server that runs on an asyncio event loop", code="no_event_loop")
        await stopped.wait()
        self._check_own_process()
