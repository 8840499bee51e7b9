"""Signals while ``Server.run`` runs: the first SIGINT or SIGTERM drains, the second stops and interrupts; SIGHUP reads
the file of the options again."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import _log

if TYPE_CHECKING:
    from ._server import Server

#: What is there before anybody has said otherwise: only that is replaced.
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


@contextlib.contextmanager
def ending(server: Server) -> Iterator[None]:
    """On the main thread; a signal that the application handles itself, or ignores, stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, starts = 0, server._starts

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if server._starts > starts:
            if asked == 1:
                server.drain()
                return
            server.stop()
        # Nothing runs yet; or something still blocks this thread: a handler, the application's own clean-up.
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def on_hangup(number: int, frame: FrameType | None) -> None:
        if server._starts > starts:
            # A thread of its own: connections do not wait until schemas are compiled.
            reload = threading.Thread(target=server._reload_file, name="wsguard-reload", daemon=True)
            try:
                reload.start()
            except RuntimeError as error:  # there are too many: that must not end the server
                _log.say(logging.ERROR, f"{server._file} is not read again, the policy stays as it is: {error}")

    before: dict[signal.Signals, Any] = {}
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and server._file is not None and signal.getsignal(hangup) in _DEFAULTS:
        before[hangup] = signal.signal(hangup, on_hangup)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in _DEFAULTS:
            before[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            # What the application has set meanwhile is its own.
            if signal.getsignal(number) in (on_signal, on_hangup):
                signal.signal(number, handler)
