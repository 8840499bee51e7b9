"""RFC 6455 of a client without a socket: bytes in, bytes out. It believes its server, which is under test elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from .._request import Headers

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
#: The bit of a compressed message's first frame, and what its sender leaves out at its end (RFC 7692).
RSV1, TAIL = 0x40, b"\x00\x00\xff\xff"


class Refused(Exception):
    """The handshake was refused."""

    #: The HTTP status.
    status: int
    #: The headers of the response.
    headers: Headers
    #: The body: the name of the verdict, or what ``Reject(body=…)`` says.
    body: bytes

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"the handshake was refused with {status}: {body[:200].decode(errors='replace')}")
        self.status = status
        self.headers = headers
        self.body = body


class Ended(Exception):
    """The connection has ended, and what was waited for did not come."""

    #: The close code; 1005 without one, 1006 without a closing handshake.
    code: int
    #: The reason of the close frame.
    reason: str

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the connection has ended with {code}" + (f" ({reason})" if reason else ""))
        self.code = code
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Received:
    """A message of the server in protocol ``json``."""

    #: The name of the event.
    event: str
    #: The data.
    data: Any
    #: The id that it answers or asks with; ``None`` if it has none.
    id: str | int | None
    #: ``"ok"``, ``"error"``, or ``None`` where the server asks (``Connection.call``).
    status: str | None


def envelope(event: str, data: Any, id: str | int | None = None, status: str | None = None) -> str:
    """A message of protocol ``json`` as text."""
    stated = {"event": event, "data": data, "id": id, "status": status}
    return json.dumps({key: value for key, value in stated.items() if value is not None or key == "data"})


def received(text: str | bytes) -> Received:
    """The envelope in a message of the server."""
    try:
        stated = json.loads(text)
        return Received(stated["event"], stated.get("data"), stated.get("id"), stated.get("status"))
    except (ValueError, KeyError, TypeError):
        raise ValueError("the message is no envelope: with protocol raw use recv()") from None


class Wire:
    """One connection: what is to be sent, and what has come."""

    def __init__(self, compression: bool = False) -> None:
        self._offers_compression = compression
        self._is_compressed = False
        self._buffer = bytearray()
        self._key = base64.b64encode(os.urandom(16))
        self._parts = bytearray()
        self._kind = TEXT
        self._has_closed = False
        #: Messages that nobody has taken.
        self.messages: list[str | bytes] = []
        #: What is to be written to the socket.
        self.outgoing = bytearray()
        self.ended: Ended | None = None
        self.subprotocol: str | None = None
        #: Whether permessage-deflate was agreed on.
        self.compressed = False
        self.headers = Headers([])

    # --- the opening handshake ---------------------------------------------------------------------------------------

    def open(self, host: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        """Writes the request."""
        head = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket"]
        head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {self._key.decode()}"]
        if self._offers_compression:
            head.append("Sec-WebSocket-Extensions: permessage-deflate")
        for name, value in headers:
            if any(letter in name + value for letter in "\r\n\0"):
                raise ValueError(f"the header {name!r} holds a line end")
            head.append(f"{name}: {value}")
        self.outgoing += ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")

    def opened(self, data: bytes) -> bool:
        """Reads the response. Returns whether it is complete; ``b""`` is the end of the stream."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if not data:
                raise Refused(0, Headers([]), b"the server closed the socket without a response")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        self.headers = Headers((name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]))
        status = int(lines[0].split(" ")[1])
        if status != 101:
            body = bytes(self._buffer[end + 4 :])
            if data and len(body) < int(self.headers.get("content-length", "0")):
                return False
            raise Refused(status, self.headers, body)
        expected = base64.b64encode(hashlib.sha1(self._key + _GUID).digest()).decode()
        if self.headers.get("sec-websocket-accept") != expected:
            raise Refused(status, self.headers, b"Sec-WebSocket-Accept is not the answer to the key")
        self.subprotocol = self.headers.get("sec-websocket-protocol")
        self.compressed = self._offers_compression and "sec-websocket-extensions" in self.headers
        rest = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        if rest:
            self.receive(rest)
        return True

    # --- frames ------------------------------------------------------------------------------------------------------

    def send(self, opcode: int, payload: bytes) -> None:
        """Writes a frame, masked as a client's frames are (section 5.3)."""
        length = len(payload)
        if length < 126:
            head = bytes([0x80 | opcode, 0x80 | length])
        elif length < 1 << 16:
            head = bytes([0x80 | opcode, 0x80 | 126]) + struct.pack("!H", length)
        else:
            head = bytes([0x80 | opcode, 0x80 | 127]) + struct.pack("!Q", length)
        mask = os.urandom(4)
        self.outgoing += head + mask + _masked(payload, mask)

    def send_message(self, message: str | bytes) -> None:
        """Writes a message."""
        if self.ended is not None:
            raise self.ended
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        if self.compressed:
            opcode, payload = opcode | RSV1, _compressed(payload)
        self.send(opcode, payload)

    def close(self, code: int, reason: str) -> None:
        """Begins or answers the closing handshake."""
        if not self._has_closed:
            self._has_closed = True
            self.send(CLOSE, b"" if code == 1005 else struct.pack("!H", code) + reason.encode())

    def receive(self, data: bytes) -> None:
        """Reads what has come; ``b""`` is the end of the stream."""
        if not data:
            self.ended = self.ended or Ended(1006, "")
            return
        self._buffer += data
        while self.ended is None and (frame := self._frame()) is not None:
            self._take(*frame)

    def _frame(self) -> tuple[int, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, at = buffer[1] & 0x7F, 2
        if length >= 126:
            form, size = ("!H", 2) if length == 126 else ("!Q", 8)
            at += size
            if len(buffer) < at:
                return None
            (length,) = struct.unpack(form, buffer[2:at])
        if len(buffer) < at + length:
            return None
        frame = buffer[0] & 0xF0, buffer[0] & 0x0F, bytes(buffer[at : at + length])
        del buffer[: at + length]
        return frame

    def _take(self, bits: int, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            reason = payload[2:].decode()
            self.close(code, "")
            self.ended = Ended(code, reason)
        elif opcode != PONG:
            if opcode:
                self._kind, self._is_compressed = opcode, bool(bits & RSV1)
            self._parts += payload
            if bits & 0x80:
                whole, self._parts = bytes(self._parts), bytearray()
                if self._is_compressed:
                    whole = zlib.decompressobj(-15).decompress(whole + TAIL)
                self.messages.append(whole.decode() if self._kind == TEXT else whole)

    # --- what was received -------------------------------------------------------------------------------------------

    def take(self) -> str | bytes | None:
        """The oldest message that nobody has taken."""
        return self.messages.pop(0) if self.messages else None

    def find(self, event: str | None, id: str | int | None) -> Received | None:
        """Takes the oldest message of an event, or the reply to an id."""
        for place, each in enumerate(self.messages):
            found = received(each)
            if (event is None or found.event == event) and (id is None or _answers(found, id)):
                del self.messages[place]
                return found
        return None


def _answers(found: Received, id: str | int) -> bool:
    return found.status is not None and type(found.id) is type(id) and found.id == id


def _compressed(payload: bytes) -> bytes:
    """By itself: no message depends on another (section 7.1.1.2)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL) or b"\0"


def _masked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")


def pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]] | None) -> list[tuple[str, str]]:
    """Headers as pairs of name and value."""
    return list(headers.items() if isinstance(headers, Mapping) else headers or ())
