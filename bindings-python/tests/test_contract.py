"""Schemas and models, options and their errors, and that the tables are the core's."""

from __future__ import annotations

import asyncio
import json
import socket
import typing
from pathlib import Path
from typing import Any

import pydantic
import pytest
import wsguard
from conftest import Run, client, options
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from wsguard import Connection, Message, Violation, _wsguard

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


class Said(pydantic.BaseModel, extra="forbid"):
    text: typing.Annotated[str, pydantic.Field(max_length=10)]
    times: int = 1

    @pydantic.field_validator("text")
    @classmethod
    def polite(cls, text: str) -> str:
        if text == "rude":
            raise ValueError("not polite")
        return text


def test_handlers_get_the_model(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())
        violations: asyncio.Queue[Violation] = asyncio.Queue()
        server.on_violation(violations.put_nowait)

        @server.on("say", schema=Said, cost=2)
        def say(conn: Connection, said: Said) -> None:
            assert isinstance(said, Said)
            conn.emit_nowait("said", said)

        server.event("list", schema=pydantic.TypeAdapter(list[Said]))

        @server.on_message
        def listed(conn: Connection, message: Message) -> None:
            assert all(isinstance(each, Said) for each in message.data)
            conn.emit_nowait("listed", len(message.data))

        async with server:
            async with client(server) as peer:
                await peer.send('{"event":"say","data":{"text":"hi"}}')
                assert json.loads(await peer.recv())["data"] == {"text": "hi", "times": 1}
                await peer.send('{"event":"list","data":[{"text":"a"},{"text":"b"}]}')
                assert json.loads(await peer.recv())["data"] == 2
            # The schema is the core's to check, the validator is Python's: the same verdict.
            for data in ('{"text":"far too long"}', '{"text":"hi","more":1}', '{"text":"rude"}'):
                async with client(server) as peer:
                    await peer.send(f'{{"event":"say","data":{data}}}')
                    with pytest.raises(ConnectionClosedError) as closed:
                        await peer.recv()
                    assert closed.value.rcvd is not None
                    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "schema mismatch")
                violation = await violations.get()
                assert (violation.code, violation.event, violation.close_code) == ("schema_mismatch", "say", 1008)
                assert violation.ip == "127.0.0.1" and violation.http_status is None
            assert {code: count for code, count in server.stats()["verdicts"].items() if count} == {
                "schema_mismatch": 3
            }

    run(main)


def test_a_violation_says_what_was_wrong(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(options(max_message_bytes=100))
        violations: asyncio.Queue[Violation] = asyncio.Queue()
        server.on_violation(violations.put_nowait)
        server.event("say", schema=Said)

        async with server:
            for message, code, detail in (
                ('{"event":"say","data":{"text":"far too long"}}', "schema_mismatch", "data/text: maxLength"),
                ('{"event":"nobody"}', "unknown_event", "event is not in events"),
                ("x" * 101, "message_too_big", "max_message_bytes (100)"),
            ):
                async with client(server) as peer:
                    await peer.send(message)
                    with pytest.raises(ConnectionClosedError):
                        await peer.recv()
                violation = await violations.get()
                assert violation.code == code and detail in violation.detail, violation.detail
            with pytest.raises(InvalidStatus):
                async with client(server, origin="https://evil.example"):
                    pass
            refusal = await violations.get()
            assert (refusal.code, refusal.http_status) == ("origin_denied", 403) and refusal.detail

    run(main)


def test_the_log_of_a_refusal_quotes_no_payload(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Cat(pydantic.BaseModel):
        kind: typing.Literal["cat"]
        lives: dict[str, int] = {}

        @pydantic.field_validator("lives")
        @classmethod
        def few(cls, lives: dict[str, int]) -> dict[str, int]:
            raise ValueError(f"not {lives}")

    class Dog(pydantic.BaseModel):
        kind: typing.Literal["dog"]

    class Owner(pydantic.BaseModel, extra="forbid"):
        pets: list[typing.Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]] = []

    async def main() -> None:
        server = wsguard.Server(options(on_violation="report"))

        @server.on("owner", model=Owner)
        def owner(conn: Connection, owner: Owner) -> None: ...

        @server.on("end")
        def end(conn: Connection, _: Any) -> None:
            conn.reply("end")

        async with server, client(server) as peer:
            for data in (
                {"pets": [{"kind": "SECRET"}]},
                {"SECRET": 1},
                {"pets": [{"kind": "cat", "lives": {"SECRET": "SECRET"}}]},
                {"pets": [{"kind": "cat", "lives": {"SECRET": 1}}]},
            ):
                await peer.send(json.dumps({"event": "owner", "data": data}))
            await peer.send('{"event":"end"}')
            await peer.recv()
        told = [record.getMessage() for record in caplog.records if record.name == "wsguard"]
        assert len(told) == 4 and "SECRET" not in caplog.text
        assert "data/pets/0: union_tag_invalid" in told[0]
        assert "data/*: extra_forbidden" in told[1]
        assert "data/pets/0/*/lives/*: int_parsing" in told[2]
        assert "data/pets/0/*/lives: value_error" in told[3]

    run(main)


def test_reporting_skips_what_a_model_refuses(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(on_violation="report"))

        @server.on("say", schema=Said)
        def say(conn: Connection, said: Said) -> None:
            conn.emit_nowait("said", said.text)

        async with server, client(server) as peer:
            await peer.send('{"event":"say","data":{"text":"rude"}}')
            await peer.send('{"event":"say","data":{"text":"hi"}}')
            assert json.loads(await peer.recv())["data"] == "hi"
            assert {code: count for code, count in server.stats()["verdicts"].items() if count} == {
                "schema_mismatch": 1
            }

    run(main)


def test_models_in_options(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options(events={"say": {"schema": Said, "cost": 1}}))

        @server.on("say")
        def say(conn: Connection, said: Said) -> None:
            conn.emit_nowait("said", said.text)

        async with server, client(server) as peer:
            await peer.send('{"event":"say","data":{"text":"hi"}}')
            assert json.loads(await peer.recv())["data"] == "hi"

    run(main)


@pytest.mark.parametrize(
    ("stated", "code", "option"),
    [
        ({"orgins": []}, "unknown_option", "orgins"),
        ({"rate_limit": {"per_secnd": 1}}, "unknown_option", "rate_limit.per_secnd"),
        ({"max_message_bytes": "many"}, "invalid_option", "max_message_bytes"),
        ({"events": []}, "invalid_option", "events"),
        ({"events": {"a": 1}}, "invalid_option", "events.a"),
        ({"listen": object()}, "invalid_option", "listen"),
        ({"rate_limit": {"per_second": float("nan")}}, "invalid_option", "rate_limit"),
        ({"events": {"a": {"schema": 5}}}, "invalid_option", "events.a.schema"),
        ({"paths": CIRCLE}, "invalid_option", "paths"),
        ({"tls": {"cert": CIRCLE}}, "invalid_option", "tls"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_stated(stated: dict[str, Any], code: str, option: str) -> None:
    with pytest.raises(wsguard.ConfigError) as refused:
        wsguard.Server(**stated)
    assert (refused.value.code, refused.value.option, refused.value.close_code) == (code, option, None)
    assert option in str(refused.value)
    assert isinstance(refused.value, wsguard.Error) and isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("stated", "code", "option"),
    [
        ({"auth": "none"}, "missing_option", "origins"),
        ({"origins": ["https://a.example"]}, "missing_option", "auth"),
        ({"origins": ["https://a.example"], "auth": "callback"}, "contradiction", "auth"),
        ({"origins": ["no origin"], "auth": "none"}, "invalid_option", "origins[0]"),
    ],
)
def test_what_is_no_policy_does_not_start(stated: dict[str, Any], code: str, option: str) -> None:
    async def main() -> None:
        with pytest.raises(wsguard.ConfigError) as refused:
            await wsguard.Server(**stated).start()
        assert (refused.value.code, refused.value.option) == (code, option)

    asyncio.run(main())
    with pytest.raises(wsguard.ConfigError):
        wsguard.Server(**stated).run("native")


def test_statements_that_contradict_each_other() -> None:
    server = wsguard.Server(**options(events={"a": {"schema": {}}}))
    with pytest.raises(wsguard.ConfigError, match=r"events\.a\.schema: is stated twice"):
        server.on("a", schema={})
    with pytest.raises(wsguard.ConfigError, match="raw data is not made a model"):
        server.on("b", schema=Said, raw=True)
    server.on("c")(print)
    with pytest.raises(wsguard.ConfigError, match="has a handler already"):
        server.on("c")(print)
    server.on_open(print)
    with pytest.raises(wsguard.ConfigError, match="open has a handler already"):
        server.on_open(print)
    with pytest.raises(TypeError, match="a handler is a function"):
        server.on_close(5)  # type: ignore[type-var]
    server.authenticate(lambda request: wsguard.Reject())
    with pytest.raises(wsguard.ConfigError, match='auth: must be "callback"'):
        server.run("native")


def test_an_address_that_is_taken() -> None:
    async def main() -> None:
        async with wsguard.Server(**options()) as server:
            other = wsguard.Server(**options(listen=server.address))
            with pytest.raises(wsguard.StartError, match="cannot listen on") as refused:
                await other.start()
            assert (refused.value.code, refused.value.option) == ("listen_failed", "listen")
            assert isinstance(refused.value, OSError)

    asyncio.run(main())


def test_a_socket_of_the_application_is_handed_over(run: Run) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    host, port = sock.getsockname()
    at = f"{host}:{port}"
    server = wsguard.Server(options(listen=f"fd:{sock.detach()}", protocol="raw"))

    @server.on_message
    def echo(conn: wsguard.Connection, message: str) -> None:
        conn.send(message)

    async def main() -> None:
        async with server:
            assert server.addresses == [server.address] == [at]
            async with client(server) as peer:
                await peer.send("hi")
                assert await peer.recv() == "hi"
        # Its number may be another socket's by now.
        with pytest.raises(wsguard.ConfigError, match=r"listen: fd:\d+ was taken over"):
            await server.start()

    run(main)


def test_a_name_has_several_addresses(run: Run) -> None:
    async def main() -> None:
        async with wsguard.Server(options(listen="localhost:0")) as server:
            assert server.addresses[0] == server.address
            assert len({at.rsplit(":", 1)[1] for at in server.addresses}) == 1

    run(main)


def test_fractions_of_a_cost_are_charged(run: Run) -> None:
    limit = {"per_second": 0.001, "burst": 2, "queue": 0}
    server = wsguard.Server(options(rate_limit=limit))

    @server.on("typing", cost=0.25)
    def typing_(conn: wsguard.Connection, data: int) -> None:
        conn.reply("typed", data)

    @server.on("free", cost=0)
    def free(conn: wsguard.Connection, data: int) -> None:
        conn.reply("free", data)

    async def main() -> None:
        async with server, client(server) as peer:
            for event, times in (("free", 20), ("typing", 8), ("free", 20)):
                for number in range(times):
                    await peer.send(json.dumps({"event": event, "data": number}))
                    assert json.loads(await peer.recv())["data"] == number
            await peer.send(json.dumps({"event": "typing", "data": 9}))
            with pytest.raises(ConnectionClosedError, match="rate limit"):
                await peer.recv()

    run(main)


def test_gauges_are_told(run: Run) -> None:
    server = wsguard.Server(options(protocol="raw"))

    @server.on_open
    def opened(conn: wsguard.Connection) -> None:
        conn.join("a")
        conn.join("b")
        conn.send("in")

    async def main() -> None:
        async with server:
            async with client(server) as peer:
                await peer.recv()
                stats = server.stats()
                assert set(stats) == set(wsguard.Stats.__annotations__)
                assert (stats["rooms"], stats["room_memberships"]) == (2, 2)
                assert (stats["upgrades_in_inbox"], stats["refusing"]) == (0, 0)
            while server.stats()["open"]:
                await asyncio.sleep(0.01)
            assert (server.stats()["rooms"], server.stats()["room_memberships"]) == (0, 0)

    run(main)


def test_paths_and_tuples_are_options() -> None:
    server = wsguard.Server(
        **options(origins=("https://a.example",), tls={"cert": Path("absent.pem"), "key": Path("x")})
    )
    with pytest.raises(wsguard.ConfigError) as refused:
        server.run("native")
    assert refused.value.option == "tls.cert"


def test_use_before_start_and_after_the_end() -> None:
    server = wsguard.Server(**options())
    for use in (server.stats, server.stop, server.drain, lambda: server.address, lambda: server.to("a").emit("b")):
        with pytest.raises(wsguard.UsageError) as refused:
            use()
        assert refused.value.code == "not_started"

    async def main() -> None:
        async with server:
            with pytest.raises(wsguard.UsageError, match="started already"):
                await server.start()
            with pytest.raises(wsguard.UsageError, match="started already"):
                server.on("x")
        assert server.stats()["open"] == 0
        with pytest.raises(wsguard.UsageError) as refused:
            server.to_all().emit("x")
        assert refused.value.code == "stopped"

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["json", "raw"])
def test_what_is_of_the_other_protocol_is_an_error_where_it_is_written(run: Run, protocol: str) -> None:
    async def main() -> None:
        server = wsguard.Server(options(protocol=protocol))
        opened: asyncio.Queue[Connection] = asyncio.Queue()
        server.on_open(opened.put_nowait)
        async with server, client(server) as peer:
            conn = await opened.get()
            others: list[Any]
            if protocol == "raw":
                others = [conn.emit, conn.emit_nowait, conn.reply, conn.reply_nowait]
                others += [server.to("a").emit, server.to_all().emit, server.to_all().except_(conn).emit]
            else:
                others = [conn.send, conn.send_nowait]
                others += [server.to("a").send, server.to_all().send, server.to_all().except_(conn).send]
            instead = "use send" if protocol == "raw" else "use emit"
            for other in others:
                with pytest.raises(wsguard.InvalidArgument, match=instead) as refused:
                    other("x")
                assert refused.value.code == "invalid_argument" and protocol in str(refused.value)
            # Nothing of it went out.
            if protocol == "raw":
                conn.send("t")
            else:
                conn.emit("t")
            assert await peer.recv() in ("t", '{"event":"t","data":null,"status":"ok"}')
            # Nor is it said of one that has ended that it has.
            conn.close()
            with pytest.raises(wsguard.InvalidArgument, match=instead):
                others[0]("x")

    run(main)


def test_close_arguments_are_checked(run: Run) -> None:
    async def main() -> None:
        server = wsguard.Server(**options())
        checked = asyncio.Event()

        @server.on_open
        def check(conn: Connection) -> None:
            for code, reason in ((1005, ""), (999, ""), (1000, "x" * 124)):
                with pytest.raises(wsguard.InvalidArgument):
                    conn.close(code, reason)
            conn.close(4000, "over")
            checked.set()

        async with server, client(server) as peer:
            with pytest.raises(ConnectionClosedError) as closed:
                await peer.recv()
            assert checked.is_set()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "over")

    run(main)


def test_verdicts_are_the_cores() -> None:
    table = (Path(__file__).parent.parent.parent / "docs/SEMANTICS.md").read_text(encoding="utf-8")
    for verdict in wsguard.VERDICTS.values():
        close = str(verdict.close_code or "–")
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{verdict.code}` |")]
        assert f"| {close} | {verdict.reason} |" in row
    # The literal type is the same table.
    assert list(typing.get_args(wsguard.VerdictCode)) == list(wsguard.VERDICTS)
    assert [row[0] for row in _wsguard.verdicts()] == list(wsguard.VERDICTS)


def test_option_types_name_every_option() -> None:
    """The core names the options it accepts: the types for checkers must be those."""
    with pytest.raises(wsguard.ConfigError) as refused:
        wsguard.Server(nothing=1)  # type: ignore[call-arg]
    named = set(str(refused.value).split("expected one of ")[1].replace("`", "").split(", "))
    assert named == set(wsguard.Options.__annotations__)
