"""Applications of other frameworks under real servers, each twice: with uvicorn's own WebSockets, which proves the test
itself, and with wsguard's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

APPS = Path(__file__).parent / "apps"
#: What uvicorn is started with: ``--ws``.
PROTOCOLS = {"uvicorn": "auto", "wsguard": "wsguard.uvicorn:Protocol"}
#: What an application that decides by itself states: the rest of the policy is the default.
POLICY = {"origins": ["http://127.0.0.1:*"], "auth": "none"}
#: Seconds within which anything here must happen.
PATIENCE = 20


class Site:
    """A server that runs, and the clients that this test has of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self.at = ""
        self._has_said = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"(?:[Rr]unning on|Listening at:) (?:https?://(127\.0\.0\.1:\d+)|unix socket)", line)
            if found:
                self.at = found[1] or ""
                self._has_said.set()
        self._has_said.set()

    def started(self) -> Site:
        assert self._has_said.wait(PATIENCE) and self.process.poll() is None, "".join(self.log)
        if not self.at:
            # A Unix socket, which listens by now.
            return self
        # A supervisor says where it will be before a worker listens.
        host, port = self.at.split(":")
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
                return self
            assert time.monotonic() < until and self.process.poll() is None, "".join(self.log)
            time.sleep(0.02)

    @property
    def http(self) -> str:
        return f"http://{self.at}"

    def open(self, path: str, origin: str | None = "", subprotocols: tuple[str, ...] = (), **more: Any) -> connect:
        """Connects; ``origin`` is the site itself, unless another is said. Further arguments are those of
        ``websockets``."""
        more["origin"] = Origin(origin or self.http) if origin is not None else None
        if subprotocols:
            more["subprotocols"] = [Subprotocol(name) for name in subprotocols]
        return connect(f"ws://{self.at}{path}", proxy=None, open_timeout=PATIENCE, **more)

    def wait_for_log(self, text: str) -> None:
        until = time.monotonic() + PATIENCE
        while text not in "".join(self.log):
            assert time.monotonic() < until, f"{text!r} is not in the log:\n" + "".join(self.log)
            time.sleep(0.01)

    def end(self) -> None:
        """SIGTERM ends it in time and without a fault."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        self._reader.join(PATIENCE)
        # uvicorn raises the signal again once it has shut down.
        assert code in (0, -signal.SIGTERM), (code, "".join(self.log))


def start(command: list[str], folder: Path = APPS, **environment: str) -> Site:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    try:
        return Site(process).started()
    except BaseException:
        process.kill()
        raise


Serve = Callable[..., "contextlib.AbstractContextManager[Site]"]


@pytest.fixture(params=PROTOCOLS)
def ws(request: pytest.FixtureRequest) -> str:
    return PROTOCOLS[request.param]


@pytest.fixture
def serve(ws: str, tmp_path: Path) -> Serve:
    """Runs an application under uvicorn: ``with serve("module:app", "--workers", "2") as site``."""

    @contextlib.contextmanager
    def serve(app: str, *arguments: str, faults: bool = False, policy: dict[str, Any] | None = None) -> Iterator[Site]:
        file = tmp_path / "policy.json"
        file.write_text(json.dumps({**POLICY, **(policy or {})}), encoding="utf-8")
        command = ["-m", "uvicorn", app, "--host", "127.0.0.1", "--port", "0", "--ws", ws, *arguments]
        site = start(command, WS=ws, WSGUARD_POLICY=str(file))
        try:
            yield site
        finally:
            site.end()
        assert faults or "Traceback" not in "".join(site.log), "".join(site.log)

    return serve


@pytest.fixture
def serve_by_gunicorn(ws: str, tmp_path: Path) -> Serve:
    """Runs an application under gunicorn with uvicorn's worker."""

    @contextlib.contextmanager
    def serve(app: str, *arguments: str) -> Iterator[Site]:
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(POLICY), encoding="utf-8")
        command = ["-m", "gunicorn", app, "--bind", "127.0.0.1:0", "--worker-class", "worker.Worker", *arguments]
        site = start(command, WS=ws, WSGUARD_POLICY=str(file))
        try:
            yield site
        finally:
            site.end()
        assert "Traceback" not in "".join(site.log), "".join(site.log)

    return serve


async def told(peer: ClientConnection) -> Any:
    """The next message, which is JSON."""
    return json.loads(await peer.recv())
