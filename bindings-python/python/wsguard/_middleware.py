"""Functions around handlers."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ._handlers import is_coroutine_function
from ._wsguard import Connection


@dataclasses.dataclass
class Call:
    """A call of a handler, as :meth:`Server.middleware` gets it."""

    #: The connection.
    conn: Connection
    #: ``"open"``, ``"message"`` or ``"close"``.
    kind: str
    #: The event of the message; ``None`` in ``raw``, and for the other kinds.
    event: str | None
    #: What the handler will be called with beside the connection: the data, the message or the :class:`Close`; ``None``
    #: for ``"open"``. It may be replaced.
    data: Any


Step = Callable[[Call], Any]


class Around:
    """Wraps handlers in every function that was registered, the first one outermost."""

    def __init__(self, functions: Sequence[Callable[..., Any]]) -> None:
        self._functions = functions
        self._is_async = [is_coroutine_function(function) for function in functions]

    def wrap(self, handler: Callable[..., Any], kind: str, event: str | None = None) -> Callable[..., Any]:
        """The handler with the functions around it. Raises ``TypeError`` where a plain one would be around a
        coroutine: it would be over before the coroutine has begun."""
        if not self._functions:
            return handler
        is_async = is_coroutine_function(handler)
        step: Step = functools.partial(_last, handler)
        for function, function_is_async in reversed(list(zip(self._functions, self._is_async, strict=True))):
            if is_async and not function_is_async:
                name, inner = (getattr(each, "__qualname__", repr(each)) for each in (function, handler))
                raise TypeError(f"@server.middleware: {name} is around {inner}, which is a coroutine: use async def")
            is_async = function_is_async
            step = functools.partial(_awaiting if is_async else _plain, function, step)
        return functools.partial(_begun, step, kind, event)


def _begun(step: Step, kind: str, event: str | None, conn: Connection, data: Any = None) -> Any:
    if event is None and kind == "message" and conn.message is not None:
        event = conn.message.event
    return step(Call(conn, kind, event, data))


def _last(handler: Callable[..., Any], call: Call) -> Any:
    if call.kind == "message" and call.conn._is_over:
        # It has ended while the functions around the handler worked. Opens and ends are told in pairs all the same.
        return None
    return handler(call.conn) if call.kind == "open" else handler(call.conn, call.data)


def _plain(function: Callable[..., Any], step: Step, call: Call) -> Any:
    return function(call, lambda: step(call))


def _awaiting(function: Callable[..., Any], step: Step, call: Call) -> Any:
    async def proceed() -> Any:
        returned = step(call)
        return await returned if inspect.isawaitable(returned) else returned

    return function(call, proceed)
