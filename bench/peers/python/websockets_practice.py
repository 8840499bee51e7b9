"""What a careful team builds around ``websockets`` today.

Origins and a token before the upgrade, a rate limit per user, a contract for messages (Pydantic), a size limit. Same
limits, same JSON echo as wsguard's host. It writes no log of what it refuses; wsguard does.
"""

import hmac
import http
import logging
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from start import run
from websockets.asyncio.server import serve


class Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(max_length=1000)
    seq: int = Field(ge=0)


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    event: Literal["echo"]
    data: Data
    status: Literal["ok", "error"] = "ok"
    id: str | int | None = None


class Bucket:
    """A leaky bucket: up to ``burst`` at once, ``per_second`` in the long run."""

    def __init__(self, per_second, burst):
        self.per_second, self.burst = per_second, burst
        self.level, self.at = 0.0, time.monotonic()

    def take(self):
        now = time.monotonic()
        self.level = max(0.0, self.level - (now - self.at) * self.per_second)
        self.at = now
        if self.level + 1 > self.burst:
            return False
        self.level += 1
        return True


buckets = {}


async def echo(websocket):
    user = websocket.user
    async for payload in websocket:
        bucket = buckets.get(user) or buckets.setdefault(user, Bucket(1e9, 1e9))
        if not bucket.take():
            return await websocket.close(1008, "rate limit")
        if isinstance(payload, bytes):
            return await websocket.close(1003, "binary not accepted")
        try:
            message = Message.model_validate_json(payload)
        except ValidationError:
            return await websocket.close(1008, "bad message")
        message.status = "ok"
        await websocket.send(message.model_dump_json(exclude_none=True))


async def listen(given):
    def authenticate(connection, request):
        if not hmac.compare_digest(request.headers.get("X-Auth-Token", ""), given["token"]):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "authentication failed\n")
        connection.user = "bench"
        return None

    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    return await serve(
        echo, "127.0.0.1", 0, origins=[given["origin"]], process_request=authenticate,
        compression=None, max_size=1 << 20, backlog=4096,
    )


run(listen)
