"""What `wsguard audit` finds where uvicorn reads the requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import PROTOCOLS, Serve

TOKEN = "a-token-that-is-long-enough-0123456789"


@pytest.mark.parametrize("ws", [PROTOCOLS["wsguard"]])
def test_nothing_is_let_through(serve: Serve, ws: str) -> None:
    policy = {
        "origins": ["http://app.example"],
        "hosts": ["127.0.0.1"],
        "auth": {"tokens": [{"token": TOKEN, "user": "ann"}]},
    }
    http = ["--http", "wsguard.uvicorn:HttpProtocol", "--no-server-header"]
    with serve("starlette_app:app", *http, policy=policy) as site:
        command = [sys.executable, "-m", "wsguard", "audit", f"ws://{site.at}/any", "--json", "--fail-on", "low"]
        command += ["--origin", "http://app.example", "--token", "env:AUDIT_TOKEN", "--message", "hello"]
        env = {**os.environ, "AUDIT_TOKEN": TOKEN}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    words = {result["check"]: result["verdict"] for result in json.loads(done.stdout)["results"]}
    # The request is uvicorn's to read.
    assert [words[check] for check in ("unfinished-handshake", "head-size", "alive")] == ["passed"] * 3, words
