"""How long an end takes, and what a drain gives to ``await``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from ._errors import InvalidArgument

#: Milliseconds that an end waits for connections and handlers.
TIMEOUT_MS = 10_000

#: Beyond the time a drain has: for the loop to handle the last events, for cancelled handlers to end.
HANDLED_WITHIN_S = 2.0
CANCELLED_WITHIN_S = 5.0

#: A thousand years.
_MAX_MS = 1000 * 366 * 24 * 3600 * 1000


class Drain:
    """A drain that was started. Awaiting it waits for its end; it need not be awaited."""

    __slots__ = ("_ended",)

    def __init__(self, ended: Callable[[], Awaitable[None]]) -> None:
        self._ended = ended

    def __await__(self) -> Generator[Any, None, None]:
        return self._ended().__await__()


def left_ms(until: float) -> int:
    """What is left until a moment of ``time.monotonic``."""
    return max(0, round((until - time.monotonic()) * 1000))


def milliseconds(name: str, stated: object) -> int:
    """A number of milliseconds as an application states it."""
    if isinstance(stated, bool) or not isinstance(stated, int):
        raise TypeError(f"{name} must be an int, not {type(stated).__name__}")
    if not 0 <= stated <= _MAX_MS:
        raise InvalidArgument(f"{name} must be 0 to {_MAX_MS}, not {stated}", code="invalid_argument")
    return stated
