"""A policy in a file, with routes and roles; and what changes while the server runs: a ban, another policy.

    pip install ./bindings-python
    python examples/python/policy_file.py

SIGHUP reads policy.json again: a token that is gone closes its connections, an error leaves the old policy in force and
goes to the log. test_policy_file.py tests the handlers by wsguard.testing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsguard import Call, Connection, Server

server = Server.from_file(
    os.environ.get("POLICY", Path(__file__).with_name("policy.json")),
    listen=os.environ.get("LISTEN", "127.0.0.1:8080"),
)
quiet_rooms = {"library"}


@server.middleware
async def refusals(call: Call, next: Callable[[], Any]) -> None:
    # An error of this kind is an answer; any other would close the connection with 1011.
    try:
        await next()
    except PermissionError as error:
        call.conn.reply_error("refused", str(error))


@server.on_open
def opened(conn: Connection) -> None:
    if "name" in conn.params:
        conn.join(conn.params["name"])


# What its data is, the file says.
@server.on("say")
def say(conn: Connection, data: dict[str, Any]) -> None:
    room = conn.params["name"]
    if room in quiet_rooms:
        raise PermissionError(f"nobody speaks in {room}")
    server.to(room).emit("said", {"user": conn.user, **data})


# Only the route /admin states it, and only for moderators.
@server.on("ban")
async def ban(conn: Connection, data: dict[str, Any]) -> None:
    if not await conn.call("confirm", {"ban": data["user"]}, timeout_ms=30_000):
        raise PermissionError("not confirmed")
    server.ban(user=data["user"], for_ms=data["minutes"] * 60_000, reason=f"by {conn.user}")
    await conn.reply("banned", [ban.user for ban in server.bans()])


if __name__ == "__main__":
    server.run(started=lambda: print(f"listening on {server.address}", flush=True))
