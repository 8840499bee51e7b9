"""WebSocket servers that are safe by default.

One Rust core enforces a policy on native threads, before Python sees a byte: which origins may connect, who is
authenticated (before the 101), how fast and how large messages may be, what a valid message looks like, which TLS.
"""

from __future__ import annotations

import atexit
import os
from typing import NamedTuple

from . import _ends, _on_loop, _wsguard
from ._audience import Audience, Everywhere
from ._errors import (
    CallRefused,
    CallTimeout,
    ConfigError,
    ConnectionClosed,
    Error,
    InvalidArgument,
    StartError,
    UsageError,
)
from ._log import log_to_logging, log_to_stderr
from ._middleware import Call
from ._options import EventOptions, Options
from ._request import Headers, Query, Tls
from ._server import Server
from ._types import Ban, Payload, SendStatus, Stats, VerdictCode, Wait
from ._wsguard import Accept, Close, Connection, Json, Message, Reject, Request, Violation

__all__ = [
    "VERDICTS",
    "Accept",
    "Audience",
    "Ban",
    "Call",
    "CallRefused",
    "CallTimeout",
    "Close",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "Error",
    "EventOptions",
    "Everywhere",
    "Headers",
    "InvalidArgument",
    "Json",
    "Message",
    "Options",
    "Payload",
    "Query",
    "Reject",
    "Request",
    "SendStatus",
    "Server",
    "StartError",
    "Stats",
    "Tls",
    "UsageError",
    "Verdict",
    "VerdictCode",
    "Violation",
    "Wait",
    "log_to_logging",
    "log_to_stderr",
]

__version__: str = _wsguard.VERSION


class Verdict(NamedTuple):
    """A row of the core's table of verdicts."""

    #: The stable name, the same in logs, events, counters and every language.
    code: VerdictCode
    #: The HTTP status of the refusal before the 101; 0 when there is none.
    http_status: int
    #: The close code after the 101; 0 when it cannot happen there.
    close_code: int
    #: The short reason in the close frame or the HTTP body.
    reason: str
    #: ``"notice"``, ``"violation"`` or ``"fault"``.
    severity: str


#: Every verdict by its code: the core's own table.
VERDICTS: dict[VerdictCode, Verdict] = {row[0]: Verdict(*row) for row in _wsguard.verdicts()}

# What `await` gets is a coroutine for whoever asks: asyncio's `create_task`, task groups, anyio.
Wait.register(_wsguard.Awaiting)
Wait.register(_wsguard.Done)

# A server's threads stay in the parent; they must be gone before the interpreter is.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_on_loop.forked)
atexit.register(_ends.at_exit)
