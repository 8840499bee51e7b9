"""Frames between a middleware and the core: those of a client, unmasked to the letter, and those of the server."""

from __future__ import annotations

from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE = 0, 1, 2, 8


def of_client(opcode: int, payload: bytes) -> bytes:
    """The header of a frame with FIN and a key of zeros, which leaves the payload as it is (RFC 6455 section 5.3)."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65_536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def close(code: Any, reason: Any) -> bytes:
    """A close frame by what a server says of the client's; without a code where that is none that a frame may have (RFC
    6455 section 7.4)."""
    if not isinstance(code, int) or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return of_client(CLOSE, b"")
    text = reason if isinstance(reason, str) else ""
    # No byte of a character that is cut, and none of a lone surrogate.
    cut = text.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
    return of_client(CLOSE, code.to_bytes(2, "big") + cut.encode())


def close_of(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005: it has none (RFC 6455 section 7.1.5)."""
    return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")


class OfServer:
    """Takes the core's bytes apart: a response head, then frames. The core writes each message in one frame."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.head: bytes | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        self._bytes += data
        if self.head is None:
            at = self._bytes.find(b"\r\n\r\n")
            if at < 0:
                return []
            self.head = bytes(self._bytes[:at])
            del self._bytes[: at + 4]
        if not self.head.startswith(b"HTTP/1.1 101"):
            return []
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    @property
    def body(self) -> bytes:
        """What follows the head of a refusal."""
        return bytes(self._bytes)

    def _next(self) -> tuple[int, bytes] | None:
        if len(self._bytes) < 2:
            return None
        length, start = self._bytes[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(self._bytes) < start:
                return None
            length = int.from_bytes(self._bytes[2:start], "big")
        if len(self._bytes) < start + length:
            return None
        frame = self._bytes[0] & 0x0F, bytes(self._bytes[start : start + length])
        del self._bytes[: start + length]
        return frame
