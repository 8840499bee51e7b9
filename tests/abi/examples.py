#!/usr/bin/env python3
"""Starts each example that was built and talks to it: DIRECTORY LIBRARY_PATH."""

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time


def jwt(claims: dict, key: bytes) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return head + "." + part(hmac.new(key, head.encode(), hashlib.sha256).digest())


def upgrade(address: str, headers: str) -> tuple[socket.socket, bytes]:
    host, port = address.rsplit(":", 1)
    peer = socket.create_connection((host, int(port)), timeout=10)
    peer.sendall(
        f"GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://localhost:3000\r\n{headers}\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(1)
    return peer, answer


def send(peer: socket.socket, text: str) -> None:
    peer.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode())


def expect(peer: socket.socket, part: str) -> None:
    head = peer.recv(2)
    text = peer.recv(head[1], socket.MSG_WAITALL).decode()
    assert part in text, f"{text!r} has no {part!r}"


def chat(peer: socket.socket) -> None:
    send(peer, '{"event":"say","data":{"text":"hi"},"id":6}')
    expect(peer, '"data":"join a room first","status":"error","id":6')
    send(peer, '{"event":"join","data":"kitchen","id":7}')
    expect(peer, '"id":7')
    send(peer, '{"event":"say","data":{"text":"room"}}')
    expect(peer, '"event":"said","data":"room"')


def echo(peer: socket.socket) -> None:
    send(peer, "hello")
    expect(peer, "hello")


def say(peer: socket.socket) -> None:
    send(peer, '{"event":"say","data":"hi"}')
    expect(peer, '"data":"hi"')


def say_text(peer: socket.socket) -> None:
    send(peer, '{"event":"say","data":{"text":"hello"}}')
    expect(peer, '{"event":"said","data":{"text":"hello"},"status":"ok"}')


def policy(token: str) -> str:
    return json.dumps({
        "origins": ["http://localhost:3000"],
        "auth": {"tokens": [{"token": "change-me", "user": "alice"}, {"token": token, "user": "bob"}]},
        "events": {"say": {}},
    })


def reload(peer: socket.socket, path: str, run: subprocess.Popen, address: str) -> None:
    """A token that the file had at the start is gone, and whoever came by it; the other stays."""
    say(peer)
    bob, answer = upgrade(address, "Authorization: Bearer bobs-first\r\n")
    assert b" 101 " in answer, answer
    with open(path, "w") as file:
        file.write(policy("bobs-second"))
    run.send_signal(signal.SIGHUP)
    head = bob.recv(4, socket.MSG_WAITALL)
    assert head[:1] == b"\x88" and int.from_bytes(head[2:4], "big") == 1008, head
    bob.close()
    say(peer)


SECRET = b"a-secret-of-at-least-32-bytes-of-yours"
CLAIMS = {"sub": "alice", "iss": "https://login.example.com", "aud": "chat", "exp": int(time.time()) + 60}
EXAMPLES = {
    "echo": ("Authorization: Bearer change-me\r\n", echo),
    "chat": ("Authorization: Bearer change-me\r\n", chat),
    "epoll": ("X-Auth-Token: change-me\r\n", echo),
    "readme": ("Sec-WebSocket-Protocol: bearer, change-me\r\n", say_text),
    "reload": ("Authorization: Bearer change-me\r\n", reload),
    "jwt": (f"Authorization: Bearer {jwt(CLAIMS, SECRET)}\r\n", say),
}


def main() -> None:
    directory, libraries = sys.argv[1:3]
    for name, (credential, talk) in EXAMPLES.items():
        program = [os.path.join(directory, name), "127.0.0.1:0"]
        path = os.path.join(directory, "policy.json")
        if talk is reload:
            program.append(path)
            with open(path, "w") as file:
                file.write(policy("bobs-first"))
        if not os.path.exists(program[0]):
            assert name == "readme", name
            continue
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True) as run:
            try:
                address = run.stdout.readline().split()[-1]
                refused, answer = upgrade(address, "")
                assert b" 401 " in answer, answer
                refused.close()
                peer, answer = upgrade(address, credential)
                assert b" 101 " in answer, answer
                talk(peer, path, run, address) if talk is reload else talk(peer)
                # SIGTERM drains: the peer that is still there hears of it, and the program ends well.
                run.send_signal(signal.SIGTERM)
                head = peer.recv(4, socket.MSG_WAITALL)
                assert head[:1] == b"\x88" and int.from_bytes(head[2:4], "big") == 1012, head
                peer.close()
                assert run.wait(20) == 0
            finally:
                run.kill()
        print(f"{name}: served and refused")


main()
