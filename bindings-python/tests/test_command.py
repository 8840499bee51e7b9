"""The command ``wsguard`` by its doors for Python. What it does is tested in core/cli."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from wsguard import _wsguard

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "wsguard")
DOORS = {"module": [sys.executable, "-m", "wsguard"], "script": [SCRIPT]}
CALLED = {"module": "python -m wsguard", "script": "wsguard"}


def command(door: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DOORS[door], *arguments], capture_output=True, text=True, timeout=60, **more)


@pytest.mark.parametrize("door", DOORS)
def test_help_names_how_it_was_called(door: str) -> None:
    told = command(door, "--help")
    assert told.returncode == 0 and f"Usage: {CALLED[door]} <COMMAND>" in told.stdout, told
    assert f"Usage: {CALLED[door]} check" in command(door, "check", "--help").stdout
    assert command(door, "--version").stdout == f"wsguard {_wsguard.VERSION}\n"


@pytest.mark.parametrize("door", DOORS)
def test_exit_codes_and_streams(door: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"origins": ["https://a.example"], "auth": "callback", "events": {"say": {}}}))
    good = command(door, "check", str(policy))
    assert good.returncode == 0 and "its options are sound" in good.stdout and not good.stderr, good
    open_to_all = command(door, "check", "--strict", str(policy))
    assert open_to_all.returncode == 1, open_to_all
    bad = command(door, "check", "-", input="{}")
    assert bad.returncode == 2 and "missing_option: origins: " in bad.stderr and not bad.stdout, bad
    assert command(door, "nonsense").returncode == 2


def test_names_of_files_need_not_be_unicode(tmp_path: Path) -> None:
    policy = os.fsencode(tmp_path) + b"/p\xff.json"
    with open(policy, "w") as file:
        json.dump({"origins": ["https://a.example"], "auth": "callback"}, file)
    told = subprocess.run([*DOORS["module"], b"check", policy], capture_output=True, timeout=60)
    assert told.returncode == 0, told


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("door", DOORS)
def test_control_c_ends_a_server(door: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"listen": "127.0.0.1:0", "origins": ["https://a.example"], "auth": "none"}))
    with subprocess.Popen([*DOORS[door], "serve", str(policy)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and "listens" in server.stdout.readline()
            server.send_signal(signal.SIGINT)
            assert "ends" in server.stdout.readline()
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()


def test_other_threads_go_on() -> None:
    """The command gives the interpreter back while it waits."""
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import threading, os\n"
            "from wsguard import _wsguard\n"
            "read, write = os.pipe(); os.dup2(read, 0)\n"
            "threading.Timer(0.01, lambda: (os.write(write, b'{}'), os.close(write))).start()\n"
            "print(_wsguard.command(['wsguard', 'check', '-'], is_module=False))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout == "2\n" and "missing_option" in told.stderr, told
