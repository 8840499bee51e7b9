"""The examples and the README's start, as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

EXAMPLES = Path(__file__).parent.parent.parent / "examples/python"
READMES = [Path(__file__).parent.parent / "README.md", Path(__file__).parent.parent.parent / "README.md"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def program(path: Path, *arguments: str, **environment: str) -> Iterator[IO[str]]:
    """What an example prints that :func:`process_of` runs."""
    with process_of(path, *arguments, **environment) as process:
        assert process.stdout is not None
        yield process.stdout


@contextlib.contextmanager
def process_of(path: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an example until the block ends; SIGTERM must end it without a traceback."""
    process = subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LISTEN": "127.0.0.1:0", **environment},
        start_new_session=True,
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert "Traceback" not in errors, errors
    finally:
        # Its workers too: one that is left holds the pipes open, and `communicate` would wait for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)


def address(out: IO[str]) -> str:
    line = out.readline()
    assert "listen" in line, line
    return line.split()[-1]


def origin(text: str) -> Origin:
    return Origin(text)


async def ask(peer: ClientConnection, event: str, data: Any, id: int = 1) -> Any:
    await peer.send(json.dumps({"event": event, "data": data, "id": id}))
    return json.loads(await peer.recv())


@pytest.mark.parametrize("readme", READMES, ids=["package", "project"])
def test_the_readme_start(readme: Path, tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(from wsguard import Server.*?)```", readme.read_text(encoding="utf-8"), re.S)
    code = code.replace('"127.0.0.1:8080"', '"127.0.0.1:0"')
    code = code.replace("server.run()", "server.run(started=lambda: print('listening', server.address, flush=True))")
    script = tmp_path / "start.py"
    script.write_text(code, encoding="utf-8")

    async def main(at: str) -> None:
        more: Any = {"origin": origin("http://localhost:3000"), "subprotocols": [Subprotocol("bearer")]}
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{at}", **more)
        more["subprotocols"].append(Subprotocol("change-me"))
        async with connect(f"ws://{at}", **more) as peer:
            said = await ask(peer, "say", {"text": "hello"})
            assert said == {"event": "said", "data": {"user": "alice", "text": "hello"}, "status": "ok"}

    with program(script) as out:
        asyncio.run(main(address(out)))


def test_chat() -> None:
    async def main(at: str) -> None:
        def enter(token: str) -> Any:
            subprotocols = [Subprotocol("bearer"), Subprotocol(token)]
            return connect(f"ws://{at}", origin=origin("http://localhost:3000"), subprotocols=subprotocols)

        async with enter("change-me") as alice:
            assert json.loads(await alice.recv())["data"] == {"user": "alice"}
            async with enter("change-me-too") as bob:
                assert json.loads(await alice.recv())["data"] == {"user": "bob"}
                assert json.loads(await bob.recv())["data"] == {"user": "bob"}
                assert (await ask(bob, "enter", {"room": "x"}))["event"] == "entered"
                said = await ask(bob, "say", {"room": "x", "text": "hi"})
                assert said["data"] == {"user": "bob", "room": "x", "text": "hi"}
            assert json.loads(await alice.recv()) == {"event": "left", "data": {"user": "bob"}, "status": "ok"}

    with program(EXAMPLES / "chat.py") as out:
        asyncio.run(main(address(out)))


def test_models() -> None:
    async def main(at: str) -> None:
        more: Any = {"origin": origin("http://localhost:3000"), "additional_headers": {"X-Auth-Token": "change-me"}}
        async with connect(f"ws://{at}", **more) as peer:
            assert (await ask(peer, "bid", {"lot": 1, "amount": 10}))["event"] == "accepted"
            assert (await ask(peer, "bid", {"lot": 1, "amount": 9}, 2))["data"]["reason"] == "too low"
            assert (await ask(peer, "bid", {"lot": 1, "amount": 6000}, 3))["data"]["reason"] == "over your limit"

    with program(EXAMPLES / "models.py") as out:
        asyncio.run(main(address(out)))


def test_beside_fastapi() -> None:
    site = f"127.0.0.1:{free_port()}"

    async def main(at: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{site}") as web:
            while True:
                try:
                    signed_in = await web.post("/sign-in/alice")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            cookie = signed_in.cookies["session"]
            more: Any = {"origin": origin(f"http://{site}")}
            for wrong in ({}, {"Cookie": "session=forged"}, {"Cookie": f"session={cookie}x"}):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"ws://{at}", additional_headers=wrong, **more)
                assert refused.value.response.status_code == 401
            async with connect(f"ws://{at}", additional_headers={"Cookie": f"session={cookie}"}, **more) as peer:
                assert (await ask(peer, "note", "hi"))["data"] == {"user": "alice", "text": "hi"}
                await web.post("/notes", params={"text": "from the web"})
                assert json.loads(await peer.recv())["data"] == {"user": None, "text": "from the web"}
                await web.post("/sign-out")
                await peer.wait_closed()
                assert (peer.close_code, peer.close_reason) == (1008, "session revoked")

    with program(EXAMPLES / "beside_fastapi.py", SITE=site, SESSION_SECRET="x" * 64) as out:
        asyncio.run(main(address(out)))


SIGN_IN = """
import sys, runpy
module = runpy.run_path(sys.argv[1])
from django.core.management import call_command
from django.contrib.auth.models import User
call_command("migrate", verbosity=0)
user = User.objects.create_user("alice")
session = module["SessionStore"]()
session[module["SESSION_KEY"]] = str(user.pk)
session.create()
print(session.session_key)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads connections on Linux alone")
def test_beside_fastapi_with_two_workers() -> None:
    site, listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    environment = {"SITE": site, "LISTEN": listen, "SESSION_SECRET": "x" * 64, "WEB_CONCURRENCY": "2"}
    host, port = site.split(":")
    app = ["uvicorn", "--app-dir", str(EXAMPLES), "--host", host, "--port", port, "beside_fastapi:app"]

    async def main() -> None:
        async with httpx.AsyncClient(base_url=f"http://{site}") as web:
            cookie = (await web.post("/sign-in/alice")).cookies["session"]
        more: Any = {"origin": origin(f"http://{site}"), "additional_headers": {"Cookie": f"session={cookie}"}}
        for _ in range(8):
            async with connect(f"ws://{listen}", **more) as peer:
                assert (await ask(peer, "note", "hi"))["data"] == {"user": "alice", "text": "hi"}

    with program(Path("-m"), *app, **environment) as out:
        assert [address(out), address(out)] == [listen, listen]
        asyncio.run(main())


def test_django_session(tmp_path: Path) -> None:
    environment = {"SECRET_KEY": "x" * 64, "DB": str(tmp_path / "db.sqlite3"), "PYTHONWARNINGS": "ignore"}
    key = subprocess.run(
        [sys.executable, "-c", SIGN_IN, str(EXAMPLES / "django_session.py")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    async def main(at: str) -> None:
        more: Any = {"origin": origin("http://127.0.0.1:8000")}
        for wrong in ({}, {"Cookie": "sessionid=unknown"}):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{at}", additional_headers=wrong, **more)
            assert refused.value.response.status_code == 401
        async with connect(f"ws://{at}", additional_headers={"Cookie": f"sessionid={key}"}, **more) as peer:
            assert await ask(peer, "ping", None) == {"event": "pong", "data": {"user": "1"}, "status": "ok", "id": 1}

    with program(EXAMPLES / "django_session.py", **environment) as out:
        asyncio.run(main(address(out)))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_policy_file(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    stated = json.loads((EXAMPLES / "policy.json").read_text(encoding="utf-8"))
    policy.write_text(json.dumps(stated), encoding="utf-8")

    async def main(at: str, pid: int) -> None:
        def enter(path: str, token: str) -> Any:
            subprotocols = [Subprotocol("bearer"), Subprotocol(token)]
            return connect(f"ws://{at}{path}", origin=origin("http://localhost:3000"), subprotocols=subprotocols)

        async with enter("/room/x", "change-me-too") as bob, enter("/admin", "change-me") as alice:
            assert (await ask(bob, "say", {"text": "hi"}))["data"] == {"user": "bob", "text": "hi"}
            assert (await ask(bob, "say", {"text": 5}))["data"]["code"] == "schema_mismatch"
            # A policy that is wrong changes nothing; one without his token closes what he has open.
            policy.write_text("{", encoding="utf-8")
            os.kill(pid, signal.SIGHUP)
            del stated["auth"]["tokens"][1]
            policy.write_text(json.dumps(stated), encoding="utf-8")
            os.kill(pid, signal.SIGHUP)
            await bob.wait_closed()
            assert bob.close_reason == "session revoked"
            asked = await ask(alice, "ban", {"user": "bob", "minutes": 1})
            assert asked["event"] == "confirm"
            answer = {"event": "confirm", "data": False, "id": asked["id"], "status": "ok"}
            await alice.send(json.dumps(answer))
            assert json.loads(await alice.recv())["data"] == "not confirmed"

    with process_of(EXAMPLES / "policy_file.py", POLICY=str(policy)) as process:
        assert process.stdout is not None
        asyncio.run(main(address(process.stdout), process.pid))


def test_the_example_of_a_test() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_policy_file.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=EXAMPLES)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_behind_nginx(tmp_path: Path) -> None:
    async def main(paths: list[str]) -> None:
        for index, path in enumerate(sorted(paths)):
            headers = {"Cookie": "token=change-me", "X-Forwarded-For": f"203.0.113.{index}"}
            more: Any = {"origin": origin("https://app.example.com"), "additional_headers": headers}
            async with unix_connect(path, "ws://app.example.com/ws", **more) as peer:
                assert (await ask(peer, "where", 0))["data"] == {"worker": index, "you": f"203.0.113.{index}"}

    with program(EXAMPLES / "behind_nginx.py", "2", SOCKETS=str(tmp_path)) as out:
        asyncio.run(main([address(out).removeprefix("unix:") for _ in range(2)]))
    assert not list(tmp_path.iterdir()), "a socket was left behind"
