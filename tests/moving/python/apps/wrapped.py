"""An application of Starlette in a Guard, for servers that have no door for a WebSocket protocol."""

from __future__ import annotations

from starlette_app import app as inner
from wsguard.asgi import Guard

app = Guard(
    inner,
    origins=["http://127.0.0.1:*"],
    auth={"tokens": [{"token": "t" * 32, "user": "alice", "roles": ["admin"]}]},
    rate_limit={"per_second": 1, "burst": 5, "queue": 1},
    max_message_bytes=1000,
)
