"""Whether gevent or eventlet has replaced threads: then what looks like a thread is none, and native code that waits in
it stops every other."""

from __future__ import annotations

import _thread
import sys
import types


def by() -> str | None:
    """Who has replaced threads, or ``None``."""
    if isinstance(_thread.start_new_thread, types.BuiltinFunctionType):
        return None
    module = getattr(_thread.start_new_thread, "__module__", None) or ""
    return module.split(".")[0] or "monkey patching"


def in_greenlet() -> bool:
    """Whether this runs in a greenlet that is not its thread's first: what waits here stops the others."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None or by() is None:
        return False
    return greenlet.getcurrent().parent is not None
