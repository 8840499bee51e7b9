"""A chat with rooms, a contract and static tokens, in plain functions: no event loop needed.

    pip install ./bindings-python
    python examples/python/chat.py

Then, from a page on http://localhost:3000:

    const ws = new WebSocket("ws://127.0.0.1:8080/", ["bearer", "change-me"]);
    ws.onmessage = (e) => console.log(e.data);
    ws.onopen = () => ws.send(JSON.stringify({ event: "say", data: { room: "lobby", text: "hello" } }));
"""

from __future__ import annotations

import os
from typing import Any

from wsguard import Close, Connection, Server

server = Server(
    listen=os.environ.get("LISTEN", "127.0.0.1:8080"),
    origins=["http://localhost:3000"],
    auth={"tokens": [{"token": "change-me", "user": "alice"}, {"token": "change-me-too", "user": "bob"}]},
    token_sources=["subprotocol"],
)

ROOM = {"type": "string", "minLength": 1, "maxLength": 64}
SAY = {
    "type": "object",
    "properties": {"room": ROOM, "text": {"type": "string", "maxLength": 500}},
    "required": ["room", "text"],
    "additionalProperties": False,
}
ENTER = {"type": "object", "properties": {"room": ROOM}, "required": ["room"], "additionalProperties": False}


@server.on_open
def opened(conn: Connection) -> None:
    conn.join("lobby")
    server.to("lobby").emit("joined", {"user": conn.user})


@server.on("enter", schema=ENTER)
def enter(conn: Connection, data: dict[str, Any]) -> None:
    conn.join(data["room"])
    conn.reply("entered", data)


# What it costs the sender's rate limit: a message to a room is worth more than one to enter it.
@server.on("say", schema=SAY, cost=2)
def say(conn: Connection, data: dict[str, Any]) -> None:
    server.to(data["room"]).emit("said", {"user": conn.user, **data})


@server.on_close
def closed(conn: Connection, close: Close) -> None:
    server.to("lobby").emit("left", {"user": conn.user})


if __name__ == "__main__":
    # Ctrl-C and an orchestrator's SIGTERM let connections close; a second one stops at once.
    server.run(started=lambda: print(f"listening on {server.address}", flush=True))
