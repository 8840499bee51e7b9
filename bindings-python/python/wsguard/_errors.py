"""The exceptions of wsguard: one base, and a class for each thing a caller may want to tell apart."""

from __future__ import annotations


class Error(Exception):
    """Base of every exception that wsguard raises."""

    #: The stable name of the kind of error, the same in every language: ``"unknown_option"``.
    code: str
    #: The close code of the connection it is about, where there is one (RFC 6455 section 7.4).
    close_code: int | None

    def __init__(self, message: str, *, code: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class ConfigError(Error, ValueError):
    """The options are not a policy. ``code`` is ``unknown_option``, ``missing_option``, ``invalid_option`` or
    ``contradiction``."""

    #: The path of the option at fault: ``"rate_limit.per_second"``.
    option: str

    def __init__(self, message: str, *, code: str, option: str) -> None:
        super().__init__(message, code=code)
        self.option = option


class StartError(Error, OSError):
    """The address cannot be listened on (``listen_failed``), or a thread cannot be started (``start_failed``)."""

    #: ``"listen"``, or ``None`` where no option is at fault.
    option: str | None

    def __init__(self, message: str, *, code: str, option: str | None, errno: int | None = None) -> None:
        super().__init__(message, code=code)
        self.option = option
        #: The system's number of the fault (``errno.EADDRINUSE``), where it has one.
        self.errno = errno


class ConnectionClosed(Error):
    """The connection has ended: there is nobody to send to, and nothing more to receive."""

    #: The close code: ours when we closed, else the peer's; ``None`` when it is not known yet.
    close_code: int | None
    #: The reason with it.
    reason: str

    def __init__(self, close_code: int | None, reason: str = "") -> None:
        told = "" if close_code is None else f" with {close_code}" + (f" ({reason})" if reason else "")
        super().__init__(f"the connection is closed{told}", code="connection_closed", close_code=close_code)
        self.reason = reason


class InvalidArgument(Error, ValueError):
    """An argument is not accepted: which, and what would be."""


class UsageError(Error, RuntimeError):
    """Not here, or not now: ``not_started``, ``already_started``, ``stopped``, ``forked``, ``no_event_loop``,
    ``running_event_loop``, ``logging`` or ``monkey_patched``."""


def from_core(code: str, message: str, option: str | None, errno: int | None = None) -> Error:
    """The exception of one of the core's errors."""
    if code in ("unknown_option", "missing_option", "invalid_option", "contradiction"):
        return ConfigError(message, code=code, option=option or "options")
    if code in ("listen_failed", "start_failed"):
        return StartError(message, code=code, option=option, errno=errno)
    if code == "connection_closed":
        return ConnectionClosed(None)
    if code == "invalid_argument":
        return InvalidArgument(message, code=code)
    return UsageError(message, code=code)
