"""How an application tests its server: clients of wsguard.testing, and handlers without any server.

python -m pytest examples/python/test_policy_file.py
"""

from __future__ import annotations

import asyncio

import pytest
from policy_file import say, server
from wsguard.testing import Ended, FakeConnection, Refused, connect, serving


def test_who_is_banned_is_out() -> None:
    async def main() -> None:
        async with (
            serving(server),
            connect(server, "/room/lobby", user="bob") as bob,
            connect(server, "/admin", user="alice") as alice,
        ):
            await bob.emit("say", {"text": "buy now"})
            assert (await bob.expect("said")).data == {"user": "bob", "text": "buy now"}
            await alice.emit("ban", {"user": "bob", "minutes": 5}, id=1)
            await alice.answer(await alice.expect("confirm"), True)
            assert (await alice.expect("banned")).data == ["bob"]
            assert (await bob.closed()).reason == "banned"
            with pytest.raises(Refused, match="403"):
                async with connect(server, "/room/lobby", user="bob"):
                    pass

    asyncio.run(main())


def test_who_is_no_moderator_bans_nobody() -> None:
    async def main() -> None:
        async with serving(server), connect(server, "/admin", user="bob") as bob:
            await bob.emit("ban", {"user": "alice", "minutes": 5})
            with pytest.raises(Ended, match="event denied"):
                await bob.expect("banned")

    asyncio.run(main())


def test_nobody_speaks_in_the_library() -> None:
    # The handler alone.
    conn = FakeConnection(user="bob", params={"name": "library"})
    with pytest.raises(PermissionError):
        say(conn, {"text": "psst"})  # type: ignore[arg-type]

    async def main() -> None:
        # With the middleware around it.
        async with serving(server), connect(server, "/room/library", user="bob") as bob:
            refused = await bob.request("say", {"text": "psst"})
            assert (refused.event, refused.status) == ("refused", "error")

    asyncio.run(main())
