"""The time that a drain takes, and what ``Server.drain`` returns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from ._errors import InvalidArgument

#: Milliseconds that a drain waits for connections and handlers, by default.
TIMEOUT_MS = 10_000

#: How long, beyond the time of a drain, the loop may take to handle the last events.
HANDLED_WITHIN_S = 2.0
#: How long, beyond the time of a drain, cancelled handlers may take to end.
CANCELLED_WITHIN_S = 5.0
#: How often a drain on another loop looks whether the server's still runs.
LOOK_EVERY_S = 0.05

#: A thousand years.
_MAX_MS = 1000 * 366 * 24 * 3600 * 1000


class Drain:
    """A drain that has begun. Awaiting it waits for its end; it need not be awaited."""

    __slots__ = ("_ended",)

    def __init__(self, ended: Callable[[], Awaitable[None]]) -> None:
        self._ended = ended

    def __await__(self) -> Generator[Any, None, None]:
        return self._ended().__await__()


def left_ms(until: float) -> int:
    """Milliseconds until a moment of ``time.monotonic``; 0 when it has passed."""
    return max(0, round((until - time.monotonic()) * 1000))


def milliseconds(name: str, stated: object) -> int:
    """Checks a number of milliseconds that the application states."""
    if isinstance(stated, bool) or not isinstance(stated, int):
        raise TypeError(f"{name} must be an int, not {type(stated).__name__}")
    if not 0 <= stated <= _MAX_MS:
        raise InvalidArgument(f"{name} must be 0 to {_MAX_MS}, not {stated}", code="invalid_argument")
    return stated
