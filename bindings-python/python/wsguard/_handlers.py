"""What can be known of a handler when it is registered: whether it takes what it will be called with, and whether it is
a coroutine function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any


def check(what: str, handler: object, arguments: Sequence[str]) -> None:
    """Raises ``TypeError`` for what would fail at its first call.

    Args:
        what: as it is written: ``@server.on("say")``.
        handler: what was registered.
        arguments: what it will be called with, in words.
    """
    if not callable(handler):
        raise TypeError(f"{what}: a handler is a function, not {type(handler).__name__}")
    plain = _unwrapped(handler)
    if inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain):
        raise TypeError(f"{what}: a handler is a function or a coroutine function; one with yield would never run")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some builtins tell nothing
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        name = getattr(handler, "__qualname__", None) or type(handler).__name__
        words = " and ".join(arguments)
        raise TypeError(f"{what}: {name}{signature} is called with {words}: {error}") from None


def check_close(handler: object) -> None:
    """As :func:`check`, for ``Connection.on_close``."""
    check("conn.on_close", handler, ("the connection", "how it closed"))


def check_pong(handler: object) -> None:
    """As :func:`check`, for ``Connection.ping_nowait``, whose handler is no coroutine: nobody would await it."""
    check("conn.ping_nowait", handler, ("the connection", "the milliseconds"))
    if callable(handler) and is_coroutine_function(handler):
        raise TypeError("conn.ping_nowait: the handler is a plain function; a coroutine awaits conn.ping()")


def is_coroutine_function(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine, as far as can be seen without calling it."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(_unwrapped(handler))


def _unwrapped(handler: Any) -> Any:
    """The function behind decorators, ``functools.partial`` and objects that can be called."""
    for _ in range(32):
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif not inspect.isroutine(handler) and not inspect.isclass(handler) and callable(handler):
            behind = inspect.getattr_static(type(handler), "__call__", None)
            if not inspect.isfunction(behind):
                return handler
            handler = behind
        else:
            return handler
    return handler
