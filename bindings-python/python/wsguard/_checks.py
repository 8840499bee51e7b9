"""The core's rules for what a call says, for calls that may not come to the core: nobody is in the room."""

from __future__ import annotations

from ._errors import InvalidArgument


def text(name: str, stated: str) -> bytes:
    """A text as UTF-8. Raises for a lone surrogate, of which there is none (RFC 3629 section 3)."""
    try:
        return str.encode(stated)
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} must not have lone surrogates", code="invalid_argument") from None


def texts(**stated: object) -> None:
    """As :func:`text`, for each that is a text."""
    for name, each in stated.items():
        if isinstance(each, str):
            text(name, each)


def user(name: object) -> None:
    """Raises for what is no text."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a user is a str, not {type(name).__name__}")
    text("user", name)


def room(name: object) -> None:
    """Raises for what is no name of a room."""
    if not isinstance(name, str):
        raise TypeError(f"a room's name is a str, not {type(name).__name__}: every connection is server.to_all()")
    if not 1 <= len(text("room", name)) <= 256:
        raise InvalidArgument("room must be 1 to 256 bytes", code="invalid_argument")


def compress(stated: object) -> None:
    """Raises for what is no ``bool``."""
    if not isinstance(stated, bool):
        raise TypeError(f"compress must be a bool, not {type(stated).__name__}")


def close(code: object, reason: object) -> None:
    """Raises for what no close frame of ours says (RFC 6455 section 7.4)."""
    if code is not None:
        if isinstance(code, bool) or not isinstance(code, int):
            raise TypeError("code must be an int")
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise InvalidArgument(
                "close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999", code="invalid_argument"
            )
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    if len(text("reason", reason)) > 123:
        raise InvalidArgument("close reason must be at most 123 bytes", code="invalid_argument")
