"""The ends that are not the application's to see: of the interpreter, and of an event loop under a server that runs."""

from __future__ import annotations

import contextlib
import time

from . import _wsguard

#: How long the end of the interpreter waits for handlers that run on other threads; from half of it on they are
#: interrupted.
HANDLERS_WITHIN_S = 2.0


def at_exit() -> None:
    """No handler is called any more, those that run have ended, then every server ends.

    A daemon thread is ended where it stands when the interpreter is torn down, and inside of native code that aborts
    the process. What does not end in time is blocked outside of Python, and mostly stays so until the process is gone.
    """
    _wsguard.begin_ending()
    now = time.monotonic()
    interrupts_at, until = now + HANDLERS_WITHIN_S / 2, now + HANDLERS_WITHIN_S
    interrupted: set[int] = set()
    while (busy := _wsguard.busy_threads()) and time.monotonic() < until:
        if time.monotonic() >= interrupts_at:
            for thread in set(busy) - interrupted:
                _interrupt(thread)
            interrupted.update(busy)
        time.sleep(0.002)
    _wsguard.stop_all()


def _interrupt(thread: int) -> None:
    """Raises ``SystemExit`` in a thread, as soon as it is in Python code."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
