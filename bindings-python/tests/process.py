"""Programs of their own process, for what a test cannot do in its own: to fork, to end, to be interrupted."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

PREAMBLE = """
import asyncio, gc, os, signal, sys, threading, weakref
import wsguard
# A job in the background of a shell begins with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def make(**more):
    policy = dict(listen="127.0.0.1:0", threads=2, origins=["https://a.example"], auth="none", protocol="raw")
    return wsguard.Server(**{**policy, **more})
"""

CONNECT = r"""
def connect(send=b""):
    import socket
    host, port = server.address.split(":")
    peer = socket.create_connection((host, int(port)))
    peer.settimeout(10)
    peer.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nConnection: Upgrade\r\n"
                 f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1)
    peer.sendall(send)
    return peer
MESSAGE = b"\x81\x81\0\0\0\0x"
def read_farewell(peer):
    got = b""
    while b"farewell" not in got:
        more = peer.recv(1000)
        if not more:
            return b"nothing"
        got += more
    return b"farewell"
"""


def python(program: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; one that hangs fails."""
    code = PREAMBLE + textwrap.dedent(program)
    # 3.12 warns of every fork beside threads, whatever the child does.
    command = [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


def succeeds(program: str) -> str:
    ended = python(program)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback (" not in ended.stderr and "Warning" not in ended.stderr, ended.stderr
    return ended.stdout
