"""Talks to a server under one of the README's policies: who may, is served; who may not, is refused."""

import base64
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

HONEST = "http://localhost:3000"
# As README's starts print it, and as `wsguard serve` does.
ADDRESS = re.compile(rb"(?:listening on |\blistens +address=)(127\.0\.0\.1:\d+)")


def shake(address: str, origin: str, token: str | None) -> tuple[socket.socket, str]:
    """Asks for a WebSocket; the socket, and the head of the answer."""
    host, port = address.rsplit(":", 1)
    peer = socket.create_connection((host, int(port)), timeout=20)
    offer = f"Sec-WebSocket-Protocol: bearer, {token}\r\n" if token else ""
    key = base64.b64encode(os.urandom(16)).decode()
    peer.sendall(
        f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nOrigin: {origin}\r\n{offer}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        got = peer.recv(1)
        if not got:
            break
        head += got
    return peer, head.decode("latin-1")


def exactly(peer: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = peer.recv(length - len(got))
        if not part:
            raise AssertionError(f"the server ended after {got!r}")
        got += part
    return got


def send(peer: socket.socket, text: str) -> None:
    payload = text.encode()
    assert len(payload) < 126, "the client writes short frames only"
    peer.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)


def frame(peer: socket.socket) -> tuple[int, bytes]:
    """Opcode and payload of a short frame."""
    first, length = exactly(peer, 2)
    assert length < 126, length
    return first & 0x0F, exactly(peer, length)


def judge(address: str, token: str = "change-me", answer: str = "said") -> None:
    """The main job: one served, three refused. An assertion fails where a server does anything else."""
    peer, head = shake(address, HONEST, token)
    assert head.startswith("HTTP/1.1 101"), head
    send(peer, '{"event":"say","data":{"text":"hello"}}')
    opcode, payload = frame(peer)
    assert opcode == 1 and json.loads(payload)["event"] == answer and b"hello" in payload, payload
    send(peer, '{"event":"shout","data":{}}')
    opcode, payload = frame(peer)
    assert opcode == 8 and payload[:2] == (1008).to_bytes(2, "big"), payload
    peer.close()
    for origin, shown, status in (("https://evil.example", token, "403"), (HONEST, None, "401")):
        peer, head = shake(address, origin, shown)
        assert head.startswith(f"HTTP/1.1 {status}"), head
        peer.close()


@contextlib.contextmanager
def serving(command: list[str], cwd: pathlib.Path, env: dict[str, str]) -> Iterator[str]:
    """Runs a server until the end of the block; its address, as it prints it within half a minute."""
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield address_of(process)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def address_of(process: subprocess.Popen) -> str:
    said, until = b"", time.monotonic() + 30
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 1)[0]:
            got = os.read(process.stdout.fileno(), 4096)
            said += got
            if match := ADDRESS.search(said):
                return match[1].decode()
            if not got:
                break
    raise AssertionError(f"no address: {said.decode(errors='replace')}")
