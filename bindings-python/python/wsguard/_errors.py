"""The exceptions of wsguard: one base, and a class for each case that a caller may handle."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """The base of wsguard's own exceptions."""

    #: The stable name of the kind of error, the same in every language: ``"unknown_option"``.
    code: str
    #: The close code of a connection that has ended (RFC 6455 section 7.4); else ``None``.
    close_code: int | None

    def __init__(self, message: str, *, code: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class ConfigError(Error, ValueError):
    """The options are invalid. ``code`` is ``unknown_option``, ``missing_option``, ``invalid_option``,
    ``contradiction`` or ``not_reloadable``."""

    #: The path of the option at fault: ``"rate_limit.per_second"``.
    option: str

    def __init__(self, message: str, *, code: str, option: str) -> None:
        super().__init__(message, code=code)
        self.option = option


class StartError(Error, OSError):
    """The server cannot listen on the address (``listen_failed``), or cannot start a thread (``start_failed``)."""

    #: ``"listen"``, or ``None`` if no option is at fault.
    option: str | None

    def __init__(self, message: str, *, code: str, option: str | None, errno: int | None = None) -> None:
        super().__init__(message, code=code)
        self.option = option
        #: The system's error number (``errno.EADDRINUSE``); ``None`` where there is none.
        self.errno = errno


class ConnectionClosed(Error):
    """The connection has ended: it takes no message, and has none left. ``code`` is ``connection_closed``."""

    #: The close code: the server's if it closed first, else the peer's; ``None`` while it is not known.
    close_code: int | None
    #: The reason of the close frame; empty if there is none.
    reason: str

    def __init__(self, close_code: int | None, reason: str = "") -> None:
        told = "" if close_code is None else f" with {close_code}" + (f" ({reason})" if reason else "")
        super().__init__(f"the connection is closed{told}", code="connection_closed", close_code=close_code)
        self.reason = reason


class CallTimeout(Error, TimeoutError):
    """No answer to :meth:`Connection.call` or :meth:`Connection.ping` came in time. ``code`` is ``call_timeout``."""


class CallRefused(Error):
    """The peer has answered :meth:`Connection.call` with an error. ``code`` is ``call_refused``."""

    #: The event of the answer.
    event: str
    #: The data of the answer.
    data: Any

    def __init__(self, asked: str, event: str, data: Any) -> None:
        super().__init__(f"the peer answered {asked!r} with an error", code="call_refused")
        self.event = event
        self.data = data


class InvalidArgument(Error, ValueError):
    """An argument is not accepted. The message names it, and what is accepted. ``code`` is ``invalid_argument``."""


class UsageError(Error, RuntimeError):
    """The call is not possible here or now. ``code`` is ``not_started``, ``already_started``, ``stopped``, ``forked``,
    ``no_event_loop``, ``running_event_loop``, ``too_many_calls``, ``logging`` or ``monkey_patched``."""


def from_core(code: str, message: str, option: str | None, errno: int | None = None) -> Error:
    """The exception of one of the core's errors."""
    if code in ("unknown_option", "missing_option", "invalid_option", "contradiction", "not_reloadable"):
        return ConfigError(message, code=code, option=option or "options")
    if code in ("listen_failed", "start_failed"):
        return StartError(message, code=code, option=option, errno=errno)
    if code == "connection_closed":
        return ConnectionClosed(None)
    if code == "invalid_argument":
        return InvalidArgument(message, code=code)
    return UsageError(message, code=code)
