"""What test-wheel.sh runs in a clean environment, with the standard library alone: an echo on each kind of loop."""

import base64
import importlib.metadata
import importlib.resources
import os
import socket
import sys
import threading

import wsguard


def echo(address: str) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        key = base64.b64encode(os.urandom(16)).decode()
        peer.sendall(
            f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nOrigin: https://app.example\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        peer.sendall(b"\x81\x85\0\0\0\0hello")
        got = b""
        while len(got) < 7:
            got += peer.recv(7 - len(got))
        assert got == b"\x81\x05hello", got


for loop in ("native", "asyncio"):
    server = wsguard.Server(
        listen="127.0.0.1:0", origins=["https://app.example"], auth="none", protocol="raw", threads=1
    )
    failures: list[BaseException] = []

    @server.on_message
    def reply(conn: wsguard.Connection, message: str) -> None:
        conn.send_nowait(message)

    def try_it(server: wsguard.Server = server, failures: list[BaseException] = failures) -> None:
        try:
            echo(server.address)
        except BaseException as error:
            failures.append(error)
        finally:
            server.drain()

    client = threading.Thread(target=try_it)
    server.run(loop, started=client.start)
    client.join()
    assert not failures, failures

assert importlib.resources.files("wsguard").joinpath("py.typed").is_file()
assert importlib.metadata.version("wsguard") == wsguard.__version__
print(f"wheel: works on {sys.implementation.name} {sys.version.split()[0]}")
