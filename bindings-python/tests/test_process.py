"""The ends of things: garbage, the interpreter's end, signals, a second interpreter. Each in its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
from process import CONNECT, PREAMBLE, python, succeeds

pytestmark = pytest.mark.filterwarnings("default")


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
        loop = wsguard._loops.factory("{loop}")()
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
            names = [comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")]
            # The log's thread is the process's.
            return sum(name.startswith("wsguard") and name != "wsguard-log" for name in names)
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


ASK = """
def ask():
    import http.client
    connection = http.client.HTTPConnection(*server.address.split(":"))
    connection.request("GET", "/")
    connection.getresponse().read()
"""


@pytest.mark.parametrize("loop", ["native", "asyncio", "uvloop"])
def test_a_signal_in_a_handler_drains(loop: str) -> None:
    succeeds(
        ASK
        + f"""
server = make()
server.on_violation(lambda violation: signal.raise_signal(signal.SIGTERM))
server.run("{loop}", started=lambda: threading.Thread(target=ask).start())
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and signal.getsignal(signal.SIGINT) != signal.SIG_DFL
"""
    )


@pytest.mark.parametrize("loop", ["native", "asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_interrupts_a_handler_that_blocks(loop: str, number: signal.Signals) -> None:
    ended = python(
        ASK
        + f"""
import time
server = make()
def block(violation):
    signal.raise_signal({number})
    signal.raise_signal({number})
    time.sleep(100)
server.on_violation(block)
try:
    server.run("{loop}", started=lambda: threading.Thread(target=ask).start())
except KeyboardInterrupt:
    sys.exit(130)
"""
    )
    assert ended.returncode == (130 if number == signal.SIGINT else 143), ended.stderr


@pytest.mark.parametrize("loop", ["native", "asyncio"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_signal_before_the_start_is_not_lost(loop: str, before: int) -> None:
    ended = python(f"""
        server = make()
        for _ in range({before}):
            server.run({loop!r}, started=server.stop)
        options_to_start = server._options_to_start
        def with_a_signal():
            os.kill(os.getpid(), signal.SIGTERM)
            return options_to_start()
        server._options_to_start = with_a_signal
        server.run({loop!r}, started=lambda: os._exit(9))
        """)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr


def test_a_signal_that_the_application_handles_is_its_own() -> None:
    succeeds("""
        heard = []
        signal.signal(signal.SIGTERM, lambda number, frame: (heard.append(number), server.stop()))
        server = make()
        server.run(started=lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert heard == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        left_alone = []
        def started():
            left_alone.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
            server.stop()
        server.run(started=started, signals=False)
        assert left_alone == [True]
        """)


needs_unshare = pytest.mark.skipif(
    subprocess.run(["unshare", "-r", "-p", "-f", "true"], capture_output=True, check=False).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="no namespaces here",
)


@needs_unshare
@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_process_1_ends_at_sigterm(loop: str) -> None:
    program = (
        PREAMBLE
        + f"""
server = make()
assert os.getpid() == 1
server.run("{loop}", started=lambda: (os.kill(1, signal.SIGTERM), print("listens", flush=True)))
print("ended")
"""
    )
    command = ["unshare", "-r", "-p", "-f", sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (0, "listens\nended\n"), ended.stderr


@pytest.mark.parametrize("loop", ["native", "asyncio"])
@pytest.mark.parametrize(
    "handler",
    [
        "sum(range(50))",
        "conn.send_nowait('x'); conn.data = [conn]",
        "server.stats(); conn.send_nowait('x' * 1000)",
    ],
)
def test_the_interpreter_ends_while_a_daemon_thread_handles(loop: str, handler: str) -> None:
    ended = python(
        CONNECT
        + f"""
server = make()
inside = threading.Event()
def busy(conn, message):
    inside.set()
    while True:
        {handler}
server.on_message(busy)
ready = threading.Event()
threading.Thread(target=server.run, args=("{loop}",), kwargs=dict(started=ready.set), daemon=True).start()
ready.wait()
peer = connect(MESSAGE)
inside.wait()
"""
    )
    assert ended.returncode == 0 and "Traceback (" not in ended.stderr, ended


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise KeyboardInterrupt", "the end"])
@pytest.mark.parametrize("loop", ["native", "asyncio"])
def test_what_was_said_before_the_end_arrives(loop: str, how: str) -> None:
    if how == "the end":
        act, run = (
            "ended.set()",
            (
                f'threading.Thread(target=server.run, args=("{loop}",), kwargs=dict(started=ready.set), '
                "daemon=True).start()"
                "; ready.wait(); start(); ended.wait()"
            ),
        )
    else:
        act, run = how, f'server.run("{loop}", started=start)'
    ended = python(
        CONNECT
        + f"""
server = make()
ready, ended = threading.Event(), threading.Event()
def last(conn, message):
    conn.send_nowait("farewell")
    {act}
server.on_message(last)
def listen():
    os.write(1, read_farewell(connect(MESSAGE)))
listening = threading.Thread(target=listen, daemon=True)
def start():
    listening.start()
try:
    {run}
except KeyboardInterrupt:
    pass
finally:
    if {how != "the end"}:
        listening.join()
"""
    )
    assert ended.stdout == "farewell" and ended.returncode == (3 if "exit" in how else 0), ended


def test_a_loop_that_is_closed_under_a_server_ends_it_and_says_so() -> None:
    for factory in ("asyncio.new_event_loop", "__import__('uvloop').new_event_loop"):
        ended = python(f"""
            import socket
            loop = {factory}()
            server = make()
            loop.run_until_complete(server.start())
            host, port = server.address.split(":")
            loop.close()
            del loop
            gc.collect()
            try:
                socket.create_connection((host, int(port)), timeout=5)
            except ConnectionRefusedError:
                print("refused")
            """)
        assert ended.stdout == "refused\n", ended.stderr
        assert "the event loop of a running server was closed" in ended.stderr


NO_THREADS = """
        start = threading.Thread.start
        def refused(thread):
            if thread.name == NAME:
                raise RuntimeError("can't start new thread")
            start(thread)
        threading.Thread.start = refused
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_hangup_for_which_there_is_no_thread_ends_nothing() -> None:
    ended = python(
        """
        import json, signal, tempfile, threading
        NAME = "wsguard-reload"
        """
        + NO_THREADS
        + """
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"origins": ["https://a.example"], "auth": "none", "listen": "127.0.0.1:0"}, file)
            file.flush()
            server = wsguard.Server.from_file(file.name)
            def started():
                signal.raise_signal(signal.SIGHUP)
                print("goes on")
                server.stop()
            server.run(started=started)
        """
    )
    assert ended.stdout == "goes on\n", ended.stderr
    assert "is not read again, the policy stays as it is: can't start new thread" in ended.stderr


def test_a_start_without_a_thread_for_the_log_is_an_error_and_no_silence() -> None:
    succeeds(
        """
        import logging, threading
        logging.basicConfig(stream=sys.stdout)
        NAME = "wsguard-log"
        """
        + NO_THREADS
        + """
        server = make()
        try:
            server.run(started=server.stop)
        except wsguard.StartError as error:
            assert error.code == "start_failed", error.code
        else:
            raise AssertionError("it has started")
        NAME = None
        server.run(started=server.stop)
        """
    )


def test_a_signal_handler_that_the_application_sets_while_it_runs_stays() -> None:
    ended = python("""
        import signal
        def own(number, frame): ...
        def started():
            signal.signal(signal.SIGTERM, own)
            server.stop()
        server = make()
        server.run(started=started)
        print(signal.getsignal(signal.SIGTERM) is own, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """)
    assert ended.stdout == "True True\n", ended.stderr


def test_a_drain_on_another_loop_than_the_servers_ends() -> None:
    ended = python("""
        server = make()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(server.start())
        async def drain():
            await server.drain(100)
            print("drained")
        asyncio.run(drain())
        """)
    assert ended.stdout == "drained\n", ended.stderr
    assert "does not run: its connections are dropped" in ended.stderr


def test_a_log_handler_that_exits_costs_its_record() -> None:
    told = succeeds("""
        import logging
        class Exits(logging.Handler):
            def emit(self, record):
                print(record.getMessage()[:6], flush=True)
                sys.exit("once")
        logging.getLogger("wsguard").addHandler(Exits())
        logging.getLogger("wsguard").setLevel(logging.INFO)
        async def main():
            async with make() as server:
                server.ban(user="x")
                server.unban(user="x")
        asyncio.run(main())
        """)
    assert told.startswith("policy") and told.count("action") >= 2, told


def test_records_have_fields() -> None:
    told = succeeds("""
        import logging
        class Keep(logging.Handler):
            def emit(self, record):
                if record.name == "wsguard.verdict":
                    print(record.code, record.ip, record.user, record.detail)
        wsguard.log_to_logging()
        logging.basicConfig(level=logging.INFO, handlers=[Keep()])
        async def main():
            async with make() as server:
                reader, writer = await asyncio.open_connection(*server.address.split(":"))
                writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                await reader.read()
                writer.close()
        asyncio.run(main())
        """)
    assert told == "upgrade_required 127.0.0.1 - Upgrade: websocket is missing\n"


def test_a_handler_that_fails_is_told_like_the_core_tells() -> None:
    ended = python(
        ASK
        + """
server = make()
def fail(violation):
    try:
        raise ValueError("a fault")
    finally:
        server.drain()
server.on_violation(fail)
server.run(started=lambda: threading.Thread(target=ask).start())
"""
    )
    assert ended.returncode == 0
    import re

    form = r"^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z ERROR wsguard: the on_violation handler failed$"
    assert re.search(form, ended.stderr, re.M), ended.stderr
    assert "ValueError: a fault" in ended.stderr


def test_run_inside_of_a_loop_is_an_error() -> None:
    told = succeeds("""
        async def main():
            for kind in ("native", "asyncio", "auto"):
                try:
                    make().run(kind)
                except wsguard.UsageError as error:
                    print(error.code, error)
        asyncio.run(main())
        try:
            make().start().send(None)
        except wsguard.UsageError as error:
            print(error.code)
        """)
    lines = told.splitlines()
    assert len(lines) == 4 and lines[3] == "no_event_loop"
    assert all("await server.serve()" in line and line.startswith("running_event_loop") for line in lines[:3])


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
