"""Everything at once: peers of several users that keep the rules and break them, on every loop and without one;
handlers that throw, close and wait; threads and tasks that command. What must hold: nobody hangs, nothing is raised
that is not said to be, a connection has one open and one end and no message after either end, and every gauge comes
back to 0.

``WSGUARD_CHAOS_SEED`` and ``WSGUARD_CHAOS_S`` choose another program, and how long each runs at least: on a machine
that is busy with other things it runs until enough has happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import threading
import time
from typing import Any

import pytest
import wsguard
from conftest import ORIGIN, options
from wsguard import Accept, Close, Connection, Reject, Request, Violation

SEED = int(os.environ.get("WSGUARD_CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("WSGUARD_CHAOS_S", "0.8"))
#: So many handlers are called before a run ends.
CALLS = 200
#: How long a machine may take for what takes no time; whatever takes longer hangs.
HANGS_S = 90
USERS = ("alice", "bob", "carol")
ROOMS = ("lobby", "attic", "")
GAUGES = (
    "connections",
    "open",
    "inbox_bytes",
    "outbox_bytes",
    "delayed",
    "pending_auth",
    "upgrades_in_inbox",
    "refusing",
    "rooms",
    "room_memberships",
)


class Thrown(BaseException):
    """As a timeout of gevent, a panic, a failed test."""


class Ground:
    """A server with handlers that do anything, and what must hold of it."""

    def __init__(self, seed: int, loop: str, protocol: str) -> None:
        self.chance = chance = random.Random(f"{seed} {loop} {protocol}")
        self.is_raw = protocol == "raw"
        self.may_wait = loop != "native"
        #: By id: ``"open"``, ``"closed"`` (``on_close`` was called).
        self.heard: dict[str, str] = {}
        #: Those that this loop's own handlers have closed: nothing of them may come any more.
        self.over: set[str] = set()
        self.conns: list[Connection] = []
        self.faults: list[str] = []
        self.is_over = threading.Event()
        self.calls = 0
        stated = options(
            protocol=protocol,
            threads=2,
            max_outbox_bytes=65_536,
            max_inbox_bytes=4 << 20,
            max_message_bytes=4096,
            max_fragments=4,
            max_connections_per_ip=200,
            max_connections_per_user=8,
            max_pending_auth=4,
            handshakes_per_ip=None,
            message_timeout_ms=100,
            handshake_timeout_ms=300,
            auth_timeout_ms=100,
            close_timeout_ms=100,
            ping_interval_ms=300,
            idle_timeout_ms=1400,
            rate_limit=chance.choice(
                [None, {"per_second": 200, "burst": 50, "queue": 20, "bytes_per_second": 100_000}]
            ),
            on_violation=chance.choice(["enforce", "report"]),
        )
        del stated["auth"]
        self.stated = stated
        self.server = wsguard.Server(stated)
        self._register()

    # --- handlers --------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        server, waits = self.server, self.may_wait
        server.authenticate(self.decide_later if waits else self.decide)
        server.on_open(self.open_later if waits else self.opened)
        server.on_close(self.closed)
        server.on_violation(self.violated_later if waits else self.violated)
        handle: Any = self.handle_later if waits else self.handle
        if self.is_raw:
            server.on_message(handle)
            return
        server.on("say", schema={"type": "object", "properties": {"text": {"type": "string", "maxLength": 3000}}})(
            handle
        )
        server.on("now", cost=0)(self.handle)
        server.event("rest")
        server.on_message(handle)

    def reload(self) -> None:
        """The same policy, and another one that is not one."""
        self.server.reload(self.stated)
        with contextlib.suppress(wsguard.ConfigError):
            self.server.reload(self.stated, threads=3)

    def decide(self, request: Request) -> Accept | Reject:
        token = request.token or "none"
        if token == "none":
            return Accept.anonymous()
        if token == "raise":
            raise self.chance.choice([RuntimeError("a fault"), Thrown("a fault")])
        if token == "soon":
            return Accept("carol", expires_at_ms=int(time.time() * 1000) + self.chance.randrange(300))
        return Accept(token, data=object()) if token in USERS else Reject(self.chance.choice([401, 403, 599]))

    async def decide_later(self, request: Request) -> Accept | Reject:
        if request.token == "hang":
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.chance.choice([0, 0, 0.01]))
        return self.decide(request)

    def hear(self, conn: Connection, wanted: str | None, now: str | None = None) -> None:
        """What comes of a connection comes in order: its open, its messages, its end."""
        self.calls += 1
        found = self.heard.get(conn.id)
        if found != wanted:
            self.faults.append(f"{conn.id}: {now or 'a message'} where it was {found}")
        if conn.id in self.over and now != "closed":
            self.faults.append(f"{conn.id}: {now or 'a message'} behind its close")
        if now is not None:
            self.heard[conn.id] = now

    def opened(self, conn: Connection) -> None:
        self.hear(conn, None, "open")
        self.conns.append(conn)
        self.act(conn)

    async def open_later(self, conn: Connection) -> None:
        self.opened(conn)
        style = self.chance.randrange(6)
        if style == 0:
            left = self.chance.randrange(5)
            async for _ in conn:
                self.act(conn)
                left -= 1
                if left <= 0:
                    return
        elif style == 1:
            with contextlib.suppress(asyncio.TimeoutError, wsguard.ConnectionClosed):
                await asyncio.wait_for(conn.recv(), 0.01)
        elif style == 2:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(conn.wait_closed(), 0.02)

    def closed(self, conn: Connection, close: Close) -> None:
        self.hear(conn, "open", "closed")
        if conn.closed is not close or conn.is_open or conn.message is not None:
            self.faults.append(f"{conn!r}: closed {conn.closed} {conn.closed is close}, message {conn.message}")
        self.act(conn)

    def violated(self, violation: Violation) -> None:
        if not violation.detail or violation.code not in wsguard.VERDICTS:
            self.faults.append(f"{violation}: {violation.detail!r}")
        if self.chance.random() < 0.05:
            raise Thrown("a fault")

    async def violated_later(self, violation: Violation) -> None:
        await asyncio.sleep(0)
        self.violated(violation)

    def handle(self, conn: Connection, message: Any) -> None:
        self.hear(conn, "open")
        self.act(conn)

    async def handle_later(self, conn: Connection, message: Any) -> None:
        self.hear(conn, "open")
        await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.01]))
        self.act(conn)
        if self.chance.random() < 0.3:
            await self.say(conn)
        if self.chance.random() < 0.1:
            with contextlib.suppress(asyncio.TimeoutError, wsguard.ConnectionClosed):
                await asyncio.wait_for(conn.recv(), 0.01)
        if self.chance.random() < 0.05:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    # --- commands --------------------------------------------------------------------------------------------------

    def say(self, conn: Connection) -> Any:
        size = self.chance.choice([0, 10, 1000, 30_000])
        if self.is_raw:
            payloads: list[wsguard.Payload] = ["x" * size, b"x" * size, bytearray(size)]
            return conn.send(self.chance.choice(payloads))
        return self.chance.choice([conn.emit, conn.reply])("said", {"text": "x" * size})

    def act(self, conn: Connection) -> None:
        """What a handler of this connection does: perhaps its last."""
        what = self.chance.randrange(40)
        if what == 0:
            conn.close(self.chance.choice([1000, 4000]), "enough")
            self.over.add(conn.id)
        elif what == 1:
            self.over.add(conn.id)
            raise self.chance.choice([RuntimeError("a fault"), Thrown("a fault"), asyncio.CancelledError()])
        elif what == 2:
            conn.data = [conn]  # a cycle
        else:
            self.command(self.chance, conn)

    def command(self, chance: random.Random, conn: Connection) -> None:
        """Anything that anybody may say at any time, from any thread."""
        server = self.server
        audience = chance.choice([server.to_all(), server.to("lobby"), server.to("attic").except_(conn)])
        commands: list[Any] = [
            lambda: self.say(conn),
            lambda: conn.send_nowait("x") if self.is_raw else conn.emit_nowait("said"),
            lambda: conn.emit("said") if self.is_raw else conn.send("x"),
            lambda: conn.join(chance.choice(ROOMS)),
            lambda: conn.leave(chance.choice(ROOMS)),
            lambda: audience.send("to a room") if self.is_raw else audience.emit("said", [1, "to a room"]),
            lambda: conn.close(chance.choice([1000, 4001, 1005]), chance.choice(["", "bye", "x" * 200])),
            lambda: server.disconnect_user(chance.choice(USERS)) if chance.random() < 0.2 else None,
            lambda: (server.stats(), server.address, conn.is_open, conn.closed, conn.message, repr(conn)),
            lambda: conn.wait_closed().close(),
            lambda: setattr(conn, "data", object()),
            lambda: conn.terminate() if chance.random() < 0.2 else None,
            lambda: conn.on_close(lambda conn, close: conn.rooms),
            lambda: conn.ping_nowait(lambda conn, ms: None),
            lambda: (audience.members(), audience.size, conn.rooms, conn.buffered_bytes, server.get(conn.id)),
            lambda: server.to(*ROOMS).clear() if chance.random() < 0.1 else None,
            lambda: server.to_user(chance.choice(USERS)).members(),
            lambda: server.ban(user="nobody", for_ms=1),
            lambda: (server.bans(), server.unban(user="nobody")),
            lambda: self.reload() if chance.random() < 0.05 else None,
        ]
        try:
            chance.choice(commands)()
        except (wsguard.ConnectionClosed, wsguard.InvalidArgument):
            pass
        except wsguard.UsageError as error:
            if error.code != "stopped":
                self.faults.append(f"command: {error!r}")
        except BaseException as error:
            self.faults.append(f"command: {error!r}")

    def command_on(self, seed: int) -> None:
        """A thread of the application."""
        chance = random.Random(seed)
        while not self.is_over.wait(0.001):
            if self.conns:
                self.command(chance, chance.choice(self.conns[-50:]))

    async def command_on_loop(self) -> None:
        while not self.is_over.is_set():
            await asyncio.sleep(0.002)
            if self.conns:
                conn = self.chance.choice(self.conns[-50:])
                self.command(self.chance, conn)
                if self.chance.random() < 0.05:
                    # A task of its own: one that reads is a reader until it ends.
                    await asyncio.create_task(self.read_once(conn))

    async def read_once(self, conn: Connection) -> None:
        with contextlib.suppress(asyncio.TimeoutError, wsguard.ConnectionClosed):
            await asyncio.wait_for(conn.recv(), 0.002)


# --- peers ------------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65_536:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    # Masked with zeros.
    return head + (b"\0\0\0\0" if masked else b"") + payload


def head(chance: random.Random) -> bytes:
    token = chance.choice([*USERS * 3, "none", "soon", "raise", "hang", "refused"])
    origin = "https://evil.example" if chance.random() < 0.05 else ORIGIN
    return (
        f"GET /{chance.choice('ab')} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nX-Auth-Token: {token}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n"
    ).encode()


def legal(chance: random.Random, is_raw: bool) -> bytes:
    if is_raw:
        return frame(chance.choice([1, 2]), b"x" * chance.choice([0, 5, 500, 4000]))
    event = chance.choice(["say", "say", "now", "rest"])
    message: dict[str, Any] = {"event": event, "data": {"text": "x" * chance.choice([0, 5, 500, 2900])}}
    if chance.random() < 0.5:
        message["id"] = chance.choice([1, "one"])
    return frame(1, json.dumps(message).encode())


def illegal(chance: random.Random) -> bytes:
    acts = [
        frame(1, b"x", masked=False),
        frame(3, b""),
        frame(1, b"x", reserved=4),
        frame(1, b"\xff\xfe"),
        frame(0, b"nothing to continue"),
        frame(8, b"\x03"),
        frame(8, (1005).to_bytes(2, "big")),
        frame(9, b"x" * 126),
        frame(1, b"x" * 5000),
        frame(1, b"{") + frame(1, b"no event"),
        frame(1, b'{"event":"say","data":{"text":5}}'),
        frame(1, b'{"event":"unknown"}'),
        frame(2, b"binary"),
        b"".join(frame(9, b"ping") for _ in range(40)),
        frame(1, b"", fin=False) + b"".join(frame(0, b"", fin=False) for _ in range(6)),
        chance.randbytes(50),
    ]
    return chance.choice(acts)


async def peer(chance: random.Random, ground: Ground) -> None:
    host, port = ground.server.address.split(":")
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            asked = head(chance)
            if chance.random() < 0.05:
                asked = asked[: chance.randrange(len(asked))]  # never finished
            writer.write(asked)
            if chance.random() < 0.1:
                return
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1)
            reads = asyncio.create_task(read_all(reader)) if chance.random() < 0.8 else None
            for _ in range(chance.randrange(30)):
                what = chance.random()
                if what < 0.85:
                    writer.write(b"".join(legal(chance, ground.is_raw) for _ in range(chance.choice([1, 1, 5]))))
                elif what < 0.9:
                    writer.write(frame(9, b"ping"))
                elif what < 0.93:
                    writer.write(frame(1, b'{"event":', fin=False))  # never ended
                elif what < 0.96:
                    writer.write(illegal(chance))
                await asyncio.sleep(chance.choice([0, 0, 0.005, 0.02]))
            how = chance.randrange(5)
            if how == 0:
                writer.write(frame(8, (4000).to_bytes(2, "big") + b"bye"))
            elif how == 1:
                writer.write_eof()
            elif how == 2:
                await asyncio.sleep(0.1)
            if reads is not None:
                await asyncio.wait([reads], timeout=0.2)
                reads.cancel()
        finally:
            writer.transport.abort()


async def read_all(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


# --- the test ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("wsguard"), "disabled", True)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("protocol", ["json", "raw"])
@pytest.mark.parametrize("loop", ["native", "asyncio", "uvloop"])
def test_chaos_ends_with_every_gauge_at_0(loop: Any, protocol: str) -> None:
    print(f"WSGUARD_CHAOS_SEED={SEED}")
    ground = Ground(SEED, loop, protocol)
    server = ground.server
    listens = threading.Event()
    own: list[asyncio.Task[None]] = []

    def started() -> None:
        if ground.may_wait:
            running = asyncio.get_running_loop()
            running.set_exception_handler(lambda _, context: ground.faults.append(f"on the loop: {context}"))
            own.extend(running.create_task(ground.command_on_loop()) for _ in range(2))
        listens.set()

    serving = threading.Thread(target=server.run, args=(loop,), kwargs={"started": started})
    serving.start()
    assert listens.wait(HANGS_S)
    threads = [threading.Thread(target=ground.command_on, args=(SEED + number,)) for number in range(2)]
    for thread in threads:
        thread.start()

    async def visit() -> None:
        chance = random.Random(SEED)
        begun = time.monotonic()
        visits: set[asyncio.Task[None]] = set()
        while (spent := time.monotonic() - begun) < SECONDS or (ground.calls < CALLS and spent < HANGS_S):
            while len(visits) < 24:
                visits.add(asyncio.create_task(peer(random.Random(chance.random()), ground)))
            _, visits = await asyncio.wait(visits, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(visits)

    try:
        asyncio.run(visit())
        ground.is_over.set()
        for thread in threads:
            thread.join(HANGS_S)
            assert not thread.is_alive(), "a command hangs"
        # Nobody is told to leave: that everybody has is known, within the time-outs of the policy.
        left: dict[str, Any] = {}
        until = time.monotonic() + HANGS_S
        while time.monotonic() < until:
            stats: Any = server.stats()
            left = {name: stats[name] for name in GAUGES if stats[name]}
            if not left and set(ground.heard.values()) == {"closed"}:
                break
            time.sleep(0.01)
        open_ = [conn for conn in ground.conns if ground.heard[conn.id] != "closed"]
        assert not left and not open_, (left, open_, ground.faults)
        assert ground.calls >= CALLS, "nothing happened"
    finally:
        ground.is_over.set()
        server.stop()
        serving.join(HANGS_S)
    assert not serving.is_alive()
    assert not ground.faults, ground.faults[:5]
