"""A child of `fork`: what it may ask of its parent's servers, and what it leaves alone. Each in its own process."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from process import CONNECT, succeeds

pytestmark = pytest.mark.filterwarnings("default")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
@pytest.mark.parametrize("how", ["normal", "_exit", "exec"])
def test_a_child_of_fork_is_told_and_ends(how: str) -> None:
    ends = {"normal": "sys.exit(0)", "_exit": "os._exit(0)", "exec": "os.execv('/bin/true', ['true'])"}
    told = succeeds(f"""
        async def main():
            server = make()
            options = dict(origins=["https://a.example"], auth="none")
            conns = []
            server.on_open(conns.append)
            async with server:
                sys.stdout.flush()
                child = os.fork()
                if child == 0:
                    for use in (server.stats, server.stop, server.drain, server.reload_tls, lambda: server.address,
                                lambda: server.to("a").send("b"), lambda: server.disconnect_user("c"),
                                lambda: server.reload(**options), lambda: server.ban(user="c"), server.bans,
                                lambda: server.unban(user="c"), server.metrics, lambda: server.admin_address,
                                lambda: server.to("a").size, lambda: server.to("a").clear(),
                                lambda: server.to_user("a").members(), lambda: server.get("0")):
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


@needs_fork
def test_a_child_that_comes_back_from_a_handler_does_not_hang() -> None:
    succeeds("""
        import websockets.sync.client as client
        server = make()
        children = []
        @server.on_message
        def forks(conn, message):
            children.append(os.fork())
        def talk():
            with client.connect(f"ws://{server.address}", origin="https://a.example") as peer:
                peer.send("fork")
                while not children:
                    peer.ping().wait(1)
                code = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
            assert code == 3, code
            server.stop()
        talking = threading.Thread(target=talk)
        try:
            server.run("native", started=talking.start)
        except wsguard.UsageError as error:
            assert error.code == "forked" and children == [0], error
            os._exit(3)
        talking.join()
        """)


@needs_fork
def test_a_child_does_not_handle_what_its_parent_has_received() -> None:
    succeeds("""
        import time
        import websockets.sync.client as client
        server = make()
        children, handled, parent = [], [], os.getpid()
        @server.on_open
        def opened(conn):
            # Both messages are in the batch behind this event.
            while server.stats()["messages_in"] < 2:
                time.sleep(0.001)
        @server.on_message
        def handle(conn, message):
            if message == "fork":
                children.append(os.fork())
            elif os.getpid() != parent:
                os._exit(9)
            handled.append(message)
        def talk():
            with client.connect(f"ws://{server.address}", origin="https://a.example") as peer:
                peer.send("fork")
                peer.send("next")
                while len(handled) < 2:
                    time.sleep(0.001)
                code = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
            server.stop()
            ended.append(code)
        ended = []
        talking = threading.Thread(target=talk)
        try:
            server.run("native", started=talking.start)
        except wsguard.UsageError as error:
            assert error.code == "forked" and handled == ["fork"], (error, handled)
            os._exit(3)
        talking.join()
        assert ended == [3], ended
        """)


@needs_fork
def test_a_child_does_not_handle_what_waits_behind_a_coroutine() -> None:
    succeeds("""
        import asyncio, json, time
        import websockets.sync.client as client
        server = make(protocol="json")
        children, handled, parent = [], [], os.getpid()
        @server.on("slow")
        async def slow(conn, data):
            # The two others wait for this one when it ends.
            while server.stats()["messages_in"] < 3:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
        @server.on("fork")
        def fork(conn, data):
            children.append(os.fork())
        @server.on("after")
        def after(conn, data):
            if os.getpid() != parent:
                os._exit(9)
            handled.append("after")
        def talk():
            with client.connect(f"ws://{server.address}", origin="https://a.example") as peer:
                for event in ("slow", "fork", "after"):
                    peer.send(json.dumps({"event": event}))
                while not handled:
                    time.sleep(0.001)
                ended.append(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
            server.stop()
        ended = []
        talking = threading.Thread(target=talk)
        try:
            server.run("asyncio", started=talking.start)
        except wsguard.UsageError as error:
            assert error.code == "forked" and handled == [], (error, handled)
            os._exit(3)
        talking.join()
        assert ended == [3], ended
        """)


@needs_fork
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("handler", ["def", "async def"])
@pytest.mark.parametrize("waits", ["serve", "drain", "recv", "wait_closed"])
def test_a_child_that_goes_on_with_the_loop_does_not_hang(loop: str, handler: str, waits: str) -> None:
    mains = {
        "serve": "await server.serve(talking.start)",
        "drain": "await server.start(); talking.start(); await waited.get(); await others.get(); await server.drain()",
        "recv": "await server.start(); talking.start(); await (await waited.get()).recv()",
        "wait_closed": "await server.start(); talking.start(); await (await waited.get()).wait_closed()",
    }
    succeeds(f"""
        import websockets.sync.client as client
        from websockets.exceptions import ConnectionClosed
        loop = {{"asyncio": asyncio, "uvloop": __import__("uvloop")}}[{loop!r}].new_event_loop()
        server = make()
        children, parent = [], os.getpid()
        waited, others = asyncio.Queue(), asyncio.Queue()
        server.on_open(lambda conn: (waited if conn.path == "/waited" else others).put_nowait(conn))
        {handler} forks(conn, _):
            if children:
                return
            children.append(os.fork())
            if children[0] == 0:
                try:
                    server.drain()
                except wsguard.UsageError as error:
                    assert error.code == "forked", error
                else:
                    os._exit(9)
        if {waits!r} == "drain":
            server.on_close(forks)
        else:
            server.on_message(forks)
        def talk():
            # One is waited for, the other makes the child.
            connect = lambda path: client.connect(f"ws://{{server.address}}{{path}}", origin="https://a.example")
            with connect("/waited"), connect("/") as peer:
                try:
                    peer.send("fork")
                    while not children:
                        peer.ping().wait(0.1)
                except ConnectionClosed:
                    while not children:
                        threading.Event().wait(0.01)
                code = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
                ended.append(code)
                server.stop()
        ended = []
        talking = threading.Thread(target=talk)
        async def main():
            {mains[waits]}
        try:
            loop.run_until_complete(main())
        except wsguard.ConnectionClosed:
            assert os.getpid() == parent
        except wsguard.UsageError as error:
            assert error.code == "forked" and os.getpid() != parent, error
            os._exit(3)
        assert os.getpid() == parent
        talking.join()
        assert ended == [3], ended
        loop.run_until_complete(server.drain(0))
        loop.close()
        """)


@needs_fork
def test_a_child_of_a_handler_that_a_drain_waits_for_is_told() -> None:
    succeeds("""
        import websockets
        server, parent, children, opened = make(), os.getpid(), [], asyncio.Event()
        server.on_open(lambda conn: opened.set())
        @server.on_close
        async def forks(conn, close):
            while server._is_running:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)  # the drain waits for this handler alone
            children.append(os.fork())
        async def main():
            await server.start()
            peer = await websockets.connect(f"ws://{server.address}", origin="https://a.example")
            await opened.wait()
            await server.drain()
            await peer.close()
        try:
            asyncio.run(main())
        except wsguard.UsageError as error:
            os._exit(3 if error.code == "forked" and os.getpid() != parent else 4)
        assert os.getpid() == parent
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 3
        """)


def test_a_loop_whose_wake_ups_a_child_takes_ends_its_drain() -> None:
    # A child that goes on with its parent's uvloop reads from the descriptor that `call_soon_threadsafe` wakes it by.
    succeeds("""
        class Robbed(asyncio.SelectorEventLoop):
            kept = []
            def call_soon_threadsafe(self, call, *given, context=None):
                self.kept.append((call, given))  # until something else brings a turn
            def call_soon(self, call, *given, context=None):
                while self.kept:
                    kept, of_it = self.kept.pop(0)
                    super().call_soon(kept, *of_it)
                return super().call_soon(call, *given, context=context)
        async def main():
            async with make():
                pass
        loop = Robbed()
        loop.run_until_complete(asyncio.wait_for(main(), 20))
        loop.close()
        """)


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="shutdown(2) ends listening on Linux alone")
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:{folder}/s"])
def test_a_child_of_fork_does_not_keep_the_address(listen: str, tmp_path: Any) -> None:
    succeeds(f"""
        import socket
        policy = dict(origins=["https://a.example"], auth="none", protocol="raw")
        def child(server):
            ended, end = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(end)
                os.read(ended, 1)  # until the parent closes its end
                os._exit(0)
            os.close(ended)
            return pid, end
        async def main():
            server = wsguard.Server(listen={listen.format(folder=tmp_path)!r}, **policy)
            async with server:
                pid, end = child(server)
                at = server.address
            if not at.startswith("unix:"):
                host, port = at.split(":")
                try:
                    socket.create_connection((host, int(port)), timeout=5)
                except ConnectionRefusedError:
                    pass
                else:
                    sys.exit("the child keeps the port")
            async with wsguard.Server(listen=at, **policy):
                pass
            os.close(end)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        asyncio.run(main())
        """)


@needs_fork
def test_a_child_answers_everything_about_a_connection_of_the_parent() -> None:
    succeeds(
        CONNECT
        + """
async def main():
    server = globals()["server"] = make()
    opened = asyncio.Queue()
    server.on_open(opened.put_nowait)
    async with server:
        peer = await asyncio.get_running_loop().run_in_executor(None, connect)
        conn = await opened.get()
        child = os.fork()
        if child == 0:
            uses = (lambda: conn.send("x"), lambda: conn.emit("x"), lambda: conn.recv(), lambda: conn.wait_closed(),
                    lambda: conn.close(), lambda: conn.join("a"), lambda: conn.leave("a"), lambda: conn.is_open,
                    lambda: conn.send_nowait("x"), lambda: conn.__aiter__(), lambda: server.to_all().send("x"))
            for use in uses:
                try:
                    use()
                except wsguard.UsageError as error:
                    assert error.code == "forked", error
                else:
                    os._exit(9)
            repr(conn), conn.data, conn.closed, conn.message, conn.user
            try:
                server.run("native")
            except wsguard.UsageError as error:
                os._exit(0 if error.code == "forked" else 8)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        peer.close()
asyncio.run(main())
"""
    )


@needs_fork
def test_a_child_has_a_log_of_its_own() -> None:
    told = succeeds("""
        import logging
        wsguard.log_to_logging()
        wsguard.log_to_logging()  # twice is once
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(process)d %(name)s %(message)s")
        child = os.fork()
        server = make()
        async def main():
            async with server:
                reader, writer = await asyncio.open_connection(*server.address.split(":"))
                writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                await reader.read()
                writer.close()
        asyncio.run(main())
        wsguard.log_to_logging()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """)
    lines = [line for line in told.splitlines() if "code=upgrade_required" in line]
    assert len(lines) == 2 and len({line.split()[0] for line in lines}) == 2, told
