"""Where the log goes: standard error by default, or Python's ``logging``."""

from __future__ import annotations

import atexit
import logging
import threading

from . import _wsguard

logger = logging.getLogger("wsguard")


def log_to_stderr() -> None:
    """Sends the log of the core to standard error, one line a record. This is what starting a server does, unless the
    log goes elsewhere already."""
    _wsguard.log_to_stderr()


def log_to_logging() -> None:
    """Sends the log of the core to Python's :mod:`logging`: to the loggers ``wsguard`` and ``wsguard.verdict``.

    Call it before the first server starts. Records wait in a bounded queue for a thread of their own, so that the
    server never waits for a log handler; what does not fit is counted, and the count is logged.

    Raises:
        RuntimeError: the log goes elsewhere already.
    """
    if not _wsguard.log_to_queue():
        raise RuntimeError("the log goes elsewhere already: call log_to_logging() before the first server starts")
    writer = threading.Thread(target=_write_records, name="wsguard-log", daemon=True)
    writer.start()

    def end() -> None:
        _wsguard.end_of_records()
        writer.join()

    # Registered after the one that stops servers, so run before it: their last records are of no use to anyone.
    atexit.register(end)


def _write_records() -> None:
    while (records := _wsguard.wait_for_records()) is not None:
        for level, name, text in records:
            logging.getLogger(name).log(level, "%s", text)


def report(error: BaseException, what: str, conn: str | None) -> None:
    """Logs what a handler raised."""
    closed = "" if conn is None else f"; connection {conn} closes with 1011"
    logger.error("the %s handler failed%s", what, closed, exc_info=error)


def refused(error: BaseException, event: str, conn: str) -> None:
    """Logs that a model did not accept what its schema did: where and why, not what."""
    errors = getattr(error, "errors", None)
    found = errors(include_url=False, include_context=False, include_input=False) if callable(errors) else []
    # A place may be a key that the peer chose.
    told = "; ".join(f"{'.'.join(map(str, each['loc']))[:64]!r}: {each['msg'][:128]!r}" for each in found[:3])
    logger.warning("schema_mismatch: conn=%s event=%s: %s", conn, event, told or type(error).__name__)
