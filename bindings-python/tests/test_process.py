"""The ends of things: fork, garbage, the interpreter's end, signals, a second interpreter. Each in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

PREAMBLE = """
import asyncio, gc, os, signal, sys, threading, weakref
import wsguard
def make(**more):
    policy = dict(listen="127.0.0.1:0", threads=2, origins=["https://a.example"], auth="none", protocol="raw")
    return wsguard.Server(**policy, **more)
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


pytestmark = pytest.mark.filterwarnings("default")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
@pytest.mark.parametrize("how", ["normal", "_exit", "exec"])
def test_a_child_of_fork_is_told_and_ends(how: str) -> None:
    ends = {"normal": "sys.exit(0)", "_exit": "os._exit(0)", "exec": "os.execv('/bin/true', ['true'])"}
    told = succeeds(f"""
        async def main():
            server = make()
            conns = []
            server.on_open(conns.append)
            async with server:
                sys.stdout.flush()
                child = os.fork()
                if child == 0:
                    for use in (server.stats, server.stop, server.drain, server.reload_tls, lambda: server.address,
                                lambda: server.to("a").send("b"), lambda: server.disconnect_user("c")):
                        try:
                            use()
                        except wsguard.UsageError as error:
                            assert error.code == "forked", error
                        else:
                            os._exit(9)
                    print("told", flush=True)
                    del server
                    gc.collect()
                    {ends[how]}
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                # The parent's server does not notice.
                reader, writer = await asyncio.open_connection(*server.address.split(":"))
                writer.write(b"GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
        asyncio.run(main())
        """)
    assert told.strip() == "told"


@needs_fork
def test_start_after_fork_as_gunicorn_does() -> None:
    succeeds("""
        # Made and configured before the fork, started in each worker.
        server = make()
        server.on_message(lambda conn, message: conn.send_nowait(message))
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                async def main():
                    async with server:
                        assert server.stats()["open"] == 0
                asyncio.run(main())
                sys.exit(0)
            children.append(child)
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """)


@needs_fork
def test_multiprocessing_by_fork() -> None:
    succeeds("""
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def work(queue):
            queue.put("done")
        async def main():
            async with make():
                context = multiprocessing.get_context("fork")
                queue = context.Queue()
                process = context.Process(target=work, args=(queue,))
                process.start()
                assert queue.get() == "done"
                process.join()
                assert process.exitcode == 0
        asyncio.run(main())
        """)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "native"])
def test_the_interpreter_ends_with_a_server_that_runs(loop: str) -> None:
    if loop == "native":
        succeeds("""
            server = make()
            ready = threading.Event()
            threading.Thread(target=server.run, args=("native",), kwargs={"started": ready.set}, daemon=True).start()
            ready.wait()
            """)
        return
    succeeds(
        f"""
        loop = wsguard._server._loop_factory("{loop}")()
        server = make()
        loop.run_until_complete(server.start())
        {"loop.close()" if loop == "asyncio" else ""}
        """.replace('{""}', "")
    )


def test_sys_exit_in_a_handler_ends_the_program() -> None:
    for run in ("server.run('native')", "server.run('asyncio')"):
        ended = python(f"""
            server = make()
            server.on_violation(lambda violation: sys.exit(7))
            def ask():
                import http.client
                connection = http.client.HTTPConnection(*server.address.split(":"))
                connection.request("GET", "/")
                connection.getresponse().read()
            {run.replace(")", ", started=lambda: threading.Thread(target=ask).start())")}
            """)
        assert ended.returncode == 7, ended.stderr


def test_garbage_ends_a_server() -> None:
    succeeds("""
        from pathlib import Path
        def threads():
            return sum(comm.read_text().startswith("wsguard") for comm in Path("/proc/self/task").glob("*/comm"))
        async def main():
            server = make()
            @server.on_open
            def opened(conn):
                server.to_all().send("a cycle through the handler")
            await server.start()
            assert threads() == (2 if sys.platform == "linux" else 0), threads()
            return weakref.ref(server)
        gone = asyncio.run(main())
        gc.collect()
        assert gone() is None
        assert threads() == 0, threads()
        """)


def test_connections_are_garbage_when_they_have_ended() -> None:
    succeeds("""
        import websockets.asyncio.client as client
        async def main():
            server = make()
            gone = []
            @server.on_open
            def opened(conn):
                conn.data = [conn]  # a cycle
                gone.append(weakref.ref(conn))
            async with server:
                for _ in range(20):
                    async with client.connect(f"ws://{server.address}", origin="https://a.example"):
                        pass
                while server.stats()["open"]:
                    await asyncio.sleep(0.01)
            gc.collect()
            assert len(gone) == 20 and not any(each() for each in gone)
        asyncio.run(main())
        """)


@pytest.fixture(params=["native", "asyncio", "uvloop"])
def running(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    program = PREAMBLE + textwrap.dedent(f"""
        server = make()
        server.run("{request.param}", started=lambda: print(server.address, flush=True))
        print("ended", flush=True)
        """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_quietly(running: subprocess.Popen[str], number: signal.Signals) -> None:
    running.send_signal(number)
    out, errors = running.communicate(timeout=20)
    assert (running.returncode, out) == (0, "ended\n"), errors
    assert "Traceback" not in errors


def test_ctrl_c_in_a_handler() -> None:
    ended = python("""
        server = make()
        server.on_violation(lambda violation: signal.raise_signal(signal.SIGINT))
        def ask():
            import http.client
            connection = http.client.HTTPConnection(*server.address.split(":"))
            connection.request("GET", "/")
            connection.getresponse().read()
        try:
            server.run("native", started=lambda: threading.Thread(target=ask).start())
        except KeyboardInterrupt:
            print("interrupted")
        """)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr


def test_drain_from_a_signal_handler_ends_the_run() -> None:
    for loop in ("native", "asyncio"):
        succeeds(f"""
            server = make()
            signal.signal(signal.SIGTERM, lambda *_: server.drain())
            server.run("{loop}", started=lambda: os.kill(os.getpid(), signal.SIGTERM))
            """)


def test_a_second_interpreter_is_refused() -> None:
    told = succeeds("""
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _interpreters as interpreters
        made = interpreters.create()
        program = '''
        try:
            import wsguard
        except ImportError as error:
            print("refused:", error, flush=True)
        '''
        import textwrap
        failed = interpreters.run_string(made, textwrap.dedent(program))
        assert not failed, failed
        interpreters.destroy(made)
        """)
    assert told.startswith("refused:") and "subinterpreters" in told


def test_python_m_wsguard_check(tmp_path: Any) -> None:
    policy = tmp_path / "policy.json"

    def check(stated: str) -> subprocess.CompletedProcess[str]:
        policy.write_text(stated)
        return subprocess.run(
            [sys.executable, "-m", "wsguard", "check", str(policy)], capture_output=True, text=True, timeout=30
        )

    good = check(json.dumps({"origins": ["https://a.example"], "auth": "none"}))
    assert good.returncode == 0 and "origins=https://a.example" in good.stdout
    for stated, told in (
        ("{}", "missing_option: origins: "),
        ('{"orgins": []}', "unknown_option: orgins: "),
        ("{", "invalid_option: options: "),
    ):
        bad = check(stated)
        assert bad.returncode == 2 and told in bad.stderr and not bad.stdout, bad
    policy.unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "wsguard", "check", str(policy)], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2 and "policy.json" in ended.stderr


def test_the_log_in_logging() -> None:
    told = succeeds("""
        import logging
        wsguard.log_to_logging()
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        async def main():
            async with make() as server:
                reader, writer = await asyncio.open_connection(*server.address.split(":"))
                writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                await reader.read()
                writer.close()
        asyncio.run(main())
        """)
    assert "INFO wsguard policy in force: " in told
    assert "WARNING wsguard.verdict code=upgrade_required ip=127.0.0.1 " in told
    ended = python("""
        asyncio.run(make().start())
        wsguard.log_to_logging()
        """)
    assert ended.returncode == 1 and "before the first server starts" in ended.stderr
