"""Where the log goes: to Python's ``logging`` where that is set up, else to standard error. Nothing here raises into
the server: a log that fails costs its record."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Container, Mapping

from . import _patched, _wsguard
from ._errors import StartError, UsageError

logger = logging.getLogger("wsguard")

#: Attributes of a record that are ``logging``'s own.
_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr() -> None:
    """Sends the log of the core to standard error, one line per record. Call it before the first server starts; it does
    nothing when the log goes elsewhere already.

    Without this call and :func:`log_to_logging`, the first start decides: the log goes to :mod:`logging` if the root
    logger or the logger ``wsguard`` has a handler, else to standard error."""
    _wsguard.log_to_stderr()


class _Writer:
    """The thread that hands the core's records to ``logging``; one in each process."""

    def __init__(self) -> None:
        self.is_wanted = False
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> None:
        """Starts the thread, once in this process. In a child of ``fork`` that is at its first start of a server."""
        if not self.is_wanted or self._pid == os.getpid():
            return
        thread = threading.Thread(target=_write_records, name="wsguard-log", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            message = f"the thread that writes the log cannot be started: {error}"
            raise StartError(message, code="start_failed", option=None) from None
        is_first = self._pid == 0
        self._thread, self._pid = thread, os.getpid()
        if is_first:
            # Registered after the one that stops servers, so run before it: their last records are of no use to anyone.
            atexit.register(self._end)

    def _end(self) -> None:
        if self._thread is not None and self._pid == os.getpid():
            _wsguard.end_of_records()
            self._thread.join(timeout=1)


_writer = _Writer()


def log_to_logging() -> None:
    """Sends the log of the core to Python's :mod:`logging`: to the loggers ``wsguard`` and ``wsguard.verdict``. Each
    record has the attributes ``code``, ``ip``, ``user``, ``event``, ``conn``, ``detail`` and ``suppressed``.

    Only needed where ``logging`` is set up after the first server starts: otherwise the first start does this. Call it
    before the first server starts; a second call does nothing. Records wait in a queue of at most 4096 for a thread of
    their own, so that the server never waits for a log handler; records that do not fit are counted, and the count is
    logged. A child of ``fork`` gets a thread of its own when it starts a server.

    Raises:
        StartError: the thread cannot be started (``start_failed``).
        UsageError: the log goes elsewhere already; or gevent or eventlet has replaced threads, which it needs.
    """
    if _writer.is_wanted:
        return
    patched_by = _patched.by()
    if patched_by is not None:
        raise UsageError(
            f"log_to_logging() needs a thread, and {patched_by} has replaced them: the log stays on standard error",
            code="monkey_patched",
        )
    if not _wsguard.log_to_queue():
        message = "the log goes elsewhere already: call log_to_logging() before the first server starts"
        raise UsageError(message, code="logging")
    _writer.is_wanted = True
    _writer.start()


def begin() -> None:
    """Before a server starts: chooses where the log goes, unless the application has."""
    if not _writer.is_wanted and _patched.by() is None and logger.hasHandlers():
        _writer.is_wanted = _wsguard.log_to_queue()
    if not _writer.is_wanted:
        _wsguard.log_to_stderr()
    start_writer()


def start_writer() -> None:
    """Starts the thread that writes records, where one is needed."""
    _writer.start()


def _write_records() -> None:
    while (records := _wsguard.wait_for_records()) is not None:
        for level, name, text, fields in records:
            extra = {key: value for key, value in fields if key not in _TAKEN}
            # Whatever a log handler raises, also ``SystemExit``: it costs its record, not every later one.
            with contextlib.suppress(BaseException):
                logging.getLogger(name).log(level, "%s", text, extra=extra)


# --- what Python's side says -----------------------------------------------------------------------------------------


class Sampler:
    """Lets through ten of a kind at once, then one a second: peers must not be able to write the log."""

    BURST = 10.0
    PER_SECOND = 1.0
    MAX_KINDS = 256

    def __init__(self) -> None:
        self._kinds: dict[object, tuple[float, float, int]] = {}

    def passes(self, kind: object, now: float) -> int | None:
        """How many were suppressed before this one; ``None``: this one is, too."""
        level, since, suppressed = self._kinds.pop(kind, (0.0, now, 0))
        level = max(0.0, level - (now - since) * self.PER_SECOND)
        passes = level + 1.0 <= self.BURST
        while len(self._kinds) >= self.MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = (level + 1.0, now, 0) if passes else (level, now, suppressed + 1)
        return suppressed if passes else None


_sampler = Sampler()


class _LikeTheCore(logging.Formatter):
    """The core's form on standard error, for applications that have not set up ``logging``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d000Z %(levelname)5s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class _OnStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Whatever standard error is by now."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            self.stream = sys.stderr
            super().emit(record)


_on_stderr = _OnStderr()
_on_stderr.setFormatter(_LikeTheCore())


def say(level: int, text: str, error: BaseException | None = None, **extra: object) -> None:
    """Writes a record of Python's side; what goes wrong with that is nobody's concern."""
    with contextlib.suppress(Exception):
        if not logger.isEnabledFor(level):
            return
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logger.makeRecord(logger.name, level, __file__, 0, text, (), info, extra=extra)
        if logger.hasHandlers():
            logger.handle(record)
        else:
            _on_stderr.handle(record)


def report(error: BaseException, what: str, conn: str | None, closes: bool) -> None:
    """Logs what a handler raised."""
    suppressed = _sampler.passes((what, type(error)), time.monotonic())
    if suppressed is None:
        return
    told = f"the {what} handler failed"
    if conn is not None:
        told += f"; connection {conn} closes with 1011" if closes else f"; connection {conn} had closed"
    if suppressed:
        told += f"; {suppressed} more like it were not logged"
    say(logging.ERROR, told, error, handler=what, conn=conn, suppressed=suppressed)


def refused(names: Mapping[str, Container[str]], error: BaseException, event: str, conn: str) -> None:
    """Logs that a model did not accept what its schema did: where and why, not what. ``names`` are those of each
    event's model: any other name in a place is a key that the peer chose, and shown as ``*``, as the core does."""
    suppressed = _sampler.passes(("schema_mismatch", event), time.monotonic())
    if suppressed is None:
        return
    with contextlib.suppress(Exception):
        errors = getattr(error, "errors", None)
        found = errors(include_url=False, include_context=False, include_input=False) if callable(errors) else []
        known = names.get(event, ())
        told = []
        for each in found[:3]:
            place = [part if isinstance(part, int) or part in known else "*" for part in each["loc"]]
            # By the kind of the error: its words may quote what was sent.
            told.append(f"data{''.join(f'/{part}' for part in place)[:200]}: {each['type'][:64]}")
        detail = "; ".join(told) or type(error).__name__
        text = f"schema_mismatch: conn={conn} event={event} suppressed={suppressed}: {detail}"
        say(logging.WARNING, text, code="schema_mismatch", conn=conn, event=event, detail=detail, suppressed=suppressed)
